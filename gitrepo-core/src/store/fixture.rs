//! The setup of the store's own tests.

use std::path::Path;
use std::time::SystemTime;

use nix::mount::MsFlags;
use nix::mount::mount;
use nix::sched::CloneFlags;
use nix::sched::unshare;
use tempfile::TempDir;

use super::MountTable;
use super::Origin;
use super::Record;
use super::Shows;
use super::SnapshotKey;
use super::SnapshotLease;
use super::SnapshotMeta;
use super::Store;
use crate::cancel::Cancel;
use crate::credentials::Credentials;
use crate::policy::Limits;
use crate::snapshot::Directory;
use crate::snapshot::Ownership;
use crate::snapshot::SnapshotFormat;
use crate::snapshot::TreeRequest;
use crate::snapshot::TreeSummary;
use crate::spec::CommitId;
use crate::spec::RepositoryUrl;
use crate::spec::TreeOptions;

/// Creates a store in a temporary directory.
pub(crate) fn store() -> (TempDir, Store) {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(&place.path().join("store")).unwrap();
    (place, store)
}

pub(crate) fn url() -> RepositoryUrl {
    RepositoryUrl::parse("https://git.example.com/group/project.git").unwrap()
}

/// Returns the commit id that repeats this digit forty times.
pub(crate) fn commit(digit: u8) -> CommitId {
    CommitId::from_bytes([digit << 4 | digit; 20])
}

/// Returns a limit that gives up at the first lock that is held elsewhere.
pub(crate) fn impatient() -> Cancel {
    Cancel::new().within(std::time::Duration::ZERO)
}

/// Installs a snapshot of one file with this content.
pub(crate) fn install(store: &Store, commit: CommitId, content: &str) -> SnapshotLease {
    let staging = store.staging().unwrap();
    let tree = staging.path().join("tree");
    std::fs::create_dir_all(tree.join("root")).unwrap();
    std::fs::write(tree.join("root/file"), content).unwrap();
    let (url, options) = (url(), TreeOptions::default());
    let key = SnapshotKey {
        url: &url,
        commit: &commit,
        tree: &options,
        format: Directory.name(),
        ownership: Ownership::ROOT,
        repository: None,
        label: None,
    };
    let request = TreeRequest::new(&options, commit, &Directory, &Limits::default());
    let meta = SnapshotMeta::new(&url, &request, TreeSummary { files: 1, ..TreeSummary::default() });
    store.install_snapshot(&key.id(), &staging, &tree, &meta).unwrap()
}

/// Creates a record of `target`, which shows a snapshot.
pub(crate) fn record(store: &Store, volume_id: &str, target: &Path, lease: &SnapshotLease) -> Record {
    Record {
        version: Record::VERSION,
        origin: Origin::program("test"),
        volume_id: volume_id.to_owned(),
        target: target.to_path_buf(),
        repository: url().to_string(),
        revision: "main".to_owned(),
        reference: Some("refs/heads/main".to_owned()),
        commit: lease.meta().commit,
        snapshot: lease.id().clone(),
        content: [("repository".to_owned(), url().to_string())].into(),
        shows: Shows::Snapshot,
        ownership: None,
        credential: store.access().credential(&url(), &Credentials::none()).unwrap(),
        submodule_credentials: None,
        mounted_in: MountTable::current().unwrap(),
        created_at: SystemTime::UNIX_EPOCH,
        target_created: false,
    }
}

/// Runs `test` on a small filesystem of its own, in a private mount namespace. Needs root: without it the test is
/// skipped with a message, unless all tests are required.
pub(crate) fn on_small_filesystem(options: &'static str, test: impl FnOnce(&Path) + Send) {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("GITREPO_REQUIRE_ALL").is_none(), "this test mounts a filesystem, which needs root");
        eprintln!("skipped: mounting a filesystem needs root");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            mount(Some("tmpfs"), place.path(), Some("tmpfs"), MsFlags::empty(), Some(options)).unwrap();
            test(place.path());
        });
    });
}
