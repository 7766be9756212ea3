//! The names of snapshots: hashes of all that determines their content.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;
use sha2::Digest;
use sha2::Sha256;

use crate::snapshot;
use crate::snapshot::Ownership;
use crate::snapshot::SnapshotFormat;
use crate::spec::Checkout;
use crate::spec::CommitId;
use crate::spec::Label;
use crate::spec::RepositoryUrl;
use crate::spec::TreeOptions;
use crate::spec::WorkingRepository;

use crate::digest;

/// Part of every id, so that a change of the snapshot format gives new ids.
const GENERATION: &str = "gitrepo snapshot 1";

/// Part of the id of a snapshot with a `.git`, so that a change of what is in it gives new ids.
const WORKING_REPOSITORY: &str = "gitrepo working repository 1";

/// Part of the id of a changed snapshot's successor.
const SUCCESSOR: &str = "gitrepo snapshot in place of";

/// Everything that determines the content of a snapshot. Equal keys mean the same snapshot. Different URLs share
/// nothing, so a server that announces another repository's commit gains nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotKey<'a> {
    /// The repository.
    pub url: &'a RepositoryUrl,
    /// The commit whose tree it is.
    pub commit: &'a CommitId,
    /// Which part of the tree, and where it appears.
    pub tree: &'a TreeOptions,
    /// Name of the [`SnapshotFormat`].
    pub format: &'a str,
    /// Whom its files belong to.
    pub ownership: Ownership,
    /// The repository that it shows as `.git`, if any.
    pub repository: Option<&'a WorkingRepository>,
    /// The SELinux label of plain files, if any. An image is labelled by its mount.
    pub label: Option<&'a Label>,
}

impl SnapshotKey<'_> {
    /// Returns the id of the snapshot with this key.
    pub fn id(&self) -> SnapshotId {
        let url = self.url.canonical();
        let commit = self.commit.to_string();
        let subdirectory = self.tree.subdirectory.to_string();
        let directory = self.tree.directory.to_string();
        let symlinks = self.tree.symlinks.to_string();
        let ownership = self.ownership.to_bytes();
        let fields = [GENERATION, &url, &commit, &subdirectory, &directory, &symlinks, self.format];
        let options = self.options();
        let fields = fields.map(str::as_bytes).into_iter().chain([&ownership[..]]);
        // What every snapshot once had is not part of the id, so that the oldest ids stay.
        let named = match (self.format == snapshot::Directory.name(), self.ownership.is_root()) {
            _ if !options.is_empty() => 8,
            (true, true) => 6,
            (false, true) => 7,
            (_, false) => 8,
        };
        let mut hash = Sha256::new();
        let fields = fields.take(named).chain(options.iter().map(String::as_bytes));
        digest::length_prefixed(fields, |part| hash.update(part));
        SnapshotId(digest::hex(&hash.finalize()))
    }

    /// Each option that later versions added, by its name, unless it has the value that means the same as none.
    fn options(&self) -> Vec<String> {
        let mut options = Vec::new();
        let mut add = |name: &str, value: &str| options.push(format!("{name}\0{value}"));
        // Each is named, so that a new one is not forgotten. These are hashed in any case.
        let TreeOptions { directory: _, subdirectory: _, symlinks: _, submodules, checkout, lfs } = self.tree;
        if !submodules.is_none() {
            add("submodules", &submodules.to_string());
        }
        if *checkout != Checkout::Bytes {
            add("checkout", &checkout.to_string());
        }
        if *lfs {
            add("lfs", &lfs.to_string());
        }
        if let Some(WorkingRepository { depth, branch, origin }) = self.repository {
            add("gitDir", WORKING_REPOSITORY);
            add("depth", &depth.to_string());
            add("origin", origin);
            if let Some(branch) = branch {
                add("branch", branch);
            }
        }
        if let Some(label) = self.label {
            add("label", &label.to_string());
        }
        options
    }
}

/// 64 hexadecimal digits that identify a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotId(String);

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl SnapshotId {
    /// Returns the id of the successor that replaces this snapshot if it was changed: the same content, made anew.
    pub(super) fn successor(&self) -> Self {
        let mut hash = Sha256::new();
        digest::length_prefixed([SUCCESSOR.as_bytes(), self.0.as_bytes()], |part| hash.update(part));
        Self(digest::hex(&hash.finalize()))
    }
}

impl TryFrom<String> for SnapshotId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        // The id becomes part of a path, and a record could contain anything.
        if digest::is_hex(&text, 64) { Ok(Self(text)) } else { Err(format!("{text:?} is not a snapshot's id")) }
    }
}

impl From<SnapshotId> for String {
    fn from(id: SnapshotId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::GroupAccess::Everybody;
    use crate::snapshot::GroupAccess::Read;
    use crate::snapshot::GroupAccess::Write;
    use crate::spec::RelativePath;
    use crate::spec::Submodules;
    use crate::spec::Symlinks;
    use crate::store::fixture::commit;
    use crate::store::fixture::url;

    #[test]
    fn s12_everything_that_decides_the_content_is_part_of_the_id() {
        let (url, other_url) = (url(), RepositoryUrl::parse("https://git.example.com/group/other.git").unwrap());
        let part = || RelativePath::parse("part").unwrap();
        let whole = TreeOptions::default();
        let parts = [
            TreeOptions { subdirectory: part(), ..whole.clone() },
            TreeOptions { directory: part(), ..whole.clone() },
            TreeOptions { symlinks: Symlinks::RejectEscaping, ..whole.clone() },
            TreeOptions { submodules: Submodules::Recursive, ..whole.clone() },
            TreeOptions { checkout: Checkout::Git, ..whole.clone() },
            TreeOptions { submodules: Submodules::Recursive, checkout: Checkout::Git, ..whole.clone() },
            TreeOptions { lfs: true, ..whole.clone() },
            TreeOptions { checkout: Checkout::Git, lfs: true, ..whole.clone() },
        ];
        let (first, second) = (commit(1), commit(2));
        let (format, ownership) = ("directory", Ownership::ROOT);
        let key =
            SnapshotKey { url: &url, commit: &first, tree: &whole, format, ownership, repository: None, label: None };
        let origin = "https://git.example.com/a".to_owned();
        let shallow = WorkingRepository { depth: 1, branch: None, origin };
        let repositories = [
            WorkingRepository { depth: 0, ..shallow.clone() },
            WorkingRepository { branch: Some("main".to_owned()), ..shallow.clone() },
            WorkingRepository { origin: "https://git.example.com/b".to_owned(), ..shallow.clone() },
            shallow,
        ];
        let image = SnapshotKey { format: "image", ..key };
        let owners = [(1, 0, Everybody), (0, 1, Everybody), (0, 1, Read), (0, 1, Write)];
        let owners = owners.map(|(uid, gid, group)| Ownership { uid, gid, group });
        let ids: std::collections::BTreeSet<_> = [
            key,
            SnapshotKey { url: &other_url, ..key },
            SnapshotKey { commit: &second, ..key },
            SnapshotKey { tree: &parts[0], ..key },
            SnapshotKey { tree: &parts[1], ..key },
            SnapshotKey { tree: &parts[2], ..key },
            SnapshotKey { tree: &parts[3], ..key },
            SnapshotKey { tree: &parts[3], ..image },
            SnapshotKey { tree: &parts[3], format: "part", ..key },
            SnapshotKey { tree: &parts[4], ..key },
            SnapshotKey { tree: &parts[4], ..image },
            SnapshotKey { tree: &parts[5], ..key },
            SnapshotKey { tree: &parts[6], ..key },
            SnapshotKey { tree: &parts[7], ..key },
            SnapshotKey { tree: &parts[6], ..image },
            SnapshotKey { label: Some(&Label::of_containers()), ..key },
            SnapshotKey { label: Some(&Label::parse("system_u:object_r:other_t:s0").unwrap()), ..key },
            image,
        ]
        .into_iter()
        .chain(owners.map(|ownership| SnapshotKey { ownership, ..image }))
        .chain(repositories.iter().map(|repository| SnapshotKey { repository: Some(repository), ..key }))
        .chain(repositories.iter().map(|repository| SnapshotKey { repository: Some(repository), ..image }))
        .map(|key| key.id())
        .collect();
        assert_eq!(ids.len(), 30);
        assert!(SnapshotId::try_from("../../etc".to_owned()).is_err());
    }

    /// An update must find the snapshots of the version before.
    #[test]
    fn the_id_of_a_directory_never_changes() {
        let key = SnapshotKey {
            url: &url(),
            commit: &commit(1),
            tree: &TreeOptions::default(),
            format: "directory",
            ownership: Ownership::ROOT,
            repository: None,
            label: None,
        };
        assert_eq!(key.id().to_string(), "773562e25d39041f8a9fbb7d548129c2ed48affd60dce67ce2a83e4b60dfed42");
    }
}
