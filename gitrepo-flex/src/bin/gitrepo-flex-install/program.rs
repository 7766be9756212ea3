//! The program to install: `gitrepo-flex`, which is in the directory of this program in the image and in the build.

use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::os::unix::fs::OpenOptionsExt;

use gitrepo_flex::program;
use nix::fcntl::OFlag;

use crate::directory::Content;
use crate::error::InstallError;

const NAME: &str = "gitrepo-flex";

/// The open program. It stays readable even if its file is replaced or removed.
#[derive(Debug)]
pub(crate) struct Program(File);

impl Program {
    /// Opens the program.
    pub(crate) fn open() -> Result<Self, InstallError> {
        let path = program::directory().unwrap_or_default().join(NAME);
        // Opening a pipe in its place must not block.
        let opened = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&path);
        let regular = opened.and_then(|file| match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::Error::other("it is not a file")),
        });
        regular.map(Self).map_err(|source| InstallError::NoProgram { path, source })
    }
}

impl Content for &Program {
    fn reader(&mut self) -> io::Result<Box<dyn Read + '_>> {
        let mut file = &self.0;
        file.rewind()?;
        Ok(Box::new(file))
    }
}
