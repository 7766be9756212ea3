//! How full a volume is, and whether it is well.

use gitrepo_csi::proto::csi::v1::volume_usage::Unit;
use gitrepo_tests::kubelet::Pod;
use nix::mount::MntFlags;
use tonic::Code;

use super::Scene;

#[test]
fn a_volume_tells_its_bytes_its_inodes_and_that_it_is_well() {
    let Some(scene) = Scene::new() else { return };
    for volume in [scene.inline("ro").read_only(), scene.inline("rw"), scene.persistent("p")] {
        let (pod, target) = scene.start_pod("pod", &volume);
        let stats = scene.kubelet().stats(&pod, &volume).unwrap();
        let units: Vec<_> = stats.usage.iter().map(|usage| usage.unit).collect();
        assert_eq!(units, [i32::from(Unit::Bytes), i32::from(Unit::Inodes)]);
        for usage in &stats.usage {
            assert!(usage.used > 0 && usage.total >= usage.used && usage.available >= 0, "{usage:?}");
            assert_eq!(usage.available > 0, !volume.is_read_only(), "{usage:?}");
        }
        let condition = stats.volume_condition.unwrap();
        assert!(!condition.abnormal && condition.message.contains(&scene.commit), "{condition:?}");

        nix::mount::umount2(&target, MntFlags::MNT_DETACH).unwrap();
        let condition = scene.kubelet().stats(&pod, &volume).unwrap().volume_condition.unwrap();
        assert!(condition.abnormal, "{condition:?}");
        // A kubelet that starts heals it.
        scene.kubelet().must_set_up(&pod, &volume);
        assert!(!scene.kubelet().stats(&pod, &volume).unwrap().volume_condition.unwrap().abnormal);
        scene.kubelet().must_tear_down(&pod, &volume);
        assert_eq!(scene.kubelet().stats(&pod, &volume).unwrap_err().code, Some(Code::NotFound));
    }
    let unknown = scene.kubelet().stats(&Pod::new("unknown"), &scene.inline("v")).unwrap_err();
    assert_eq!(unknown.code, Some(Code::NotFound));
    scene.node.assert_nothing_published();
}
