//! Overlays that become copies while they are mounted, for pods whose ids are mapped.

use std::fs;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use gitrepo_core::error::Kind;
use gitrepo_core::mount::Mount;
use gitrepo_core::mount::MountError;
use gitrepo_core::mount::MountPoint;
use gitrepo_core::mount::Mounter;
use gitrepo_core::testing::Verb;
use gitrepo_core::volume::Abandoned;
use gitrepo_core::volume::Format;
use gitrepo_core::volume::PublishError;
use gitrepo_core::volume::VolumeRequest;
use gitrepo_core::watch::Watch;
use gitrepo_tests::user_namespace::UserNamespace;
use gitrepo_tests::volumes::Node;
use gitrepo_tests::volumes::PERSON;
use gitrepo_tests::volumes::entries;
use gitrepo_tests::volumes::private;
use gitrepo_tests::volumes::shared;
use gitrepo_tests::volumes::with;

use super::Bench;
use super::config;

/// A private and a shared volume.
fn requests(bench: &Bench) -> [VolumeRequest; 2] {
    [
        private(&bench.url(), &bench.node.target("private"), 0),
        shared(&bench.url(), "volume", &bench.node.target("shared")),
    ]
}

fn replace(node: &Node, request: &VolumeRequest) -> Result<bool, PublishError> {
    let record = node.volumes.find(&request.volume_id, &request.target).unwrap().unwrap().record;
    node.volumes.replace_layer(&record, &Watch::default())
}

fn format(node: &Node, request: &VolumeRequest) -> Format {
    node.volumes.find(&request.volume_id, &request.target).unwrap().unwrap().format
}

/// Whether a container runtime could map the ids of a volume.
fn can_be_mapped(bench: &Bench, target: &Path) -> bool {
    let clone = bench.home.join("clone");
    fs::create_dir(&clone).unwrap();
    let attached = UserNamespace::new(100_000).attach_mapped(target, &clone).is_ok();
    bench.mounter.unmount(&clone).unwrap();
    fs::remove_dir(&clone).unwrap();
    attached
}

pub(super) fn an_untouched_overlay_becomes_a_copy_in_its_place(bench: &Bench) {
    for request in requests(bench) {
        assert_eq!(bench.node.publish(&request).unwrap().format, Format::Overlay);
        assert!(!can_be_mapped(bench, &request.target));
        assert!(replace(&bench.node, &request).unwrap());
        bench.assert_shows(&request.target, &bench.commit);
        assert_eq!(format(&bench.node, &request), Format::Copy);
        assert!(can_be_mapped(bench, &request.target));
        assert_eq!(entries(&bench.node.store().join("lowers")), [] as [&Path; 0]);
        assert!(!replace(&bench.node, &request).unwrap(), "once");

        fs::write(request.target.join("written"), "stays").unwrap();
        for id_mapped in [false, true] {
            bench.node.reboot();
            let again = with(request.clone(), |request| request.id_mapped = id_mapped);
            assert_eq!(bench.node.publish(&again).unwrap().format, Format::Copy);
            assert_eq!(fs::read_to_string(request.target.join("written")).unwrap(), "stays");
        }
        assert_eq!(bench.node.unpublish(&request).mounts, 1);
        bench.node.assert_nothing_published();
    }
}

pub(super) fn the_copy_belongs_to_the_same_user_and_group(bench: &Bench) {
    use std::os::unix::fs::MetadataExt;
    let request = private(&bench.url(), &bench.node.target("pod"), 1000);
    let all = |target: &Path| {
        ["", "README.md", "run"].map(|path| {
            let found = fs::metadata(target.join(path)).unwrap();
            (found.uid(), found.gid(), format!("{:o}", found.mode() & 0o7777))
        })
    };
    for group in [None, Some(2000)] {
        let request = with(request.clone(), |request| request.group = group);
        bench.node.publish(&request).unwrap();
        let before = all(&request.target);
        assert!(replace(&bench.node, &request).unwrap());
        assert_eq!(all(&request.target), before, "{group:?}");
        bench.node.unpublish(&request);
    }
    bench.node.assert_nothing_published();
}

pub(super) fn nobody_sees_anything_but_the_tree_meanwhile(bench: &Bench) {
    for request in requests(bench) {
        bench.node.publish(&request).unwrap();
        let (begun, ended) = (AtomicBool::new(false), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    assert_eq!(fs::read_to_string(request.target.join("README.md")).unwrap(), "# Second\n");
                    begun.store(true, Ordering::Relaxed);
                }
            });
            while !begun.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            let replaced = replace(&bench.node, &request);
            ended.store(true, Ordering::Relaxed);
            assert!(replaced.unwrap());
        });
        bench.node.unpublish(&request);
    }
    bench.node.assert_nothing_published();
}

pub(super) fn an_overlay_that_is_written_or_has_other_targets_stays(bench: &Bench) {
    let [private, first] = requests(bench);
    let second = shared(&bench.url(), "volume", &bench.node.target("second"));
    for request in [&private, &first, &second] {
        bench.node.publish(request).unwrap();
    }
    let refused = |request: &VolumeRequest| {
        let error = replace(&bench.node, request).unwrap_err();
        assert_eq!(error.kind(), Kind::FailedPrecondition, "{error}");
        assert!(error.to_string().contains("writable: copy"), "{error}");
        assert_eq!((format(&bench.node, request), bench.node.mounts_on(&request.target)), (Format::Overlay, 1));
    };
    refused(&first);
    fs::write(private.target.join("written"), "stays").unwrap();
    refused(&private);
    assert_eq!(fs::read_to_string(private.target.join("written")).unwrap(), "stays");
    bench.node.unpublish(&second);
    assert!(replace(&bench.node, &first).unwrap(), "alone");
    // What pods share is a copy now, whoever joins.
    bench.node.publish(&second).unwrap();
    fs::write(first.target.join("of-the-first"), "seen").unwrap();
    assert_eq!(fs::read_to_string(second.target.join("of-the-first")).unwrap(), "seen");
    for request in [&private, &first, &second] {
        assert_eq!(bench.node.unpublish(request).mounts, 1);
    }
    bench.node.assert_nothing_published();
}

pub(super) fn a_failure_leaves_the_overlay(bench: &Bench) {
    for request in requests(bench) {
        bench.node.publish(&request).unwrap();
        let error = replace(&bench.failing(Verb::Replace, 1), &request).unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable, "{error}");
        assert_eq!(format(&bench.node, &request), Format::Overlay);
        bench.node.publish(&request).unwrap();
        fs::write(request.target.join("written"), "stays").unwrap();
        bench.node.reboot();
        assert_eq!(bench.node.publish(&request).unwrap().format, Format::Overlay);
        assert_eq!(fs::read_to_string(request.target.join("written")).unwrap(), "stays");
        bench.node.unpublish(&request);
    }
    let small = bench.configured(|config| config.limits.writable_bytes = 8);
    for request in requests(bench) {
        small.publish(&request).unwrap();
        assert_eq!(replace(&small, &request).unwrap_err().kind(), Kind::ResourceExhausted);
        assert_eq!(format(&small, &request), Format::Overlay);
        small.unpublish(&request);
    }
    bench.node.assert_nothing_published();
}

/// A mounter whose process dies when it is to replace a mount.
struct Dying(Arc<dyn Mounter>);

impl Mounter for Dying {
    fn attach(&self, mount: &Mount) -> Result<(), MountError> {
        self.0.attach(mount)
    }

    fn shows(&self, mount: &Mount) -> Result<bool, MountError> {
        self.0.shows(mount)
    }

    fn unmount(&self, target: &Path) -> Result<usize, MountError> {
        self.0.unmount(target)
    }

    fn list(&self) -> Result<Vec<MountPoint>, MountError> {
        self.0.list()
    }

    fn check_images(&self, directory: &Path) -> Result<(), MountError> {
        self.0.check_images(directory)
    }

    fn check_overlays(&self, directory: &Path) -> Result<(), MountError> {
        self.0.check_overlays(directory)
    }

    fn freeze(&self, target: &Path) -> Result<(), MountError> {
        self.0.freeze(target)
    }

    fn replace(&self, _source: &Path, _target: &Path) -> Result<(), MountError> {
        panic!("the process dies here")
    }

    fn can_replace(&self) -> bool {
        self.0.can_replace()
    }

    fn sweep(&self) -> Result<usize, MountError> {
        self.0.sweep()
    }
}

pub(super) fn what_a_dead_process_has_begun_is_finished_or_undone(bench: &Bench) {
    let dying = Arc::new(Dying(Arc::clone(&bench.mounter)));
    let dying = Node::new(&bench.home, config(bench.format), Arc::clone(&bench.worker), dying);
    for request in requests(bench) {
        let dies = || {
            bench.node.publish(&request).unwrap();
            assert!(catch_unwind(AssertUnwindSafe(|| replace(&dying, &request))).is_err());
            assert_eq!(bench.node.mounts_on(&request.target), 1);
        };
        dies();
        assert!(replace(&bench.node, &request).unwrap());
        bench.assert_shows(&request.target, &bench.commit);
        assert!(can_be_mapped(bench, &request.target));
        bench.node.unpublish(&request);

        dies();
        assert_eq!(bench.node.publish(&request).unwrap().format, Format::Copy);
        bench.assert_shows(&request.target, &bench.commit);
        bench.node.unpublish(&request);

        dies();
        assert_eq!(bench.node.unpublish(&request).mounts, 1);
        let abandoned = Abandoned::Unmounted { origin: PERSON };
        let report = bench.node.volumes.sweep(&abandoned, Duration::from_secs(60)).unwrap();
        assert!(report.failures.is_empty(), "{report:?}");
        bench.node.assert_nothing_published();
    }
}
