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
    std::iter::from_fn(|| store.scrub_next(FAST, &Watch::default()).unwrap()).collect()
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
            assert_eq!(store.scrub_next(FAST, &Watch::default()).unwrap().unwrap().repositories, 1);
            assert_eq!(last(), *hash);
        }
        assert!(store.scrub_next(FAST, &Watch::default()).unwrap().is_none());
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
    assert!(matches!(store.scrub_next(slow, &watch), Err(StoreError::GivenUp { .. })));
    assert!(!store.root().join(CURSOR_FILE).exists());
    assert_eq!(scrub(&store).len(), 1);
}

#[test]
fn only_one_process_scrubs_at_a_time() {
    let (_place, store, _fixture, _path) = stored(IMAGE);
    let lock = store.layout.locks.try_acquire(&LockName::Scrub, Mode::Exclusive).unwrap().unwrap();
    assert_eq!(scrub(&store).len(), 0);
    drop(lock);
    assert_eq!(scrub(&store).len(), 1);
}
