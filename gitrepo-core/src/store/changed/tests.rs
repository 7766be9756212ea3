use std::os::unix::fs::MetadataExt;

use super::*;
use crate::cancel::Cancel;
use crate::store::fixture::commit;
use crate::store::fixture::install;
use crate::store::fixture::record;
use crate::store::fixture::store;

const LONG: Duration = Duration::from_secs(60);

/// Changes a file of a snapshot to something of the same length, as a process that remounts it could.
fn change(lease: &SnapshotLease) {
    let file = lease.path().join("root/file");
    let sealed_at = fs::metadata(&file).unwrap();
    // Timestamps are as coarse as the kernel's tick.
    while (fs::metadata(&file).unwrap().ctime(), fs::metadata(&file).unwrap().ctime_nsec())
        == (sealed_at.ctime(), sealed_at.ctime_nsec())
    {
        fs::write(&file, "evil").unwrap();
    }
}

fn content(lease: &SnapshotLease) -> String {
    fs::read_to_string(lease.path().join("root/file")).unwrap()
}

#[test]
fn s17_a_changed_snapshot_is_no_longer_served_and_its_successor_is() {
    let (_place, store) = store();
    let lease = install(&store, commit(1), "good");
    let id = lease.id().clone();
    assert_eq!(store.snapshot(&id).unwrap().unwrap().id(), &id);
    change(&lease);
    assert!(store.snapshot(&id).unwrap().is_none());
    assert_eq!(store.changed_snapshots(), 1);
    let fresh = install(&store, commit(1), "good");
    assert_ne!(fresh.path(), lease.path());
    assert_eq!((content(&fresh), content(&lease)), ("good".to_owned(), "evil".to_owned()), "its volume keeps it");
    assert_eq!(store.snapshot(&id).unwrap().unwrap().id(), fresh.id());
    // And again.
    change(&fresh);
    let third = install(&store, commit(1), "good");
    assert_eq!(store.snapshot(&id).unwrap().unwrap().id(), third.id());
    assert_eq!(store.changed_snapshots(), 2);
}

#[test]
fn s17_a_sweep_finds_changed_snapshots_and_removes_unreferenced_ones() {
    let (_place, store) = store();
    let (lease, other) = (install(&store, commit(1), "good"), install(&store, commit(2), "good"));
    let target = Path::new("/pods/a/volume");
    let slot = store.target("volume", target, &Cancel::new()).unwrap();
    slot.write(&record(&store, "volume", target, &lease)).unwrap();
    change(&lease);
    let path = lease.path().to_owned();
    let report = store.sweep(LONG, &[]);
    assert_eq!((report.changed, report.snapshots, report.unchecked, report.failures.len()), (1, 0, false, 0));
    drop(lease);
    assert_eq!(store.sweep(LONG, &[]).snapshots, 0, "a record refers to it");
    slot.remove(Deletion::Now).unwrap();
    assert_eq!(store.sweep(LONG, &[path.join("root")]).snapshots, 0, "it is mounted");
    let report = store.sweep(LONG, &[]);
    assert_eq!((report.changed, report.snapshots), (0, 1), "noticed once, removed once");
    assert!(!path.exists() && other.path().exists());
}

#[test]
fn a_check_continues_where_the_last_one_ran_out_of_time() {
    let (_place, store) = store();
    let leases = [1, 2, 3].map(|number| install(&store, commit(number), "good"));
    for lease in &leases {
        change(lease);
    }
    let over = Some(Instant::now());
    let checked = store.check_all(over).unwrap();
    assert_eq!(checked, Checked { changed: 0, unfinished: true }, "out of time");
    // The cursor is at the last one: those before were checked.
    let mut ids: Vec<_> = leases.iter().map(|lease| lease.id().to_string()).collect();
    ids.sort();
    fs::write(store.root().join(CURSOR_FILE), format!(r#"{{"snapshot":"{}","offset":0}}"#, ids[2])).unwrap();
    assert_eq!(store.check_all(None).unwrap(), Checked { changed: 1, unfinished: false });
    assert!(!store.root().join(CURSOR_FILE).exists());
    assert_eq!(store.check_all(None).unwrap(), Checked { changed: 2, unfinished: false }, "from the beginning");
}

#[test]
fn a_damaged_snapshot_does_not_keep_others_from_being_checked() {
    let (_place, store) = store();
    let mut leases = [1, 2, 3].map(|number| install(&store, commit(number), "good"));
    leases.sort_by_key(|lease| lease.id().to_string());
    // Neither a readable seal nor a tree.
    fs::remove_file(leases[0].path().join(SEAL_FILE)).unwrap();
    fs::create_dir(leases[0].path().join(SEAL_FILE)).unwrap();
    fs::rename(leases[1].path().join(TREE), leases[1].path().join("elsewhere")).unwrap();
    change(&leases[2]);
    assert_eq!(store.check_all(None).unwrap(), Checked { changed: 2, unfinished: false });
    assert!(store.snapshot(leases[1].id()).unwrap().is_none(), "it is fetched anew");
}

#[test]
fn a_snapshot_without_a_seal_is_served_as_before() {
    let (_place, store) = store();
    let lease = install(&store, commit(1), "good");
    fs::remove_file(lease.path().join(SEAL_FILE)).unwrap();
    change(&lease);
    assert_eq!(store.snapshot(lease.id()).unwrap().unwrap().path(), lease.path());
    assert_eq!(store.check_all(None).unwrap(), Checked::default());
}

#[test]
fn a_check_covers_some_entries_even_without_time() {
    let begun = Instant::now();
    while begun.elapsed() < SAMPLE_TIME {
        std::thread::yield_now();
    }
    let mut more = counted(begun);
    let further = (0..SAMPLE).take_while(|_| more()).count();
    assert_eq!(further + 1, LEAST);
}
