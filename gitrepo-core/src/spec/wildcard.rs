//! Patterns of names with `*` and `?`.

/// Whether `text` matches `pattern`, in which `*` is any number of characters and `?` is one. Linear space, at most
/// quadratic time.
pub(crate) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    let mut star = None;
    while read < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at + 1, read));
                at += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[read] => {
                at += 1;
                read += 1;
            }
            _ => match star {
                // The last star takes one more character. Earlier ones need not: the last one covers that too.
                Some((after, taken)) => {
                    star = Some((after, taken + 1));
                    (at, read) = (after, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn wildcards_match_what_they_replace(start in "[a-z.]{0,8}", middle in "[a-z.]{0,8}", end in "[a-z.]{0,8}") {
            let text = format!("{start}{middle}{end}");
            let matches = |pattern: String| matches(pattern.as_bytes(), text.as_bytes());
            let (star, double) = (matches(format!("{start}*{end}")), matches(format!("*{middle}*")));
            let (marks, exact) = (matches(format!("{start}{}{end}", "?".repeat(middle.len()))), matches(text.clone()));
            prop_assert!(star && double && marks && exact);
            let longer = matches(format!("{text}?"));
            prop_assert!(!longer);
        }
    }
}
