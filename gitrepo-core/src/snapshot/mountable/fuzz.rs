//! The property of manifests, for fuzzing: the function panics on input that breaks it.

use std::collections::HashSet;

use super::Image;
use super::listed::Extent;
use super::listed::Kind;
use super::listed::Listed;
use crate::policy::Limits;
use crate::snapshot::TreeRequest;
use crate::snapshot::git_dir::index;
use crate::spec::Checkout;
use crate::spec::CommitId;
use crate::spec::GitDir;
use crate::spec::RepositoryUrl;
use crate::spec::VolumeSpec;
use crate::spec::names;

/// A manifest as a worker may write it, whoever has taken it over: what is accepted has each file once, with names that
/// git would check out, within the limits. A directory at the path of another entry is left to the format, which refuses
/// it.
///
/// # Panics
///
/// If an accepted manifest breaks one of these rules.
pub fn manifest(bytes: &[u8]) {
    let Ok(repository) = RepositoryUrl::parse("https://git.example.com/a.git") else { return };
    let mut spec = VolumeSpec::new(repository);
    for (git_dir, checkout) in
        [(GitDir::Omit, Checkout::Bytes), (GitDir::Keep, Checkout::Bytes), (GitDir::Keep, Checkout::Git)]
    {
        (spec.git_dir, spec.tree.checkout) = (git_dir, checkout);
        let shown = spec.working_repository(Some("refs/heads/main"));
        let request = TreeRequest::new(&spec.tree, CommitId::from_bytes([1; 20]), &Image, &Limits::default());
        let request = request.showing(shown);
        if let Ok(listed) = Listed::read(bytes, &request) {
            check(&listed, &request);
        }
    }
}

fn check(listed: &Listed, request: &TreeRequest) {
    let (mut paths, mut segments) = (HashSet::new(), HashSet::new());
    assert!(listed.segments.iter().all(|segment| segments.insert(segment)), "a segment has two numbers");
    for (at, node) in listed.nodes.iter().enumerate() {
        let parent = node.parent.map(|parent| (parent < at).then(|| listed.nodes[parent].kind));
        assert!(matches!(parent, None | Some(Some(Kind::Directory))), "a node is in none of the directories before it");
        let is_directory = matches!(node.kind, Kind::Directory);
        assert!(is_directory || paths.insert(listed.path(node)), "two files have one path");
        let is_link = matches!(node.kind, Kind::Symlink { .. });
        let is_ours = at >= listed.tree_end;
        assert!(is_ours || names::check(listed.name(node), is_link).is_ok(), "a name that git refuses");
        if let Kind::File { content: Extent { segment, .. }, .. } | Kind::Symlink { target: Extent { segment, .. } } =
            node.kind
        {
            assert!(segment < listed.segment_count(), "content is in no segment");
        }
    }
    let summary = &listed.summary;
    assert!(summary.entries() <= request.limits.entries && summary.bytes <= request.limits.tree_bytes);
    assert_eq!(listed.is_packed(), request.repository.is_some());
    if let Some(template) = listed.written.last() {
        assert!(index::is_like(template, template), "the index is malformed");
        let mut filled = template.clone();
        assert!(index::fill(&mut filled, |_, _| None).is_some(), "the index cannot be filled in");
    }
}
