//! Adoption of a worker's output, honest and hostile.

use std::fs;
use std::fs::Permissions;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;

use super::*;
use crate::content;
use crate::spec::RelativePath;
use crate::store::Staging;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::fixture::commit;
use crate::store::fixture::store;
use crate::store::fixture::url;

fn segment(number: u32) -> String {
    format!("segment-{number:040x}")
}

fn pack(number: u32) -> String {
    format!("pack-{number:040x}")
}

/// Creates a worker's output after a fetch: packs, and perhaps a shallow boundary.
fn fetched(store: &Store, packs: impl IntoIterator<Item = u32>, shallow: Option<&str>) -> (Staging, PathBuf) {
    let staging = store.staging().unwrap();
    let path = staging.path().join("repository.git");
    for pairs in adopt::PAIRS {
        fs::create_dir_all(path.join(pairs.directory)).unwrap();
    }
    for number in packs {
        for end in ["pack", "idx"] {
            fs::write(path.join(adopt::PACKS).join(format!("{}.{end}", pack(number))), end).unwrap();
        }
        for end in [content::CONTENT, content::INDEX] {
            fs::write(path.join(content::DIRECTORY).join(format!("{}.{end}", segment(number))), end).unwrap();
        }
    }
    if let Some(shallow) = shallow {
        fs::write(path.join("shallow"), shallow).unwrap();
    }
    (staging, path)
}

/// Makes a fetch one that builds on a repository.
fn build_on(path: &Path, base: Option<&Path>) {
    fs::create_dir_all(path.join("objects/info")).unwrap();
    fs::write(path.join("objects/info/alternates"), format!("{}/objects\n", base.unwrap().display())).unwrap();
}

fn packs(repository: &Repository) -> Vec<String> {
    names(&repository.path().join(adopt::PACKS))
}

fn segments(repository: &Repository) -> Vec<String> {
    names(&repository.path().join(content::DIRECTORY))
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = entries.collect();
    names.sort();
    names
}

fn boundary(digit: u8) -> String {
    format!("{}\n", commit(digit))
}

#[test]
fn the_first_fetch_makes_a_repository_that_git_can_open_and_another_uid_can_read() {
    let (_place, store) = store();
    let repository = store.repository(&url());
    assert!(!repository.exists() && !repository.contains(&commit(1)));
    let lock = repository.lock(&Cancel::new()).unwrap();
    assert_eq!(lock.base().unwrap(), None);
    let (_staging, path) = fetched(&store, [1], Some(&boundary(1)));
    lock.adopt(&path, None, Some(&commit(1)), Owner::ourselves()).unwrap();

    assert!(repository.exists() && repository.contains(&commit(1)));
    assert_eq!(lock.base().unwrap().as_deref(), Some(repository.path()));
    let opened = git2::Repository::open_bare(repository.path()).unwrap();
    assert!(opened.is_shallow());
    let reference = opened.find_reference(&commit_ref(&commit(1))).unwrap();
    assert_eq!(reference.target().unwrap().to_string(), commit(1).to_string());
    for (path, mode) in [("", 0o755), ("objects", 0o755), ("HEAD", 0o644), ("shallow", 0o644)] {
        let metadata = fs::metadata(repository.path().join(path)).unwrap();
        assert_eq!(metadata.mode() & 0o7777, mode, "{path}");
    }
    let pack = repository.path().join(adopt::PACKS).join(format!("{}.pack", pack(1)));
    assert_eq!(fs::metadata(pack).unwrap().mode() & 0o7777, 0o444);
}

#[test]
fn a_fetch_on_top_adds_packs_and_moves_the_boundary() {
    let (_place, store) = store();
    let repository = store.repository(&url());
    let lock = repository.lock(&Cancel::new()).unwrap();
    let (_staging, path) = fetched(&store, [1], Some(&boundary(1)));
    lock.adopt(&path, None, Some(&commit(1)), Owner::ourselves()).unwrap();
    let base = lock.base().unwrap();

    let (_staging, path) = fetched(&store, [1, 2], Some(&(boundary(1) + &boundary(2))));
    build_on(&path, base.as_deref());
    lock.adopt(&path, base.as_deref(), Some(&commit(2)), Owner::ourselves()).unwrap();
    assert_eq!((packs(&repository).len(), segments(&repository).len()), (4, 4));
    assert!(repository.contains(&commit(1)) && repository.contains(&commit(2)));
    assert_eq!(fs::read_to_string(repository.path().join("shallow")).unwrap().lines().count(), 2);

    let (_staging, path) = fetched(&store, [3], None);
    build_on(&path, base.as_deref());
    lock.adopt(&path, base.as_deref(), Some(&commit(3)), Owner::ourselves()).unwrap();
    assert!(!repository.path().join("shallow").exists(), "the whole history is there now");

    // It compacted the repository that it was to build on.
    let (_staging, path) = fetched(&store, [4], None);
    lock.adopt(&path, base.as_deref(), Some(&commit(4)), Owner::ourselves()).unwrap();
    let left = (packs(&repository).len(), segments(&repository).len());
    assert_eq!(left, (2, 2), "a fetch that builds on nothing replaces what was there");
    assert!(!repository.contains(&commit(1)));
}

#[test]
fn no_fetch_builds_on_a_repository_with_too_many_packs() {
    let (_place, store) = store();
    let lock = store.repository(&url()).lock(&Cancel::new()).unwrap();
    let most = u32::try_from(MOST_PACKS).unwrap();
    let mut base = None;
    for number in 0..most {
        let (_staging, path) = fetched(&store, [number], None);
        if base.is_some() {
            build_on(&path, base.as_deref());
        }
        lock.adopt(&path, base.as_deref(), Some(&commit(1)), Owner::ourselves()).unwrap();
        base = lock.base().unwrap();
        assert!(base.is_some());
    }
    let (_staging, path) = fetched(&store, [most], None);
    build_on(&path, base.as_deref());
    lock.adopt(&path, base.as_deref(), Some(&commit(1)), Owner::ourselves()).unwrap();
    assert_eq!(lock.base().unwrap(), None);
}

#[test]
fn a_fetch_with_too_many_packs_is_refused() {
    let (_place, store) = store();
    let lock = store.repository(&url()).lock(&Cancel::new()).unwrap();
    for (packs, accepted) in [(9, false), (8, true)] {
        let (_staging, path) = fetched(&store, 0..packs, None);
        let adopted = lock.adopt(&path, None, Some(&commit(1)), Owner::ourselves());
        assert_eq!(adopted.is_ok(), accepted, "{packs}: {adopted:?}");
    }
}

/// A description of a hostile output, and how to make it from an honest one.
type Hostile<'a> = (&'a str, &'a dyn Fn(&Path));

#[test]
fn s19_output_that_no_honest_worker_leaves_is_refused() {
    let (place, store) = store();
    let repository = store.repository(&url());
    let secret = place.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    let name = format!("{}.pack", pack(1));
    let pipe = |path: &Path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let content = format!("{}/{}.content", content::DIRECTORY, segment(1));
    let hostile: [Hostile; 14] = [
        ("a link for a pack", &|path| {
            replace_by(&path.join(adopt::PACKS).join(&name), |at| symlink(&secret, at).unwrap())
        }),
        ("a second name", &|path| {
            replace_by(&path.join(adopt::PACKS).join(&name), |at| fs::hard_link(&secret, at).unwrap());
        }),
        ("a pipe", &|path| replace_by(&path.join(adopt::PACKS).join(&name), pipe)),
        ("no pack", &|path| replace_by(&path.join(adopt::PACKS).join(&name), |_| {})),
        ("a link for a segment", &|path| replace_by(&path.join(&content), |at| symlink(&secret, at).unwrap())),
        ("no segment", &|path| replace_by(&path.join(&content), |_| {})),
        ("a link for the segments", &|path| {
            fs::rename(path.join(content::DIRECTORY), path.join("elsewhere")).unwrap();
            symlink("elsewhere", path.join(content::DIRECTORY)).unwrap();
        }),
        ("a link for a directory", &|path| {
            fs::rename(path.join("objects"), path.join("elsewhere")).unwrap();
            symlink("elsewhere", path.join("objects")).unwrap();
        }),
        ("no repository", &|path| replace_by(&path.join("objects"), |_| {})),
        ("a link for shallow", &|path| replace_by(&path.join("shallow"), |at| symlink(&secret, at).unwrap())),
        ("no list for shallow", &|path| fs::write(path.join("shallow"), "../../etc/passwd\n").unwrap()),
        ("a link for lfs", &|path| symlink(&secret, path.join("lfs")).unwrap()),
        ("no list for lfs", &|path| fs::write(path.join("lfs"), "../../etc/passwd\n").unwrap()),
        ("a list that is cut short", &|path| {
            let line = format!("{} {} 1", "a".repeat(64), "b".repeat(40));
            fs::write(path.join("lfs"), line).unwrap();
        }),
    ];
    for (what, corrupt) in hostile {
        let (_staging, path) = fetched(&store, [1], Some(&boundary(1)));
        corrupt(&path);
        let lock = repository.lock(&Cancel::new()).unwrap();
        let error = lock.adopt(&path, None, Some(&commit(1)), Owner::ourselves()).unwrap_err();
        assert!(matches!(error, StoreError::Untrusted { .. }), "{what}: {error}");
        assert!(!repository.exists(), "{what}");
        drop(lock);
    }
    // Nor does it get into a repository that it builds on.
    for (what, corrupt) in hostile {
        let (_place, store) = crate::store::fixture::store();
        let repository = store.repository(&url());
        let lock = repository.lock(&Cancel::new()).unwrap();
        let (_staging, path) = fetched(&store, [2], Some(&boundary(2)));
        lock.adopt(&path, None, Some(&commit(2)), Owner::ourselves()).unwrap();
        let (_staging, path) = fetched(&store, [1], Some(&boundary(1)));
        build_on(&path, Some(repository.path()));
        corrupt(&path);
        let error = lock.adopt(&path, Some(repository.path()), Some(&commit(1)), Owner::ourselves()).unwrap_err();
        assert!(matches!(error, StoreError::Untrusted { .. }), "{what}: {error}");
        assert!(repository.contains(&commit(2)) && !repository.contains(&commit(1)), "{what}");
    }
    assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
    assert_eq!(fs::read_dir(store.root().join("staging")).unwrap().count(), 0);
}

fn replace_by(path: &Path, make: impl FnOnce(&Path)) {
    fs::rename(path, path.with_extension("away")).unwrap();
    make(path);
}

#[test]
fn files_that_are_not_packs_are_left_behind() {
    let (_place, store) = store();
    let repository = store.repository(&url());
    let (_staging, path) = fetched(&store, [1], None);
    let directory = path.join(adopt::PACKS);
    for name in ["tmp_pack_1", "pack-xyz.idx", "evil.pack", &format!("{}.keep", pack(1)), "..idx"] {
        fs::write(directory.join(name), "").unwrap();
    }
    for name in ["tmp_content", "segment-xyz.index", "evil.content", "..index"] {
        fs::write(path.join(content::DIRECTORY).join(name), "").unwrap();
    }
    fs::create_dir(path.join("hooks")).unwrap();
    fs::write(path.join("config"), "[core]\n\thooksPath = /tmp\n").unwrap();
    repository.lock(&Cancel::new()).unwrap().adopt(&path, None, Some(&commit(1)), Owner::ourselves()).unwrap();
    assert_eq!(packs(&repository), [format!("{}.idx", pack(1)), format!("{}.pack", pack(1))]);
    assert_eq!(segments(&repository), [format!("{}.content", segment(1)), format!("{}.index", segment(1))]);
    assert!(!repository.path().join("hooks").exists());
    assert!(!fs::read_to_string(repository.path().join("config")).unwrap().contains("hooksPath"));
}

#[test]
fn r1_leftovers_of_a_kill_are_removed_before_the_next_fetch() {
    let (_place, store) = store();
    let repository = store.repository(&url());
    let lock = repository.lock(&Cancel::new()).unwrap();
    let (_staging, path) = fetched(&store, [1], Some(&boundary(1)));
    lock.adopt(&path, None, Some(&commit(1)), Owner::ourselves()).unwrap();
    drop(lock);
    let directory = repository.path().join(adopt::PACKS);
    let leftovers = [
        repository.path().join("shallow.lock"),
        repository.path().join("shallow.00.new"),
        repository.path().join(format!("{}.00.new", commit_ref(&commit(2)))),
        directory.join("tmp_pack_abc"),
        directory.join(format!("{}.pack", pack(7))),
        directory.join(format!("{}.idx", pack(8))),
        repository.path().join(content::DIRECTORY).join("tmp_index"),
        repository.path().join(content::DIRECTORY).join(format!("{}.content", segment(7))),
        repository.path().join(content::DIRECTORY).join(format!("{}.index", segment(8))),
    ];
    for path in &leftovers {
        fs::write(path, "").unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o444)).unwrap();
    }
    let lock = repository.lock(&Cancel::new()).unwrap();
    assert!(leftovers.iter().all(|path| !path.exists()));
    assert!(lock.base().unwrap().is_some() && repository.contains(&commit(1)));
}

#[test]
fn r4_a_discarded_repository_is_fetched_anew() {
    let (_place, store) = store();
    let repository = store.repository(&url());
    let lock = repository.lock(&Cancel::new()).unwrap();
    let (_staging, path) = fetched(&store, [1], None);
    lock.adopt(&path, None, Some(&commit(1)), Owner::ourselves()).unwrap();
    lock.discard().unwrap();
    lock.discard().unwrap();
    assert!(!repository.exists());
    assert_eq!(lock.base().unwrap(), None);
    assert_eq!(fs::read_dir(store.root().join("trash")).unwrap().count(), 0);
}

#[test]
fn r6_one_process_fetches_at_a_time_and_others_return_when_it_is_done() {
    let (_place, store) = store();
    let repository = store.repository(&url());
    let lock = repository.lock(&Cancel::new()).unwrap();
    assert!(repository.try_lock().unwrap().is_none());
    let turn = repository.lock_unless(&Cancel::new(), || Ok(Some("snapshot"))).unwrap();
    assert!(matches!(turn, Turn::Done("snapshot")));
    drop(lock);
    let turn = repository.lock_unless(&Cancel::new(), || Ok(None::<()>)).unwrap();
    assert!(matches!(turn, Turn::Ours(_)));
}

#[test]
fn s27_calls_of_one_tenant_fetch_a_commit_once_and_others_do_not_wait() {
    let (_place, store) = store();
    let repository = store.repository(&url());
    let _lock = repository.lock(&Cancel::new()).unwrap();
    let turn = repository.try_turn("a", &commit(1), None).unwrap().expect("nobody fetches");
    assert!(repository.try_turn("a", &commit(1), None).unwrap().is_none());
    for (tenant, commit) in [("b", commit(1)), ("a", commit(2)), ("", commit(1))] {
        assert!(repository.try_turn(tenant, &commit, None).unwrap().is_some(), "{tenant:?} {commit}");
    }
    let found = repository.turn_unless(("a", &commit(1), None), &Cancel::new(), || Ok(Some("fetched"))).unwrap();
    assert!(matches!(found, Turn::Done("fetched")));
    drop(turn);
    let found = repository.turn_unless(("a", &commit(1), None), &Cancel::new(), || Ok(None::<()>)).unwrap();
    assert!(matches!(found, Turn::Ours(_)));
}

#[test]
fn s27_a_directory_of_a_commit_is_fetched_once_and_another_one_does_not_wait_for_it() {
    let (_place, store) = store();
    let repository = store.repository(&url());
    let [data, config] = ["data", "config"].map(|path| RelativePath::parse(path).unwrap());
    let turn = |tenant: &str, directory| repository.try_turn(tenant, &commit(1), directory).unwrap();
    let held = turn("a", Some(&data)).expect("nobody fetches");
    assert!(turn("a", Some(&data)).is_none());
    for (tenant, directory) in [("a", Some(&config)), ("a", None), ("b", Some(&data))] {
        assert!(turn(tenant, directory).is_some(), "{tenant} {directory:?}");
    }
    drop(held);
    let _whole = turn("a", None).expect("nobody fetches");
    assert!(turn("a", Some(&data)).is_some());
}
