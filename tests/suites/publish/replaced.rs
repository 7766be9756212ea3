//! Overlays that become copies while they are mounted, for pods whose ids are mapped.

use std::fs;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;

use gitrepo_core::error::Kind;
use gitrepo_core::mount::Mount;
use gitrepo_core::mount::MountError;
use gitrepo_core::mount::Mounter;
use gitrepo_core::testing::Overridden;
use gitrepo_core::testing::Overrides;
use gitrepo_core::testing::Verb;
use gitrepo_core::volume::Format;
use gitrepo_core::volume::PublishError;
use gitrepo_core::volume::VolumeRequest;
use gitrepo_core::watch::Watch;
use gitrepo_tests::user_namespace::UserNamespace;
use gitrepo_tests::volumes::Node;
use gitrepo_tests::volumes::entries;
use gitrepo_tests::volumes::private;
use gitrepo_tests::volumes::shared;
use gitrepo_tests::volumes::with;
use gitrepo_tests::working_repository::assert_clean;

use super::Bench;
use super::config;
use super::git_dir::keeping;

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
        let request = with(keeping(request.clone(), 1), |request| request.group = group);
        bench.node.publish(&request).unwrap();
        let before = all(&request.target);
        let config = fs::read_to_string(request.target.join(".git/config")).unwrap();
        assert!(replace(&bench.node, &request).unwrap());
        assert_eq!(all(&request.target), before, "{group:?}");
        assert_eq!(fs::read_to_string(request.target.join(".git/config")).unwrap(), config);
        assert_clean(&request.target);
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
    // A directory alone may stand in the place of something else that the tree has, such as a link.
    fs::remove_file(private.target.join("run")).unwrap();
    fs::create_dir(private.target.join("run")).unwrap();
    refused(&private);
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

/// A mounter whose process dies when it is to replace a mount: before it does anything, or when the copy is beneath.
struct Dying {
    mounter: Arc<dyn Mounter>,
    beneath: bool,
}

impl Overrides for Dying {
    fn inner(&self) -> &dyn Mounter {
        &*self.mounter
    }

    fn replace(&self, source: &Path, target: &Path) -> Result<(), MountError> {
        if self.beneath {
            // As it is then: the copy, and the overlay on top.
            let elsewhere = source.with_file_name("elsewhere");
            fs::create_dir(&elsewhere).unwrap();
            let moved = |from: &Path, to: &Path| {
                let moved = Command::new("mount").arg("--move").args([from, to]).status().unwrap();
                assert!(moved.success());
            };
            moved(target, &elsewhere);
            self.mounter.attach(&Mount::bind(source, target, false)).unwrap();
            moved(&elsewhere, target);
            fs::remove_dir(elsewhere).unwrap();
        }
        panic!("the process dies here")
    }
}

pub(super) fn what_a_dead_process_has_begun_is_finished_or_undone(bench: &Bench) {
    for (request, beneath) in
        requests(bench).into_iter().flat_map(|request| [(request.clone(), false), (request, true)])
    {
        let dying = Arc::new(Overridden(Dying { mounter: Arc::clone(&bench.mounter), beneath }));
        let dying = Node::new(&bench.home, config(bench.format), Arc::clone(&bench.worker), dying);
        let dies = || {
            bench.node.publish(&request).unwrap();
            assert!(catch_unwind(AssertUnwindSafe(|| replace(&dying, &request))).is_err());
            assert_eq!(bench.node.mounts_on(&request.target), 1 + usize::from(beneath));
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
        fs::write(request.target.join("written"), "").unwrap();
        let error = replace(&bench.node, &request).unwrap_err();
        assert!(matches!(error, PublishError::LayerWritten { .. }), "{error}");
        bench.node.unpublish(&request);

        dies();
        assert_eq!(bench.node.unpublish(&request).mounts, 1 + usize::from(beneath));
        bench.node.assert_nothing_published();
    }
}

/// A second pod of a volume comes when the first one's overlay was to become a copy, and the process had died.
pub(super) fn pods_that_share_never_see_two_trees(bench: &Bench) {
    let dying = Arc::new(Overridden(Dying { mounter: Arc::clone(&bench.mounter), beneath: false }));
    let dying = Node::new(&bench.home, config(bench.format), Arc::clone(&bench.worker), dying);
    let [_, first] = requests(bench);
    let second = shared(&bench.url(), "volume", &bench.node.target("second"));
    for reboot in [false, true] {
        bench.node.publish(&first).unwrap();
        assert!(catch_unwind(AssertUnwindSafe(|| replace(&dying, &first))).is_err());
        if reboot {
            bench.node.reboot();
        }
        assert_eq!(bench.node.publish(&second).unwrap().format, Format::Copy);
        if !reboot {
            // Whatever is found in the overlay, the copy that another pod writes to stays.
            fs::write(second.target.join("kept"), "kept").unwrap();
            fs::write(first.target.join("written"), "").unwrap();
            let error = replace(&bench.node, &first).unwrap_err();
            assert!(matches!(error, PublishError::LayerWritten { .. }), "{error}");
            assert_eq!(fs::read_to_string(second.target.join("kept")).unwrap(), "kept");
        }
        assert_eq!(bench.node.publish(&first).unwrap().format, Format::Copy);
        fs::write(second.target.join("of-the-second"), "seen").unwrap();
        assert_eq!(fs::read_to_string(first.target.join("of-the-second")).unwrap(), "seen");
        for request in [&first, &second] {
            assert_eq!(bench.node.unpublish(request).mounts, 1);
        }
        bench.node.assert_nothing_published();
    }
}
