//! `lfs: true`: pointers get their content, from a small server of Git LFS that can be made to misbehave.

use gitrepo_tests::http::HttpServer;
use gitrepo_tests::http::HttpServerBuilder;
use gitrepo_tests::lfs::ATTRIBUTES;
use gitrepo_tests::lfs::Lfs;
use gitrepo_tests::person::Person;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;

mod client;
mod expiry;
mod faults;
mod kept;
mod many;
mod secrets;
mod ssh;
mod stored;
mod trees;

const FLAG: &str = "--lfs";

/// A repository whose `a.bin` and `dir/b.bin` are files of Git LFS, and a server of both.
struct Scene {
    repository: Repository,
    lfs: Lfs,
    server: HttpServer,
    person: Person,
    a: Vec<u8>,
    b: Vec<u8>,
}

/// Content that is not repeated within itself.
fn content(seed: u32, length: usize) -> Vec<u8> {
    (0..)
        .flat_map(|number: u32| number.wrapping_mul(2_654_435_761).wrapping_add(seed).to_le_bytes())
        .take(length)
        .collect()
}

impl Scene {
    fn new() -> Self {
        Self::with(|builder| builder)
    }

    /// With another configuration of the server.
    fn with(configure: impl FnOnce(HttpServerBuilder) -> HttpServerBuilder) -> Self {
        let (repository, lfs) = (Repository::new("app"), Lfs::new());
        let (a, b) = (content(1, 300_000), content(2, 5_000));
        let files = Files::new().file(".gitattributes", ATTRIBUTES).file("plain.txt", "text\n");
        let files = lfs.file(lfs.file(files, "a.bin", &a), "dir/b.bin", &b);
        repository.commit("main", &files);
        let server = lfs.start(configure(HttpServer::builder().serve(&repository)));
        Self { repository, lfs, server, person: Person::new(), a, b }
    }

    fn url(&self) -> String {
        self.server.url(&self.repository)
    }

    fn assert_cloned(&self) {
        let tree = self.person.tree();
        assert!(std::fs::read(tree.join("a.bin")).unwrap() == self.a, "a.bin is another file");
        assert!(std::fs::read(tree.join("dir/b.bin")).unwrap() == self.b, "dir/b.bin is another file");
        assert_eq!(std::fs::read(tree.join("plain.txt")).unwrap(), b"text\n");
        self.person.assert_tree_alone();
    }
}
