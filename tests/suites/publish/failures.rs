//! A failure leaves nothing behind, or leaves the previous state.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gitrepo_core::credentials::Credentials;
use gitrepo_core::error::Kind;
use gitrepo_core::mount::Mount;
use gitrepo_core::mount::MountError;
use gitrepo_core::mount::Mounter;
use gitrepo_core::policy::Config;
use gitrepo_core::spec::RelativePath;
use gitrepo_core::testing::Overridden;
use gitrepo_core::testing::Overrides;
use gitrepo_core::testing::Verb;
use gitrepo_core::volume::Outcome;
use gitrepo_core::watch::Watch;
use gitrepo_tests::http::Answer;
use gitrepo_tests::http::Credential;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::repository::Files;
use gitrepo_tests::volumes::Node;
use gitrepo_tests::volumes::at;
use gitrepo_tests::volumes::read_only;
use gitrepo_tests::volumes::shared;
use gitrepo_tests::volumes::writable;

use super::Bench;
use super::config;

/// A change to a configuration that makes every publish fail, and the error's kind.
type Refusing = (fn(&mut Config), Kind);

pub(super) fn a_final_failure_leaves_nothing_behind(bench: &Bench) {
    let target = bench.node.target("pod");
    let closed = HttpServer::builder().serve(&bench.repository).accept(Credential::Bearer("key")).start();
    let gone = HttpServer::start(&bench.repository).url(&bench.repository);
    let forbidding = HttpServer::builder().serve(&bench.repository).answer(|_| Answer::status(403)).start();
    let mut no_such_directory = read_only(&bench.url(), &target);
    no_such_directory.spec.tree.subdirectory = RelativePath::parse("no/such").unwrap();
    let failing = [
        (at(read_only(&bench.url(), &target), "no-such-branch"), Kind::NotFound),
        (at(read_only(&bench.url(), &target), &"5ca1ab1e".repeat(5)), Kind::NotFound),
        (read_only(&bench.server.url_at("no-such.git"), &target), Kind::NotFound),
        (no_such_directory, Kind::NotFound),
        (read_only(&closed.url(&bench.repository), &target), Kind::Unauthenticated),
        (read_only(&forbidding.url(&bench.repository), &target), Kind::PermissionDenied),
        (read_only(&gone, &target), Kind::Unavailable),
    ];
    for (request, kind) in failing {
        let error = bench.node.publish(&request).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        bench.node.assert_nothing_published();
    }
    let refusing: [Refusing; 3] = [
        (|config| config.limits.tree_bytes = 3, Kind::ResourceExhausted),
        (|config| config.allow_loopback = false, Kind::PermissionDenied),
        (|config| config.cache.reserve_bytes = u64::MAX, Kind::ResourceExhausted),
    ];
    for (change, kind) in refusing {
        let error = bench.configured(change).publish(&read_only(&bench.url(), &target)).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        bench.node.assert_nothing_published();
    }
    assert!(bench.node.snapshots().is_empty());
    bench.node.publish(&read_only(&bench.url(), &target)).unwrap();
    bench.assert_shows(&target, &bench.commit);
}

pub(super) fn a_publish_whose_mount_fails_leaves_nothing_behind(bench: &Bench) {
    // The mount table is read only for a directory that exists. It stays, and is empty.
    let target = bench.home.join("target");
    std::fs::create_dir(&target).unwrap();
    let mut failed = 0;
    let requests =
        [read_only(&bench.url(), &target), writable(&bench.url(), &target, 0), shared(&bench.url(), "volume", &target)];
    for request in requests {
        for verb in [Verb::Attach, Verb::List, Verb::Shows, Verb::Unmount] {
            // Each call of the verb fails once, until the publish succeeds.
            for nth in 1.. {
                match bench.failing(verb, nth).publish(&request) {
                    Ok(_) => break,
                    Err(error) => {
                        let is_faulty = matches!(error.kind(), Kind::Unavailable | Kind::Internal);
                        assert!(is_faulty, "{:?} {error}", error.kind());
                    }
                }
                bench.node.assert_nothing_published();
                failed += 1;
            }
            bench.node.unpublish(&request);
            bench.node.assert_nothing_published();
        }
    }
    assert!(failed >= 6, "too few calls failed: {failed}");
}

/// A mounter that fails, and replaces the store's trash with a file so that nothing can be deleted either.
struct Breaking {
    mounter: Arc<dyn Mounter>,
    trash: PathBuf,
}

impl Overrides for Breaking {
    fn inner(&self) -> &dyn Mounter {
        &*self.mounter
    }

    fn attach(&self, mount: &Mount) -> Result<(), MountError> {
        fs::remove_dir(&self.trash).unwrap();
        fs::write(&self.trash, "").unwrap();
        Err(MountError::Attach {
            mount: Box::new(mount.clone()),
            step: "injected",
            source: io::Error::from_raw_os_error(libc::EIO),
        })
    }
}

pub(super) fn a_failure_that_could_not_be_undone_is_not_final(bench: &Bench) {
    let trash = bench.node.store().join("trash");
    let target = bench.node.target("pod");
    for request in [read_only(&bench.url(), &target), writable(&bench.url(), &target, 0)] {
        let mounter = Overridden(Breaking { mounter: Arc::clone(&bench.mounter), trash: trash.clone() });
        let node = Node::new(&bench.home, config(bench.format), Arc::clone(&bench.worker), Arc::new(mounter));
        let error = node.publish(&request).unwrap_err();
        assert_eq!(error.kind(), Kind::Busy, "{error}");
        assert_eq!(bench.node.volumes.list().unwrap().len(), 1, "its record stays");

        fs::remove_file(&trash).unwrap();
        fs::create_dir(&trash).unwrap();
        bench.node.publish(&request).unwrap();
        bench.assert_shows(&target, &bench.commit);
        bench.node.unpublish(&request);
        bench.node.assert_nothing_published();
    }
}

pub(super) fn a_failed_unpublish_may_be_repeated(bench: &Bench) {
    let request = read_only(&bench.url(), &bench.node.target("pod"));
    bench.node.publish(&request).unwrap();
    let cancel = Watch::default().cancel;
    let failing = bench.failing(Verb::Unmount, 1);
    failing.volumes.unpublish(Some(&request.volume_id), &request.target, &cancel).unwrap_err();
    bench.assert_shows(&request.target, &bench.commit);
    assert_eq!(bench.node.volumes.list().unwrap().len(), 1, "the mounted volume keeps its record");
    assert_eq!(bench.node.unpublish(&request).mounts, 1);
    bench.node.assert_nothing_published();
}

pub(super) fn a_volume_that_is_unpublished_during_its_fetch_does_not_appear(bench: &Bench) {
    let request = read_only(&bench.url(), &bench.node.target("pod"));
    let gate = bench.server.hold(|request| request.is_upload_pack());
    std::thread::scope(|scope| {
        let publishing = scope.spawn(|| bench.node.publish(&request));
        gate.wait_for(1);
        // The unpublish does not wait, and finds nothing.
        let unpublished = bench.node.unpublish(&request);
        assert_eq!((unpublished.known, unpublished.mounts), (false, 0));
        let swept = bench.node.volumes.store().sweep(Duration::from_secs(60), &[]);
        assert!(swept.failures.is_empty(), "{swept:?}");
        gate.open();
        let error = publishing.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), Kind::Busy, "{error}");
    });
    bench.node.assert_nothing_published();
    assert!(!request.target.exists());
    let published = bench.node.publish(&request).unwrap();
    assert_eq!(published.outcome, Outcome::Hit, "the tree was kept");
    bench.assert_shows(&request.target, &bench.commit);
}

pub(super) fn a_cancelled_publish_leaves_nothing_behind(bench: &Bench) {
    let request = read_only(&bench.url(), &bench.node.target("pod"));
    let gate = bench.server.hold(|request| request.is_upload_pack());
    let watch = Watch::default();
    let giving_up = watch.clone();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            gate.wait_for(1);
            giving_up.cancel.cancel();
            // A worker in a thread cannot be killed. It notices when the server answers.
            gate.open();
        });
        let error = bench.node.volumes.publish(&request, &Credentials::none(), &watch).unwrap_err();
        assert_eq!(error.kind(), Kind::Cancelled, "{error}");
    });
    bench.node.assert_nothing_published();
    bench.node.publish(&request).unwrap();
    bench.assert_shows(&request.target, &bench.commit);
}

pub(super) fn a_failed_republish_keeps_the_volumes_record_and_data(bench: &Bench) {
    let request = at(writable(&bench.url(), &bench.node.target("pod"), 0), "main");
    bench.node.publish(&request).unwrap();
    fs::write(bench.node.shown(&request.target).join("written"), "by the pod").unwrap();
    bench.repository.commit("main", &Files::new().file("README.md", "# Third\n"));
    bench.node.reboot();
    for verb in [Verb::Attach, Verb::List, Verb::Shows] {
        bench.failing(verb, 1).publish(&request).unwrap_err();
        assert_eq!(bench.node.mounts_on(&request.target), 0, "{verb:?}");
    }
    assert_eq!(bench.node.publish(&request).unwrap().commit.to_string(), bench.commit);
    assert_eq!(fs::read_to_string(bench.node.shown(&request.target).join("written")).unwrap(), "by the pod");
}
