//! Keys whose value is one of a few words.

use std::fmt;

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

/// Implements [`Choice`], `Display` and serde from one table.
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

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.word())
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                let unknown = || serde::de::Error::unknown_variant(&word, &[$($word),+]);
                Self::from_word(&word).ok_or_else(unknown)
            }
        }
    };
}
pub(crate) use choice;

/// What to do with links that lead out of the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Symlinks {
    /// Links are data: the reader's system resolves them.
    #[default]
    Keep,
    /// Rejects a tree with a link that leaves the volume.
    RejectEscaping,
}
choice!(Symlinks { Keep = "keep", RejectEscaping = "reject-escaping" });

/// When to ask the remote where a moving revision stands. Neither choice skips the proof of access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PullPolicy {
    /// At every first publish.
    #[default]
    Always,
    /// This credential's last answer is reused.
    IfNotPresent,
}
choice!(PullPolicy { Always = "Always", IfNotPresent = "IfNotPresent" });

/// Whether `.git` is in the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum GitDir {
    /// The tree only.
    #[default]
    Omit,
    /// As a working repository for the pod.
    Keep,
}
choice!(GitDir { Omit = "omit", Keep = "keep" });

/// How blobs become files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Checkout {
    /// As they are.
    #[default]
    Bytes,
    /// As `git checkout` writes them on Linux, without filters.
    Git,
}
choice!(Checkout { Bytes = "bytes", Git = "git" });

/// What appears where the tree has submodules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Submodules {
    /// Empty directories, as before `git submodule update`.
    #[default]
    None,
    /// The trees of the submodules.
    Recursive,
}
choice!(Submodules { None = "none", Recursive = "recursive" });

impl Submodules {
    /// Whether submodules stay empty.
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// Who sees writes to a read-write volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

    #[test]
    fn a_value_has_one_word_everywhere() {
        for (word, value) in Symlinks::WORDS {
            assert_eq!((Symlinks::from_word(word), value.word()), (Some(*value), *word));
            assert_eq!(serde_json::to_value(value).unwrap(), *word);
            assert_eq!(serde_json::from_value::<Symlinks>((*word).into()).unwrap(), *value);
        }
        let error = serde_json::from_value::<Symlinks>("".into()).unwrap_err();
        assert_eq!(error.to_string(), "unknown variant ``, expected `keep` or `reject-escaping`");
    }
}
