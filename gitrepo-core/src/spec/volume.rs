//! The full request for one volume.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::spec::Checkout;
use crate::spec::GitDir;
use crate::spec::PullPolicy;
use crate::spec::RelativePath;
use crate::spec::RepositoryUrl;
use crate::spec::Revision;
use crate::spec::SpecError;
use crate::spec::Submodules;
use crate::spec::TreeOptions;
use crate::spec::Writable;
use crate::spec::duration;
use crate::spec::serde_as_text;

/// What a volume shows, and how. The fields are the keys of [`KEYS`](crate::spec::KEYS).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct VolumeSpec {
    /// Where to fetch from.
    pub repository: RepositoryUrl,
    /// What to serve.
    pub revision: Revision,
    /// Which part of the commit is written, and where.
    #[serde(flatten)]
    pub tree: TreeOptions,
    /// Commits of history to fetch; 0 for all.
    pub depth: u32,
    /// Whether `.git` is present.
    pub git_dir: GitDir,
    /// When to ask the remote where a moving revision stands.
    pub pull_policy: PullPolicy,
    /// How often to follow the revision while mounted.
    pub refresh: Refresh,
    /// Who sees writes to a read-write volume; `None` for the default of its kind of volume.
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
            pull_policy: PullPolicy::Always,
            refresh: Refresh::NEVER,
            writable: None,
            uid: 0,
        }
    }

    /// Checks that the options go together.
    ///
    /// # Errors
    ///
    /// [`SpecError::Together`] and [`SpecError::PartOfRepository`], for options of which each works alone.
    pub fn check(&self) -> Result<(), SpecError> {
        if self.git_dir != GitDir::Keep {
            return Ok(());
        }
        if !self.tree.submodules.is_none() {
            return Err(SpecError::Together { one: "gitDir: keep", other: "submodules: recursive" });
        }
        // git has no repository of a part of a tree that is the whole of its working tree.
        if self.tree.subdirectory.is_root() { Ok(()) } else { Err(SpecError::PartOfRepository) }
    }

    /// The only directory of the commit that the volume needs; `None` if it needs the whole commit. A new option that needs
    /// something else of the commit belongs here.
    pub(crate) fn narrow(&self) -> Option<&RelativePath> {
        let Self { tree, depth, git_dir, repository: _, revision: _, .. } = self;
        let TreeOptions { subdirectory, submodules, checkout, lfs, directory: _, symlinks: _ } = tree;
        let needs_no_more = match (submodules, checkout, git_dir) {
            // `.gitmodules` is in the root, and `.gitattributes` counts in every directory above.
            (Submodules::Recursive, _, _) | (_, Checkout::Git, _) | (_, _, GitDir::Keep) => false,
            (Submodules::None, Checkout::Bytes, GitDir::Omit) => !lfs && *depth == 1,
        };
        (needs_no_more && !subdirectory.is_root()).then_some(subdirectory)
    }
}

/// How often a mounted volume follows its revision; `None` for never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Refresh(pub Option<Duration>);

impl Refresh {
    /// The volume keeps the tree of its first publish.
    pub const NEVER: Self = Self(None);
    /// The shortest interval between two checks of the remote.
    pub const SHORTEST: Duration = Duration::from_secs(10);

    /// Reads `never`, or a time span of at least 10 s.
    ///
    /// # Errors
    /// What is accepted, for anything else.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        match duration::parse(text) {
            Ok(span) if span >= Self::SHORTEST => Ok(Self(Some(span))),
            _ if text == "never" => Ok(Self::NEVER),
            _ => Err("refresh is never, or at least 10s"),
        }
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

serde_as_text!(Refresh);
