//! One volume of one pod, and calls for volumes that are already set up.

use super::Scene;

#[test]
fn a_volume_keeps_the_commit_of_its_first_mount() {
    let Some(scene) = Scene::new() else { return };
    let volume = scene.inline("v").read_only();
    let (pod, target) = scene.start_pod("pod", &volume);
    let files = gitrepo_tests::repository::Files::new().file("README.md", "# Moved\n");
    scene.repository.commit("main", &files);
    // The kubelet does not call for a mounted volume. If it did, the commit would stay the same.
    let calls = scene.kubelet().calls().len();
    scene.kubelet().must_set_up(&pod, &volume);
    assert_eq!(scene.kubelet().calls().len(), calls);
    let arguments = ["mount", target.to_str().unwrap(), &volume.json(&pod)];
    scene.kubelet().plugin().call(arguments).assert_success();
    scene.assert_shown_on(&target);
    scene.kubelet().must_tear_down(&pod, &volume);
}

#[test]
fn a_restarted_kubelet_does_not_call_for_mounted_volumes() {
    let Some(scene) = Scene::new() else { return };
    let volume = scene.persistent("p");
    let (pod, target) = scene.start_pod("pod", &volume);
    scene.kubelet().restart();
    scene.kubelet().must_set_up(&pod, &volume);
    assert_eq!(scene.kubelet().calls(), ["init", "mount", "init"]);
    scene.assert_shown_on(&target);
    scene.kubelet().must_tear_down(&pod, &volume);
    scene.node.assert_nothing_set_up();
}
