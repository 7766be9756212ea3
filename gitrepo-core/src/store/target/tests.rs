use super::*;
use crate::error::Kind;
use crate::store::Shows;
use crate::store::fixture::commit;
use crate::store::fixture::impatient;
use crate::store::fixture::install;
use crate::store::fixture::on_small_filesystem;
use crate::store::fixture::record;
use crate::store::fixture::store;

const TARGET: &str = "/pods/a/volume";

fn publish(store: &Store, volume_id: &str, target: &str) -> Record {
    let target = Path::new(target);
    let record = record(store, volume_id, target, &install(store, commit(1), ""));
    store.target(volume_id, target, &Cancel::new()).unwrap().write(&record).unwrap();
    record
}

fn is_empty(store: &Store, directory: &str) -> bool {
    fs::read_dir(store.root().join(directory)).unwrap().next().is_none()
}

#[test]
fn a_record_is_found_by_volume_by_target_and_among_all() {
    let (_place, store) = store();
    let record = publish(&store, "volume", TARGET);
    let slot = store.target("volume", Path::new(TARGET), &impatient()).unwrap();
    assert_eq!(slot.record().unwrap().as_ref(), Some(&record));
    assert_eq!(store.record_of_target(Path::new(TARGET)).unwrap().as_ref(), Some(&record));
    assert_eq!(store.record_of_target(Path::new("/pods/b/volume")).unwrap(), None);
    assert_eq!(store.records().unwrap(), vec![record.clone()]);
    assert_eq!(store.record("volume", Path::new(TARGET)).unwrap().as_ref(), Some(&record));
    assert_eq!(store.record("other", Path::new(TARGET)).unwrap(), None);
    assert_eq!(store.records_of_volume("volume").unwrap(), vec![record.clone()]);
    assert_eq!(store.records_of_volume("other").unwrap(), []);
    assert_eq!(store.referenced().unwrap(), [record.snapshot].into());
}

#[test]
fn r10_one_process_at_a_time_locks_a_target_whatever_the_volume() {
    let (_place, store) = store();
    let held = store.target("volume", Path::new(TARGET), &Cancel::new()).unwrap();
    assert_eq!(store.target("other", Path::new(TARGET), &impatient()).unwrap_err().kind(), Kind::Busy);
    assert!(store.try_target("volume", Path::new(TARGET)).unwrap().is_none());
    drop(held);
    assert!(store.try_target("volume", Path::new(TARGET)).unwrap().is_some());
}

#[test]
fn s10_a_target_has_one_slot_however_its_slashes_are_spelled() {
    let (_place, store) = store();
    let record = publish(&store, "volume", TARGET);
    for spelling in ["/pods/a/volume/", "/pods//a/volume", "/pods/./a/volume/."] {
        let spelling = Path::new(spelling);
        assert_eq!(store.record_of_target(spelling).unwrap().as_ref(), Some(&record), "{spelling:?}");
        let _held = store.target("volume", spelling, &impatient()).unwrap();
        assert!(store.try_target("volume", Path::new(TARGET)).unwrap().is_none(), "{spelling:?}");
    }
}

#[test]
fn removing_the_last_target_removes_the_whole_volume() {
    let (_place, store) = store();
    let targets = [TARGET, "/pods/b/volume"].map(|target| publish(&store, "volume", target).target);
    for target in &targets {
        let slot = store.target("volume", target, &Cancel::new()).unwrap();
        slot.remove(Deletion::Now).unwrap();
        slot.remove(Deletion::Now).unwrap();
        assert_eq!(slot.record().unwrap(), None);
    }
    assert!(is_empty(&store, "volumes") && is_empty(&store, "trash"));
}

#[test]
fn targets_of_one_volume_are_added_and_removed_at_once() {
    let (_place, store) = store();
    let lease = install(&store, commit(1), "");
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (store, lease) = (&store, &lease);
            scope.spawn(move || {
                let target = PathBuf::from(format!("/pods/{number}/volume"));
                for _ in 0..60 {
                    let slot = store.target("volume", &target, &Cancel::new()).unwrap();
                    slot.write(&record(store, "volume", &target, lease)).unwrap();
                    assert!(slot.record().unwrap().is_some());
                    slot.remove(Deletion::Now).unwrap();
                }
            });
        }
    });
    assert!(is_empty(&store, "volumes"));
}

#[test]
fn s10_volume_ids_and_targets_never_become_part_of_a_path() {
    let (_place, store) = store();
    for id in ["../../x", "a/b", "", ".", "\0", &"x".repeat(4096), "ünï"] {
        publish(&store, id, TARGET);
        let volumes = store.layout.volume_hashes().unwrap();
        assert_eq!(volumes, [sha256_hex(id)], "{id:?}");
        store.target(id, Path::new(TARGET), &Cancel::new()).unwrap().remove(Deletion::Now).unwrap();
    }
}

#[test]
fn r13_a_torn_record_is_discarded_without_an_error() {
    let (_place, store) = store();
    let whole = publish(&store, "volume", TARGET);
    let path = store.copy_dir(&whole).with_file_name(RECORD_FILE);
    let json = fs::read_to_string(&path).unwrap();
    let foreign = json.replace("\"volume\"", "\"another\"");
    for torn in
        ["", "{}", "\0\0\0", &json[..json.len() / 2], &foreign, &json.replace(&whole.snapshot.to_string(), "..")]
    {
        fs::write(&path, torn).unwrap();
        assert_eq!(store.records().unwrap(), [], "{torn:?}");
        assert!(!path.exists());
        fs::write(&path, torn).unwrap();
        let slot = store.target("volume", Path::new(TARGET), &impatient()).unwrap();
        assert_eq!(slot.record().unwrap(), None, "{torn:?}");
        slot.write(&whole).unwrap();
        assert_eq!(slot.record().unwrap().as_ref(), Some(&whole));
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(store.records().unwrap(), []);
    assert!(!path.exists());
}

#[test]
fn r5_records_of_a_newer_version_are_read_if_possible_and_otherwise_kept() {
    let (_place, store) = store();
    let record = publish(&store, "volume", TARGET);
    let path = store.copy_dir(&record).with_file_name(RECORD_FILE);
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let newer = Record::VERSION + 1;
    json["version"] = newer.into();
    json["somethingNew"] = "ignored".into();
    fs::write(&path, json.to_string()).unwrap();
    assert_eq!(store.records().unwrap(), [Record { version: newer, ..record }]);
    json.as_object_mut().unwrap().remove("commit");
    fs::write(&path, json.to_string()).unwrap();
    assert!(matches!(store.records(), Err(StoreError::Newer { found, .. }) if found == newer));
    assert!(path.exists());
}

#[test]
fn r5_records_from_before_shared_copies_are_read() {
    let (_place, store) = store();
    let record = publish(&store, "volume", TARGET);
    let path = store.copy_dir(&record).with_file_name(RECORD_FILE);
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    json["copy"] = true.into();
    json["readOnly"] = false.into();
    assert!(json.as_object_mut().unwrap().remove("shared").is_some());
    fs::write(&path, json.to_string()).unwrap();
    assert_eq!(store.records().unwrap(), [Record { shows: Shows::Copy, ..record }]);
}

#[test]
fn a_private_copy_appears_whole_and_is_removed_with_its_target() {
    let (_place, store) = store();
    let slot = store.target("volume", Path::new(TARGET), &Cancel::new()).unwrap();
    for content in ["one", "two"] {
        let staging = store.staging().unwrap();
        let prepared = staging.path().join("prepared");
        fs::create_dir(&prepared).unwrap();
        fs::write(prepared.join("file"), content).unwrap();
        let mark = staging.path().join(QUOTA_MARK);
        if content == "one" {
            fs::write(&mark, "").unwrap();
        }
        let copy = slot.install_copy(&staging, &prepared, &mark).unwrap();
        assert_eq!(copy.with_file_name(QUOTA_MARK).exists(), content == "one", "the mark belongs to the copy");
        assert_eq!(copy, slot.copy_dir());
        assert_eq!(fs::read_to_string(copy.join("file")).unwrap(), content);
    }
    slot.remove(Deletion::Later).unwrap();
    assert!(!slot.copy_dir().exists());
    assert!(is_empty(&store, "volumes") && !is_empty(&store, "trash"), "nothing is deleted under the lock");
    drop(slot);
    assert!(!store.delete_discarded(std::time::Duration::from_secs(60)));
    assert!(is_empty(&store, "trash"));
}

#[test]
fn r3_a_volume_is_unpublished_on_a_disk_without_room_or_inodes() {
    on_small_filesystem("size=256k,nr_inodes=64", |place| {
        let store = Store::open(&place.join("store")).unwrap();
        let record = publish(&store, "volume", TARGET);
        store.sweep(std::time::Duration::from_secs(60), &[]);
        let mut fillers = 0;
        while fs::write(place.join(fillers.to_string()), [0; 16 * 1024]).is_ok() {
            fillers += 1;
        }
        while fs::File::create(place.join(format!("empty-{fillers}"))).is_ok() {
            fillers += 1;
        }
        let _other =
            store.target("other", Path::new("/pods/b/volume"), &impatient()).expect("an unused lock made room");
        let error = store.target("third", Path::new("/pods/c/volume"), &impatient()).unwrap_err();
        assert_eq!(error.kind(), Kind::ResourceExhausted, "{error}");

        assert_eq!(store.records().unwrap(), [record]);
        let slot = store.target("volume", Path::new(TARGET), &impatient()).unwrap();
        slot.remove(Deletion::Now).unwrap();
        assert_eq!(store.records().unwrap(), []);
    });
}
