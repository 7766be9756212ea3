//! `subdirectory` fetches the directory alone from a server that can leave out the rest. What such a fetch brings is
//! never taken for the whole commit.

use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use gitrepo_core::credentials::Credentials;
use gitrepo_core::error::Kind;
use gitrepo_core::error::chain;
use gitrepo_core::policy::Config;
use gitrepo_core::remote::Git;
use gitrepo_core::spec::RelativePath;
use gitrepo_core::testing;
use gitrepo_core::testing::FakeMounter;
use gitrepo_core::volume::Outcome;
use gitrepo_core::volume::Published;
use gitrepo_core::volume::VolumeRequest;
use gitrepo_core::worker::InProcess;
use gitrepo_tests::git;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::http::HttpServerBuilder;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::tree::assert_same_tree;
use gitrepo_tests::volumes;
use gitrepo_tests::volumes::Node;
use gitrepo_tests::volumes::at;
use gitrepo_tests::volumes::entries;
use gitrepo_tests::volumes::read_only;
use gitrepo_tests::volumes::token;
use gitrepo_tests::volumes::with;
use tempfile::TempDir;

mod access;
mod kept;
mod limits;
mod processes;
mod servers;
mod turns;

/// Files of the part that is wanted.
const PART: usize = 100;

/// A repository of `parts` directories with [`PART`] files each: `parts/0/wanted/…`, and one file at the top. A server
/// leaves out what it is told to.
fn monorepo(parts: usize) -> Repository {
    let repository = Repository::new("monorepo");
    repository.configure("uploadpack.allowFilter", "true");
    let mut files = Files::new().file("README.md", "all of it\n");
    for number in 0..parts * PART {
        let path = format!("parts/{}/wanted/deep-{}/file-{number}", number / PART, number % 7);
        files = files.file(path, format!("content {number}\n"));
    }
    repository.commit("main", &files.symlink("parts/0/wanted/link", "deep-0/file-0").executable("parts/0/run", "#!\n"));
    repository
}

/// A node whose workers are threads, and a server with a repository.
struct Scene {
    node: Node,
    server: HttpServer,
    repository: Repository,
    targets: AtomicUsize,
    _place: TempDir,
}

impl Scene {
    fn new(parts: usize) -> Self {
        Self::of(monorepo(parts), |server| server)
    }

    fn of(repository: Repository, server: impl FnOnce(HttpServerBuilder) -> HttpServerBuilder) -> Self {
        Self::configured(volumes::config(), repository, server)
    }

    fn configured(
        config: Config,
        repository: Repository,
        server: impl FnOnce(HttpServerBuilder) -> HttpServerBuilder,
    ) -> Self {
        let server = server(HttpServer::builder().serve(&repository)).start();
        let place = TempDir::new().unwrap();
        let worker = InProcess::new(Arc::new(Git::default()));
        let node = Node::new(place.path(), config, Arc::new(worker), Arc::new(FakeMounter::new()));
        Self { node, server, repository, targets: AtomicUsize::new(0), _place: place }
    }

    /// A new volume of a directory of `main`, or of all of it. By the commit's id, so that nobody asks where the branch
    /// stands.
    fn request(&self, directory: &str) -> VolumeRequest {
        let target = self.node.target(&format!("pod-{}", self.targets.fetch_add(1, Ordering::Relaxed)));
        let commit = self.repository.resolve("main");
        with(at(read_only(&self.server.url(&self.repository), &target), &commit), |request| {
            request.spec.tree.subdirectory = RelativePath::parse(directory).unwrap();
        })
    }

    /// Publishes it, and compares it with what git has.
    fn publish(&self, directory: &str) -> Cost {
        self.publish_request(&self.request(directory), &Credentials::none())
    }

    fn publish_request(&self, request: &VolumeRequest, credentials: &Credentials) -> Cost {
        self.server.settle();
        let before = (self.server.bytes_sent(), self.server.requests().len(), self.server.packs());
        let published = self.node.publish_as(request, credentials);
        let published = published.unwrap_or_else(|error| panic!("{}", chain(&error)));
        self.server.settle();
        let directory = request.spec.tree.subdirectory.as_str();
        let commit = published.commit.to_string();
        assert_same_tree(&self.repository, &commit, directory, &self.node.shown(&request.target));
        Cost {
            bytes: self.server.bytes_sent() - before.0,
            requests: self.server.requests().len() - before.1,
            packs: self.server.packs() - before.2,
            published,
        }
    }

    fn refused(&self, directory: &str) -> (Kind, String) {
        let request = self.request(directory);
        let error = self.node.publish(&request).expect_err(directory);
        assert!(!request.target.exists(), "{directory}");
        (error.kind(), chain(&error))
    }

    /// The store's repository.
    fn kept(&self) -> PathBuf {
        let repositories = entries(&self.node.store().join("repositories"));
        let [repository] = &repositories[..] else { panic!("{repositories:?}") };
        repository.clone()
    }

    /// The ids of the blobs in the store's repository, and those of its commits and trees.
    fn objects(&self) -> [BTreeSet<String>; 2] {
        let exported = TempDir::new().unwrap();
        testing::export_blobs(&self.kept(), exported.path());
        [exported.path(), &self.kept()].map(|repository| {
            let format = "--batch-check=%(objectname)";
            let listed = git::output(git::command(repository).args(["cat-file", "--batch-all-objects", format]));
            git::text(listed).lines().map(str::to_owned).collect()
        })
    }

    /// The commits that the store says it has whole.
    fn whole_commits(&self) -> Vec<PathBuf> {
        entries(&self.kept().join("refs/commits"))
    }
}

/// What a publish took.
struct Cost {
    bytes: u64,
    requests: usize,
    /// Of the requests, those for a pack to keep.
    packs: usize,
    published: Published,
}

/// The ids of a kind that a tree has, itself included.
fn ids_below(repository: &Repository, tree: &str, kind: &str) -> BTreeSet<String> {
    let listed = git::output(&mut repository.git(["ls-tree", "-r", "-t", tree]));
    let below = git::text(listed);
    let of_kind = |line: &str| {
        let words: Vec<_> = line.split_ascii_whitespace().take(3).collect();
        (words[1] == kind).then(|| words[2].to_owned())
    };
    let itself = (kind == "tree").then(|| repository.resolve(tree));
    below.lines().filter_map(of_kind).chain(itself).collect()
}

#[test]
fn of_thirty_thousand_files_a_hundred_are_fetched() {
    let scene = Scene::new(300);
    let cost = scene.publish("parts/0/wanted");
    let tree = "main:parts/0/wanted";
    let expected = [ids_below(&scene.repository, tree, "blob"), ids_below(&scene.repository, tree, "tree")];
    assert_eq!((expected[0].len(), expected[1].len()), (PART + 1, 8));
    assert_eq!(scene.objects(), expected, "no more, no less");
    assert!(scene.whole_commits().is_empty());
    // The commit, three trees above the directory, and one pack.
    assert_eq!((cost.packs, scene.server.proofs()), (1, 4));
    assert!(cost.bytes < 30_000, "{} bytes", cost.bytes);
    let Outcome::Fetched { received_bytes, .. } = cost.published.outcome else { panic!("{:?}", cost.published) };
    assert!((5_000..cost.bytes).contains(&received_bytes), "{received_bytes} of {} bytes", cost.bytes);
}

#[test]
fn the_same_directory_again_is_a_hit_and_another_option_of_it_needs_no_pack() {
    let scene = Scene::new(3);
    scene.publish("parts/1/wanted");
    let again = scene.publish("parts/1/wanted");
    assert_eq!((again.requests, again.published.outcome), (0, Outcome::Hit));
    let elsewhere = with(scene.request("parts/1/wanted"), |request| {
        request.spec.tree.directory = RelativePath::parse("a/b").unwrap();
    });
    let packs = scene.server.packs();
    scene.node.publish(&elsewhere).unwrap();
    assert_same_tree(&scene.repository, "main", "parts/1/wanted", &scene.node.shown(&elsewhere.target).join("a/b"));
    assert_eq!(scene.server.packs(), packs, "what is below the directory is here");
}

#[test]
fn the_whole_commit_after_a_directory_of_it_is_fetched_and_then_every_directory_is_here() {
    let scene = Scene::new(3);
    scene.publish("parts/1/wanted");
    let whole = scene.publish(".");
    assert!(matches!(whole.published.outcome, Outcome::Fetched { .. }) && whole.packs == 1);
    assert_eq!(scene.whole_commits().len(), 1);
    git::output(git::command(&scene.kept()).args(["rev-list", "--objects", "--filter=blob:none", "--all"]));
    let other = scene.publish("parts/2");
    assert_eq!(other.requests, 0, "the whole commit is here");
    let again = scene.publish(".");
    assert_eq!((again.requests, again.published.outcome), (0, Outcome::Hit));
}

#[test]
fn other_directories_bring_what_is_missing_of_them() {
    let scene = Scene::new(3);
    let blobs = |tree: &str| ids_below(&scene.repository, tree, "blob");
    scene.publish("parts/0/wanted/deep-0");
    assert_eq!(scene.objects()[0], blobs("main:parts/0/wanted/deep-0"));
    // All that is below, but for one of its seven directories: the trees come alone, then the blobs.
    let more = scene.publish("parts/0/wanted");
    assert_eq!(scene.objects()[0], blobs("main:parts/0/wanted"));
    assert_eq!(more.packs, 2);
    let other = scene.publish("parts/1");
    assert_eq!(scene.objects()[0], &blobs("main:parts/0/wanted") | &blobs("main:parts/1"));
    assert_eq!(other.packs, 2);
    // What is below another one is here already.
    assert_eq!(scene.publish("parts/1/wanted").packs, 0);
}

#[test]
fn a_new_commit_brings_the_blobs_that_changed() {
    let scene = Scene::new(3);
    scene.publish("parts/0");
    let old = scene.objects()[0].clone();
    for (path, content) in [("parts/0/wanted/deep-3/file-3", "changed\n"), ("parts/0/new", "new\n")] {
        let commit = scene.repository.commit("main", &Files::new().file(path, content).file("parts/2/other", content));
        let request = at(scene.request("parts/0"), &commit);
        let cost = scene.publish_request(&request, &Credentials::none());
        assert_eq!(cost.packs, 2, "the trees, then one blob");
    }
    let new: Vec<_> = scene.objects()[0].difference(&old).cloned().collect();
    assert_eq!(new.len(), 2, "{new:?}");
    // Outside of the directory, everything may change.
    let commit = scene.repository.commit("main", &Files::new().file("parts/1/wanted/more", "more\n"));
    let cost = scene.publish_request(&at(scene.request("parts/0"), &commit), &Credentials::none());
    assert_eq!((cost.packs, scene.whole_commits().len()), (0, 0));
}

#[test]
fn a_directory_that_is_missing_or_something_else_is_not_found_and_leaves_nothing() {
    let repository = monorepo(1);
    let module = repository.resolve("main");
    repository.commit("main", &Files::new().symlink("up", "parts/0").submodule("module", &module));
    let scene = Scene::of(repository, |server| server);
    let commit = scene.repository.resolve("main");
    for (directory, words) in [
        ("none", "has no directory none; nothing at the top of it has that name"),
        ("parts/0/none/x", "has no directory parts/0/none/x; parts/0 is there, and nothing in it has the next name"),
        ("parts/0/Wanted", "has no directory parts/0/Wanted; parts/0 is there"),
        ("README.md", "README.md is a file"),
        ("parts/0/run/x", "parts/0/run is a file"),
        ("up/wanted", "up is a symbolic link"),
        ("module", "module is a submodule"),
    ] {
        let (kind, text) = scene.refused(directory);
        assert_eq!(kind, Kind::NotFound, "{directory}: {text}");
        assert!(text.contains(words) && text.contains(&commit) && text.contains(directory), "{directory}: {text}");
    }
    assert_eq!(scene.server.packs(), 0, "nothing below a directory was sent");
    assert_eq!(entries(&scene.node.store().join("repositories")), [] as [&Path; 0]);
    assert_eq!(entries(&scene.node.store().join("staging")), [] as [&Path; 0]);
    scene.node.assert_nothing_published();
}

#[test]
fn what_needs_more_of_the_commit_fetches_all_of_it() {
    type Change = fn(&mut VolumeRequest);
    let changes: [(&str, Change); 3] = [
        ("submodules", |request| request.spec.tree.submodules = gitrepo_core::spec::Submodules::Recursive),
        ("checkout", |request| request.spec.tree.checkout = gitrepo_core::spec::Checkout::Git),
        ("depth", |request| request.spec.depth = 2),
    ];
    for (what, change) in changes {
        let scene = Scene::new(2);
        let request = with(scene.request("parts/1"), change);
        scene.publish_request(&request, &Credentials::none());
        assert_eq!(scene.whole_commits().len(), 1, "{what}");
    }
}
