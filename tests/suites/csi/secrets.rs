//! No process shows secrets to other users.

use gitrepo_tests::kubelet::Driver;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::kubelet::csi::Node;
use gitrepo_tests::process;

use crate::drivers::secrets::canaries;
use crate::drivers::secrets::secured;

#[test]
fn no_process_has_a_secret_in_its_arguments_or_environment_during_a_clone() {
    let Some((scene, volumes)) = secured::<Node>(|server| server) else { return };
    let volume = &volumes[1].clone().read_only();
    let pod = Pod::new("pod");
    let gate = scene.server.hold(|request| request.is_upload_pack() && request.authorization().is_some());
    std::thread::scope(|scope| {
        let publishing = scope.spawn(|| scene.kubelet().set_up(&pod, volume));
        gate.wait_for(1);
        let processes = process::with_descendants(scene.node.driver_id());
        assert!(processes.len() >= 2, "the driver and its worker: {processes:?}");
        for pid in processes {
            canaries().assert_absent("a process", &process::arguments_and_environment(pid));
        }
        scene.node.assert_unseen(&canaries());
        gate.open();
        publishing.join().unwrap().unwrap();
    });
    scene.kubelet().must_tear_down(&pod, volume);
    scene.node.assert_nothing_published();
}
