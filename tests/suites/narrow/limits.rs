//! A directory that exceeded `limits.fetchBytes` is refused until less of it would come.

use gitrepo_tests::fixtures;

use super::*;

/// Bytes of each of the two parts: one fits into the limit, and both do not.
const PART_BYTES: usize = 100_000;

#[test]
fn a_directory_that_was_too_large_is_fetched_once_parts_of_it_are_here() {
    let repository = Repository::new("parts");
    repository.configure("uploadpack.allowFilter", "true");
    let part = |number: u64| fixtures::noise(number, PART_BYTES);
    repository.commit("main", &Files::new().file("parts/0/a", part(0)).file("parts/1/b", part(1)));
    let mut config = volumes::config();
    config.limits.fetch_bytes = 3 * PART_BYTES as u64 / 2;
    let scene = Scene::configured(config, repository, |server| server);
    for repeated in [false, true] {
        let packs = scene.server.packs();
        let (kind, text) = scene.refused("parts");
        assert_eq!(kind, Kind::ResourceExhausted, "{text}");
        scene.server.settle();
        assert_eq!(scene.server.packs() == packs, repeated, "it is not downloaded again to be refused again");
    }
    scene.publish("parts/0");
    // Now it would fit, with the trees and the blob of the other part.
    assert_eq!(scene.publish("parts").packs, 2);
}
