use std::fs;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;

/// A change to a tree, and its name.
type Change = (&'static str, fn(&Path));

/// A tree and its seal.
struct Sealed {
    place: TempDir,
}

impl Sealed {
    fn new() -> Self {
        let sealed = Self { place: tempfile::tempdir().unwrap() };
        let tree = sealed.tree();
        fs::create_dir_all(tree.join("dir/deep")).unwrap();
        fs::write(tree.join("file"), "content").unwrap();
        fs::write(tree.join("dir/deep/other\nname"), "content").unwrap();
        symlink("file", tree.join("link")).unwrap();
        write(&tree, &mut File::create(sealed.seal()).unwrap()).unwrap();
        sealed
    }

    fn tree(&self) -> PathBuf {
        self.place.path().join("snapshot/tree")
    }

    fn seal(&self) -> PathBuf {
        self.place.path().join("seal")
    }

    fn whole(&self) -> Verdict {
        check(&self.seal(), &self.tree(), 0, || true).unwrap()
    }
}

#[test]
fn s17_reading_does_not_count_as_a_change() {
    let sealed = Sealed::new();
    let file = sealed.tree().join("file");
    fs::read(&file).unwrap();
    assert_eq!(fs::read_dir(sealed.tree()).unwrap().count(), 3);
    assert_eq!(sealed.whole(), Verdict::Same(None));
}

#[test]
fn s17_every_change_is_noticed() {
    let changes: [Change; 11] = [
        ("written", |tree| fs::write(tree.join("file"), "CONTENT").unwrap()),
        ("written and its times set back", |tree| {
            let file = File::options().write(true).open(tree.join("file")).unwrap();
            let before = file.metadata().unwrap();
            (&file).write_all(b"CONTENT").unwrap();
            let times = fs::FileTimes::new().set_modified(before.modified().unwrap());
            file.set_times(times.set_accessed(before.accessed().unwrap())).unwrap();
        }),
        ("longer", |tree| File::options().append(true).open(tree.join("file")).unwrap().write_all(b"x").unwrap()),
        ("replaced by the same", |tree| {
            fs::write(tree.join("new"), "content").unwrap();
            fs::rename(tree.join("new"), tree.join("file")).unwrap();
        }),
        ("mode", |tree| fs::set_permissions(tree.join("file"), fs::Permissions::from_mode(0o4755)).unwrap()),
        ("another name", |tree| fs::hard_link(tree.join("file"), tree.join("dir/linked")).unwrap()),
        ("deleted", |tree| fs::remove_file(tree.join("dir/deep/other\nname")).unwrap()),
        ("added", |tree| fs::write(tree.join("dir/deep/new"), "").unwrap()),
        ("added and deleted", |tree| {
            fs::write(tree.join("dir/new"), "").unwrap();
            fs::remove_file(tree.join("dir/new")).unwrap();
        }),
        ("directory", |tree| fs::set_permissions(tree, fs::Permissions::from_mode(0o777)).unwrap()),
        ("a directory that is a link", |tree| {
            fs::rename(tree.join("dir"), tree.join("moved")).unwrap();
            symlink("moved", tree.join("dir")).unwrap();
        }),
    ];
    for (change, make) in changes {
        let sealed = Sealed::new();
        // File times are as coarse as the kernel's tick: 10 ms at most.
        let sealed_at = fs::metadata(sealed.seal()).unwrap().ctime_nsec();
        let tick = sealed.place.path().join("tick");
        loop {
            fs::write(&tick, "").unwrap();
            if fs::metadata(&tick).unwrap().ctime_nsec() != sealed_at {
                break;
            }
            std::thread::yield_now();
        }
        make(&sealed.tree());
        assert!(matches!(sealed.whole(), Verdict::Changed(_)), "{change}");
    }
}

#[test]
fn a_change_is_named() {
    let sealed = Sealed::new();
    fs::write(sealed.tree().join("dir/deep/other\nname"), "longer content").unwrap();
    assert_eq!(sealed.whole(), Verdict::Changed(r#""dir/deep/other\nname" has another size"#.to_owned()));
    fs::remove_file(sealed.tree().join("dir/deep/other\nname")).unwrap();
    let Verdict::Changed(words) = sealed.whole() else { panic!("the directory was changed") };
    assert_eq!(words, r#""dir/deep" was changed (its ctime differs)"#);
}

#[test]
fn a_missing_tree_counts_as_changed() {
    let sealed = Sealed::new();
    fs::rename(sealed.tree(), sealed.place.path().join("elsewhere")).unwrap();
    assert_eq!(sealed.whole(), Verdict::Changed("the root of the tree is gone".to_owned()));
}

#[test]
fn a_check_of_the_seal_continues_where_the_last_one_stopped() {
    let sealed = Sealed::new();
    let (mut offset, mut looks) = (0, 0);
    loop {
        looks += 1;
        match check(&sealed.seal(), &sealed.tree(), offset, || false).unwrap() {
            Verdict::Same(Some(next)) => offset = next,
            verdict => break assert_eq!(verdict, Verdict::Same(None)),
        }
    }
    // Six entries with the root, and the check that finds the end.
    assert_eq!(looks, 7);
    // From the middle of a record, it continues at the next one.
    for offset in 0..fs::metadata(sealed.seal()).unwrap().len() + 10 {
        assert_eq!(check(&sealed.seal(), &sealed.tree(), offset, || true).unwrap(), Verdict::Same(None), "{offset}");
    }
}

#[test]
fn a_seal_does_not_apply_to_a_copy_of_its_tree() {
    let sealed = Sealed::new();
    let moved = sealed.place.path().join("moved");
    fs::rename(sealed.place.path().join("snapshot"), &moved).unwrap();
    let moved = check(&sealed.seal(), &moved.join("tree"), 0, || true).unwrap();
    assert_eq!(moved, Verdict::Same(None), "a renamed tree is not a copy");
    fs::create_dir_all(sealed.tree()).unwrap();
    fs::write(sealed.tree().join("file"), "content").unwrap();
    assert_eq!(sealed.whole(), Verdict::Unknown);
    for damage in ["", "gitrepo seal 2 1 2\0", "\0\0\0"] {
        fs::write(sealed.seal(), damage).unwrap();
        assert_eq!(sealed.whole(), Verdict::Unknown, "{damage:?}");
    }
}
