//! A machine with a kubelet and the driver. The paths that they share belong to the test.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use gitrepo_core::mount::mountinfo;
use nix::mount::MntFlags;
use nix::mount::MsFlags;
use serde_json::Value;
use serde_json::json;

use super::super::configuration;
use super::Kubelet;
use super::Plugin;
use crate::loopfs::LoopFs;
use crate::program;
use crate::volumes;

const VENDOR: &str = "piersharding";
const DRIVER: &str = "gitrepo";
const KUBELET: &str = "/var/lib/kubelet";
const STORE: &str = "/var/lib/gitrepo";
const CONFIGURATION: &str = "/etc/gitrepo/config.json";

/// One machine: `/etc/gitrepo`, `/var/lib` and `/var/log` are on a new file system, visible to this thread and those it
/// starts. It vanishes with them, however they end.
pub struct Node {
    kubelet: Kubelet,
    home: PathBuf,
    _file_system: LoopFs,
}

impl Node {
    /// A machine with a file system of `bytes`, with `gitrepo-flex` installed and allowing servers on the loopback;
    /// `None` without root.
    pub fn new(bytes: u64) -> Option<Self> {
        let file_system = LoopFs::if_possible(bytes)?;
        let driver = program::executable("gitrepo-flex");
        let home = file_system.path().canonicalize().unwrap();
        unmount_a_real_nodes();
        lay_over_etc(&home);
        for (place, own) in [("/var/lib", "lib"), ("/var/log", "log")] {
            bind(&directory(&home.join(own)), Path::new(place));
        }
        let plugin = Plugin::new(&directory(&home.join("exec")), VENDOR, DRIVER);
        directory(&plugin.directory());
        fs::write(plugin.executable(), "").unwrap();
        // A bind mount, because a copy would take longer than most tests.
        bind(&driver, &plugin.executable());
        directory(Path::new(CONFIGURATION).parent().unwrap());
        configuration::write(Path::new(CONFIGURATION), &json!({}));
        let kubelet = Kubelet::start(&directory(Path::new(KUBELET)), plugin);
        Some(Self { kubelet, home, _file_system: file_system })
    }

    /// The kubelet.
    pub fn kubelet(&self) -> &Kubelet {
        &self.kubelet
    }

    /// Changes the driver's configuration: these fields, and those for servers on the loopback.
    pub fn configure(&self, fields: &Value) {
        configuration::write(Path::new(CONFIGURATION), fields);
    }

    /// The same in the file beside the driver, and in no other.
    pub fn configure_beside_driver(&self, fields: &Value) {
        fs::remove_file(CONFIGURATION).unwrap();
        configuration::write(&self.kubelet.plugin().directory().join(".config.json"), fields);
    }

    /// A new directory of this machine.
    pub fn directory(&self, name: &str) -> PathBuf {
        directory(&self.home.join(name))
    }

    /// The root of the file system.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The store.
    pub fn store(&self) -> PathBuf {
        STORE.into()
    }

    /// The files below `/var/log`.
    pub fn log_files(&self) -> Vec<PathBuf> {
        volumes::files_below(Path::new("/var/log"))
    }

    /// The whole log.
    pub fn log(&self) -> String {
        let logs = self.log_files().into_iter().map(|file| fs::read(file).unwrap());
        logs.map(|log| String::from_utf8_lossy(&log).into_owned()).collect()
    }

    /// Mounts on `target`.
    pub fn mounts_on(&self, target: &Path) -> usize {
        volumes::mounts_on(target)
    }

    /// Loses all mounts, as in a reboot; the stores' records become those of another boot, and the kubelet starts.
    pub fn reboot(&self) {
        for mount in self.mounts().into_iter().rev() {
            nix::mount::umount2(&mount, MntFlags::MNT_DETACH).unwrap();
        }
        self.stores().iter().for_each(|store| volumes::forget_boot(store));
        self.kubelet.restart();
    }

    /// Fails if anything is left of set-up volumes, work in flight or crashes.
    pub fn assert_nothing_set_up(&self) {
        let mut left = self.mounts();
        left.extend(self.targets());
        let stores = self.stores().into_iter();
        left.extend(stores.flat_map(|store| volumes::leftovers(&store, Path::new("/nowhere"))));
        assert!(left.is_empty(), "left behind: {left:#?}");
    }

    /// The store, and those in directories of this machine that volumes may select.
    fn stores(&self) -> Vec<PathBuf> {
        let beside = volumes::entries(&self.home).into_iter().map(|directory| directory.join(".gitrepo"));
        [STORE.into()].into_iter().chain(beside.filter(|store| store.is_dir())).collect()
    }

    /// The mounts in the kubelet's directory and in the stores.
    fn mounts(&self) -> Vec<PathBuf> {
        let mounts = mountinfo::read().unwrap().into_iter().map(|mount| mount.target);
        let places: Vec<PathBuf> = self.stores().into_iter().chain([KUBELET.into()]).collect();
        mounts.filter(|target| places.iter().any(|place| target.starts_with(place))).collect()
    }

    /// The directories of the pods' volumes.
    fn targets(&self) -> Vec<PathBuf> {
        let pods = volumes::entries(&Path::new(KUBELET).join("pods"));
        let plugin = self.kubelet.plugin().escaped_name();
        pods.iter().flat_map(|pod| volumes::entries(&pod.join("volumes").join(&plugin))).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Lazily, because a failed test may have left mounts below. An error would hide the panic that led here.
        for place in ["/var/log", "/var/lib", "/etc"] {
            let _ = nix::mount::umount2(place, MntFlags::MNT_DETACH);
        }
    }
}

/// Unmounts, for the test alone, what a real kubelet of this machine may have there: it would pass for the test's own.
fn unmount_a_real_nodes() {
    let mounts = mountinfo::read().unwrap().into_iter().map(|mount| mount.target);
    let mounts: Vec<_> = mounts.filter(|at| at.starts_with(KUBELET) || at.starts_with(STORE)).collect();
    for mount in mounts.into_iter().rev() {
        nix::mount::umount2(&mount, MntFlags::MNT_DETACH).unwrap();
    }
}

/// A writable layer for the test, so that `/etc/gitrepo` need not exist on the machine.
fn lay_over_etc(home: &Path) {
    let [upper, work] = ["etc", "etc-work"].map(|name| directory(&home.join(name)));
    let options = format!("lowerdir=/etc,upperdir={},workdir={}", upper.display(), work.display());
    let options = Some(options.as_str());
    nix::mount::mount(Some("overlay"), "/etc", Some("overlay"), MsFlags::empty(), options).expect("an overlay on /etc");
}

fn bind(source: &Path, target: &Path) {
    nix::mount::mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .unwrap_or_else(|error| panic!("bind {} on {}: {error}", source.display(), target.display()));
}

/// Creates a directory as a package would, 0755.
fn directory(path: &Path) -> PathBuf {
    fs::create_dir_all(path).unwrap();
    fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    path.to_owned()
}
