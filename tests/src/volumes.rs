//! One node: a store, its published volumes, and checks for leftovers.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use gitrepo_core::cancel::Cancel;
use gitrepo_core::credentials::Credentials;
use gitrepo_core::credentials::Secret;
use gitrepo_core::gateway::Gateway;
use gitrepo_core::mount::Mounter;
use gitrepo_core::mount::mountinfo;
use gitrepo_core::policy::Config;
use gitrepo_core::policy::Policy;
use gitrepo_core::spec::RepositoryUrl;
use gitrepo_core::spec::Revision;
use gitrepo_core::spec::VolumeSpec;
use gitrepo_core::spec::Writable;
use gitrepo_core::store::Origin;
use gitrepo_core::store::Store;
use gitrepo_core::volume::PublishError;
use gitrepo_core::volume::Published;
use gitrepo_core::volume::Unpublished;
use gitrepo_core::volume::VolumeRequest;
use gitrepo_core::volume::Volumes;
use gitrepo_core::watch::Watch;
use gitrepo_core::worker::Worker;

/// A node with its store and its pods' directories in one home.
pub struct Node {
    /// The object under test.
    pub volumes: Volumes,
    mounter: Arc<dyn Mounter>,
    home: PathBuf,
}

/// The configuration in tests: a person's, which allows servers on the loopback and files, credentials in plain text to
/// the former, and small file systems without reserve.
pub fn config() -> Config {
    let mut config = Config::for_person();
    config.credentials_over_http = true;
    config.cache.reserve_bytes = 0;
    config
}

/// The credential of a token; none for `None`.
pub fn token(token: Option<&str>) -> Credentials {
    let keys = token.map(|token| ("token".to_owned(), Secret::new(token.to_owned())));
    Credentials::from_secret_keys(BTreeMap::from_iter(keys)).unwrap()
}

/// A person at a shell, as `gitrepo-cli` names itself.
pub const PERSON: Origin = Origin::program("cli");

/// The CSI driver, as it names itself.
pub const CSI: Origin = Origin::driver("csi");
/// The FlexVolume driver, as it names itself.
pub const FLEX: Origin = Origin::driver("flex");

/// The tree of the remote's HEAD, read-only, without an owner.
pub fn read_only(url: &str, target: &Path) -> VolumeRequest {
    let spec = VolumeSpec::new(RepositoryUrl::parse(url).unwrap());
    let request = VolumeRequest::new(format!("volume of {}", target.display()), target, spec);
    with(request, |request| request.origin = PERSON)
}

/// The same as a private, writable volume for `uid`, a layer or a copy as the node has it.
pub fn private(url: &str, target: &Path, uid: u32) -> VolumeRequest {
    with(writable(url, target, uid), |request| request.spec.writable = Some(Writable::Private))
}

/// The same as a private copy for `uid`.
pub fn writable(url: &str, target: &Path, uid: u32) -> VolumeRequest {
    with(read_only(url, target), |request| {
        request.read_only = false;
        request.spec.writable = Some(Writable::Copy);
        request.spec.uid = uid;
    })
}

/// The same as the copy that all targets of the volume `volume_id` share.
pub fn shared(url: &str, volume_id: &str, target: &Path) -> VolumeRequest {
    with(writable(url, target, 0), |request| {
        volume_id.clone_into(&mut request.volume_id);
        request.spec.writable = Some(Writable::Shared);
    })
}

/// Another revision of the same.
#[must_use]
pub fn at(request: VolumeRequest, revision: &str) -> VolumeRequest {
    with(request, |request| request.spec.revision = Revision::parse(revision).unwrap())
}

/// The same for a tenant.
#[must_use]
pub fn of_tenant(request: VolumeRequest, tenant: &str) -> VolumeRequest {
    with(request, |request| request.tenant = Some(tenant.to_owned()))
}

/// The same, changed.
#[must_use]
pub fn with(mut request: VolumeRequest, change: impl FnOnce(&mut VolumeRequest)) -> VolumeRequest {
    change(&mut request);
    request
}

impl Node {
    /// A node below `home`, a directory on the filesystem for the store.
    pub fn new(home: &Path, config: Config, worker: Arc<dyn Worker>, mounter: Arc<dyn Mounter>) -> Self {
        Self::with_gateway(home, Gateway::new(Policy::new(config), worker), mounter)
    }

    /// The same with this gateway to remotes.
    pub fn with_gateway(home: &Path, gateway: Gateway, mounter: Arc<dyn Mounter>) -> Self {
        let home = home.canonicalize().unwrap();
        let store = Store::open(&home.join("store")).unwrap();
        std::fs::create_dir_all(home.join("pods")).unwrap();
        let volumes = Volumes::new(store, gateway, Arc::clone(&mounter));
        Self { volumes, mounter, home }
    }

    /// The target for a pod of this name. Its parent exists.
    pub fn target(&self, pod: &str) -> PathBuf {
        self.home.join("pods").join(pod)
    }

    /// The store's directory.
    pub fn store(&self) -> &Path {
        self.volumes.store().root()
    }

    /// Publishes without a timeout.
    pub fn publish(&self, request: &VolumeRequest) -> Result<Published, PublishError> {
        self.publish_as(request, &Credentials::none())
    }

    /// The same with credentials.
    pub fn publish_as(&self, request: &VolumeRequest, credentials: &Credentials) -> Result<Published, PublishError> {
        self.volumes.publish(request, credentials, &Watch::default())
    }

    /// Unpublishes without a timeout, which must succeed.
    pub fn unpublish(&self, request: &VolumeRequest) -> Unpublished {
        self.volumes.unpublish(Some(&request.volume_id), &request.target, &Cancel::new()).unwrap()
    }

    /// Mounts on `target`.
    pub fn mounts_on(&self, target: &Path) -> usize {
        self.mounter.list().unwrap().iter().filter(|mount| mount.target == target).count()
    }

    /// Where the content of `target` is visible: the target itself, except with a mounter that only records.
    pub fn shown(&self, target: &Path) -> PathBuf {
        let mounts = self.mounter.list().unwrap();
        match mounts.iter().rev().find(|mount| mount.target == target) {
            Some(mount) if mount.filesystem == "fake" => mount.root.clone(),
            Some(_) => target.to_owned(),
            None => panic!("nothing is mounted on {}", target.display()),
        }
    }

    /// Loses all mounts, as in a reboot; the records become those of another boot.
    pub fn reboot(&self) {
        for record in self.volumes.store().records().unwrap() {
            self.mounter.unmount(&record.target).unwrap();
        }
        for lower in entries(&self.store().join("lowers")) {
            self.mounter.unmount(&lower).unwrap();
        }
        forget_boot(self.store());
    }

    /// The only record file.
    pub fn record_file(&self) -> PathBuf {
        let files = files_below(&self.store().join("volumes"));
        let mut records = files.into_iter().filter(|file| file.ends_with("record.json"));
        let record = records.next().expect("a record");
        assert_eq!(records.next(), None, "one record");
        record
    }

    /// The snapshots' directories.
    pub fn snapshots(&self) -> Vec<PathBuf> {
        entries(&self.store().join("snapshots"))
    }

    /// Fails if anything is left of published volumes, work in flight or crashes.
    pub fn assert_nothing_published(&self) {
        let left = leftovers(self.store(), &self.home.join("pods"));
        assert!(left.is_empty(), "left behind: {left:#?}");
        let mounts = self.mounter.list().unwrap();
        let below = |path: &Path| path != self.home && path.starts_with(&self.home);
        let ours: Vec<_> = mounts.iter().filter(|mount| below(&mount.target)).collect();
        assert!(ours.is_empty(), "still mounted: {ours:#?}");
    }
}

/// Makes the records and proofs of a store those of another boot.
pub fn forget_boot(store: &Path) {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    for file in ["volumes", "access"].iter().flat_map(|place| files_below(&store.join(place))) {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        if text.contains(boot.trim()) {
            std::fs::write(file, text.replace(boot.trim(), "00000000-0000-0000-0000-000000000000")).unwrap();
        }
    }
}

/// Mounts on `target`.
pub fn mounts_on(target: &Path) -> usize {
    mountinfo::read().unwrap().iter().filter(|mount| mount.target == target).count()
}

/// The mount points below a directory.
pub fn mounts_below(directory: &Path) -> Vec<PathBuf> {
    let mounts = mountinfo::read().unwrap().into_iter().map(|mount| mount.target);
    mounts.filter(|target| target != directory && target.starts_with(directory)).collect()
}

/// Files below a directory, without following links.
pub fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut places = vec![directory.to_owned()];
    while let Some(place) = places.pop() {
        for path in entries(&place) {
            let kind = path.symlink_metadata().unwrap().file_type();
            if kind.is_dir() {
                places.push(path);
            } else if kind.is_file() {
                files.push(path);
            }
        }
    }
    files
}

/// What volumes or work in flight have left in the store and in the pods' directory.
pub fn leftovers(store: &Path, pods: &Path) -> Vec<PathBuf> {
    let places = ["volumes", "staging", "trash", "mounting", "lowers"].map(|place| store.join(place));
    places.iter().map(PathBuf::as_path).chain([pods]).flat_map(entries).collect()
}

/// Deletes a test's own tree, in which nothing is mounted.
#[expect(clippy::disallowed_methods, reason = "nothing is mounted there")]
pub fn delete(tree: &Path) {
    std::fs::remove_dir_all(tree).unwrap_or_else(|error| panic!("{}: {error}", tree.display()));
}

/// The entries of a directory; empty if it does not exist.
pub fn entries(directory: &Path) -> Vec<PathBuf> {
    match std::fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => panic!("{}: {error}", directory.display()),
    }
}
