//! Everything that is asked about one volume.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::spec::GitDir;
use crate::spec::PullPolicy;
use crate::spec::RepositoryUrl;
use crate::spec::Revision;
use crate::spec::Submodules;
use crate::spec::TreeOptions;
use crate::spec::Writable;
use crate::spec::duration;

/// What a volume is to show, and how. The fields are the keys of [`KEYS`](crate::spec::KEYS).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeSpec {
    /// Where to fetch from.
    pub repository: RepositoryUrl,
    /// What to serve.
    pub revision: Revision,
    /// What is laid out of the commit, and where.
    #[serde(flatten)]
    pub tree: TreeOptions,
    /// Commits of history to fetch; 0 for all.
    pub depth: u32,
    /// Whether `.git` is there.
    pub git_dir: GitDir,
    /// What appears where the tree has submodules.
    pub submodules: Submodules,
    /// Replace Git LFS pointers by their content.
    pub lfs: bool,
    /// When to ask the remote where a moving revision stands.
    pub pull_policy: PullPolicy,
    /// How often to follow the revision while mounted.
    pub refresh: Refresh,
    /// Who sees what is written to a read-write volume; `None` for what its kind of volume does by default.
    pub writable: Option<Writable>,
    /// Owner of the files of a writable volume.
    pub uid: u32,
}

impl VolumeSpec {
    /// The whole tree of the remote's HEAD, as the root of the volume.
    pub fn new(repository: RepositoryUrl) -> Self {
        Self {
            repository,
            revision: Revision::Head,
            tree: TreeOptions::default(),
            depth: 1,
            git_dir: GitDir::Omit,
            submodules: Submodules::None,
            lfs: false,
            pull_policy: PullPolicy::Always,
            refresh: Refresh::NEVER,
            writable: None,
            uid: 0,
        }
    }
}

/// How often a mounted volume follows its revision; `None` for never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Refresh(pub Option<Duration>);

impl Refresh {
    /// What was first published stays.
    pub const NEVER: Self = Self(None);
    /// The shortest span between two looks at the remote.
    pub const SHORTEST: Duration = Duration::from_secs(10);

    /// Reads `never`, or a span of at least 10 s; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "never" {
            return Some(Self::NEVER);
        }
        duration::parse(text).ok().filter(|span| *span >= Self::SHORTEST).map(|span| Self(Some(span)))
    }
}

impl fmt::Display for Refresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("never"),
            Some(span) => f.write_str(&duration::format(span)),
        }
    }
}

impl Serialize for Refresh {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Refresh {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("refresh is never, or at least 10s"))
    }
}
