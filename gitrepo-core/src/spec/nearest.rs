//! "Did you mean …?"
//!
//! Both inputs may be hostile: a pod's attributes, a remote's refs. So the work is bounded for any input.

/// Longest word for which a typo is looked up, in letters.
const LONGEST: usize = 128;

/// Step limit of one search, about one step for each pair of letters compared. The vocabulary takes a few thousand.
const STEPS: usize = 4_000_000;

/// The candidate most similar to `word`, if it could be a typo: at most a third of its letters differ, ignoring case.
/// `None` for a long word; if there are too many candidates, the best one so far.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    search(word, candidates, &mut Steps(STEPS))
}

/// Remaining steps.
struct Steps(usize);

impl Steps {
    fn take(&mut self, steps: usize) -> Option<()> {
        self.0 = self.0.checked_sub(steps)?;
        Some(())
    }
}

fn search<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>, steps: &mut Steps) -> Option<&'a str> {
    let word = lower_case(word)?;
    let length = word.chars().count();
    let mut allowed = (length / 3).max(1);
    let mut found = None;
    for candidate in candidates {
        let letters = lower_case(candidate);
        let count = letters.as_deref().map(|letters| letters.chars().count());
        if steps.take(count.map_or(LONGEST, |count| 1 + count)).is_none() {
            break;
        }
        let (Some(letters), Some(count)) = (letters, count) else { continue };
        if count.abs_diff(length) > allowed {
            continue;
        }
        if steps.take(length * count).is_none() {
            break;
        }
        // Letters to insert, delete or replace, or neighbours to swap.
        let distance = strsim::osa_distance(&word, &letters);
        if distance <= allowed {
            found = Some(candidate);
            match distance.checked_sub(1) {
                Some(less) => allowed = less,
                None => break,
            }
        }
    }
    found
}

/// The word in lower case; `None` if it has too many letters.
fn lower_case(word: &str) -> Option<String> {
    let mut letters = word.chars().flat_map(char::to_lowercase);
    let lower = letters.by_ref().take(LONGEST).collect();
    letters.next().is_none().then_some(lower)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_slip_of_the_pen_finds_its_word() {
        let words = ["repository", "revision", "directory", "subdirectory"];
        for (slip, word) in [
            ("repositroy", "repository"),
            ("Revision", "revision"),
            ("dirctory", "directory"),
            ("dirrectory", "directory"),
            ("diractory", "directory"),
        ] {
            assert_eq!(nearest(slip, words), Some(word));
        }
        assert_eq!(nearest("colour", words), None);
        assert_eq!(nearest("", words), None);
        assert_eq!(nearest("man", ["mann", "men", "man", "main"]), Some("man"));
        assert_eq!(nearest("mon", ["mann", "men", "man"]), Some("men"), "the first of two that are as near");
    }

    /// The steps that a search takes.
    fn steps<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> usize {
        let mut left = Steps(STEPS);
        search(word, candidates, &mut left);
        STEPS - left.0
    }

    #[test]
    fn s25_long_words_and_many_candidates_are_given_up() {
        let long = "x".repeat(1_400_000);
        assert_eq!(steps(&long, ["repository"; 100]), 0);
        assert_eq!(nearest(&long, [long.as_str()]), None);
        let refs = vec![long[..900].to_owned(); 2_000];
        assert!(steps("main", refs.iter().map(String::as_str)) <= 2_000 * LONGEST);
        // An endless stream is bounded, too.
        for (word, candidate) in [("main", "y"), ("main", "mian"), (&long[..LONGEST], &long[1..LONGEST]), ("a", &long)]
        {
            assert!(steps(word, std::iter::repeat(candidate)) <= STEPS);
        }
    }

    proptest! {
        #[test]
        fn any_words_take_bounded_steps(word in "\\PC{0,300}", other in "\\PC{0,300}", swapped in "[a-d]{1,100}") {
            prop_assert!(steps(&word, [other.as_str()]) <= (LONGEST + 1) * (LONGEST + 1));
            prop_assert_eq!(nearest(&swapped, [swapped.as_str()]), Some(swapped.as_str()));
        }
    }
}
