//! The submodules of one commit after the other, over one store. (As git-sync's tests change them.)

use gitrepo_core::spec::Submodules;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::submodules::Submodule;
use gitrepo_tests::submodules::cloned_by_git;
use gitrepo_tests::submodules::contents;
use gitrepo_tests::submodules::with_submodules;
use gitrepo_tests::volumes::at;
use gitrepo_tests::volumes::read_only;
use gitrepo_tests::volumes::with;
use tempfile::TempDir;

use super::access::expiring;
use super::access::node;
use super::packs_of;

#[test]
fn a_tree_follows_what_becomes_of_its_submodules() {
    let [whole, sub, leaf, moved] = ["super", "sub", "leaf", "moved"].map(Repository::new);
    let in_leaf = leaf.commit("main", &Files::new().file("leaf", "leaf\n"));
    let old = sub.commit("main", &Files::new().file("f", "1\n"));
    let new = sub.commit("main", &Files::new().file("f", "2\n"));
    let below = Submodule { path: "in", url: "../leaf.git", commit: &in_leaf };
    let nesting = sub.commit("main", &with_submodules(Files::new(), &[below]));
    let alone = sub.commit("main", &with_submodules(Files::new().remove("in"), &[]));
    let elsewhere = moved.commit("main", &Files::new().file("f", "moved\n"));

    let server = HttpServer::builder().serve(&whole).serve(&sub).serve(&leaf).serve(&moved).start();
    // git, the oracle, asks a server of its own.
    let oracle = HttpServer::builder().serve(&whole).serve(&sub).serve(&leaf).serve(&moved).start();
    let is_at = |url, commit| with_submodules(Files::new().clear(), &[Submodule { path: "lib/sub", url, commit }]);
    let place = TempDir::new().unwrap();
    let node = node(&place, expiring);
    let mut shown = Vec::new();
    for (number, files) in [
        is_at("../sub.git", &old),
        is_at("../sub.git", &new),
        is_at("../sub.git", &old),
        is_at("../sub.git", &nesting),
        is_at("../sub.git", &alone),
        is_at("../moved.git", &elsewhere),
        Files::new().clear().file("top", "no submodule\n"),
        Files::new().clear().file("lib/sub", "a file now\n"),
        Files::new().clear().file("lib/sub/f", "a directory now\n"),
        is_at("../sub.git", &nesting),
    ]
    .iter()
    .enumerate()
    {
        whole.commit("main", files);
        let request = read_only(&server.url(&whole), &node.target(&format!("pod-{number}")));
        let request = with(at(request, "main"), |request| request.spec.tree.submodules = Submodules::Recursive);
        node.publish(&request).unwrap_or_else(|error| panic!("step {number}: {error}"));
        shown.push((request, cloned_by_git(&oracle.url(&whole))));
    }
    // All of them beside each other.
    for (number, (request, expected)) in shown.iter().enumerate() {
        assert_eq!(contents(&node.shown(&request.target)), *expected, "step {number}");
        node.unpublish(request);
    }
    let packs = ["super", "sub", "leaf", "moved"].map(|name| packs_of(&server, name));
    assert_eq!(packs, [10, 4, 1, 1], "each commit comes once");
    node.assert_nothing_published();
}
