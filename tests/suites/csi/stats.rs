//! A volume's usage and condition.

use gitrepo_csi::proto::csi::v1::VolumeUsage;
use gitrepo_csi::proto::csi::v1::volume_usage::Unit;
use gitrepo_tests::kubelet::Pod;
use nix::mount::MntFlags;
use serde_json::json;
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
        // Of a layer, the tree below it does not count.
        let used = if volume.is_read_only() { 1 } else { 0 };
        for usage in &stats.usage {
            assert!(usage.used >= used && usage.available > 0, "{usage:?}");
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
fn all_writers_of_a_claim_report_their_layer_and_readers_the_tree_and_no_alert_fires() {
    let limits = json!({ "limits": { "writableBytes": "64Mi" } });
    let Some(scene) = Scene::configured(&limits, |server| server) else { return };
    let writer = scene.persistent("p");
    let reader = writer.clone().read_only();
    let [one, two] = ["one", "two"].map(|pod| scene.start_pod(pod, &writer));
    let reads = scene.start_pod("reader", &reader).0;
    std::fs::write(one.1.join("written"), vec![1; 1 << 20]).unwrap();
    let usage = |pod: &Pod, volume| scene.kubelet().stats(pod, volume).unwrap().usage;
    let [first, second] = [&one.0, &two.0].map(|pod| usage(pod, &writer));
    // Others take inodes of the same disk meanwhile.
    assert_eq!((first[0], first[1].used), (second[0], second[1].used));
    assert!((1 << 20..2 << 20).contains(&first[0].used), "{first:?}");
    assert_eq!((first[0].total, first[1].used), (64 << 20, 2), "limits.writableBytes, the root and the file");
    let tree = usage(&reads, &reader);
    assert!((1..1 << 20).contains(&tree[0].used), "{tree:?}");
    for usage in first.iter().chain(&tree) {
        assert!(!fires(usage), "{usage:?}");
    }
    for (pod, volume) in [(&one.0, &writer), (&two.0, &writer), (&reads, &reader)] {
        scene.kubelet().must_tear_down(pod, volume);
    }
    scene.node.assert_nothing_published();
}
