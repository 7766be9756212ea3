//! Composes parts: the tree of a commit, with the tree of each submodule in its place.
//!
//! The result is a manifest like any other, over the segments of all parts. So whatever is made of a manifest is made of
//! it: an image, a directory, a view. Nothing is fetched, and no content is copied before the format does.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::BufWriter;
use std::io::Write;
use std::path::Path;

use sha2::Digest;
use sha2::Sha256;

use super::assemble;
use super::assemble::Segments;
use super::links;
use super::listed::Kind;
use super::listed::Listed;
use super::listed::Submodule;
use super::listed::untrusted;
use super::reader::MOST_COMPOSED_SEGMENTS;
use super::record;
use super::staged;
use super::view::check_image;
use crate::content::PREFIX;
use crate::digest;
use crate::snapshot::SnapshotError;
use crate::snapshot::TreeRequest;
use crate::snapshot::TreeSummary;
use crate::snapshot::Watch;
use crate::snapshot::beneath::Beneath;
use crate::snapshot::manifest;
use crate::snapshot::symlink;
use crate::spec::RepositoryUrl;
use crate::spec::Symlinks;

/// A part that was checked, and can be composed.
pub(crate) struct OpenPart {
    /// Where it came from. Segments of different repositories are never taken for the same.
    pub(crate) repository: RepositoryUrl,
    /// Its submodules, in the order of their paths.
    pub(crate) submodules: Vec<Submodule>,
    /// Its content, without that of its submodules.
    pub(crate) summary: TreeSummary,
    /// Bytes of the targets of its links.
    pub(crate) link_bytes: u64,
    time: i64,
    manifest: Beneath,
    /// The names of its segments.
    names: Vec<String>,
    segments: Segments,
}

impl OpenPart {
    /// Opens a finished snapshot in the format of parts. `sealed` is the digest of its manifest.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Untrusted`] if it is damaged.
    pub(crate) fn of_snapshot(
        repository: RepositoryUrl,
        snapshot: &Path,
        request: &TreeRequest,
        sealed: Option<&str>,
    ) -> Result<Self, SnapshotError> {
        let opened = Beneath::new(snapshot).map_err(|error| SnapshotError::io("open", b"", error))?;
        let listed = Listed::read(staged::open(&opened)?, request)?;
        if sealed != Some(&*listed.digest()) {
            return Err(untrusted(manifest::NAME.as_bytes(), "it is not the one that the part was made with"));
        }
        check_image(snapshot, &listed)?;
        let segments = Segments::of_snapshot(snapshot, &listed, &assemble::devices(&listed))?;
        let segments = segments.with_links(&listed, links::read(snapshot, &listed)?);
        Ok(Self::new(repository, opened, listed, segments))
    }

    /// Opens a part that was listed in `staging` and adopted, with its content in a repository.
    pub(crate) fn of_repository(
        url: RepositoryUrl,
        staging: &Path,
        listed: Listed,
        repository: &Path,
    ) -> Result<Self, SnapshotError> {
        let opened = Beneath::new(staging).map_err(|error| SnapshotError::io("open", b"", error))?;
        let segments = Segments::of_repository(repository, staging, &listed)?;
        Ok(Self::new(url, opened, listed, segments))
    }

    fn new(repository: RepositoryUrl, manifest: Beneath, listed: Listed, segments: Segments) -> Self {
        let Listed { submodules, summary, link_bytes, time, segments: names, .. } = listed;
        Self { repository, submodules, summary, link_bytes, time, manifest, names, segments }
    }
}

/// Parts, and which of them is in which place.
pub(crate) struct Composition {
    /// The first one is the superproject's.
    pub(crate) parts: Vec<OpenPart>,
    /// For each part, the number of the one in the place of each of its submodules.
    pub(crate) places: Vec<Vec<usize>>,
}

/// Writes the manifest of a composition into `staging`, an empty directory, and reads it as if a worker had listed it.
/// Returns it with the segments of all parts.
///
/// # Errors
///
/// [`SnapshotError::TooLarge`] if the whole exceeds a limit, and [`SnapshotError::EscapingSymlink`] for a link that leaves
/// the volume.
pub(crate) fn compose(
    composition: &Composition,
    staging: &Path,
    request: &TreeRequest,
    watch: &Watch,
) -> Result<(Listed, Segments), SnapshotError> {
    let failed = |error| SnapshotError::io("write", manifest::NAME.as_bytes(), error);
    let opened = Beneath::new(staging).map_err(|error| SnapshotError::io("open", b"", error))?;
    let numbering = Numbering::of(&composition.parts);
    if numbering.segments.len() > MOST_COMPOSED_SEGMENTS {
        return Err(SnapshotError::too_large(
            request.commit,
            "segments",
            MOST_COMPOSED_SEGMENTS as u64,
            "this version",
        ));
    }
    let mut to = BufWriter::new(manifest::create(&opened).map_err(failed)?);
    numbering.write(composition.parts[0].time, &mut to).map_err(failed)?;
    let mut writing = Writing { composition, numbering: &numbering, request, watch, to };
    writing.tree(0, b"")?;
    writing.to.flush().map_err(failed)?;
    let listed = Listed::read(staged::open(&opened)?, request)?;
    let all: Vec<_> = composition.parts.iter().map(|part| &part.segments).collect();
    let segments = Segments::of_several(&all, &numbering.segments);
    check_links(&listed, &segments, request)?;
    Ok((listed, segments))
}

/// Which segment of which part is which of the whole.
struct Numbering {
    /// For each segment of the whole, its part and its number there.
    segments: Vec<(usize, usize)>,
    names: Vec<String>,
    /// For each part, the numbers of its segments in the whole.
    numbers: Vec<Vec<u64>>,
}

impl Numbering {
    fn of(parts: &[OpenPart]) -> Self {
        let mut numbering = Self { segments: Vec::new(), names: Vec::new(), numbers: Vec::new() };
        let mut known: HashMap<String, usize> = HashMap::new();
        for (at, part) in parts.iter().enumerate() {
            let url = part.repository.canonical();
            let number = |(segment, name): (usize, &String)| {
                let name = name_of(&url, name);
                let number = *known.entry(name.clone()).or_insert_with(|| {
                    numbering.segments.push((at, segment));
                    numbering.names.push(name);
                    numbering.segments.len() - 1
                });
                // Another commit of the repository may need it for links alone.
                let (one, there) = numbering.segments[number];
                if !parts[one].segments.has(there) && part.segments.has(segment) {
                    numbering.segments[number] = (at, segment);
                }
                number as u64
            };
            let numbers = part.names.iter().enumerate().map(number).collect();
            numbering.numbers.push(numbers);
        }
        numbering
    }

    fn write(&self, time: i64, to: &mut impl Write) -> io::Result<()> {
        write!(to, "time {time}\0")?;
        self.names.iter().try_for_each(|name| write!(to, "segment {name}\0"))
    }
}

/// The name of a repository's segment in the whole: two repositories may have segments of the same name.
fn name_of(url: &str, name: &str) -> String {
    let hash = Sha256::new_with_prefix(url).chain_update([0]).chain_update(name).finalize();
    format!("{PREFIX}{}", digest::hex(&hash[..20]))
}

struct Writing<'a, W> {
    composition: &'a Composition,
    numbering: &'a Numbering,
    request: &'a TreeRequest,
    watch: &'a Watch,
    to: W,
}

impl<W: Write> Writing<'_, W> {
    /// Writes the records of a part and of its submodules, below `above`, which is empty or ends with a slash. Its depth is
    /// bounded by whoever gathered the parts.
    fn tree(&mut self, part: usize, above: &[u8]) -> Result<(), SnapshotError> {
        let commit = self.request.commit;
        self.watch.cancel.check().map_err(|source| SnapshotError::Interrupted { commit, source })?;
        let Composition { parts, places } = self.composition;
        let mut from = BufReader::new(staged::open(&parts[part].manifest)?);
        let mut places = places[part].iter();
        // Submodules whose content comes later: between `sub` and what is in it, there may be `sub-a` and `sub.b`.
        let mut waiting: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        let mut is_empty = true;
        let mut bytes = Vec::new();
        while next(&mut from, &mut bytes)? {
            if record::parse_time(&bytes).is_some() || record::parse_segment(&bytes).is_some() {
                continue;
            }
            is_empty = false;
            let record = record::parse(&bytes).ok_or_else(changed)?;
            let is_before = |other: &[u8]| match record.kind {
                // It is in its place as if its name ended with a slash.
                record::Kind::Directory => other < [record.path, b"/"].concat().as_slice(),
                _ => other < record.path,
            };
            while let Some(first) = waiting.first_entry().filter(|first| is_before(first.key())) {
                let (path, part) = first.remove_entry();
                self.tree(part, &[above, &path].concat())?;
            }
            let path = [above, record.path].concat();
            let segment = match &record.kind {
                record::Kind::Submodule { .. } => {
                    let place = *places.next().ok_or_else(changed)?;
                    waiting.insert([record.path, b"/"].concat(), place);
                    continue;
                }
                record::Kind::Directory => 0,
                record::Kind::File { content, .. } | record::Kind::Symlink { target: content } => {
                    *self.numbering.numbers[part].get(content.segment).ok_or_else(changed)?
                }
            };
            record::write_again(&mut self.to, &record.kind, &path, segment).map_err(failed)?;
        }
        for (path, part) in waiting {
            self.tree(part, &[above, &path].concat())?;
        }
        match is_empty && !above.is_empty() {
            true => record::write_empty(&mut self.to, above).map_err(failed),
            false => Ok(()),
        }
    }
}

/// Reads the next record. Returns `false` at the end.
fn next(from: &mut BufReader<File>, bytes: &mut Vec<u8>) -> Result<bool, SnapshotError> {
    bytes.clear();
    let read =
        from.read_until(0, bytes).map_err(|error| SnapshotError::io("read", manifest::NAME.as_bytes(), error))?;
    Ok(read > 0)
}

fn failed(error: io::Error) -> SnapshotError {
    SnapshotError::io("write", manifest::NAME.as_bytes(), error)
}

/// The error for a manifest that was good a moment ago.
fn changed() -> SnapshotError {
    untrusted(manifest::NAME.as_bytes(), "it was changed while it was read")
}

/// Refuses links that leave the volume. Those of parts were not checked: how deep they are is known only now.
fn check_links(listed: &Listed, segments: &Segments, request: &TreeRequest) -> Result<(), SnapshotError> {
    if request.tree.symlinks == Symlinks::Keep {
        return Ok(());
    }
    for node in &listed.nodes {
        let Kind::Symlink { target: extent } = node.kind else { continue };
        let mut target = vec![0; usize::try_from(extent.size).unwrap_or_default()];
        let path = || listed.path(node);
        segments
            .read_exact_at(&extent, &mut target, 0)
            .map_err(|error| SnapshotError::io("read link", &path(), error))?;
        if symlink::may_escape(&target, listed.depth(node)) {
            return Err(SnapshotError::EscapingSymlink {
                commit: request.commit,
                path: String::from_utf8_lossy(&path()).into_owned(),
                link: String::from_utf8_lossy(&target).into_owned(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
