//! Many calls at once, each in its own process.

use gitrepo_tests::kubelet::Pod;

use super::Scene;

/// Mounts and unmounts of one target may overlap. A mount that an unmount overtakes fails and says so; the last call
/// decides.
#[test]
fn mounts_and_unmounts_of_one_target_may_overlap() {
    let Some(scene) = Scene::new() else { return };
    let (pod, volume) = (Pod::new("pod"), scene.persistent("data"));
    let target = scene.kubelet().target(&pod, &volume);
    std::fs::create_dir_all(&target).unwrap();
    let (path, options) = (target.to_str().unwrap(), volume.json(&pod));
    let plugin = scene.kubelet().plugin();
    for _ in 0..5 {
        let calls: Vec<_> =
            (0..4).flat_map(|_| [plugin.spawn(["mount", path, &options]), plugin.spawn(["unmount", path])]).collect();
        for call in calls {
            let call = call.wait();
            if !call.answer().message.contains("was unpublished while its tree was fetched") {
                call.assert_success();
            }
            assert!(scene.node.mounts_on(&target) <= 1);
        }
        // An unmount may have removed the directory, of which a mount creates only the last component.
        std::fs::create_dir_all(&target).unwrap();
        plugin.call(["mount", path, &options]).assert_success();
        scene.assert_shown_on(&target);
    }
    scene.kubelet().must_tear_down(&pod, &volume);
    scene.node.assert_nothing_set_up();
}
