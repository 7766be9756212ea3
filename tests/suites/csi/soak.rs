//! A short form of `cargo bench -p gitrepo-tests --bench csi`.

use super::Scene;

#[test]
fn publishing_and_unpublishing_three_hundred_times_leaks_nothing() {
    let Some(scene) = Scene::new() else { return };
    let soak = scene.node.soak(&scene.inline("v").read_only().with_attribute("revision", &scene.commit), 300);
    soak.assert_no_growth();
    assert_eq!(scene.server.packs(), 1);
    let soak = scene.node.soak(&scene.persistent("v"), 30);
    soak.assert_no_growth();
    scene.node.assert_nothing_published();
}
