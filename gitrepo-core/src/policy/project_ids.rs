//! The ids of projects that layers get: `projectIds`.

use std::fmt;
use std::ops::RangeInclusive;

use crate::spec::decimal;
use crate::spec::serde_as_text;

/// Ids of projects from `first` to `last`, inclusive; written `1900000000-1900065535`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProjectIds {
    first: u32,
    last: u32,
}

/// The text is not a range of ids of projects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a range of ids of projects is written first-last, without 0 (no project) and 4294967295 (no id)")]
pub struct ProjectIdsError;

impl ProjectIds {
    /// Reads `first-last`.
    ///
    /// # Errors
    ///
    /// If the text is something else, or the range is empty or contains an id that no project can have.
    pub fn parse(text: &str) -> Result<Self, ProjectIdsError> {
        let (first, last) = text.split_once('-').ok_or(ProjectIdsError)?;
        match (decimal(first), decimal(last)) {
            (Some(first), Some(last)) if 0 < first && first <= last && last < u32::MAX => Ok(Self { first, last }),
            _ => Err(ProjectIdsError),
        }
    }

    /// All ids, in order.
    pub fn ids(self) -> RangeInclusive<u32> {
        self.first..=self.last
    }
}

impl Default for ProjectIds {
    /// Far from those of others: the kubelet begins at 1048577 (KEP-1029), container engines at 1 or at the id of their
    /// directory, and people number those of /etc/projects from 1. A filesystem keeps entries of neighbours together, so
    /// there are no more of them than a node could need.
    fn default() -> Self {
        Self { first: 1_900_000_000, last: 1_900_065_535 }
    }
}

impl fmt::Display for ProjectIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

serde_as_text!(ProjectIds);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_only_ids_that_a_project_can_have() {
        assert_eq!(ProjectIds::parse("5-7").unwrap().ids().collect::<Vec<_>>(), [5, 6, 7]);
        assert_eq!(ProjectIds::parse(&ProjectIds::default().to_string()).unwrap(), ProjectIds::default());
        assert_eq!(ProjectIds::default().ids().count(), 1 << 16);
        for text in ["", "5", "0-7", "7-5", "1-4294967295", "1-4294967296", "-1-5", "a-b", "1 - 5"] {
            assert_eq!(ProjectIds::parse(text), Err(ProjectIdsError), "{text}");
        }
    }
}
