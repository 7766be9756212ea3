//! Promises of the fake and the real mounters.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::thread;

use gitrepo_core::error::Kind;
use gitrepo_core::mount::Attachment;
use gitrepo_core::mount::Mount;
use gitrepo_core::mount::MountError;
use gitrepo_core::mount::Mounter;

use super::Bench;

pub(super) fn a_bind_is_listed_with_its_flags<M: Mounter>(bench: &Bench<M>) {
    for (name, read_only) in [("read-only", true), ("writable", false)] {
        let bind = bench.bind(name, read_only);
        bench.mounter.attach(&bind).unwrap();

        let mounts = bench.mounts_on(&bind.target);
        let [mount] = mounts.as_slice() else { panic!("{mounts:?}") };
        assert_eq!(mount.is_read_only(), read_only);
        for flag in ["nosuid", "nodev"] {
            assert!(mount.options.iter().any(|option| option == flag), "{flag} is not in {:?}", mount.options);
        }
        assert!(mount.root.ends_with(bind.attachment.path().file_name().unwrap()), "{:?}", mount.root);
    }
}

pub(super) fn a_mount_shows_exactly_its_attachment<M: Mounter>(bench: &Bench<M>) {
    let bind = bench.bind("this", true);
    let other_source = Mount { attachment: bench.bind("other", true).attachment, ..bind.clone() };
    let other_access = Mount { read_only: false, ..bind.clone() };
    let shows = |bind: &Mount| bench.mounter.shows(bind).unwrap();

    assert!(!shows(&bind));
    bench.mounter.attach(&bind).unwrap();
    assert!(shows(&bind));
    assert!(!shows(&other_source));
    assert!(!shows(&other_access));

    bench.mounter.attach(&bind).unwrap();
    assert!(!shows(&bind), "a publish leaves one layer, not two");

    bench.mounter.unmount(&bind.target).unwrap();
    assert!(!shows(&bind));
    assert!(!shows(&Mount { attachment: Attachment::Bind { source: bench.path("absent") }, ..bind.clone() }));
    assert!(!shows(&Mount { target: bench.path("absent/target"), ..bind }));
}

pub(super) fn stacked_binds_are_all_unmounted<M: Mounter>(bench: &Bench<M>) {
    let bind = bench.bind("stacked", true);
    for _ in 0..3 {
        bench.mounter.attach(&bind).unwrap();
    }
    assert_eq!(bench.mounts_on(&bind.target).len(), 3);
    assert_eq!(bench.mounter.unmount(&bind.target).unwrap(), 3);
    assert_eq!(bench.mounts_on(&bind.target), []);
}

pub(super) fn unmounting_an_unmounted_target_succeeds<M: Mounter>(bench: &Bench<M>) {
    let bind = bench.bind("once", true);
    let file = bench.path("file");
    fs::write(&file, "").unwrap();
    for target in [&bind.target, &bench.path("absent"), &bench.path("absent/below"), &file, &file.join("below")] {
        assert_eq!(bench.mounter.unmount(target).unwrap(), 0, "{target:?}");
    }
    bench.mounter.attach(&bind).unwrap();
    assert_eq!(bench.mounter.unmount(&bind.target).unwrap(), 1);
    assert_eq!(bench.mounter.unmount(&bind.target).unwrap(), 0);
}

pub(super) fn other_targets_stay_mounted<M: Mounter>(bench: &Bench<M>) {
    let bind = bench.bind("a", true);
    let longer = Mount { target: bench.directory("target-a-longer"), ..bind.clone() };
    bench.mounter.attach(&bind).unwrap();
    bench.mounter.attach(&longer).unwrap();

    assert_eq!(bench.mounter.unmount(&bench.home.join("target-a/.")).unwrap(), 1, "in any spelling of the path");
    assert_eq!(bench.mounts_on(&bind.target), []);
    assert!(bench.mounter.shows(&longer).unwrap());
}

pub(super) fn unusual_names_are_listed_correctly<M: Mounter>(bench: &Bench<M>) {
    let source = bench.bind("plain", true).attachment.path().to_owned();
    let names: [&[u8]; 9] = [
        b"with space",
        b"with\ttab",
        b"with\nnewline",
        b"with\\backslash",
        b"with\\040digits",
        b"#hash",
        "grüße-日本語".as_bytes(),
        b"\xff\xfe",
        b" - tmpfs x rw",
    ];
    for name in names {
        let target = bench.directory(OsStr::from_bytes(name));
        bench.mounter.attach(&Mount::bind(source.clone(), target.clone(), true)).unwrap();
        assert_eq!(bench.mounts_on(&target).len(), 1, "{target:?}");
        assert_eq!(bench.mounter.unmount(&target).unwrap(), 1, "{target:?}");
        assert_eq!(bench.mounts_on(&target), []);
    }
}

pub(super) fn a_symlink_is_refused_and_nothing_mounted<M: Mounter>(bench: &Bench<M>) {
    let bind = bench.bind("real", true);
    let inner = bench.directory("target-real/inner");
    symlink(&bind.target, bench.path("link")).unwrap();
    symlink(bind.attachment.path(), bench.path("link-to-source")).unwrap();
    let before = bench.mounter.list().unwrap();

    let binds = [
        Mount { target: bench.path("link"), ..bind.clone() },
        Mount { target: bench.path("link/inner"), ..bind.clone() },
        Mount { attachment: Attachment::Bind { source: bench.path("link-to-source") }, ..bind.clone() },
    ];
    for bind in binds {
        let error = bench.mounter.attach(&bind).unwrap_err();
        assert!(matches!(error, MountError::Symlink { .. }), "{bind:?}: {error}");
        assert!(error.to_string().contains("is a symbolic link"), "{error}");
        assert_eq!(error.kind(), Kind::FailedPrecondition);
    }
    assert_eq!(bench.mounter.list().unwrap(), before);

    bench.mounter.attach(&Mount { target: inner.clone(), ..bind }).unwrap();
    let error = bench.mounter.unmount(&bench.path("link/inner")).unwrap_err();
    assert!(matches!(error, MountError::Symlink { .. }), "{error}");
    assert_eq!(bench.mounts_on(&inner).len(), 1, "unmounting through a link is refused too");
}

pub(super) fn sources_and_targets_must_be_directories<M: Mounter>(bench: &Bench<M>) {
    let bind = bench.bind("real", true);
    let file = bind.attachment.path().join("canary");
    let binds = [
        Mount { attachment: Attachment::Bind { source: bench.path("absent") }, ..bind.clone() },
        Mount { target: bench.path("absent"), ..bind.clone() },
        Mount { attachment: Attachment::Bind { source: file.clone() }, ..bind.clone() },
        Mount { target: file, ..bind },
    ];
    for bind in binds {
        let error = bench.mounter.attach(&bind).unwrap_err();
        assert!(matches!(error, MountError::Directory { .. }), "{bind:?}: {error}");
        assert_eq!(error.kind(), Kind::FailedPrecondition);
    }
}

pub(super) fn a_relative_path_is_refused<M: Mounter>(bench: &Bench<M>) {
    let bind = bench.bind("real", true);
    for wrong in [PathBuf::from("target"), PathBuf::new(), bench.path("target-real/../target-real")] {
        for bind in [
            Mount { attachment: Attachment::Bind { source: wrong.clone() }, ..bind.clone() },
            Mount { target: wrong.clone(), ..bind.clone() },
        ] {
            let error = bench.mounter.attach(&bind).unwrap_err();
            assert!(matches!(error, MountError::Path { .. }), "{bind:?}: {error}");
            assert_eq!(error.kind(), Kind::InvalidRequest);
        }
        assert!(bench.mounter.unmount(&wrong).is_err(), "{wrong:?}");
    }
}

pub(super) fn a_hundred_threads_bind_and_unmount<M: Mounter>(bench: &Bench<M>) {
    let source = bench.bind("shared", true).attachment.path().to_owned();
    let bind = |number: usize| Mount::bind(&source, bench.path(format!("target-{number}")), number.is_multiple_of(2));
    thread::scope(|scope| {
        for number in 0..100 {
            let bind = bind(number);
            scope.spawn(move || {
                fs::create_dir(&bind.target).unwrap();
                bench.mounter.attach(&bind).unwrap();
                assert!(bench.mounter.shows(&bind).unwrap());
            });
        }
    });
    let mounted = count_below(bench, &bench.home);
    assert_eq!(mounted, 100);
    thread::scope(|scope| {
        for number in 0..100 {
            let target = bind(number).target;
            scope.spawn(move || assert_eq!(bench.mounter.unmount(&target).unwrap(), 1));
        }
    });
    assert_eq!(count_below(bench, &bench.home), 0);
}

fn count_below<M: Mounter>(bench: &Bench<M>, home: &Path) -> usize {
    let mounts = bench.mounter.list().unwrap();
    mounts.iter().filter(|mount| mount.target != home && mount.target.starts_with(home)).count()
}

pub(super) fn concurrent_unmounts_share_the_layers<M: Mounter>(bench: &Bench<M>) {
    let bind = bench.bind("stacked", true);
    for _ in 0..32 {
        bench.mounter.attach(&bind).unwrap();
    }
    let unmounted: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| bench.mounter.unmount(&bind.target).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(unmounted, 32);
    assert_eq!(bench.mounts_on(&bind.target), []);
}

pub(super) fn a_sweep_leaves_mounts_alone<M: Mounter>(bench: &Bench<M>) {
    let bind = bench.bind("kept", true);
    assert_eq!(bench.mounter.sweep().unwrap(), 0);
    bench.mounter.attach(&bind).unwrap();
    assert_eq!(bench.mounter.sweep().unwrap(), 0);
    assert!(bench.mounter.shows(&bind).unwrap());
}
