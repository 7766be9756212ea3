//! On the kernel's own project quotas.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::io::Write;
use std::time::Duration;
use std::time::Instant;

use gitrepo_core::quota::KernelQuota;
use gitrepo_core::quota::ProjectQuota;
use gitrepo_core::quota::ProjectUsage;
use gitrepo_core::store::remove_tree;
use gitrepo_core::volume::Format;
use gitrepo_core::volume::VolumeRequest;
use gitrepo_tests::volumes::entries;
use gitrepo_tests::volumes::private;
use gitrepo_tests::volumes::shared;
use gitrepo_tests::volumes::writable;
use nix::sys::statvfs::statvfs;

use super::Bench;
use super::LIMIT;
use super::counted;
use super::fill;
use super::node;

/// One volume of each kind that can be written.
fn kinds(bench: &Bench) -> [VolumeRequest; 3] {
    let target = bench.node.target("pod");
    let [layer, copy] = [private(&bench.url(), &target, 0), writable(&bench.url(), &target, 1000)];
    [layer, shared(&bench.url(), "volume", &target), copy]
}

/// Waits until a condition holds: XFS frees deleted files in the background.
fn until(condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it never became true");
        nix::unistd::sync();
    }
}

#[test]
fn a_write_beyond_the_limit_fails_and_the_volume_says_so_until_there_is_room() {
    for bench in Bench::each() {
        let other = private(&bench.url(), &bench.node.target("other"), 0);
        for request in kinds(&bench) {
            let format = bench.node.publish(&request).unwrap().format;
            let project = bench.project();
            let whole = statvfs(&request.target).unwrap();
            assert_eq!(whole.blocks() * whole.fragment_size(), LIMIT, "{format}: what df shows is the limit");
            assert_eq!(bench.overgrown(), BTreeSet::new());

            let (size, refusal) = fill(&request.target.join("large"));
            assert_eq!(refusal, bench.refusal, "{format}");
            assert!(size <= LIMIT && size > LIMIT - (1 << 20), "{format}: {size}");
            let usage = bench.usage(project);
            assert!(usage.bytes <= LIMIT && usage.limit == LIMIT, "{format}: {usage:?}");
            assert_eq!(bench.overgrown(), [(request.target.clone(), false, true)].into(), "{format}");
            bench.node.publish(&other).unwrap();
            fs::write(other.target.join("new"), vec![1; 1 << 20]).unwrap();
            bench.node.unpublish(&other);

            fs::remove_file(request.target.join("large")).unwrap();
            until(|| bench.usage(project).bytes < LIMIT / 2);
            assert_eq!(bench.overgrown(), BTreeSet::new());
            fs::write(request.target.join("new"), vec![1; 1 << 20]).unwrap();
            bench.node.unpublish(&request);
            until(|| {
                bench.sweep();
                bench.usage(project) == ProjectUsage::default()
            });
            bench.node.assert_nothing_published();
        }
    }
}

#[test]
fn statistics_are_what_the_file_system_counts() {
    for bench in Bench::each() {
        for request in kinds(&bench) {
            bench.node.publish(&request).unwrap();
            let mark = bench.mark();
            for number in 0..20 {
                fs::write(request.target.join(format!("file {number}")), vec![1; number * 10_000]).unwrap();
            }
            fs::create_dir_all(request.target.join("deep/er")).unwrap();
            nix::unistd::sync();
            let place = mark.parent().unwrap();
            let parts = ["quota", "upper", "work", "copy", "tree"].map(|name| place.join(name));
            let parts: Vec<_> = parts.into_iter().filter(|part| part.exists()).collect();
            let usage = bench.node.volumes.layer_usage(&bench.record(&request)).unwrap();
            let (bytes, inodes) = counted(&parts);
            assert_eq!((usage.bytes, usage.inodes, usage.limit), (bytes, inodes, LIMIT));
            bench.node.unpublish(&request);
        }
    }
}

#[test]
fn a_layer_keeps_its_project_and_gets_its_limit_after_restarts_and_reboots() {
    for bench in Bench::each() {
        for request in kinds(&bench) {
            bench.node.publish(&request).unwrap();
            let project = bench.project();
            fs::write(request.target.join("kept"), vec![1; 1 << 20]).unwrap();
            // As an admin's tool may do.
            KernelQuota.limit(&bench.home, project, 0).unwrap();
            bench.node.reboot();
            let node = node(&bench.home, LIMIT * 2);
            node.publish(&request).unwrap();
            assert_eq!((bench.project(), bench.usage(project).limit), (project, LIMIT * 2), "as configured now");
            let (size, refusal) = fill(&request.target.join("large"));
            assert!(size > LIMIT && size <= LIMIT * 2 - (1 << 20) && refusal == bench.refusal, "{size} {refusal}");
            assert_eq!(fs::metadata(request.target.join("kept")).unwrap().len(), 1 << 20);
            node.unpublish(&request);
        }
        bench.node.assert_nothing_published();
    }
}

#[test]
fn r1_projects_are_unique_and_go_with_their_layers_and_a_sweep_finds_what_a_crash_left() {
    for bench in Bench::each() {
        let pod = |number: usize| private(&bench.url(), &bench.node.target(&format!("pod-{number}")), 0);
        let requests: Vec<_> = (0..20).map(pod).collect();
        let home = &bench.home;
        std::thread::scope(|scope| {
            for some in requests.chunks(5) {
                // Like processes of their own, which know nothing of each other.
                scope.spawn(move || {
                    let node = node(home, LIMIT);
                    for request in some {
                        node.publish(request).unwrap();
                    }
                });
            }
        });
        let projects: BTreeSet<_> = bench.marks().iter().map(|mark| KernelQuota.project_of(mark).unwrap()).collect();
        assert_eq!((projects.len(), bench.sweep()), (20, 0), "{projects:?}");
        assert!(projects.iter().all(|project| bench.usage(*project).limit == LIMIT));
        for request in &requests {
            bench.node.unpublish(request);
        }
        let left = *projects.first().unwrap();
        until(|| bench.usage(left).inodes == 0);
        KernelQuota.limit(home, left, LIMIT).unwrap();
        assert!(bench.sweep() >= 1, "a process that is killed leaves a limit");
        until(|| {
            bench.sweep();
            projects.iter().all(|project| bench.usage(*project) == ProjectUsage::default())
        });
        bench.node.assert_nothing_published();
    }
}

#[test]
fn files_of_the_tree_are_changed_moved_linked_and_deleted_under_a_quota() {
    for bench in Bench::each() {
        for request in kinds(&bench) {
            bench.node.publish(&request).unwrap();
            assert_eq!(bench.marks().len(), 1);
            let at = |path: &str| request.target.join(path);
            fs::File::options().append(true).open(at("README.md")).unwrap().write_all(b"more").unwrap();
            fs::create_dir(at("made")).unwrap();
            fs::rename(at("README.md"), at("made/README.md")).unwrap();
            fs::hard_link(at("a/b"), at("linked")).unwrap();
            fs::remove_file(at("a/b")).unwrap();
            fs::rename(at("made"), at("a/made")).unwrap();
            fs::rename(at("linked"), at("a/made/b")).unwrap();
            assert_eq!(fs::read(at("a/made/README.md")).unwrap(), b"# Read me\nmore");
            remove_tree(&at("a")).unwrap();
            assert_eq!(entries(&request.target), <[std::path::PathBuf; 0]>::default());
            bench.node.unpublish(&request);
        }
        bench.node.assert_nothing_published();
    }
}

#[test]
fn a_file_that_its_owner_takes_out_of_its_project_is_measured() {
    for bench in Bench::each() {
        let request = private(&bench.url(), &bench.node.target("pod"), 0);
        bench.node.publish(&request).unwrap();
        let project = bench.project();
        let file = request.target.join("large");
        fs::write(&file, "").unwrap();
        // Through the volume, as chattr(1) does in a pod.
        KernelQuota.set_project(&file, 0).unwrap();
        fs::write(&file, vec![1; 2 * usize::try_from(LIMIT).unwrap()]).unwrap();
        assert!(bench.usage(project).bytes < LIMIT, "it is counted elsewhere");
        assert_eq!(bench.overgrown(), [(request.target.clone(), true, false)].into());
        let error = fs::write(request.target.join("new"), "").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
        bench.node.unpublish(&request);

        // A root with another volume's id leads nobody to that volume's limit.
        bench.node.publish(&request).unwrap();
        let victim = 1_900_000_077;
        KernelQuota.limit(&bench.home, victim, LIMIT).unwrap();
        KernelQuota.set_project(&request.target, victim).unwrap();
        let usage = bench.node.volumes.layer_usage(&bench.record(&request)).unwrap();
        assert!(usage.inodes < bench.usage(bench.project()).inodes + 1, "{usage:?}");
        bench.node.unpublish(&request);
        assert_eq!(bench.usage(victim).limit, LIMIT);
    }
}

#[test]
fn without_enforcement_or_inside_another_project_a_layer_is_measured() {
    let unenforced = Bench::on("ext4", "noquota", 0);
    let inside = Bench::on("ext4", "prjquota", 0);
    for directory in inside.iter().flat_map(|bench| entries(bench.node.store())).filter(|path| path.is_dir()) {
        // As an admin limits a whole store.
        KernelQuota.set_project(&directory, 77).unwrap();
    }
    for (bench, reason) in [(unenforced, "no project quotas"), (inside, "project 77")] {
        let Some(bench) = bench else { return };
        let told = bench.node.volumes.without_quota().unwrap();
        assert!(told.contains(reason), "{told}");
        for request in &kinds(&bench)[..2] {
            assert_eq!(bench.node.publish(request).unwrap().format, Format::Overlay);
            assert_eq!(bench.marks().len(), 0);
            fs::write(request.target.join("large"), vec![1; 2 * usize::try_from(LIMIT).unwrap()]).unwrap();
            assert_eq!(bench.overgrown(), [(request.target.clone(), true, false)].into());
            bench.node.unpublish(request);
        }
        bench.node.assert_nothing_published();
    }
}

#[test]
fn a_node_with_quotas_says_so_and_trying_it_leaves_nothing() {
    for bench in Bench::each() {
        for _ in 0..3 {
            assert_eq!(bench.node.volumes.without_quota(), None);
        }
        until(|| {
            bench.sweep();
            KernelQuota.next(&bench.home, 1_900_000_000).unwrap().is_none()
        });
        bench.node.assert_nothing_published();
    }
}
