//! `symlinks: reject-escaping`, whatever is in the store already.

use gitrepo_core::error::Kind;
use gitrepo_core::spec::RelativePath;
use gitrepo_core::spec::Symlinks;
use gitrepo_core::volume::VolumeRequest;
use gitrepo_tests::repository::Files;
use gitrepo_tests::volumes::at;
use gitrepo_tests::volumes::read_only;
use gitrepo_tests::volumes::with;
use gitrepo_tests::volumes::writable;

use super::Bench;

fn path(text: &str) -> RelativePath {
    RelativePath::parse(text).unwrap()
}

fn rejecting(request: VolumeRequest) -> VolumeRequest {
    with(request, |request| request.spec.tree.symlinks = Symlinks::RejectEscaping)
}

pub(super) fn links_out_of_the_volume_are_refused_in_every_form(bench: &Bench) {
    bench.repository.commit("inside", &Files::new().symlink("a/up", "../README.md").symlink("self", "."));
    bench.repository.commit("outside", &Files::new().symlink("a/out", "../../other"));
    let request = |pod: &str, branch: &str| at(read_only(&bench.url(), &bench.node.target(pod)), branch);
    let copy = |pod: &str, branch: &str| at(writable(&bench.url(), &bench.node.target(pod), 0), branch);
    // What is in the store was made without the check.
    for (pod, branch) in [("kept-inside", "inside"), ("kept-outside", "outside")] {
        bench.node.publish(&request(pod, branch)).unwrap();
    }
    bench.node.publish(&copy("kept-copy", "outside")).unwrap();

    let inside = rejecting(request("inside", "inside"));
    bench.node.publish(&inside).unwrap();
    bench.assert_shows(&inside.target, &bench.repository.resolve("inside"));
    bench.node.publish(&rejecting(copy("inside-copy", "inside"))).unwrap();
    // Deeper in the volume, the same link leads to no more than beside the tree.
    let deeper = with(rejecting(request("deeper", "outside")), |request| request.spec.tree.directory = path("x"));
    bench.node.publish(&deeper).unwrap();

    let refused = [
        rejecting(request("outside", "outside")),
        rejecting(copy("outside-copy", "outside")),
        // It is the root of the volume that counts, not that of the repository.
        with(rejecting(request("subdirectory", "inside")), |request| request.spec.tree.subdirectory = path("a")),
        with(rejecting(request("both", "outside")), |request| {
            request.spec.tree.subdirectory = path("a");
            request.spec.tree.directory = path("x");
        }),
    ];
    // An image for another group would be a view of that one; a directory takes no group.
    let owned = refused.clone().map(|request| with(request, |request| request.group = Some(2000)));
    for request in refused.iter().chain(&owned) {
        let error = bench.node.publish(request).unwrap_err();
        assert_eq!(error.kind(), Kind::PermissionDenied, "{error}");
        assert!(error.to_string().contains("which leaves the volume"), "{error}");
        assert!(!request.target.exists(), "{error}");
    }
    // The refusal spoils nothing for those who keep links.
    for (pod, branch) in [("again-inside", "inside"), ("again-outside", "outside")] {
        let again = request(pod, branch);
        bench.node.publish(&again).unwrap();
        bench.assert_shows(&again.target, &bench.repository.resolve(branch));
    }
}
