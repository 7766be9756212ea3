//! A new file system: empty, of a known size, and unshared.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use nix::errno::Errno;
use nix::mount::MntFlags;
use nix::unistd::Whence;
use nix::unistd::lseek;
use tempfile::TempDir;

use crate::git;
use crate::namespace;
use crate::require;

/// An ext4 in a sparse file, mounted in the thread's private mount namespace until dropped. Needs root.
pub struct LoopFs {
    root: PathBuf,
    /// Its device's content.
    disk: File,
    place: TempDir,
}

/// What was on the disk of a [`LoopFs`] at one moment, as a power failure would have left it.
pub struct Image(File);

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
        let root = place.path().join("root");
        std::fs::create_dir(&root).unwrap();
        let disk = new_file(&place);
        disk.set_len(bytes).unwrap();
        let mkfs = require::find("mkfs.ext4").expect("mkfs.ext4 is installed");
        git::output(Command::new(mkfs).args(["-q", "-F"]).args(options).arg(file_in(&place)));
        mount(&place, &root);
        let mounted = Self { root, disk, place };
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

    /// A file system with quotas of projects, "ext4" or "xfs", which is mounted with more `options`, such as "prjquota" to
    /// enforce limits; `None` if this machine cannot.
    pub fn with_quotas(kind: &str, options: &str) -> Option<Self> {
        let mkfs = format!("mkfs.{kind}");
        if !require::root("to mount") || !require::tool(&mkfs) {
            return None;
        }
        namespace::private_mounts();
        let place = TempDir::new().unwrap();
        let root = place.path().join("root");
        std::fs::create_dir(&root).unwrap();
        let disk = new_file(&place);
        // XFS takes no less.
        disk.set_len(400 << 20).unwrap();
        let features: &[&str] = if kind == "ext4" { &["-F", "-O", "project,quota"] } else { &[] };
        git::output(Command::new(require::find(&mkfs)?).arg("-q").args(features).arg(file_in(&place)));
        let mut mount = Command::new("mount");
        mount.args(["-t", kind, "-o", &format!("loop,{options}")]).arg(file_in(&place)).arg(&root);
        let is_mounted = mount.stderr(Stdio::null()).status().unwrap().success();
        std::fs::remove_file(file_in(&place)).unwrap();
        require::rare_feature(is_mounted, &format!("project quotas of {kind}")).then(|| Self { root, disk, place })
    }

    /// The mount point, an empty directory at first.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Copies the disk while it is in use. What the kernel has not written to it yet is missing.
    pub fn image(&self) -> Image {
        let place = TempDir::new().unwrap();
        let copy = new_file(&place);
        // A block that is the same before and after the end of a copy was so at its end: that is the one moment.
        loop {
            copy_data(&self.disk, &copy).unwrap();
            if is_same_data(&self.disk, &copy).unwrap() {
                return Image(copy);
            }
        }
    }

    /// Mounts a copy of what was once on this disk in its place. The kernel replays the journal. Whoever uses the old
    /// content keeps it.
    pub fn revert(&mut self, image: &Image) {
        self.disk = mount_copy(image, &self.place, &self.root);
    }

    /// Mounts a copy of what was once on a disk on `root`, in place of what the thread's private mounts have there.
    pub fn restore(image: &Image, root: &Path) -> Self {
        namespace::private_mounts();
        let place = TempDir::new().unwrap();
        Self { root: root.to_owned(), disk: mount_copy(image, &place, root), place }
    }
}

impl Drop for LoopFs {
    fn drop(&mut self) {
        // Lazily, because a failed test may have left mounts or open files below. The loop device is freed with its
        // last user; an error here would hide the panic that led here.
        let _ = nix::mount::umount2(&self.root, MntFlags::MNT_DETACH);
    }
}

fn file_in(place: &TempDir) -> PathBuf {
    place.path().join("image")
}

fn new_file(place: &TempDir) -> File {
    File::options().read(true).write(true).create(true).truncate(true).open(file_in(place)).unwrap()
}

fn mount_copy(image: &Image, place: &TempDir, root: &Path) -> File {
    nix::mount::umount2(root, MntFlags::MNT_DETACH).unwrap();
    let disk = new_file(place);
    copy_data(&image.0, &disk).unwrap();
    mount(place, root);
    disk
}

fn mount(place: &TempDir, root: &Path) {
    let image = file_in(place);
    git::output(Command::new("mount").args(["-t", "ext4", "-o", "loop"]).arg(&image).arg(root));
    // The mount keeps the file's content, and leaves nothing on the disk however this process ends.
    std::fs::remove_file(&image).unwrap();
}

/// Makes a sparse file the copy of another one.
fn copy_data(from: &File, to: &File) -> io::Result<()> {
    to.set_len(0)?;
    to.set_len(from.metadata()?.len())?;
    for_each_block(from, |content, at| to.write_all_at(content, at).map(|()| true)).map(drop)
}

/// Whether a copy equals what it was made of.
fn is_same_data(original: &File, copy: &File) -> io::Result<bool> {
    let mut block = Vec::new();
    for_each_block(original, |content, at| {
        block.resize(content.len(), 0);
        copy.read_exact_at(&mut block, at)?;
        Ok(block == content)
    })
}

/// Visits the content of a sparse file, except holes, until a visit returns `false`. Returns what the last one did.
fn for_each_block(file: &File, mut visit: impl FnMut(&[u8], u64) -> io::Result<bool>) -> io::Result<bool> {
    let mut block = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        at = match lseek(file, at, Whence::SeekData) {
            Err(Errno::ENXIO) => return Ok(true),
            data => data?,
        };
        let end = lseek(file, at, Whence::SeekHole)?;
        while at < end {
            let length = usize::try_from(end - at).unwrap().min(block.len());
            let place = u64::try_from(at).unwrap();
            file.read_exact_at(&mut block[..length], place)?;
            if !visit(&block[..length], place)? {
                return Ok(false);
            }
            at += i64::try_from(length).unwrap();
        }
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
