//! A volume's usage and condition.

use gitrepo_csi::proto::csi::v1::VolumeUsage;
use gitrepo_csi::proto::csi::v1::volume_usage::Unit;
use gitrepo_tests::kubelet::Pod;
use nix::mount::MntFlags;
use tonic::Code;

use super::Scene;

#[test]
fn a_volume_reports_bytes_inodes_and_a_normal_condition() {
    let Some(scene) = Scene::new() else { return };
    for volume in [scene.inline("ro").read_only(), scene.inline("rw"), scene.persistent("p")] {
        let (pod, target) = scene.start_pod("pod", &volume);
        let stats = scene.kubelet().stats(&pod, &volume).unwrap();
        let units: Vec<_> = stats.usage.iter().map(|usage| usage.unit).collect();
        assert_eq!(units, [i32::from(Unit::Bytes), i32::from(Unit::Inodes)]);
        for usage in &stats.usage {
            assert!(usage.used > 0 && usage.available > 0, "{usage:?}");
            assert_eq!(usage.total, usage.used + usage.available, "{usage:?}");
        }
        let condition = stats.volume_condition.unwrap();
        assert!(!condition.abnormal && condition.message.contains(&scene.commit), "{condition:?}");

        nix::mount::umount2(&target, MntFlags::MNT_DETACH).unwrap();
        let condition = scene.kubelet().stats(&pod, &volume).unwrap().volume_condition.unwrap();
        assert!(condition.abnormal, "{condition:?}");
        // A restarted kubelet repairs it by publishing again.
        scene.kubelet().must_set_up(&pod, &volume);
        assert!(!scene.kubelet().stats(&pod, &volume).unwrap().volume_condition.unwrap().abnormal);
        scene.kubelet().must_tear_down(&pod, &volume);
        assert_eq!(scene.kubelet().stats(&pod, &volume).unwrap_err().code, Some(Code::NotFound));
    }
    let unknown = scene.kubelet().stats(&Pod::new("unknown"), &scene.inline("v")).unwrap_err();
    assert_eq!(unknown.code, Some(Code::NotFound));
    scene.node.assert_nothing_published();
}

/// Whether kubernetes-mixin's alerts on full volumes fire, without the one that extrapolates several hours.
fn fires(usage: &VolumeUsage) -> bool {
    usage.used > 0 && (usage.available as f64) / (usage.total as f64) < 0.15
}

#[test]
fn the_statistics_of_a_claim_are_the_same_for_readers_and_writers_and_no_alert_fires() {
    let Some(scene) = Scene::new() else { return };
    let writer = scene.persistent("p");
    let reader = writer.clone().read_only();
    let pods = [scene.start_pod("writer", &writer).0, scene.start_pod("reader", &reader).0];
    let [writes, reads] = [(&pods[0], &writer), (&pods[1], &reader)]
        .map(|(pod, volume)| scene.kubelet().stats(pod, volume).unwrap().usage);
    for (writes, reads) in writes.iter().zip(&reads) {
        assert_eq!((writes.unit, writes.used), (reads.unit, reads.used));
        // Others write to the same disk meanwhile.
        let drift = writes.available.abs_diff(reads.available);
        assert!(drift < reads.available.unsigned_abs() / 10, "{writes:?} {reads:?}");
        assert!(!fires(writes) && !fires(reads), "{writes:?} {reads:?}");
    }
    scene.kubelet().must_tear_down(&pods[0], &writer);
    scene.kubelet().must_tear_down(&pods[1], &reader);
    scene.node.assert_nothing_published();
}
