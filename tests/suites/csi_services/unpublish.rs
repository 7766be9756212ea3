//! Unpublishing.

use gitrepo_core::store::Reason;
use gitrepo_tests::volumes;
use tonic::Code;

use super::Bench;
use super::housekeeping;

#[test]
fn r15_an_unpublish_ends_the_clone_of_its_volume() {
    let bench = Bench::new();
    let gate = bench.server.hold(|request| request.is_upload_pack());
    bench.publish_up_to(&gate, &bench.request("a"));
    bench.unpublish_at("a", &gate);
    assert_eq!(bench.node.jobs.count().running, 0);
    bench.assert_nothing_is_left();
}

#[test]
fn unpublishing_an_unknown_volume_succeeds_and_removes_its_directory() {
    let bench = Bench::new();
    for _ in 0..2 {
        bench.unpublish("unknown").unwrap();
        std::fs::create_dir(bench.target("unknown")).unwrap();
    }
    bench.unpublish("unknown").unwrap();
    assert!(!bench.target("unknown").exists());
    bench.publish(bench.request("a")).unwrap();
    for _ in 0..10 {
        bench.unpublish("a").unwrap();
    }
    bench.assert_nothing_is_left();
}

#[test]
fn a_target_that_the_kubelet_made_is_removed_too() {
    let bench = Bench::new();
    std::fs::create_dir(bench.target("a")).unwrap();
    bench.publish(bench.request("a")).unwrap();
    bench.unpublish("a").unwrap();
    bench.assert_nothing_is_left();
}

#[test]
fn a_missing_field_is_an_invalid_argument() {
    let bench = Bench::new();
    for (volume_id, target_path) in [("", "/x"), ("x", ""), ("x", "relative")] {
        let request =
            super::NodeUnpublishVolumeRequest { volume_id: volume_id.to_owned(), target_path: target_path.to_owned() };
        let unpublish = super::Node::node_unpublish_volume(&bench.node, tonic::Request::new(request));
        assert_eq!(bench.runtime.block_on(unpublish).unwrap_err().code(), Code::InvalidArgument);
    }
}

#[test]
fn a_volume_whose_target_the_kubelet_removed_is_unpublished() {
    let bench = Bench::new();
    for pod in ["gone", "waiting", "mounted"] {
        bench.publish(bench.request(pod)).unwrap();
    }
    for pod in ["gone", "waiting"] {
        gitrepo_core::mount::Mounter::unmount(&*bench.mounter, &bench.target(pod)).unwrap();
    }
    std::fs::remove_dir(bench.target("gone")).unwrap();
    bench.runtime.block_on(housekeeping(&bench).once());
    let volumes = bench.node.storage.volumes().unwrap();
    let mut left: Vec<_> = volumes.list().unwrap().into_iter().map(|volume| volume.record.volume_id).collect();
    left.sort();
    assert_eq!(left, ["csi-mounted", "csi-waiting"], "a reboot may have removed the mount of csi-waiting");
}

#[test]
fn after_a_fetch_and_an_unpublish_the_driver_keeps_to_its_budget_and_empties_the_trash() {
    let mut bench = Bench::new();
    let mut config = volumes::config();
    config.cache.max_bytes = 1;
    bench.node = super::driver_with(config, &bench.home, &bench.mounter);
    let tidy = |bench: &Bench| {
        bench.runtime.block_on(async {
            bench.node.storage.until_untidy().await;
            housekeeping(bench).tidy().await;
        });
        volumes::entries(&bench.store().join("snapshots")).len()
    };
    bench.publish(bench.request("a")).unwrap();
    assert_eq!(tidy(&bench), 1, "it is in use");
    std::fs::create_dir_all(bench.store().join("trash/left/tree")).unwrap();
    bench.unpublish("a").unwrap();
    assert_eq!(tidy(&bench), 0);
    let evicted = |reason: Reason| bench.node.storage.evicted().iter().find(|(is, _)| *is == reason).unwrap().1;
    // The snapshot and its repository.
    assert_eq!(Reason::ALL.map(evicted), [0, 2, 0, 0]);
    bench.assert_nothing_is_left();
}
