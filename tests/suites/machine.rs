//! The harness's own namespaces and fresh file systems.

use gitrepo_tests::loopfs::LoopFs;
use gitrepo_tests::require;

fn mounted(path: &std::path::Path) -> bool {
    std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap().contains(path.to_str().unwrap())
}

#[test]
fn loop_file_system_is_empty_visible_to_its_thread_only_and_removed_when_dropped() {
    if !require::root("to mount") || !require::tool("mkfs.ext4") {
        return;
    }
    let before = std::fs::read_link("/proc/thread-self/ns/mnt").unwrap();
    let path = std::thread::spawn(move || {
        let fresh = LoopFs::new(16 << 20);
        assert_ne!(std::fs::read_link("/proc/thread-self/ns/mnt").unwrap(), before);
        assert_eq!(std::fs::read_dir(fresh.path()).unwrap().count(), 0);
        assert!(mounted(fresh.path()));
        std::fs::write(fresh.path().join("file"), "content").unwrap();
        let path = fresh.path().to_owned();
        drop(fresh);
        assert!(!mounted(&path));
        path
    })
    .join()
    .unwrap();
    assert!(!path.exists(), "its directory is removed too");
}

#[test]
fn loop_file_system_is_unmounted_when_the_test_panics() {
    if !require::root("to mount") || !require::tool("mkfs.ext4") {
        return;
    }
    std::thread::spawn(|| {
        let path = std::sync::Mutex::new(std::path::PathBuf::new());
        let panicked = std::panic::catch_unwind(|| {
            let fresh = LoopFs::new(16 << 20);
            fresh.path().clone_into(&mut path.lock().unwrap());
            std::panic::resume_unwind(Box::new("a test failed"));
        });
        assert!(panicked.is_err());
        let path = path.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        assert!(path.is_absolute() && !mounted(&path));
    })
    .join()
    .unwrap();
}
