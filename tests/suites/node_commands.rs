//! `mount`, `unmount`, `ls` and `sweep` in a root shell when a store, a mount or a directory is missing.

use std::fs;
use std::path::Path;
use std::sync::Barrier;

use gitrepo_core::mount::Mounter;
use gitrepo_core::mount::linux::LinuxMounter;
use gitrepo_tests::git;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::require;
use gitrepo_tests::shell::Shell;
use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use serde_json::Value;
use serde_json::json;

#[test]
fn commands_that_need_a_store_do_not_create_one() {
    let Some(shell) = Shell::new(64 << 20) else { return };
    let target = shell.target("pod");
    for refused in [shell.run(&["ls"]), shell.run(&["sweep"]), shell.unmount(&target)] {
        let refused = refused.assert_code(66);
        assert!(refused.stderr.contains("there is no store"), "{}", refused.stderr);
    }
    assert!(!shell.store().exists());
}

#[test]
fn a_volume_without_its_mount_does_not_block_another() {
    let Some(shell) = Shell::new(64 << 20) else { return };
    let repository = Repository::new("app");
    let first = repository.commit("main", &Files::new().file("a", "first\n"));
    let second = repository.commit("main", &Files::new().file("a", "second\n"));
    let server = HttpServer::start(&repository);
    let (url, target) = (server.url(&repository), shell.target("pod"));
    let revision = format!("--revision={first}");
    shell.mount(&url, &target, &[&revision]).assert_success();
    shell.mount(&url, &target, &[&format!("--revision={second}")]).assert_code(64);
    assert_eq!(fs::read(target.join("a")).unwrap(), b"first\n", "the mounted volume stays");

    nix::mount::umount(&target).unwrap();
    shell.mount(&url, &target, &[&format!("--revision={second}")]).assert_success();
    assert_eq!(fs::read(target.join("a")).unwrap(), b"second\n");
    shell.unmount(&target).assert_success();
}

/// The answer of `mount --json`, and that of `ls --json` about the same target.
fn mounted(shell: &Shell, url: &str, target: &Path, more: &[&str]) -> [Value; 2] {
    let mounted = shell.mount(url, target, &[&["--json"], more].concat()).assert_success();
    let listed = shell.run(&["ls", "--json"]).assert_success();
    let listed: Vec<Value> = serde_json::from_str(&listed.stdout).unwrap();
    let row = listed.into_iter().find(|row| row["target"] == target.to_str().unwrap()).unwrap();
    [serde_json::from_str(&mounted.stdout).unwrap(), row]
}

#[test]
fn the_format_of_a_volume_is_shown_and_why_it_is_no_image() {
    let Some(shell) = Shell::new(64 << 20) else { return };
    // A kernel that mounts no image: on a tmpfs it needs loop devices, and there are none.
    let nothing = None::<&str>;
    fs::create_dir(shell.store()).unwrap();
    nix::mount::mount(Some("tmpfs"), &shell.store(), Some("tmpfs"), MsFlags::empty(), Some("mode=0700")).unwrap();
    nix::mount::mount(Some("/dev/null"), "/dev/loop-control", nothing, MsFlags::MS_BIND, nothing).unwrap();
    shell.configure(r#"{"cache": {"reserveBytes": "0"}, "snapshotFormat": "auto"}"#);
    let repository = Repository::new("app");
    repository.commit("main", &Files::new().file("a", "content\n"));
    let server = HttpServer::start(&repository);
    let url = server.url(&repository);
    let [directory, copy, setting, image] = ["directory", "copy", "setting", "image"].map(|pod| shell.target(pod));

    let [answer, row] = mounted(&shell, &url, &directory, &[]);
    assert_eq!((&answer["format"], &row["format"]), (&json!("directory"), &json!("directory")));
    let reason = answer["withoutImages"].as_str().unwrap();
    assert!(reason.contains("/dev/loop-control") && reason.ends_with("(os error 25)"), "{reason}");
    let [answer, row] = mounted(&shell, &url, &copy, &["--writable=copy"]);
    assert_eq!(
        (&answer["format"], &row["format"], &answer["withoutImages"]),
        (&json!("copy"), &json!("copy"), &Value::Null)
    );
    shell.configure(r#"{"cache": {"reserveBytes": "0"}, "snapshotFormat": "directory"}"#);
    let [answer, _] = mounted(&shell, &url, &setting, &[]);
    assert!(answer["withoutImages"].as_str().unwrap().contains("snapshotFormat"), "{answer}");

    nix::mount::umount("/dev/loop-control").unwrap();
    shell.configure(r#"{"cache": {"reserveBytes": "0"}, "snapshotFormat": "auto"}"#);
    let mounter = LinuxMounter::new(shell.home().join("mounting"));
    if require::feature(mounter.check_images(&shell.store()).is_ok(), "images of 512-byte blocks") {
        let [answer, row] = mounted(&shell, &url, &image, &[]);
        assert_eq!(
            (&answer["format"], &row["format"], &answer["withoutImages"]),
            (&json!("image"), &json!("image"), &Value::Null)
        );
        let table = shell.run(&["ls"]).assert_success().stdout;
        let line = table.lines().find(|line| line.starts_with(image.to_str().unwrap())).unwrap();
        assert!(
            table.lines().next().unwrap().ends_with("FORMAT     STATE") && line.ends_with("image      mounted"),
            "{table}"
        );
        shell.unmount(&image).assert_success();
    }
    for target in [&directory, &copy, &setting] {
        shell.unmount(target).assert_success();
    }
    nix::mount::umount(&shell.store()).unwrap();
}

#[test]
fn owner_or_group_of_a_read_only_directory_is_refused_and_not_ignored() {
    let Some(shell) = Shell::new(64 << 20) else { return };
    shell.configure(r#"{"cache": {"reserveBytes": "0"}, "snapshotFormat": "directory"}"#);
    let repository = Repository::new("app");
    repository.commit("main", &Files::new().file("a", "content\n"));
    let server = HttpServer::start(&repository);
    let (url, target) = (server.url(&repository), shell.target("pod"));
    for flags in [&["--uid=1000"][..], &["--uid=0"], &["--set", "uid=1000"], &["--group=1000"]] {
        let refused = shell.mount(&url, &target, flags).assert_code(64).stderr;
        let key = if flags[0].contains("group") { "group" } else { "uid" };
        let start = format!("error: {key} is for images and writable volumes");
        assert!(refused.starts_with(&start) && refused.contains("\"snapshotFormat\": \"directory\""), "{refused}");
    }
    assert!(!target.exists() && server.requests().is_empty());
}

#[test]
fn writes_to_a_copy_survive_a_lost_mount_and_a_sweep() {
    let Some(shell) = Shell::new(64 << 20) else { return };
    let repository = Repository::new("app");
    repository.commit("main", &Files::new().file("a", "content\n"));
    let server = HttpServer::start(&repository);
    let (url, target) = (server.url(&repository), shell.target("pod"));
    shell.mount(&url, &target, &["--writable=copy"]).assert_success();
    fs::write(target.join("mine"), "written\n").unwrap();

    nix::mount::umount(&target).unwrap();
    shell.run(&["sweep"]).assert_success();
    shell.mount(&url, &target, &[]).assert_code(64);
    shell.mount(&url, &target, &["--writable=copy"]).assert_success();
    assert_eq!(fs::read(target.join("mine")).unwrap(), b"written\n");
    shell.unmount(&target).assert_success();
    assert_eq!(shell.leftovers(), <[std::path::PathBuf; 0]>::default());
}

#[test]
fn a_volume_that_is_mounted_in_another_namespace_is_not_forgotten() {
    let Some(shell) = Shell::new(64 << 20) else { return };
    let repository = Repository::new("app");
    repository.commit("main", &Files::new().file("a", "content\n"));
    let server = HttpServer::start(&repository);
    let (url, target) = (server.url(&repository), shell.target("pod"));
    let (shell, target, step) = (&shell, target.as_path(), &Barrier::new(2));
    std::thread::scope(|scope| {
        let elsewhere = scope.spawn(move || {
            nix::sched::unshare(CloneFlags::CLONE_NEWNS).unwrap();
            let mounted = shell.mount(&url, target, &["--writable=shared"]);
            let written = fs::write(target.join("mine"), "written\n");
            step.wait();
            step.wait();
            mounted.assert_success();
            written.unwrap();
            assert_eq!(fs::read(target.join("mine")).unwrap(), b"written\n");
            shell.unmount(target).assert_success();
        });
        step.wait();
        let (refused, swept, listed) = (shell.unmount(target), shell.run(&["sweep"]), shell.run(&["ls"]));
        step.wait();
        elsewhere.join().unwrap();
        let refused = refused.assert_code(64);
        assert!(refused.stderr.contains("mnt:[") && refused.stderr.contains("nsenter"), "{}", refused.stderr);
        swept.assert_success();
        assert!(listed.assert_success().stdout.contains("not mounted"));
    });
    assert_eq!(shell.leftovers(), <[std::path::PathBuf; 0]>::default());
}

#[test]
fn a_volume_is_unmounted_even_if_its_parent_directory_is_gone() {
    let Some(shell) = Shell::new(64 << 20) else { return };
    let repository = Repository::new("app");
    repository.commit("main", &Files::new().file("a", "content\n"));
    let server = HttpServer::start(&repository);
    let parent = shell.target("parent");
    fs::create_dir(&parent).unwrap();
    let target = parent.join("pod");
    shell.mount(&server.url(&repository), &target, &[]).assert_success();
    nix::mount::umount(&target).unwrap();
    fs::remove_dir(&target).unwrap();
    fs::remove_dir(&parent).unwrap();
    shell.unmount(&target).assert_success();
    assert_eq!(shell.leftovers(), <[std::path::PathBuf; 0]>::default());
}

#[test]
fn s23_a_purged_commit_is_refused_to_a_person() {
    let Some(shell) = Shell::new(64 << 20) else { return };
    let repository = Repository::new("app");
    let old = repository.commit("main", &Files::new().file("a", "old\n"));
    let server = HttpServer::start(&repository);
    let (url, target) = (server.url(&repository), shell.target("pod"));
    let revision = format!("--revision={old}");
    shell.mount(&url, &target, &[]).assert_success();
    shell.unmount(&target).assert_success();
    repository.commit_unrelated("refs/heads/main", &Files::new().file("a", "new\n"));
    git::output(&mut repository.git(["gc", "--quiet", "--prune=now"]));
    // The same person, while the proof is fresh, and when it is not.
    shell.mount(&url, &target, &[&revision]).assert_success();
    shell.unmount(&target).assert_success();
    shell.configure(r#"{"cache": {"reserveBytes": "0", "accessTtl": "0s"}}"#);
    let refused = shell.mount(&url, &target, &[&revision]).assert_code(66);
    assert!(refused.stderr.contains("does not give out"), "{}", refused.stderr);
    shell.mount(&url, &target, &[]).assert_success();
    assert_eq!(fs::read(target.join("a")).unwrap(), b"new\n");
    shell.unmount(&target).assert_success();
}

#[test]
fn one_target_shows_one_thing_after_another_and_nothing_of_what_was_before() {
    let Some(shell) = Shell::new(64 << 20) else { return };
    let [app, other] = ["app", "other"].map(Repository::new);
    let old = app.commit("main", &Files::new().file("a", "old\n").file("only-app", "x"));
    let new = app.commit("main", &Files::new().file("a", "new\n"));
    app.set_branch("side", "main");
    app.commit("side", &Files::new().file("a", "side\n").file(&new, "named like a commit\n"));
    other.commit("main", &Files::new().file("a", "other\n"));
    let server = HttpServer::builder().serve(&app).serve(&other).start();
    let (of_app, of_other, target) = (server.url(&app), server.url(&other), shell.target("pod"));
    for writable in [&[][..], &["--writable=private"]] {
        // One that the store does not have.
        let pushed = app.commit("main", &Files::new().file("a", "pushed\n"));
        for (url, revision, content) in [
            (&of_app, &*new, "new\n"),
            (&of_app, "side", "side\n"),
            (&of_app, &old, "old\n"),
            (&of_app, &pushed, "pushed\n"),
            (&of_other, "main", "other\n"),
            (&of_app, "main", "pushed\n"),
        ] {
            let revision = format!("--revision={revision}");
            shell.mount(url, &target, &[&[&*revision], writable].concat()).assert_success();
            assert_eq!(fs::read_to_string(target.join("a")).unwrap(), content, "{url} {revision}");
            assert_eq!(target.join("only-app").exists(), *url == of_app);
            assert!(!target.join("mine").exists() && target.join(&new).exists() == (content == "side\n"));
            if !writable.is_empty() {
                fs::write(target.join("mine"), "written\n").unwrap();
                fs::write(target.join("a"), "written\n").unwrap();
            }
            shell.unmount(&target).assert_success();
        }
    }
    assert_eq!(shell.leftovers(), <[std::path::PathBuf; 0]>::default());
}

#[test]
fn a_target_with_files_is_covered_and_a_store_may_be_in_a_work_tree() {
    let Some(shell) = Shell::new(64 << 20) else { return };
    let repository = Repository::new("app");
    repository.commit("main", &Files::new().file("a", "shown\n"));
    let server = HttpServer::start(&repository);
    // The store is in the shell's home.
    git::output(git::command(shell.home()).args(["init", "--quiet", "."]));
    let before = git::line(git::command(shell.home()).args(["config", "--list", "--local"]));
    let target = shell.target("pod");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("a"), "covered\n").unwrap();
    fs::write(target.join("mine"), "covered\n").unwrap();
    let (url, read) = (server.url(&repository), || fs::read_to_string(target.join("a")).unwrap());
    for more in [&[][..], &["--writable=private"], &["--git-dir=keep"]] {
        shell.mount(&url, &target, more).assert_success();
        assert_eq!((read(), target.join("mine").exists()), ("shown\n".to_owned(), false));
        shell.unmount(&target).assert_success();
        assert_eq!((read(), fs::read_dir(&target).unwrap().count()), ("covered\n".to_owned(), 2));
    }
    assert_eq!(git::line(git::command(shell.home()).args(["config", "--list", "--local"])), before);
    assert!(!shell.home().join(".git/refs/remotes").exists());
    fs::remove_file(target.join("a")).unwrap();
    fs::remove_file(target.join("mine")).unwrap();
}
