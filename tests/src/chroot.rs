//! A root directory with almost nothing but one program: a host without a distribution's files.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use nix::mount::MntFlags;
use nix::mount::MsFlags;
use nix::mount::mount;
use tempfile::TempDir;

use crate::namespace;
use crate::program::Outcome;
use crate::require;

/// A directory that programs see as `/`. It contains only `/etc/resolv.conf`, `/etc/ssl`, `/proc` and what a test puts
/// there: no `/dev`, no `/tmp`, no users with names or homes.
///
/// It is not a mount point, and its mount is shared, as on most hosts. Mounts that a program makes in its own mount
/// namespace must not appear here.
pub struct Chroot {
    place: TempDir,
    mounts: BTreeSet<String>,
}

impl Chroot {
    /// Creates one. The thread gets a [private mount namespace](namespace::private_mounts). Needs root.
    pub fn mounted() -> Self {
        namespace::private_mounts();
        let place = TempDir::with_prefix("gitrepo-chroot-").unwrap();
        let none = None::<&str>;
        mount(Some("gitrepo-tests"), place.path(), Some("tmpfs"), MsFlags::empty(), none).expect("mount a tmpfs");
        mount(none, place.path(), none, MsFlags::MS_SHARED, none).expect("share a mount");
        let mut chroot = Self { place, mounts: BTreeSet::new() };
        for directory in ["etc/ssl/certs", "proc", "store"] {
            fs::create_dir_all(chroot.inside(directory)).unwrap();
        }
        chroot.write("etc/resolv.conf", "nameserver 127.0.0.1\n");
        mount(Some("proc"), &chroot.inside("proc"), Some("proc"), MsFlags::empty(), none).expect("mount /proc");
        chroot.mounts = chroot.mounts();
        chroot
    }

    /// The outside path of an inside one (without leading slash).
    pub fn inside(&self, path: &str) -> PathBuf {
        self.place.path().join("root").join(path)
    }

    /// Writes a file, and creates its directory.
    pub fn write(&self, path: &str, content: &str) {
        let file = self.inside(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }

    /// Trusts this certificate authority, as a distribution would.
    pub fn trust(&self, pem: &str) {
        self.write("etc/ssl/certs/ca-certificates.crt", pem);
    }

    /// Copies a program into its root directory.
    pub fn install(&self, executable: &Path) {
        fs::copy(executable, self.inside(executable.file_name().unwrap().to_str().unwrap())).unwrap();
    }

    /// Runs an installed program to its end, with an empty environment.
    pub fn run<A: AsRef<OsStr>>(&self, name: &str, arguments: impl IntoIterator<Item = A>) -> Outcome {
        let mut command = Command::new(require::find("chroot").expect("chroot is installed"));
        command.arg(self.inside("")).arg(Path::new("/").join(name)).args(arguments);
        command.env_clear().stdin(Stdio::null()).output().unwrap().into()
    }

    /// Mounts that were not there at first: mount points by their outside path.
    pub fn new_mounts(&self) -> Vec<String> {
        self.mounts().difference(&self.mounts).cloned().collect()
    }

    /// Every mount in it, by id and mount point.
    fn mounts(&self) -> BTreeSet<String> {
        let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let place = self.place.path().to_str().unwrap();
        let fields = table.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        fields
            .filter(|fields| fields[4].starts_with(place))
            .map(|fields| format!("{} {}", fields[0], fields[4]))
            .collect()
    }
}

impl Drop for Chroot {
    fn drop(&mut self) {
        // Includes all mounts below. An error here would hide the panic that led here.
        let _ = nix::mount::umount2(self.place.path(), MntFlags::MNT_DETACH);
    }
}
