//! A repository of many fetches is compacted: neither its segments nor its packs grow in number without end.

use std::path::Path;

use gitrepo_tests::fixtures;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::shell::Shell;
use gitrepo_tests::tree::assert_same_tree;
use gitrepo_tests::volumes::entries;

/// Most segments, and most packs, of a repository: `MOST_SEGMENTS` and the one of the fetch that finds too many.
const MOST: usize = 33;

/// More than what changes, with all that is said about it.
const LITTLE: u64 = 20_000;

#[test]
fn a_repository_of_many_fetches_keeps_what_its_last_commit_has() {
    let Some(shell) = Shell::new(256 << 20) else { return };
    let repository = Repository::new("growing");
    let constant = fixtures::noise(1, 100_000);
    let server = HttpServer::start(&repository);
    let url = server.url(&repository);
    let (mut sizes, mut counts, mut commits): (Vec<u64>, _, _) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..2 * MOST {
        let changing = fixtures::noise(number as u64 + 2, 5_000);
        let files = Files::new().file("constant", constant.clone()).file("a/b/changing", changing).symlink("c", "a/b");
        let commit = repository.commit("main", &files);
        let before = server.bytes_sent();
        let target = shell.target(&number.to_string());
        shell.mount(&url, &target, &["--revision", &commit]).assert_success();
        assert_same_tree(&repository, &commit, ".", &target);
        server.settle();
        let sent = server.bytes_sent() - before;
        assert!(number == 0 || sent < LITTLE, "fetch {number} took {sent} bytes: the constant file came again");
        let [segments, packs] = ["segments", "objects/pack"].map(|place| files_in(&shell.store(), place));
        assert!(segments.len() <= 2 * MOST && packs.len() <= 2 * MOST, "{} {}", segments.len(), packs.len());
        counts.push(segments.len());
        commits.push(commit);
        sizes.push(
            segments
                .iter()
                .filter(|path| path.extension().is_some_and(|end| end == "content"))
                .map(|path| size(path))
                .sum(),
        );
    }
    assert!(!counts.is_sorted(), "nothing was compacted: {counts:?}");
    // Those that were published before still show what they did.
    for (number, commit) in commits.iter().enumerate() {
        let target = shell.target(&number.to_string());
        assert_same_tree(&repository, commit, ".", &target);
        shell.unmount(&target).assert_success();
    }
    // What older commits had is gone.
    assert!(sizes.last() < sizes.iter().max(), "{sizes:?}");
}

fn files_in(store: &Path, place: &str) -> Vec<std::path::PathBuf> {
    let repositories = entries(&store.join("repositories"));
    let [repository] = &repositories[..] else { panic!("{repositories:?}") };
    entries(&repository.join(place))
}

fn size(path: &Path) -> u64 {
    path.metadata().unwrap().len()
}
