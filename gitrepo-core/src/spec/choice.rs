//! Keys whose value is one of a few words.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;

/// A value that is one of a few words.
pub trait Choice: Copy + PartialEq + Sized + 'static {
    /// Every value with its word.
    const WORDS: &'static [(&'static str, Self)];

    /// The value that `word` stands for.
    fn from_word(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(known, _)| *known == word).map(|(_, value)| *value)
    }

    /// The word for this value.
    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, value)| *value == self).map_or("", |(word, _)| word)
    }
}

/// Implements [`Choice`] and `Display` from one table.
macro_rules! choice {
    ($type:ty { $($value:ident = $word:literal),+ $(,)? }) => {
        impl Choice for $type {
            const WORDS: &'static [(&'static str, Self)] = &[$(($word, Self::$value)),+];
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}
pub(crate) use choice;

/// What to do with links that lead out of the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Symlinks {
    /// Links are data: the reader's system resolves them.
    #[default]
    Keep,
    /// Rejects a tree with a link that leaves the volume.
    RejectEscaping,
}
choice!(Symlinks { Keep = "keep", RejectEscaping = "reject-escaping" });

/// When to ask the remote where a moving revision stands. Neither choice skips the proof of access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum PullPolicy {
    /// At every first publish.
    #[default]
    Always,
    /// This credential's last answer is reused.
    IfNotPresent,
}
choice!(PullPolicy { Always = "Always", IfNotPresent = "IfNotPresent" });

/// Whether `.git` is in the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GitDir {
    /// The tree only.
    #[default]
    Omit,
    /// As a working repository for the pod.
    Keep,
}
choice!(GitDir { Omit = "omit", Keep = "keep" });

/// What appears where the tree has submodules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Submodules {
    /// Empty directories, as before `git submodule update`.
    #[default]
    None,
    /// The trees of the submodules.
    Recursive,
}
choice!(Submodules { None = "none", Recursive = "recursive" });

/// Who sees writes to a read-write volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Writable {
    /// Each target sees only its own writes. A plain copy of the tree.
    Private,
    /// All targets of the volume on this node share their writes. One plain copy of the tree.
    Shared,
    /// Like private, but stays a plain copy even if private becomes something lighter.
    Copy,
}
choice!(Writable { Private = "private", Shared = "shared", Copy = "copy" });

#[cfg(test)]
mod tests {
    use super::*;

    fn words_agree_with_serde<T: Choice + fmt::Debug + Serialize + for<'de> Deserialize<'de>>() {
        for (word, value) in T::WORDS {
            assert_eq!(T::from_word(word), Some(*value));
            assert_eq!(value.word(), *word);
            assert_eq!(serde_json::to_value(value).unwrap(), *word);
            assert_eq!(serde_json::from_value::<T>((*word).into()).unwrap(), *value);
        }
        assert_eq!(T::from_word(""), None);
    }

    #[test]
    fn a_value_has_one_word_everywhere() {
        words_agree_with_serde::<Symlinks>();
        words_agree_with_serde::<PullPolicy>();
        words_agree_with_serde::<GitDir>();
        words_agree_with_serde::<Submodules>();
        words_agree_with_serde::<Writable>();
    }
}
