//! A new file system: empty, of a known size, and unshared.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use nix::mount::MntFlags;
use tempfile::TempDir;

use crate::git;
use crate::namespace;
use crate::require;

/// An ext4 in a sparse file, mounted in the thread's private mount namespace until dropped. Needs root.
pub struct LoopFs {
    root: PathBuf,
    _place: TempDir,
}

impl LoopFs {
    /// Creates and mounts a file system of `bytes` in a [private mount namespace][namespace::private_mounts].
    pub fn new(bytes: u64) -> Self {
        Self::made(TempDir::new().unwrap(), bytes, &[])
    }

    /// The same, with its file in `directory`, and complete: the kernel initialises nothing later, while a benchmark runs.
    pub fn complete_in(directory: &Path, bytes: u64) -> Self {
        let place = TempDir::with_prefix_in("filesystem-", directory).unwrap();
        Self::made(place, bytes, &["-E", "lazy_itable_init=0,lazy_journal_init=0"])
    }

    fn made(place: TempDir, bytes: u64, options: &[&str]) -> Self {
        namespace::private_mounts();
        let image = place.path().join("image");
        let root = place.path().join("root");
        File::create(&image).unwrap().set_len(bytes).unwrap();
        std::fs::create_dir(&root).unwrap();
        let mkfs = require::find("mkfs.ext4").expect("mkfs.ext4 is installed");
        git::output(Command::new(mkfs).args(["-q", "-F"]).args(options).arg(&image));
        git::output(Command::new("mount").args(["-t", "ext4", "-o", "loop"]).arg(&image).arg(&root));
        // The mount keeps the file's content, and leaves nothing on the disk however this process ends.
        std::fs::remove_file(&image).unwrap();
        let mounted = Self { root, _place: place };
        std::fs::remove_dir(mounted.root.join("lost+found")).unwrap();
        std::fs::set_permissions(&mounted.root, PermissionsExt::from_mode(0o755)).unwrap();
        mounted
    }

    /// The same; `None` if this machine cannot.
    pub fn if_possible(bytes: u64) -> Option<Self> {
        (require::root("to mount") && require::tool("mkfs.ext4")).then(|| Self::new(bytes))
    }

    /// The same with fs-verity; `None` if this machine cannot.
    pub fn with_verity(bytes: u64) -> Option<Self> {
        let has_verity = Path::new("/sys/fs/ext4/features/verity").exists();
        (require::root("to mount") && require::tool("mkfs.ext4") && require::rare_feature(has_verity, "fs-verity"))
            .then(|| Self::made(TempDir::new().unwrap(), bytes, &["-O", "verity"]))
    }

    /// The mount point, an empty directory at first.
    pub fn path(&self) -> &Path {
        &self.root
    }
}

impl Drop for LoopFs {
    fn drop(&mut self) {
        // Lazily, because a failed test may have left mounts or open files below. The loop device is freed with its
        // last user; an error here would hide the panic that led here.
        let _ = nix::mount::umount2(&self.root, MntFlags::MNT_DETACH);
    }
}

/// The files below a directory, deleted or not, that loop devices of anybody have open.
pub fn loop_devices_below(directory: &Path) -> Vec<PathBuf> {
    let blocks = std::fs::read_dir("/sys/block").unwrap();
    // A device that goes away meanwhile has no file either.
    let file = |block: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(block.ok()?.path().join("loop/backing_file")).ok()
    };
    blocks.filter_map(file).map(PathBuf::from).filter(|file| file.starts_with(directory)).collect()
}
