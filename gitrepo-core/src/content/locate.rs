//! Finds blobs in the segments of a repository and its base.

use std::ffi::OsStr;
use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;

use git2::Oid;

use super::CONTENT;
use super::DIRECTORY;
use super::INDEX;
use super::IndexError;
use super::index::Record;
use super::index::Records;
use crate::object;

/// A blob in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The number of the segment in [`Segments`].
    pub(crate) segment: usize,
    /// In bytes.
    pub(crate) offset: u64,
    /// In bytes.
    pub(crate) length: u64,
}

/// The segments of a repository and its base.
pub(crate) struct Segments {
    paths: Vec<PathBuf>,
    contents: Vec<File>,
}

impl Segments {
    /// Opens the segments of a bare repository and of its alternates.
    pub(crate) fn open(repository: &Path) -> io::Result<Self> {
        let mut paths = Vec::new();
        let bases = object::alternates(&repository.join("objects"))?;
        let bases = bases.iter().filter_map(|objects| objects.parent());
        for directory in bases.chain([repository]) {
            let entries = match fs::read_dir(directory.join(DIRECTORY)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries?,
            };
            for entry in entries {
                let path = entry?.path();
                if path.extension() == Some(OsStr::new(INDEX)) {
                    paths.push(path.with_extension(CONTENT));
                }
            }
        }
        paths.sort_unstable();
        let contents = paths.iter().map(File::open).collect::<io::Result<_>>()?;
        Ok(Self { paths, contents })
    }

    /// Finds these blobs, each where it is first. `None` for one that is nowhere.
    pub(crate) fn locate(&self, ids: &[Oid]) -> Result<Vec<Option<Extent>>, IndexError> {
        // The first bytes tell most ids apart, and numbers are quick to compare.
        let start = |id: &Oid| u64::from_be_bytes(std::array::from_fn(|byte| id.as_bytes()[byte]));
        let mut order: Vec<(u64, &Oid, usize)> = ids.iter().enumerate().map(|(at, id)| (start(id), id, at)).collect();
        order.sort_unstable_by(|one, other| one.0.cmp(&other.0).then_with(|| one.1.cmp(other.1)));
        let mut found = vec![None; ids.len()];
        for (segment, path) in self.paths.iter().enumerate() {
            let mut records = Records::open(File::open(path.with_extension(INDEX))?)?;
            if self.contents[segment].metadata()?.len() < records.length {
                return Err(IndexError::Damaged("a segment is cut short"));
            }
            let mut wanted = order.iter().peekable();
            while let Some(Record { id, offset, length }) = records.next()? {
                let start = start(&id);
                while wanted.next_if(|wanted| (wanted.0, wanted.1) < (start, &id)).is_some() {}
                while let Some((.., at)) = wanted.next_if(|wanted| wanted.0 == start && *wanted.1 == id) {
                    found[*at].get_or_insert(Extent { segment, offset, length });
                }
            }
        }
        Ok(found)
    }

    /// All blobs, in no particular order. The names of the segments must be right.
    pub(crate) fn blobs(&self) -> Result<Vec<(Oid, Extent)>, IndexError> {
        let mut blobs = Vec::new();
        for (segment, path) in self.paths.iter().enumerate() {
            let mut records = Records::open(File::open(path.with_extension(INDEX))?)?;
            while let Some(Record { id, offset, length }) = records.next()? {
                blobs.push((id, Extent { segment, offset, length }));
            }
            records.check_name(path.file_stem().and_then(OsStr::to_str).unwrap_or_default())?;
        }
        Ok(blobs)
    }

    /// The file of a segment.
    pub(crate) fn file(&self, extent: Extent) -> &File {
        &self.contents[extent.segment]
    }

    /// The name of a segment, without its end.
    pub(crate) fn stem(&self, extent: Extent) -> &str {
        self.paths[extent.segment].file_stem().and_then(OsStr::to_str).unwrap_or_default()
    }

    /// Reads a blob from its beginning.
    pub(crate) fn read(&self, extent: Extent) -> BlobReader<'_> {
        BlobReader { file: self.file(extent), offset: extent.offset, left: extent.length }
    }
}

/// Reads the content of a blob.
pub(crate) struct BlobReader<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
}

impl Read for BlobReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(into.len());
        let length = self.file.read_at(&mut into[..wanted], self.offset)?;
        if length == 0 && wanted > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += length as u64;
        self.left -= length as u64;
        Ok(length)
    }
}
