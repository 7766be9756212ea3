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
    let word = letters(word)?;
    let mut allowed = (word.len() / 3).max(1);
    let mut found = None;
    for candidate in candidates {
        let Some(letters) = letters(candidate) else {
            if steps.take(LONGEST).is_none() {
                break;
            }
            continue;
        };
        if steps.take(1 + letters.len()).is_none() {
            break;
        }
        if letters.len().abs_diff(word.len()) > allowed {
            continue;
        }
        if steps.take(word.len() * letters.len()).is_none() {
            break;
        }
        if let Some(distance) = distance(&word, &letters, allowed) {
            found = Some(candidate);
            match distance.checked_sub(1) {
                Some(less) => allowed = less,
                None => break,
            }
        }
    }
    found
}

/// Lower-case letters; `None` if there are too many.
fn letters(word: &str) -> Option<Vec<char>> {
    let letters: Vec<char> = word.chars().flat_map(char::to_lowercase).take(LONGEST + 1).collect();
    (letters.len() <= LONGEST).then_some(letters)
}

/// The Damerau-Levenshtein distance: letters to insert, delete or replace, or neighbours to swap; `None` if it exceeds
/// `allowed`.
fn distance(from: &[char], to: &[char], allowed: usize) -> Option<usize> {
    let (mut before_last, mut last): (Vec<usize>, Vec<usize>) = (Vec::new(), (0..=to.len()).collect());
    for (i, letter) in from.iter().enumerate() {
        let mut row = Vec::with_capacity(to.len() + 1);
        row.push(i + 1);
        for (j, other) in to.iter().enumerate() {
            let replaced = last[j] + usize::from(letter != other);
            let mut least = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *letter == to[j - 1] && from[i - 1] == *other {
                least = least.min(before_last[j - 1] + 1);
            }
            row.push(least);
        }
        // No later row gets below the smaller of these two.
        if row.iter().chain(&last).all(|distance| *distance > allowed) {
            return None;
        }
        (before_last, last) = (last, row);
    }
    last.last().copied().filter(|distance| *distance <= allowed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_slip_of_the_pen_finds_its_word() {
        let words = ["repository", "revision", "directory", "subdirectory"];
        for (slip, word) in [("repositroy", "repository"), ("Revision", "revision"), ("dirctory", "directory")] {
            assert_eq!(nearest(slip, words), Some(word));
        }
        assert_eq!(nearest("colour", words), None);
        assert_eq!(nearest("", words), None);
        assert_eq!(nearest("man", ["mann", "men", "man", "main"]), Some("man"));
        assert_eq!(nearest("mon", ["mann", "men", "man"]), Some("men"), "the first of two that are as near");
    }

    #[test]
    fn distance_counts_single_letters() {
        for (from, to, letters) in
            [("", "", 0), ("a", "", 1), ("", "ab", 2), ("kitten", "sitting", 3), ("mian", "main", 1), ("ca", "abc", 3)]
        {
            let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
            assert_eq!(distance(&from, &to, 9), Some(letters));
            assert_eq!(distance(&from, &to, letters), Some(letters));
            assert_eq!(letters.checked_sub(1).and_then(|less| distance(&from, &to, less)), None);
        }
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
