//! A segment of converted files.

use std::collections::HashSet;
use std::io::Write;
use std::path::PathBuf;

use git2::Oid;

use super::Source;
use super::Writable;
use crate::content;
use crate::content::SegmentWriter;
use crate::snapshot::SnapshotError;
use crate::snapshot::widen;

/// Bytes of converted files that are held in memory before they are looked for in the repository.
const BATCH: usize = 32 << 20;

/// A segment of those files that the repository does not have.
pub(super) struct NewSegment<'a> {
    source: &'a Source<'a>,
    writable: Writable<'a>,
    seen: HashSet<Oid>,
    /// What may be missing, and its bytes.
    batch: Vec<(Oid, Vec<u8>)>,
    bytes: usize,
    /// Where it is, once there is one.
    written: Option<(PathBuf, SegmentWriter)>,
    blobs: Vec<(Oid, u64, u64)>,
}

impl<'a> NewSegment<'a> {
    pub(super) fn new(source: &'a Source<'a>, writable: Writable<'a>) -> Self {
        let (seen, batch, blobs) = (HashSet::new(), Vec::new(), Vec::new());
        Self { source, writable, seen, batch, bytes: 0, written: None, blobs }
    }

    /// Adds a blob, which may be known.
    pub(super) fn add(&mut self, id: Oid, content: Vec<u8>) -> Result<(), SnapshotError> {
        if !self.seen.insert(id) {
            return Ok(());
        }
        self.bytes += content.len();
        self.batch.push((id, content));
        if self.bytes < BATCH {
            return Ok(());
        }
        self.write_missing()
    }

    fn write_missing(&mut self) -> Result<(), SnapshotError> {
        self.bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        let ids: Vec<Oid> = batch.iter().map(|(id, _)| *id).collect();
        let missing = batch.into_iter().zip(self.source.locate(&ids)?).filter(|(_, there)| there.is_none());
        missing.map(|(blob, _)| blob).try_for_each(|(id, content)| self.write(id, &content))
    }

    fn write(&mut self, id: Oid, content: &[u8]) -> Result<(), SnapshotError> {
        let (repository, mut writer) = match self.written.take() {
            Some(written) => written,
            None => {
                let repository = (self.writable)()?;
                let writer = SegmentWriter::create(&repository.join(content::DIRECTORY));
                (repository, writer.map_err(|error| failed("make a segment in", error))?)
            }
        };
        let put = writer.begin().and_then(|place| writer.write_all(content).map(|()| place));
        let place = put.map_err(|error| failed("write a segment in", error))?;
        self.written = Some((repository, writer));
        self.blobs.push((id, place, widen(content.len())));
        Ok(())
    }

    /// Returns the repository that has it, if there is one.
    pub(super) fn finish(mut self) -> Result<Option<PathBuf>, SnapshotError> {
        self.write_missing()?;
        let Some((repository, writer)) = self.written else { return Ok(None) };
        writer.finish(self.blobs.into_iter()).map_err(|error| failed("finish a segment in", error))?;
        Ok(Some(repository))
    }
}

fn failed(action: &str, error: std::io::Error) -> SnapshotError {
    SnapshotError::io(action, b"the repository", error)
}
