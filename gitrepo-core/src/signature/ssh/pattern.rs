//! OpenSSH's lists of patterns (ssh_config(5), "PATTERNS").

use crate::spec::wildcard;

/// Whether a list such as `*@example.com,!root@example.com` covers a name. A negated pattern that matches has the last
/// word.
pub(super) fn covers(list: &str, name: &str) -> bool {
    let mut is_covered = false;
    for pattern in list.split(',') {
        let (pattern, is_negated) = pattern.strip_prefix('!').map_or((pattern, false), |pattern| (pattern, true));
        if wildcard::matches(pattern.as_bytes(), name.as_bytes()) {
            if is_negated {
                return false;
            }
            is_covered = true;
        }
    }
    is_covered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negated_pattern_has_the_last_word() {
        for (list, name, expected) in [
            ("a@b", "a@b", true),
            ("*@b", "a@b", true),
            ("?@b,c", "a@b", true),
            ("*@b,!a@b", "a@b", false),
            ("!a@b,*@b", "a@b", false),
            ("!c@b", "a@b", false),
            ("", "a", false),
            ("A@b", "a@b", false),
        ] {
            assert_eq!(covers(list, name), expected, "{list} {name}");
        }
    }
}
