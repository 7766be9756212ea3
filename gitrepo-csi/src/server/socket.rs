//! Creates and removes the name of a Unix socket in the file system, without harming another driver's socket.

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

/// What to do with a socket that still answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occupied {
    /// Keep it and fail.
    Refuse,
    /// Replace it. The other server keeps its connections and gets no new ones.
    Replace,
}

/// A listening socket.
#[derive(Debug)]
pub struct Socket {
    /// The socket's name, to remove it later.
    pub name: SocketName,
    pub(super) listener: UnixListener,
}

/// The name of a socket, and the identity of its file.
///
/// It holds the file open, so that no other socket can get the same inode number meanwhile.
#[derive(Clone, Debug)]
pub struct SocketName {
    path: PathBuf,
    file: Arc<File>,
}

/// Why the driver cannot listen at a path.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The directory cannot be created or examined.
    #[error("cannot use the directory {} for a socket", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// Another user could put a socket there.
    #[error(
        "the directory {} belongs to uid {owner} and has mode {mode:04o}: only root may be able to write to the \
         directory of the driver's socket; use a separate directory with mode 0700",
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
    /// The path exists, and is not a socket.
    #[error("{} exists and is not a socket; remove it or choose another path", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// Another driver answers on the socket.
    #[error("another process answers on {}; stop it first, or give this driver another endpoint", path.display())]
    Live {
        /// The path.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("cannot listen on {}", path.display())]
    Listen {
        /// The path.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

impl ListenError {
    /// The kind of this failure.
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
    /// Listens at `path`, with mode 0600. A missing directory is created with mode 0700; an existing one must belong to
    /// root or to this user and be closed to others. A socket on which nobody answers is replaced.
    ///
    /// The socket gets its name only when it already listens: any client that sees it can connect.
    ///
    /// # Errors
    ///
    /// See [`ListenError`]. Must be called within a tokio runtime.
    pub fn listen(path: &Path, occupied: Occupied) -> Result<Self, ListenError> {
        let failed = |source| ListenError::Listen { path: path.to_owned(), source };
        let (Some(directory), Some(file)) = (path.parent(), path.file_name()) else {
            return Err(failed(io::ErrorKind::InvalidInput.into()));
        };
        safe_directory(directory)?;
        let mut _lock = None;
        if occupied == Occupied::Refuse {
            _lock = Some(lock(directory, path)?);
            vacate(path)?;
        } else if is_other_than_socket(path).map_err(failed)? {
            return Err(ListenError::NotASocket { path: path.to_owned() });
        }
        // The kubelet watches its registration directory, but ignores names that begin with a dot.
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(file);
        hidden.push("~");
        let hidden = directory.join(hidden);
        if !is_other_than_socket(&hidden).map_err(failed)? {
            remove(&hidden).map_err(failed)?;
        }
        let listener = UnixListener::bind(&hidden).map_err(failed)?;
        match give_name(&hidden, path, occupied) {
            Ok(name) => Ok(Self { name, listener }),
            Err(source) => {
                fs::remove_file(&hidden).ok();
                // Another process was faster between the check and the rename.
                if source.kind() == io::ErrorKind::AlreadyExists {
                    return Err(ListenError::Live { path: path.to_owned() });
                }
                Err(failed(source))
            }
        }
    }
}

/// Gives a listening socket its mode and its final name.
fn give_name(hidden: &Path, path: &Path, occupied: Occupied) -> io::Result<SocketName> {
    fs::set_permissions(hidden, fs::Permissions::from_mode(0o600))?;
    let file = open(hidden, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
    match occupied {
        // This renames without replacing, with every C library and file system.
        Occupied::Refuse => {
            fs::hard_link(hidden, path)?;
            fs::remove_file(hidden)?;
        }
        Occupied::Replace => fs::rename(hidden, path)?,
    }
    Ok(SocketName { path: path.to_owned(), file: Arc::new(File::from(file)) })
}

impl SocketName {
    /// The socket's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the name if it still belongs to this socket. Returns whether it did.
    ///
    /// # Errors
    ///
    /// If a system call fails.
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

/// Creates the directory, or checks that others cannot write to it. The kubelet's own directories (0750, root) pass.
/// The mode of an existing directory is not changed: it may be the kubelet's.
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

/// Locks the directory while a socket is created. If two drivers find the same stale socket, the slower one would
/// otherwise remove the new socket of the faster one.
fn lock(directory: &Path, path: &Path) -> Result<File, ListenError> {
    let failed = |source| ListenError::Directory { path: directory.to_owned(), source };
    let directory = File::open(directory).map_err(failed)?;
    match directory.try_lock() {
        Ok(()) => Ok(directory),
        Err(TryLockError::WouldBlock) => Err(ListenError::Live { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Removes a socket on which no server listens.
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
        // EAGAIN means a full backlog: the server is alive but slow.
        Ok(()) | Err(Errno::EAGAIN) => Err(ListenError::Live { path: path.to_owned() }),
        Err(error) => Err(failed(error.into())),
    }
}

/// Connects to a socket, without waiting.
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

/// Removes a name that may already be gone.
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
    fn a_stale_socket_is_not_removed_while_another_driver_replaces_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _context = runtime.enter();
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("csi.sock");
        // Close the listener; the name remains.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let stale = fs::metadata(&path).unwrap().ino();

        let faster = lock(place.path(), &path).unwrap();
        let refused = Socket::listen(&path, Occupied::Refuse).unwrap_err();
        assert!(matches!(refused, ListenError::Live { .. }), "{refused:?}");
        assert_eq!(fs::metadata(&path).unwrap().ino(), stale);

        drop(faster);
        let socket = Socket::listen(&path, Occupied::Refuse).unwrap();
        assert!(socket.name.remove().unwrap());
    }
}
