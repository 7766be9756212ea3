use std::fs;

use super::*;
use crate::lease::Form;
use crate::store::SnapshotId;
use crate::store::fixture::store;
use crate::store::fixture::url;
use crate::store::verify::tests::IMAGE;
use crate::store::verify::tests::flip;
use crate::store::verify::tests::stored;

const FAST: NonZeroU64 = NonZeroU64::MAX;

/// What a scrub finds until the end of the store.
fn scrub(store: &Store) -> Vec<Verification> {
    std::iter::from_fn(|| store.scrub_next(FAST, 0, &Watch::default()).unwrap()).collect()
}

#[test]
fn r4_a_scrub_takes_out_of_service_what_the_disk_changed() {
    for (form, file) in [(Form::DIRECTORY, "root/a"), (IMAGE, "0")] {
        let (_place, store, _fixture, path) = stored(form);
        let id = SnapshotId::try_from(path.file_name().unwrap().to_str().unwrap().to_owned()).unwrap();
        assert_eq!(store.damage_of(&id).unwrap(), None);
        flip(&path.join(file), 0);
        let found = scrub(&store);
        assert!(found.iter().flat_map(|found| &found.damages).any(|damage| damage.part == Part::Snapshot(id.clone())));
        assert!(store.snapshot(&id).unwrap().is_none(), "the next publish makes another one");
        assert!(store.damage_of(&id).unwrap().unwrap().contains("content"), "{:?}", store.damage_of(&id));
        assert_eq!(store.repository(&url()).exists(), file != "0", "the segment has a second name there");
        assert!(path.exists(), "volumes may show it");
        assert!(scrub(&store).iter().all(|found| found.damages.is_empty()));
    }
}

#[test]
fn a_scrub_reads_everything_and_finds_nothing_where_nothing_is_wrong() {
    for form in [Form::DIRECTORY, IMAGE] {
        let (_place, store, _fixture, _path) = stored(form);
        for _ in 0..2 {
            let found = scrub(&store);
            assert!(found.iter().all(|found| found.damages.is_empty() && found.failures.is_empty()), "{found:?}");
            assert!(found.iter().all(|found| found.bytes > 10 << 20), "{found:?}");
        }
    }
}

#[test]
fn a_scrub_goes_on_where_the_last_one_ended() {
    let (_place, store) = store();
    let hashes = ["a", "b", "c"].map(|digit| digit.repeat(64));
    for hash in &hashes {
        fs::create_dir(store.root().join("repositories").join(hash)).unwrap();
    }
    let last = || {
        let text = fs::read_to_string(store.root().join(CURSOR_FILE)).unwrap();
        serde_json::from_str::<Cursor>(&text).unwrap().last.unwrap()
    };
    for _ in 0..2 {
        for hash in &hashes {
            // As another process would.
            let store = Store::open(store.root()).unwrap();
            assert_eq!(store.scrub_next(FAST, 0, &Watch::default()).unwrap().unwrap().repositories, 1);
            assert_eq!(last(), *hash);
        }
        assert!(store.scrub_next(FAST, 0, &Watch::default()).unwrap().is_none());
    }
    fs::write(store.root().join(CURSOR_FILE), "torn").unwrap();
    assert_eq!(scrub(&store).len(), 3);
}

#[test]
fn a_scrub_that_is_ended_reads_the_same_again() {
    let (_place, store, _fixture, _path) = stored(IMAGE);
    let watch = Watch::default();
    watch.cancel.cancel();
    let slow = NonZeroU64::MIN;
    assert!(matches!(store.scrub_next(slow, 0, &watch), Err(StoreError::GivenUp { .. })));
    assert!(!store.root().join(CURSOR_FILE).exists());
    assert_eq!(scrub(&store).len(), 1);
}

#[test]
fn a_scrub_that_is_ended_while_it_waits_for_a_fetch_reads_the_same_again() {
    let (_place, store, _fixture, path) = stored(IMAGE);
    flip(&path.join("0"), 0);
    let _lock = store.repository(&url()).lock(&Watch::default().cancel).unwrap();
    // It waits when its time runs out.
    let waits = Watch::until(Watch::default().cancel.within(std::time::Duration::from_secs(2)));
    assert!(matches!(store.scrub_next(FAST, 0, &waits), Err(StoreError::GivenUp { .. })));
    assert!(!store.root().join(CURSOR_FILE).exists());
}

#[test]
fn a_repository_that_was_put_off_comes_again_at_the_end_of_the_pass() {
    let (_place, store) = store();
    let hashes = ["a", "b"].map(|digit| digit.repeat(64));
    for hash in &hashes {
        fs::create_dir(store.root().join("repositories").join(hash)).unwrap();
    }
    let gone = "c".repeat(64);
    let put_off = [hashes[0].clone(), gone].into_iter().collect();
    let cursor = Cursor { last: Some(hashes[1].clone()), put_off };
    durable::replace_json(&store.root().join(CURSOR_FILE), &cursor, Durability::Volatile).unwrap();
    assert_eq!(scrub(&store).iter().map(|found| found.repositories).sum::<usize>(), 1);
    assert_eq!(scrub(&store).len(), 2, "another pass");
}

#[test]
fn only_one_process_scrubs_at_a_time() {
    let (_place, store, _fixture, _path) = stored(IMAGE);
    let lock = store.layout.locks.try_acquire(&LockName::Scrub, Mode::Exclusive).unwrap().unwrap();
    assert_eq!(scrub(&store).len(), 0);
    drop(lock);
    assert_eq!(scrub(&store).len(), 1);
}
