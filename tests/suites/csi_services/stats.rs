//! Statistics and condition.

use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;

use gitrepo_core::mount::Mounter;
use gitrepo_core::quota::ProjectQuota;
use gitrepo_core::testing::FakeMounter;
use gitrepo_core::testing::FakeQuota;
use gitrepo_core::testing::mounter::Call;
use gitrepo_csi::proto::csi::v1::NodePublishVolumeRequest;
use gitrepo_csi::proto::csi::v1::volume_usage::Unit;
use gitrepo_csi::scrubbing::Scrubbing;
use gitrepo_tests::volumes;
use tonic::Code;

use super::Bench;
use super::housekeeping;

#[test]
fn a_volume_reports_the_size_of_its_tree_and_the_free_space_of_its_store() {
    let bench = Bench::new();
    bench.publish(bench.request("a")).unwrap();
    bench.publish(NodePublishVolumeRequest { readonly: false, ..bench.request("b") }).unwrap();
    for pod in ["a", "b"] {
        let stats = bench.stats(&format!("csi-{pod}"), &bench.target(pod)).unwrap();
        let [bytes, inodes] = [Unit::Bytes, Unit::Inodes]
            .map(|unit| stats.usage.iter().find(|usage| usage.unit == i32::from(unit)).expect("both units"));
        assert_eq!(bytes.used, 14);
        assert!(bytes.available > 0 && inodes.used >= 3, "{stats:?}");
        for usage in [bytes, inodes] {
            assert_eq!(usage.total, usage.used + usage.available, "{usage:?}");
        }
        let condition = stats.volume_condition.unwrap();
        assert!(!condition.abnormal && condition.message.contains(&bench.commit), "{}", condition.message);
    }
}

#[test]
fn an_unmounted_volume_is_abnormal_and_an_unpublished_one_not_found() {
    let bench = Bench::new();
    bench.publish(bench.request("a")).unwrap();
    let target = bench.target("a");
    for (volume_id, path, code) in [
        ("", target.as_path(), Code::InvalidArgument),
        ("csi-a", Path::new(""), Code::InvalidArgument),
        ("csi-a", Path::new("some/path"), Code::NotFound),
        ("csi-a", &bench.target("b"), Code::NotFound),
        ("csi-b", &target, Code::NotFound),
    ] {
        assert_eq!(bench.stats(volume_id, path).unwrap_err().code(), code, "{volume_id:?} {path:?}");
    }
    bench.mounter.unmount(&target).unwrap();
    let stats = bench.stats("csi-a", &target).unwrap();
    assert!(stats.volume_condition.unwrap().abnormal);
    assert_eq!(stats.usage.len(), 2);
}

#[test]
fn a_writable_volume_that_grew_beyond_the_limit_is_abnormal_until_it_shrinks() {
    let mut bench = Bench::new();
    let mut config = volumes::config();
    config.limits.writable_bytes = 1 << 20;
    bench.node = super::driver_with(config, &bench.home, &bench.mounter);
    for (pod, readonly) in [("grows", false), ("small", false), ("reads", true)] {
        bench.publish(NodePublishVolumeRequest { readonly, ..bench.request(pod) }).unwrap();
    }
    let abnormal = || {
        bench.runtime.block_on(housekeeping(&bench).once());
        ["grows", "small", "reads"].map(|pod| {
            let condition = bench.stats(&format!("csi-{pod}"), &bench.target(pod)).unwrap().volume_condition.unwrap();
            assert_eq!(condition.abnormal, condition.message.contains("limits.writableBytes"), "{condition:?}");
            condition.abnormal
        })
    };
    assert_eq!(abnormal(), [false, false, false]);
    let written = bench.shown("grows").join("written");
    std::fs::write(&written, vec![1; 2 << 20]).unwrap();
    assert_eq!(abnormal(), [true, false, false]);
    assert_eq!(bench.node.storage.overgrown().len(), 1);
    std::fs::remove_file(&written).unwrap();
    assert_eq!(abnormal(), [false, false, false]);
}

#[test]
fn a_layer_that_grew_beyond_the_limit_is_read_only_and_abnormal_until_it_is_unpublished() {
    let mut bench = Bench::with_mounter(FakeMounter::with_overlays());
    let mut config = volumes::config();
    config.limits.writable_bytes = 1 << 20;
    bench.node = super::driver_with(config, &bench.home, &bench.mounter);
    for pod in ["grows", "small"] {
        bench.publish(NodePublishVolumeRequest { readonly: false, ..bench.request(pod) }).unwrap();
    }
    let stats = |pod: &str| bench.stats(&format!("csi-{pod}"), &bench.target(pod)).unwrap();
    let house = || bench.runtime.block_on(housekeeping(&bench).once());
    let frozen =
        || bench.mounter.calls().into_iter().filter(|call| matches!(call, Call::Freeze(_))).collect::<Vec<_>>();
    house();
    let usage = &stats("grows").usage[0];
    assert_eq!((usage.used, usage.available, usage.total), (0, 1 << 20, 1 << 20), "the tree does not count");
    // The upper layer.
    std::fs::write(bench.shown("grows").join("written"), vec![1; 2 << 20]).unwrap();
    for _ in 0..2 {
        house();
        assert_eq!(frozen(), [Call::Freeze(bench.target("grows"))], "once");
        let usage = &stats("grows").usage[0];
        assert!(usage.used >= 2 << 20 && usage.available == 0, "{usage:?}");
        let condition = stats("grows").volume_condition.unwrap();
        assert!(condition.abnormal && condition.message.contains("read-only"), "{condition:?}");
        assert!(condition.message.contains("delete the pods"), "{condition:?}");
        assert!(!stats("small").volume_condition.unwrap().abnormal);
        // Neither another publish nor a shrinking layer ends it.
        bench.publish(NodePublishVolumeRequest { readonly: false, ..bench.request("grows") }).unwrap();
    }
    std::fs::remove_file(bench.shown("grows").join("written")).unwrap();
    house();
    assert!(stats("grows").volume_condition.unwrap().abnormal);
    bench.unpublish("grows").unwrap();
    bench.publish(NodePublishVolumeRequest { readonly: false, ..bench.request("grows") }).unwrap();
    assert!(!stats("grows").volume_condition.unwrap().abnormal, "also before the next measuring");
    assert_eq!((stats("grows").usage[0].used, stats("grows").usage[0].available), (0, 1 << 20), "nor its size");
    house();
    assert!(!stats("grows").volume_condition.unwrap().abnormal);
    for pod in ["grows", "small"] {
        bench.unpublish(pod).unwrap();
    }
    bench.assert_nothing_is_left();
}

#[test]
fn a_read_only_layer_is_abnormal_in_a_new_process_and_says_no_wrong_number() {
    let mut bench = Bench::with_mounter(FakeMounter::with_overlays());
    let restart = |bench: &mut Bench, writable_bytes| {
        let mut config = volumes::config();
        config.limits.writable_bytes = writable_bytes;
        bench.node = super::driver_with(config, &bench.home, &bench.mounter);
    };
    restart(&mut bench, 1 << 20);
    bench.publish(NodePublishVolumeRequest { readonly: false, ..bench.request("grows") }).unwrap();
    std::fs::write(bench.shown("grows").join("written"), vec![1; 2 << 20]).unwrap();
    let condition = |bench: &Bench, measure: bool| {
        if measure {
            bench.runtime.block_on(housekeeping(bench).once());
        }
        let stats = bench.stats("csi-grows", &bench.target("grows")).unwrap();
        let condition = stats.volume_condition.unwrap();
        assert!(condition.abnormal && condition.message.contains("the volume is read-only"), "{condition:?}");
        assert_eq!(stats.usage[0].available, 0, "nobody can write to it");
        condition.message
    };
    let numbers = format!("more than the {} that limits.writableBytes allowed", 1 << 20);
    assert!(condition(&bench, true).contains(&numbers));
    // A new process that has not measured yet.
    restart(&mut bench, 1 << 20);
    let unmeasured = "because more was written to it than limits.writableBytes allowed";
    assert!(condition(&bench, false).contains(unmeasured));
    assert!(condition(&bench, true).contains(&numbers));
    // One that allows more, after its measuring too.
    restart(&mut bench, 8 << 20);
    for measure in [false, true] {
        let message = condition(&bench, measure);
        assert!(message.contains(unmeasured), "{message}");
    }
    bench.unpublish("grows").unwrap();
    bench.assert_nothing_is_left();
}

#[test]
fn a_layer_with_a_quota_reports_what_it_counts_and_is_abnormal_while_it_is_full() {
    let mut bench = Bench::with_mounter(FakeMounter::with_overlays());
    let quota = Arc::new(FakeQuota::new());
    let mut config = volumes::config();
    config.limits.writable_bytes = 1 << 20;
    let shared = Arc::clone(&quota);
    bench.node = super::driver_with_quota(config, &bench.home, &bench.mounter, shared);
    for pod in ["grows", "small"] {
        bench.publish(NodePublishVolumeRequest { readonly: false, ..bench.request(pod) }).unwrap();
    }
    let projects: Vec<_> = quota.limits().into_iter().collect();
    assert!(projects.len() == 2 && projects.iter().all(|(_, limit)| *limit == 1 << 20), "{projects:?}");
    let mark = bench.shown("grows").with_file_name("quota");
    let project = quota.project_of(&mark).unwrap();
    let stats = |pod: &str| bench.stats(&format!("csi-{pod}"), &bench.target(pod)).unwrap();
    let bytes = |pod: &str| (stats(pod).usage[0].used, stats(pod).usage[0].available);
    let house = || bench.runtime.block_on(housekeeping(&bench).once());
    for (written, is_full) in [(10_000, false), ((1 << 20) - 4000, true), (1 << 20, true), (10_000, false)] {
        // At once, and also after the housekeeping, which keeps what it found.
        for _ in 0..2 {
            quota.write(project, written);
            let written = i64::try_from(written).unwrap();
            assert_eq!(bytes("grows"), (written, (1 << 20) - written));
            assert_eq!(bytes("small").0, 0);
            let condition = stats("grows").volume_condition.unwrap();
            assert_eq!(condition.abnormal, is_full, "{condition:?}");
            assert_eq!(condition.message.contains("Disk quota exceeded"), is_full, "{condition:?}");
            assert!(!stats("small").volume_condition.unwrap().abnormal);
            house();
            let found: Vec<_> = bench.node.storage.overgrown().iter().map(|one| (one.frozen, one.stopped)).collect();
            assert_eq!(found, if is_full { vec![(false, true)] } else { vec![] });
        }
    }
    assert!(!bench.mounter.calls().iter().any(|call| matches!(call, Call::Freeze(_))), "the quota is enough");
    // What a limit without files is.
    quota.limit(&bench.home, 1_900_000_077, 5).unwrap();
    for pod in ["grows", "small"] {
        bench.unpublish(pod).unwrap();
    }
    assert_eq!(quota.limits().into_keys().collect::<Vec<_>>(), [1_900_000_077]);
    house();
    assert!(quota.limits().is_empty(), "{:?}", quota.limits());
    bench.assert_nothing_is_left();
}

#[test]
fn a_layer_that_outgrew_its_quota_is_read_only() {
    let mut bench = Bench::with_mounter(FakeMounter::with_overlays());
    let mut config = volumes::config();
    config.limits.writable_bytes = 1 << 20;
    bench.node = super::driver_with_quota(config, &bench.home, &bench.mounter, Arc::new(FakeQuota::new()));
    bench.publish(NodePublishVolumeRequest { readonly: false, ..bench.request("grows") }).unwrap();
    // The owner of a file may take it out of its project.
    std::fs::write(bench.shown("grows").join("written"), vec![1; 2 << 20]).unwrap();
    bench.runtime.block_on(housekeeping(&bench).once());
    assert!(bench.mounter.calls().contains(&Call::Freeze(bench.target("grows"))));
    let condition = bench.stats("csi-grows", &bench.target("grows")).unwrap().volume_condition.unwrap();
    assert!(condition.abnormal && condition.message.contains("read-only"), "{condition:?}");
    bench.unpublish("grows").unwrap();
    bench.assert_nothing_is_left();
}

#[test]
fn r4_a_volume_that_shows_a_damaged_tree_is_abnormal_and_new_ones_get_a_good_tree() {
    let bench = Bench::new();
    for (pod, readonly) in [("shows", true), ("copies", false)] {
        bench.publish(NodePublishVolumeRequest { readonly, ..bench.request(pod) }).unwrap();
    }
    let scrub = || {
        let (storage, metrics) = (Arc::clone(&bench.node.storage), Arc::clone(&bench.node.metrics));
        let scrubbing = Scrubbing { storage, metrics, rate: None, kept_free: 0 };
        while bench.runtime.block_on(scrubbing.next(NonZeroU64::MAX)).unwrap() {}
        bench.runtime.block_on(housekeeping(&bench).once());
        ["shows", "copies"].map(|pod| {
            let condition = bench.stats(&format!("csi-{pod}"), &bench.target(pod)).unwrap().volume_condition.unwrap();
            assert_eq!(condition.abnormal, condition.message.contains("changed or damaged"), "{condition:?}");
            condition.abnormal
        })
    };
    assert_eq!((scrub(), bench.node.storage.damaged()), ([false, false], 0));
    std::fs::write(bench.shown("shows").join("app/README.md"), "# Damage\n").unwrap();
    assert_eq!((scrub(), bench.node.storage.damaged()), ([true, false], 1));
    assert!(bench.metrics().contains("gitrepo_damages_total{part=\"snapshot\"} 1"), "{}", bench.metrics());
    bench.publish(bench.request("new")).unwrap();
    assert_eq!((bench.readme("new"), bench.readme("shows")), ("# Second\n".to_owned(), "# Damage\n".to_owned()));
    bench.unpublish("shows").unwrap();
    bench.runtime.block_on(housekeeping(&bench).once());
    assert_eq!(bench.node.storage.damaged(), 0);
}
