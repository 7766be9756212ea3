//! The content of an object: in memory, or in a file if it is large.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::CHUNK;
use super::PackError;
use super::WHOLE;

/// The content of an object.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// In memory.
    Whole(Arc<Vec<u8>>),
    /// A part of a file.
    Part {
        /// The file.
        file: Arc<File>,
        /// Where the part begins, in bytes.
        offset: u64,
        /// Its length in bytes.
        length: u64,
    },
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Whole(Arc::new(bytes))
    }
}

impl Content {
    /// Its length in bytes.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Part { length, .. } => *length,
        }
    }

    /// Reads it into memory, unless it is too large for that.
    pub(super) fn gather(self) -> io::Result<Self> {
        match &self {
            Self::Part { length, .. } if *length <= WHOLE => {
                let mut bytes = vec![0; usize::try_from(*length).map_err(io::Error::other)?];
                self.read_exact_at(&mut bytes, 0)?;
                Ok(bytes.into())
            }
            _ => Ok(self),
        }
    }

    /// Reads exactly as many bytes as `into` has.
    pub(super) fn read_exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Self::Whole(bytes) => {
                let start = usize::try_from(offset).map_err(io::Error::other)?;
                let end = start.checked_add(into.len());
                let part = end.and_then(|end| bytes.get(start..end)).ok_or(io::ErrorKind::UnexpectedEof)?;
                into.copy_from_slice(part);
                Ok(())
            }
            Self::Part { file, offset: start, .. } => file.read_exact_at(into, start + offset),
        }
    }

    /// Reads all of it into memory.
    pub(crate) fn whole(&self) -> Result<Vec<u8>, PackError> {
        let mut bytes = Vec::new();
        let length = usize::try_from(self.len()).map_err(|_| PackError::OutOfMemory)?;
        bytes.try_reserve_exact(length).map_err(|_| PackError::OutOfMemory)?;
        bytes.resize(length, 0);
        self.read_exact_at(&mut bytes, 0).map_err(PackError::Disk)?;
        Ok(bytes)
    }

    /// Passes the content on piece by piece.
    pub(crate) fn for_each_piece(&self, mut pass_on: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        if let Self::Whole(bytes) = self {
            return pass_on(bytes);
        }
        let mut piece = vec![0; usize::try_from(self.len()).unwrap_or(CHUNK).min(CHUNK)];
        let mut offset = 0;
        while offset < self.len() {
            let wanted = usize::try_from(self.len() - offset).unwrap_or(CHUNK).min(CHUNK);
            self.read_exact_at(&mut piece[..wanted], offset)?;
            pass_on(&piece[..wanted])?;
            offset += wanted as u64;
        }
        Ok(())
    }
}

/// Takes the content of one object, in memory or in a temporary file.
pub(crate) enum Draft {
    Whole(Vec<u8>),
    Spilled(File, u64),
}

impl Draft {
    /// For an object of this size in bytes. `place` is a directory for a temporary file.
    pub(crate) fn new(size: u64, place: &Path) -> io::Result<Self> {
        match usize::try_from(size) {
            Ok(length) if size <= WHOLE => Ok(Self::Whole(Vec::with_capacity(length))),
            _ => Ok(Self::Spilled(unnamed(place)?, 0)),
        }
    }

    pub(crate) fn finish(self) -> Content {
        match self {
            Self::Whole(bytes) => bytes.into(),
            Self::Spilled(file, length) => Content::Part { file: Arc::new(file), offset: 0, length },
        }
    }
}

impl Write for Draft {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        match self {
            Self::Whole(bytes) => bytes.extend_from_slice(piece),
            Self::Spilled(file, length) => {
                file.write_all(piece)?;
                *length += piece.len() as u64;
            }
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file without a name in `place`, which the kernel deletes once it is closed.
pub(super) fn unnamed(place: &Path) -> io::Result<File> {
    let path = place.join("tmp_object");
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    fs::remove_file(path)?;
    Ok(file)
}
