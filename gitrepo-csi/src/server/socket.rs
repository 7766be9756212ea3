//! A Unix socket's place in the file system: taken so that no other driver loses its own, and left likewise.

use std::fs;
use std::fs::File;
use std::fs::TryLockError;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use gitrepo_core::error::Kind;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::fcntl::open;
use nix::sys::socket::AddressFamily;
use nix::sys::socket::SockFlag;
use nix::sys::socket::SockType;
use nix::sys::socket::UnixAddr;
use nix::sys::socket::socket;
use nix::sys::stat::Mode;
use tokio::net::UnixListener;

/// What to do with a socket that somebody answers on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occupied {
    /// Leave it, and fail.
    Refuse,
    /// Take its place. The other server keeps its connections and gets no new ones.
    Replace,
}

/// A socket that listens.
#[derive(Debug)]
pub struct Socket {
    /// Where it is, for whoever removes it.
    pub place: Place,
    pub(super) listener: UnixListener,
}

/// The name of a socket, and which file it was.
///
/// The file is held open, so that no other socket gets its inode number while this one is remembered.
#[derive(Clone, Debug)]
pub struct Place {
    path: PathBuf,
    file: Arc<File>,
}

/// Why the driver cannot listen at a path.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The directory could not be made or looked at.
    #[error("cannot use the directory {} for a socket", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Somebody else could put another socket there.
    #[error(
        "the directory {} belongs to uid {owner} and has mode {mode:04o}: nobody but root may be able to write where \
         the driver's socket is; use a directory of its own, with mode 0700",
        path.display()
    )]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Its permissions.
        mode: u32,
    },
    /// Something that is not a socket has the name.
    #[error("{} is there and not a socket; remove it or choose another path", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// Another driver runs.
    #[error("another process answers on {}; stop it first, or give this driver another endpoint", path.display())]
    Live {
        /// The path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot listen on {}", path.display())]
    Listen {
        /// The path.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}

impl ListenError {
    /// What kind of failure it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Directory { .. } | Self::Listen { .. } => Kind::Internal,
            Self::Unsafe { .. } => Kind::PermissionDenied,
            Self::NotASocket { .. } => Kind::FailedPrecondition,
            Self::Live { .. } => Kind::Busy,
        }
    }
}

impl Socket {
    /// Listens at `path`, with mode 0600. A missing directory is made, with mode 0700; one that is there must belong to
    /// root or to this user and be closed to others. A socket that nobody answers on is replaced.
    ///
    /// The socket appears under its name when it already listens: whoever sees it can connect.
    ///
    /// # Errors
    ///
    /// See [`ListenError`]. Must be called within a tokio runtime.
    pub fn listen(path: &Path, occupied: Occupied) -> Result<Self, ListenError> {
        let failed = |source| ListenError::Listen { path: path.to_owned(), source };
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(failed(io::ErrorKind::InvalidInput.into()));
        };
        safe_directory(directory)?;
        let mut _turn = None;
        if occupied == Occupied::Refuse {
            _turn = Some(turn(directory, path)?);
            vacate(path)?;
        } else if is_other_than_socket(path).map_err(failed)? {
            return Err(ListenError::NotASocket { path: path.to_owned() });
        }
        // The kubelet, which watches its registration directory, ignores names that begin with a dot.
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push("~");
        let hidden = directory.join(hidden);
        if !is_other_than_socket(&hidden).map_err(failed)? {
            remove(&hidden).map_err(failed)?;
        }
        let listener = UnixListener::bind(&hidden).map_err(failed)?;
        match appear(&hidden, path, occupied) {
            Ok(place) => Ok(Self { place, listener }),
            Err(source) => {
                fs::remove_file(&hidden).ok();
                // Somebody was faster than this driver between the look and the renaming.
                if source.kind() == io::ErrorKind::AlreadyExists {
                    return Err(ListenError::Live { path: path.to_owned() });
                }
                Err(failed(source))
            }
        }
    }
}

/// Gives a socket that listens its mode and its name.
fn appear(hidden: &Path, path: &Path, occupied: Occupied) -> io::Result<Place> {
    fs::set_permissions(hidden, fs::Permissions::from_mode(0o600))?;
    let file = open(hidden, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
    match occupied {
        // A renaming that replaces nothing, on every C library and file system.
        Occupied::Refuse => {
            fs::hard_link(hidden, path)?;
            fs::remove_file(hidden)?;
        }
        Occupied::Replace => fs::rename(hidden, path)?,
    }
    Ok(Place { path: path.to_owned(), file: Arc::new(File::from(file)) })
}

impl Place {
    /// The socket's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the name if it still is that of this socket, and says whether it was.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn remove(&self) -> io::Result<bool> {
        let ours = self.file.metadata()?;
        match fs::symlink_metadata(&self.path) {
            Ok(found) if found.dev() == ours.dev() && found.ino() == ours.ino() => {
                remove(&self.path)?;
                Ok(true)
            }
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Makes the directory, or looks whether it is closed to others. The kubelet's own (0750, root) are; their modes are
/// the kubelet's and stay.
fn safe_directory(path: &Path) -> Result<(), ListenError> {
    let failed = |source| ListenError::Directory { path: path.to_owned(), source };
    match fs::DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    let found = fs::metadata(path).map_err(failed)?;
    if !found.is_dir() {
        return Err(failed(io::ErrorKind::NotADirectory.into()));
    }
    let is_ours = found.uid() == 0 || found.uid() == nix::unistd::geteuid().as_raw();
    let others = if found.gid() == 0 { 0o002 } else { 0o022 };
    if is_ours && found.mode() & others == 0 {
        return Ok(());
    }
    Err(ListenError::Unsafe { path: path.to_owned(), owner: found.uid(), mode: found.mode() & 0o7777 })
}

/// Of two drivers that find the same stale socket, the slower one would remove what the faster one has just put there. So
/// only one at a time looks, until its own has its name.
fn turn(directory: &Path, path: &Path) -> Result<File, ListenError> {
    let failed = |source| ListenError::Directory { path: directory.to_owned(), source };
    let directory = File::open(directory).map_err(failed)?;
    match directory.try_lock() {
        Ok(()) => Ok(directory),
        Err(TryLockError::WouldBlock) => Err(ListenError::Live { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Removes a socket that nobody answers on.
fn vacate(path: &Path) -> Result<(), ListenError> {
    let failed = |source| ListenError::Listen { path: path.to_owned(), source };
    if is_other_than_socket(path).map_err(failed)? {
        return Err(ListenError::NotASocket { path: path.to_owned() });
    }
    match connect(path) {
        Err(Errno::ENOENT) => Ok(()),
        Err(Errno::ECONNREFUSED) => {
            tracing::info!(socket = %path.display(), "replacing the socket of a driver that is gone");
            remove(path).map_err(failed)
        }
        // EAGAIN is a full backlog, which somebody has who is only slow.
        Ok(()) | Err(Errno::EAGAIN) => Err(ListenError::Live { path: path.to_owned() }),
        Err(error) => Err(failed(error.into())),
    }
}

/// Whether somebody listens; does not wait for them.
fn connect(path: &Path) -> nix::Result<()> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let client = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    nix::sys::socket::connect(client.as_raw_fd(), &UnixAddr::new(path)?)
}

fn is_other_than_socket(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(!found.file_type().is_socket()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes a name that may be gone already.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_socket_is_left_to_the_driver_that_is_about_to_replace_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _context = runtime.enter();
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("csi.sock");
        // Its listener is gone, its name is not.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let stale = fs::metadata(&path).unwrap().ino();

        let faster = turn(place.path(), &path).unwrap();
        let refused = Socket::listen(&path, Occupied::Refuse).unwrap_err();
        assert!(matches!(refused, ListenError::Live { .. }), "{refused:?}");
        assert_eq!(fs::metadata(&path).unwrap().ino(), stale);

        drop(faster);
        let socket = Socket::listen(&path, Occupied::Refuse).unwrap();
        assert!(socket.place.remove().unwrap());
    }
}
