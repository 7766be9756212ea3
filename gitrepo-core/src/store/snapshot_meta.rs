//! What a snapshot says of itself.

use std::time::SystemTime;

use serde::Deserialize;
use serde::Serialize;

use crate::snapshot::Ownership;
use crate::snapshot::TreeRequest;
use crate::snapshot::TreeSummary;
use crate::spec::CommitId;
use crate::spec::RepositoryUrl;
use crate::spec::TreeOptions;
use crate::spec::WorkingRepository;

use super::clock::wall_clock;

/// Most bytes of a `meta.json`. Of a tree with many submodules it has many URLs.
pub(crate) const META_LIMIT: u64 = 8 * 1024 * 1024;

/// Bytes that the metadata of a view may have more than that of its snapshot.
const OF_VIEW: usize = 1024;

/// The content of a snapshot's `meta.json`. Unknown fields, written by a newer version, are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotMeta {
    /// The repository, without secrets.
    pub repository: String,
    /// The commit whose tree it is.
    pub commit: CommitId,
    /// Which part of the tree, and where it appears.
    #[serde(flatten)]
    pub tree: TreeOptions,
    /// Name of the [`SnapshotFormat`] that wrote it.
    pub format: String,
    /// Whom its files belong to.
    #[serde(default, skip_serializing_if = "Ownership::is_root")]
    pub ownership: Ownership,
    /// The repository that it shows as `.git`, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_repository: Option<WorkingRepository>,
    /// The amount of content.
    pub summary: TreeSummary,
    /// The digest of the manifest, which contains the id of each blob. `None` in a snapshot of an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
    /// The submodules whose trees are in it. Whoever may read it may read each of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<SnapshotPart>,
    /// When it was made, by the wall clock: for people only.
    #[serde(with = "wall_clock")]
    pub created_at: SystemTime,
}

impl SnapshotMeta {
    /// Creates the metadata of a newly written tree.
    pub fn new(url: &RepositoryUrl, request: &TreeRequest, summary: TreeSummary) -> Self {
        Self {
            repository: url.to_string(),
            commit: request.commit,
            tree: request.tree.clone(),
            format: request.format.clone(),
            ownership: Ownership::ROOT,
            working_repository: request.repository.clone(),
            summary,
            manifest: None,
            parts: Vec::new(),
            created_at: SystemTime::now(),
        }
    }

    /// Seals the manifest with its digest.
    #[must_use]
    pub fn sealed_by(self, manifest: String) -> Self {
        Self { manifest: Some(manifest), ..self }
    }

    /// Names the submodules whose trees are in it.
    #[must_use]
    pub fn composed_of(self, parts: Vec<SnapshotPart>) -> Self {
        Self { parts, ..self }
    }

    /// Whether it can be read again once it is written, and so can that of a view.
    pub(crate) fn fits(&self) -> bool {
        serde_json::to_vec(self).is_ok_and(|json| (json.len() + OF_VIEW) as u64 <= META_LIMIT)
    }

    /// Creates the metadata of a view of this snapshot.
    pub fn of_view(&self, ownership: Ownership) -> Self {
        Self { ownership, created_at: SystemTime::now(), ..self.clone() }
    }
}

/// A submodule in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotPart {
    /// Where it is in the superproject's tree; the first place of several.
    pub path: String,
    /// Its repository, without secrets.
    pub repository: RepositoryUrl,
    /// The commit whose tree it is.
    pub commit: CommitId,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture::commit;
    use crate::store::fixture::install;
    use crate::store::fixture::store;

    #[test]
    fn metadata_that_could_not_be_read_again_is_known_before_it_is_written() {
        let (_place, store) = store();
        let meta = install(&store, commit(1), "good").meta().clone();
        let part = |path: String| SnapshotPart { path, repository: crate::store::fixture::url(), commit: commit(2) };
        let with = |length: usize| meta.clone().composed_of(vec![part("\\".repeat(length))]);
        let written = |meta: &SnapshotMeta| serde_json::to_vec(&meta.of_view(Ownership::ROOT)).unwrap().len() as u64;
        let (half, few) = (META_LIMIT as usize / 2, 4096);
        assert!(with(half - few).fits() && written(&with(half - few)) <= META_LIMIT);
        assert!(!with(half).fits() && written(&with(half)) > META_LIMIT);
    }
}
