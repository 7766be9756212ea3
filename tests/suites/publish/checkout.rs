//! `checkout: git`, in every form of a volume.

use std::path::Path;

use gitrepo_core::spec::Checkout;
use gitrepo_core::spec::RelativePath;
use gitrepo_core::volume::Outcome;
use gitrepo_core::volume::VolumeRequest;
use gitrepo_tests::repository::Files;
use gitrepo_tests::volumes::at;
use gitrepo_tests::volumes::read_only;
use gitrepo_tests::volumes::with;
use gitrepo_tests::volumes::writable;

use super::Bench;

fn converted(request: VolumeRequest) -> VolumeRequest {
    with(request, |request| request.spec.tree.checkout = Checkout::Git)
}

fn read(bench: &Bench, target: &Path, name: &str) -> String {
    std::fs::read_to_string(bench.node.shown(target).join(name)).unwrap()
}

pub(super) fn files_are_converted_as_git_checkout_does_if_asked(bench: &Bench) {
    let files = Files::new().file(".gitattributes", "*.bat eol=crlf\n/src/** ident\n").file("run.bat", "one\ntwo\n");
    let commit = bench.repository.commit("main", &files.file("src/a.c", "$Id$\n").file("src/b.bat", "x\n"));
    let request = |pod: &str| at(read_only(&bench.url(), &bench.node.target(pod)), &commit);
    let bytes = request("bytes");
    bench.node.publish(&bytes).unwrap();
    bench.assert_shows(&bytes.target, &commit);

    // The store has the commit: nothing is fetched.
    let packs = bench.server.packs();
    let first = converted(request("first"));
    bench.node.publish(&first).unwrap();
    let id = bench.repository.resolve("main:src/a.c");
    let assert_converted = |target: &Path| {
        assert_eq!(read(bench, target, "run.bat"), "one\r\ntwo\r\n");
        assert_eq!(read(bench, target, "src/a.c"), format!("$Id: {id} $\n"));
        assert_eq!(read(bench, target, "src/b.bat"), "x\r\n");
        assert_eq!(read(bench, target, "README.md"), "# Second\n");
    };
    assert_converted(&first.target);
    let again = converted(request("again"));
    assert_eq!(bench.node.publish(&again).unwrap().outcome, Outcome::Hit);
    let copy = converted(at(writable(&bench.url(), &bench.node.target("copy"), 0), &commit));
    bench.node.publish(&copy).unwrap();
    assert_converted(&copy.target);
    // The attributes above the directory count.
    let part = with(converted(request("part")), |request| {
        request.spec.tree.subdirectory = RelativePath::parse("src").unwrap();
    });
    bench.node.publish(&part).unwrap();
    assert_eq!(read(bench, &part.target, "a.c"), format!("$Id: {id} $\n"));
    assert_eq!(read(bench, &part.target, "b.bat"), "x\r\n");
    assert_eq!(bench.server.packs(), packs);
    bench.assert_shows(&bytes.target, &commit);

    // A later commit builds on what is there.
    let later = bench.repository.commit("main", &Files::new().file("new.bat", "y\n"));
    let later = converted(at(read_only(&bench.url(), &bench.node.target("later")), &later));
    assert!(matches!(bench.node.publish(&later).unwrap().outcome, Outcome::Fetched { .. }));
    assert_converted(&later.target);
    assert_eq!(read(bench, &later.target, "new.bat"), "y\r\n");
    for request in [&bytes, &first, &again, &copy, &part, &later] {
        bench.node.unpublish(request);
    }
    bench.node.assert_nothing_published();
}
