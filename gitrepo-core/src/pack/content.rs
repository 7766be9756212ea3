//! The content of an object: in memory, or in a temporary file if it is large.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;

use super::WHOLE;

/// The content of an object.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// In memory.
    Whole(Rc<Vec<u8>>),
    /// In a file without a name.
    Spilled {
        /// The file, and nothing else is in it.
        file: Rc<File>,
        /// Its length in bytes.
        length: u64,
    },
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Whole(Rc::new(bytes))
    }
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Spilled { length, .. } => *length,
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
            Self::Spilled { file, .. } => file.read_exact_at(into, offset),
        }
    }

    /// Passes the content on piece by piece.
    pub(super) fn for_each_piece<E>(&self, mut pass_on: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E>
    where
        E: From<io::Error>,
    {
        match self {
            Self::Whole(bytes) => pass_on(bytes),
            Self::Spilled { file, length } => {
                let mut piece = vec![0; super::CHUNK];
                let mut offset = 0;
                while offset < *length {
                    let wanted = usize::try_from(length - offset).unwrap_or(usize::MAX).min(piece.len());
                    file.read_exact_at(&mut piece[..wanted], offset)?;
                    pass_on(&piece[..wanted])?;
                    offset += wanted as u64;
                }
                Ok(())
            }
        }
    }
}

/// Writes the content of one object.
pub(crate) enum Draft {
    Whole(Vec<u8>),
    Spilled(File, u64),
}

impl Draft {
    /// For an object of this size. `place` is a directory for a temporary file.
    pub(crate) fn new(size: u64, place: &Path) -> io::Result<Self> {
        match usize::try_from(size) {
            Ok(length) if size <= WHOLE => Ok(Self::Whole(Vec::with_capacity(length))),
            _ => {
                let path = place.join("tmp_object");
                let file = File::options().read(true).write(true).create_new(true).open(&path)?;
                fs::remove_file(path)?;
                Ok(Self::Spilled(file, 0))
            }
        }
    }

    pub(crate) fn finish(self) -> Content {
        match self {
            Self::Whole(bytes) => bytes.into(),
            Self::Spilled(file, length) => Content::Spilled { file: Rc::new(file), length },
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
