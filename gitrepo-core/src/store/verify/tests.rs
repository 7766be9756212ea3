use std::fs;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;

use super::*;
use crate::cancel::Cancel;
use crate::lease::Form;
use crate::snapshot::Image;
use crate::snapshot::Owner;
use crate::snapshot::Ownership;
use crate::snapshot::fixture::Fixture;
use crate::snapshot::fixture::no_reserve;
use crate::snapshot::fixture::request;
use crate::store::SnapshotKey;
use crate::store::fixture::store;
use crate::store::fixture::url;

/// Installs the snapshot of a varied tree in this form, beside the segments of its repository.
fn install(store: &Store, fixture: &Fixture, form: Form) -> SnapshotLease {
    install_commit(store, fixture, form, fixture.varied())
}

fn install_commit(store: &Store, fixture: &Fixture, form: Form, commit: CommitId) -> SnapshotLease {
    let mut request = request(commit);
    request.format = form.format.name().to_owned();
    let watch = Watch::default();
    let staging = store.staging().unwrap();
    let tree = staging.path().join("tree");
    fs::create_dir(&tree).unwrap();
    snapshot::fixture::list(fixture.path(), &request, &tree, &watch).unwrap();
    let listed = snapshot::adopt(&tree, &request, Owner::ourselves()).unwrap();
    form.format.complete(&listed, &tree, fixture.path(), &request, no_reserve(), &watch).unwrap();
    let meta = SnapshotMeta::new(&url(), &request, listed.summary).sealed_by(listed.digest());
    let (url, ownership) = (url(), Ownership::ROOT);
    let (format, repository) = (form.format.name(), request.repository.as_ref());
    let key =
        SnapshotKey { url: &url, commit: &commit, tree: &request.tree, format, ownership, repository, label: None };
    store.install_snapshot(&key.id(), &staging, &tree, &meta).unwrap()
}

/// A store with a repository's segments and a snapshot of it.
pub(in crate::store) fn stored(form: Form) -> (tempfile::TempDir, Store, Fixture, PathBuf) {
    let (place, store) = store();
    let fixture = Fixture::new();
    let path = install(&store, &fixture, form).path().to_owned();
    let repository = Repository::new(&store.layout, &url()).path().to_owned();
    fs::create_dir_all(&repository).unwrap();
    let segments = repository.join(crate::content::DIRECTORY);
    fs::create_dir(&segments).unwrap();
    for entry in fs::read_dir(fixture.path().join(crate::content::DIRECTORY)).unwrap() {
        let entry = entry.unwrap();
        fs::hard_link(entry.path(), segments.join(entry.file_name())).unwrap();
    }
    (place, store, fixture, path)
}

pub(in crate::store) const IMAGE: Form = Form { format: &Image, ownership: Ownership::ROOT };

fn verify(store: &Store, repair: Repair) -> Verification {
    store.verify(|_| true, repair, &Watch::default()).unwrap()
}

/// Changes a byte, and nothing that identifies the file.
pub(in crate::store) fn flip(path: &Path, offset: u64) {
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
    file.set_modified(modified).unwrap();
}

#[test]
fn what_was_written_is_good_in_both_formats() {
    for form in [Form::DIRECTORY, IMAGE] {
        let (_place, store, _fixture, _path) = stored(form);
        let verification = verify(&store, Repair::Quarantine);
        assert_eq!((verification.repositories, verification.snapshots), (1, 1));
        assert!(verification.damages.is_empty() && verification.failures.is_empty(), "{verification:?}");
        assert!(verification.bytes > 10 << 20, "it was read");
        let none = store.verify(|_| false, Repair::No, &Watch::default()).unwrap();
        assert_eq!((none.repositories, none.snapshots, none.bytes), (0, 0, 0));
    }
}

#[test]
fn r4_a_flipped_byte_of_any_part_of_an_image_is_found() {
    for name in ["0", "image", "manifest", "links"] {
        let (_place, store, _fixture, path) = stored(IMAGE);
        // Not in the padding of a segment's block.
        let offset = if name == "manifest" { fs::metadata(path.join(name)).unwrap().len() - 3 } else { 0 };
        flip(&path.join(name), offset);
        let verification = verify(&store, Repair::No);
        let damaged: Vec<_> = verification.damages.iter().map(|damage| (&damage.part, damage.quarantined)).collect();
        let id = SnapshotId::try_from(path.file_name().unwrap().to_str().unwrap().to_owned()).unwrap();
        assert!(damaged.contains(&(&Part::Snapshot(id.clone()), false)), "{name}: {verification:?}");
        // The segment has a second name in the repository.
        assert_eq!(damaged.len(), if name == "0" { 2 } else { 1 }, "{name}: {verification:?}");
        assert!(store.snapshot(&id).unwrap().is_some(), "it was only reported");
    }
}

#[test]
fn r4_a_changed_tree_of_files_is_found_whatever_was_changed() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 6] = [
        ("content", |root| flip(&root.join("a"), 0)),
        ("permissions", |root| {
            fs::set_permissions(root.join("a"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }),
        ("link", |root| {
            fs::remove_file(root.join("dangling")).unwrap();
            std::os::unix::fs::symlink("/elsewhere", root.join("dangling")).unwrap();
        }),
        ("type", |root| {
            fs::remove_file(root.join("a")).unwrap();
            fs::create_dir(root.join("a")).unwrap();
        }),
        ("missing", |root| fs::remove_file(root.join("a.b")).unwrap()),
        ("added", |root| fs::write(root.join("a-dir/new"), "").unwrap()),
    ];
    for (what, change) in changes {
        let (_place, store, _fixture, path) = stored(Form::DIRECTORY);
        change(&path.join("root"));
        let verification = verify(&store, Repair::No);
        assert_eq!(verification.damages.len(), 1, "{what}: {verification:?}");
    }
}

#[test]
fn r4_what_is_damaged_is_quarantined_and_no_longer_served() {
    let (_place, store, _fixture, path) = stored(IMAGE);
    let id = SnapshotId::try_from(path.file_name().unwrap().to_str().unwrap().to_owned()).unwrap();
    flip(&path.join("0"), 0);
    let verification = verify(&store, Repair::Quarantine);
    assert!(verification.damages.iter().all(|damage| damage.quarantined), "{verification:?}");
    assert_eq!(verification.damages.len(), 2);
    assert!(store.snapshot(&id).unwrap().is_none(), "the next publish makes another one");
    assert!(!store.repository(&url()).exists(), "the next fetch builds on nothing");
    let again = verify(&store, Repair::Quarantine);
    assert!(again.damages.is_empty(), "{again:?}");
}

#[test]
fn r4_a_segment_that_is_gone_is_damage() {
    let (_place, store, _fixture, _path) = stored(Form::DIRECTORY);
    let repository = store.repository(&url());
    repository.lock(&Cancel::new()).unwrap().check_segments().unwrap();
    let segments = repository.path().join(crate::content::DIRECTORY);
    let content = fs::read_dir(segments).unwrap().map(|entry| entry.unwrap().path());
    let content = content.filter(|path| path.extension().is_some_and(|end| end == crate::content::CONTENT)).min();
    fs::remove_file(content.unwrap()).unwrap();
    let verification = verify(&store, Repair::No);
    let parts: Vec<_> = verification.damages.iter().map(|damage| &damage.part).collect();
    assert!(matches!(parts[..], [Part::Repository(_)]), "{verification:?}");
}

#[test]
fn r4_a_snapshot_with_torn_metadata_is_damage_and_can_be_discarded() {
    let (_place, store, _fixture, path) = stored(Form::DIRECTORY);
    fs::write(path.join("meta.json"), "{").unwrap();
    assert!(!verify(&store, Repair::No).damages[0].quarantined);
    assert!(verify(&store, Repair::Quarantine).damages[0].quarantined);
    assert!(!path.exists());
}

#[test]
fn r4_a_manifest_and_an_image_that_were_changed_together_are_found() {
    for form in [Form::DIRECTORY, IMAGE] {
        let (_place, store, fixture, path) = stored(form);
        // Another snapshot of the same tree and options is whole in itself.
        let other =
            install_commit(&store, &fixture, form, fixture.commit_of(&[(0o100644, b"evil", fixture.blob("x"))]));
        let kept = ["meta.json", "seal"].map(|name| (name, fs::read(path.join(name)).unwrap()));
        crate::store::remove_tree(&path).unwrap();
        drop(fs::rename(other.path(), &path));
        for (name, content) in kept {
            fs::write(path.join(name), content).unwrap();
        }
        let verification = verify(&store, Repair::No);
        let reasons: Vec<_> = verification.damages.iter().map(|damage| damage.reason.as_str()).collect();
        assert_eq!(reasons, ["its manifest is not the one that it was made with"], "{verification:?}");
    }
}

#[test]
fn a_verification_ends_when_it_is_cancelled() {
    let (_place, store, _fixture, _path) = stored(IMAGE);
    let watch = Watch::default();
    watch.cancel.cancel();
    let given_up = store.verify(|_| true, Repair::Quarantine, &watch);
    assert_eq!(given_up.unwrap_err().kind(), Kind::Cancelled);
}
