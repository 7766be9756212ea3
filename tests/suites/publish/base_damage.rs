//! A repository in the store whose files others damaged: the next commit is fetched without it.

use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;

use gitrepo_core::error::chain;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::tree::assert_same_tree;
use gitrepo_tests::volumes::at;
use gitrepo_tests::volumes::delete;
use gitrepo_tests::volumes::entries;
use gitrepo_tests::volumes::files_below;
use gitrepo_tests::volumes::read_only;

use super::Bench;

type Damage = fn(&Path);

const DAMAGES: [(&str, Damage); 8] = [
    ("first byte flipped", |file| flip(file, |_| 0)),
    ("byte in the middle flipped", |file| flip(file, |length| length / 2)),
    ("last byte flipped", |file| flip(file, |length| length - 1)),
    ("cut to half", |file| cut(file, 2)),
    ("emptied", |file| cut(file, u64::MAX)),
    ("filled with zeros", |file| {
        let length = file.metadata().unwrap().len();
        fs::write(file, vec![0; usize::try_from(length).unwrap()]).unwrap();
    }),
    ("gone", |file| fs::remove_file(file).unwrap()),
    ("a directory in its place", |file| {
        fs::remove_file(file).unwrap();
        fs::create_dir(file).unwrap();
        fs::write(file.join("entry"), "").unwrap();
    }),
];

fn flip(file: &Path, place: fn(u64) -> u64) {
    let length = file.metadata().unwrap().len();
    let file = File::options().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, place(length)).unwrap();
    file.write_all_at(&[byte[0] ^ 1], place(length)).unwrap();
}

fn cut(file: &Path, by: u64) {
    let file = File::options().write(true).open(file).unwrap();
    file.set_len(file.metadata().unwrap().len() / by).unwrap();
}

/// A repository of which the store has two commits, with a history that is cut.
struct Scene<'a> {
    bench: &'a Bench,
    repository: Repository,
    commits: [String; 4],
    stored: PathBuf,
}

impl<'a> Scene<'a> {
    fn new(bench: &'a Bench, name: &str) -> Self {
        let repository = Repository::new(name);
        let commits = [0, 1, 2, 3].map(|number| {
            let files = (0..=number).fold(Files::new(), |files, earlier| {
                files.file(format!("{earlier}/file"), format!("{earlier} in {name}, of some length\n").repeat(20))
            });
            repository.commit("main", &files)
        });
        bench.server.add(&repository);
        let place = bench.node.store().join("repositories");
        let before = entries(&place);
        let scene = Self { bench, repository, commits, stored: PathBuf::new() };
        scene.publish(1, "before").unwrap();
        scene.publish(2, "before").unwrap();
        let stored = entries(&place).into_iter().find(|stored| !before.contains(stored)).unwrap();
        Self { stored, ..scene }
    }

    /// Publishes a commit, checks its tree, and unpublishes it.
    fn publish(&self, commit: usize, pod: &str) -> Result<(), String> {
        let target = self.bench.node.target(pod);
        let commit = &self.commits[commit];
        let request = at(read_only(&self.bench.server.url(&self.repository), &target), commit);
        self.bench.node.publish(&request).map_err(|error| chain(&error))?;
        assert_same_tree(&self.repository, commit, ".", &self.bench.node.shown(&target));
        self.bench.node.unpublish(&request);
        Ok(())
    }

    /// The files of the stored repository with their contents.
    fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let read = |file: PathBuf| (file.clone(), fs::read(self.stored.join(file)).unwrap());
        self.files().into_iter().map(read).collect()
    }

    /// The files of the stored repository, relative to it.
    fn files(&self) -> Vec<PathBuf> {
        let files = files_below(&self.stored).into_iter();
        let mut files: Vec<_> = files.map(|file| file.strip_prefix(&self.stored).unwrap().to_owned()).collect();
        // Names are hashes of contents that differ in each scene; their order is that of their kinds.
        files.sort_unstable_by_key(|file| (file.parent().map(Path::to_owned), file.extension().map(ToOwned::to_owned)));
        files
    }
}

pub(super) fn r4_any_damage_of_a_repository_costs_no_more_than_a_fetch_without_it(bench: &Bench) {
    let kinds = Scene::new(bench, "kinds").files();
    let names: Vec<_> = kinds.iter().map(|file| file.display().to_string()).collect();
    for kind in ["shallow", "config", "HEAD", "sealed.json", "refs/commits/", ".pack", ".idx", ".content", ".index"] {
        assert!(names.iter().any(|name| name.contains(kind)), "{kind} in {names:?}");
    }
    for (number, kind) in names.iter().enumerate() {
        for (damage_number, (what, damage)) in DAMAGES.into_iter().enumerate() {
            let scene = Scene::new(bench, &format!("damaged-{number}-{damage_number}"));
            let file = &scene.files()[number];
            damage(&scene.stored.join(file));
            // The new commit, and an old one, which the store was never asked for.
            for commit in [3, 0] {
                let packs = bench.server.packs();
                let published = scene.publish(commit, "after");
                published.unwrap_or_else(|error| panic!("{kind}: {what}: commit {commit}: {error}"));
                let packs = bench.server.packs() - packs;
                assert!((1..=2).contains(&packs), "{kind}: {what}: commit {commit} cost {packs} fetches");
            }
        }
    }
    bench.node.assert_nothing_published();
}

pub(super) fn r4_a_repository_in_whose_place_is_something_else_is_replaced(bench: &Bench) {
    let places = ["", "objects", "objects/pack", "segments", "refs", "refs/commits", "shallow.lock"];
    for (number, place) in places.into_iter().enumerate() {
        for what in ["a file", "a directory"] {
            let scene = Scene::new(bench, &format!("replaced-{number}-{}", what.len()));
            let path = match place {
                "" => scene.stored.clone(),
                place => scene.stored.join(place),
            };
            if path.exists() {
                delete(&path);
            }
            match what {
                "a file" => fs::write(&path, "something else").unwrap(),
                _ => {
                    fs::create_dir(&path).unwrap();
                    fs::write(path.join("entry"), "").unwrap();
                }
            }
            for commit in [3, 0] {
                let published = scene.publish(commit, "after");
                published.unwrap_or_else(|error| panic!("{what} as {place:?}: {error}"));
            }
        }
    }
    bench.node.assert_nothing_published();
}

pub(super) fn r4_a_fetch_that_fails_without_the_store_too_leaves_what_the_store_has(bench: &Bench) {
    let scene = Scene::new(bench, "unservable");
    let before = scene.contents();
    // The server itself lost the new blob.
    let lost = scene.repository.resolve(&format!("{}:3/file", scene.commits[3]));
    let object = scene.repository.path().join("objects").join(&lost[..2]).join(&lost[2..]);
    fs::remove_file(&object).unwrap_or_else(|error| panic!("{}: {error}", object.display()));
    let error = scene.publish(3, "after").unwrap_err();
    assert!(error.contains(&bench.server.url(&scene.repository)), "{error}");
    assert!(scene.contents() == before, "{:?} became {:?}", before.keys(), scene.files());
    scene.publish(0, "older").unwrap();
}
