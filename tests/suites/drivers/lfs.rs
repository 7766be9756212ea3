//! `lfs: true`.

use gitrepo_tests::http::HttpServer;
use gitrepo_tests::kubelet::Driver;
use gitrepo_tests::kubelet::Manifest;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::lfs::ATTRIBUTES;
use gitrepo_tests::lfs::Lfs;
use gitrepo_tests::lfs::downloads;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use serde_json::json;

use super::DISK;
use super::Scene;

pub(super) fn a_volume_shows_the_content_of_its_lfs_pointers<D: Driver>() {
    let (repository, lfs) = (Repository::new("models"), Lfs::new());
    let weights = vec![7; 100_000];
    let files = lfs.file(Files::new().file(".gitattributes", ATTRIBUTES), "weights.bin", &weights);
    let commit = repository.commit("main", &files);
    let Some(node) = D::start(DISK, &json!({})) else { return };
    let server = lfs.start(HttpServer::builder().serve(&repository));
    let scene = Scene { node, server, repository, commit };
    let volumes = ["one", "two"].map(|name| (Pod::new(name), scene.inline(name).read_only().with("lfs", "true")));
    for (pod, volume) in &volumes {
        let target = scene.set_up(pod, volume);
        assert!(std::fs::read(target.join("weights.bin")).unwrap() == weights);
    }
    assert_eq!(downloads(&scene.server).len(), 1);
    for (pod, volume) in &volumes {
        scene.tear_down(pod, volume);
    }
    scene.node.assert_nothing_set_up();
}
