//! Mounts that fail: the message tells the pod's owner why, and nothing is left.

use std::fs;
use std::fs::File;
use std::io::Write;

use gitrepo_tests::authority::Authority;
use gitrepo_tests::hostile;
use gitrepo_tests::hostile::ClosedPort;
use gitrepo_tests::hostile::SilentServer;
use gitrepo_tests::http::Answer;
use gitrepo_tests::http::Credential;
use gitrepo_tests::http::Ending;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::http::Request;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::kubelet::flex::Volume;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::require;
use gitrepo_tests::ssh::ClientKey;
use gitrepo_tests::ssh::SshServer;
use nix::mount::MsFlags;
use serde_json::json;

use super::Scene;

/// A server that answers for the scene's repository with `answer`.
fn misbehaving(scene: &Scene, answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> HttpServer {
    HttpServer::builder().serve(&scene.repository).answer(answer).start()
}

fn of(url: &str) -> Volume {
    Volume::inline("v", &[("repository", url)])
}

#[test]
fn invalid_options_are_named() {
    let Some(scene) = Scene::new() else { return };
    let url = scene.url();
    for (options, words) in [
        (&[][..], &["repository"][..]),
        (&[("revision", "main")], &["repository"]),
        (&[("repository", &*url), ("repo", &*url)], &["repo", "repository"]),
        (&[("repository", "")], &["repository"]),
        (&[("repository", "/etc")], &["repository", "local path"]),
        (&[("repository", "--upload-pack=/bin/sh")], &["repository"]),
        (&[("repository", "ext::sh -c id")], &["repository"]),
        (&[("repository", &*url), ("revison", "main")], &["revison", "revision"]),
        (&[("repository", &*url), ("hosttarget", "/data")], &["hosttarget", "hostTarget"]),
        (&[("repositry", &*url)], &["repositry", "repository"]),
        (&[("repository", &*url), ("directory", "../x")], &["directory"]),
        (&[("repository", &*url), ("depth", "-1")], &["depth"]),
        (&[("repository", &*url), ("writable", "yes")], &["writable", "private", "shared"]),
        (&[("repository", &*url), ("uid", "root")], &["uid"]),
        (&[("repository", &*url), ("lfs", "yes")], &["lfs", "true"]),
        (&[("repository", &*url), ("hostTarget", "relative")], &["hostTarget", "absolute"]),
    ] {
        scene.assert_fails(&Volume::inline("v", options), words);
        scene.assert_fails(&Volume::persistent("v", options).read_only(), words);
    }
    assert!(scene.server.requests().is_empty());
}

#[test]
fn a_refresh_is_refused_because_the_kubelet_never_calls_again() {
    let Some(scene) = Scene::new() else { return };
    let volume = scene.inline("v").read_only().with_option("refresh", "60s");
    scene.assert_fails(&volume, &["refresh", "kubelet", "FlexVolume"]);
    let volume = scene.inline("v").read_only().with_option("refresh", "never");
    let (pod, _) = scene.start_pod("pod", &volume);
    scene.kubelet().must_tear_down(&pod, &volume);
}

#[test]
fn missing_repositories_revisions_and_directories_are_not_found() {
    let Some(scene) = Scene::new() else { return };
    let url = scene.url();
    scene.assert_fails(&scene.inline("v").with_option("revision", "mian"), &["mian", "main", &url]);
    let absent = "5ca1ab1e".repeat(5);
    scene.assert_fails(&scene.inline("v").with_option("revision", &absent), &[&absent]);
    scene.assert_fails(&scene.inline("v").with_option("subdirectory", "no/such"), &["no/such"]);
    let missing = scene.server.url_at("missing.git");
    scene.assert_fails(&of(&missing), &[&missing, "no such repository"]);
}

#[test]
fn a_refused_credential_fails_the_mount_and_the_message_names_the_secret_keys() {
    let closed = |server: gitrepo_tests::http::HttpServerBuilder| server.accept(Credential::Bearer("right"));
    let Some(scene) = Scene::serving(closed) else { return };
    let url = scene.url();
    scene.assert_fails(&scene.inline("v"), &[&url, "token", "secretRef"]);
    let wrong = scene.inline("v").with_secret(&[("token", "canary-wrong")]);
    let reason = scene.assert_fails(&wrong, &[&url]);
    assert!(!reason.contains("canary"), "{reason}");
    let forbidding = misbehaving(&scene, |_| Answer::status(403));
    scene.assert_fails(&of(&forbidding.url(&scene.repository)), &["forbids access"]);
}

#[test]
fn invalid_secrets_are_named_and_not_quoted() {
    let Some(scene) = Scene::new() else { return };
    for (keys, words) in [
        (&[("pasword", "canary")][..], &["pasword", "password"][..]),
        (&[("username", "canary")], &["password"]),
        (&[("ssh-privatekey", "canary")], &["ssh-privatekey"]),
        (&[("sshKey", "canary")], &["sshKey"]),
        (&[("known_hosts", "canary")], &["known_hosts"]),
    ] {
        let reason = scene.assert_fails(&scene.inline("v").with_secret(keys), words);
        assert!(!reason.contains("canary"), "{reason}");
    }
    for value in ["!canary!", "Y2FuYXJ5\u{e4}", "/canary", "/w=="] {
        let volume = scene.inline("v").with_forged_option("kubernetes.io/secret/token", value);
        let reason = scene.assert_fails(&volume, &["token"]);
        assert!(!reason.contains(value) && !reason.contains("canary"), "{reason}");
    }
    assert!(scene.server.requests().is_empty());
}

#[test]
fn repositories_that_the_policy_denies_are_refused() {
    let Some(scene) = Scene::new() else { return };
    let (volume, url) = (scene.inline("v"), scene.url());
    let path = format!("file://{}", scene.repository.path().display());
    scene.assert_fails(&of(&path), &["allowedSchemes", &path]);
    scene.assert_fails(&of("git://git.example.org/a.git"), &["allowedSchemes"]);
    scene.assert_fails(&of("http://169.254.169.254/latest/meta-data"), &["denied"]);
    scene.node.configure(&json!({"allowLoopback": false}));
    scene.assert_fails(&volume, &[&url, "loopback", "denied"]);
    scene.node.configure(&json!({"allowedHosts": ["*.example.org"]}));
    scene.assert_fails(&volume, &[&url, "allowedHosts"]);
    scene.node.configure(&json!({"credentialsOverHttp": false}));
    let closed = HttpServer::builder().serve(&scene.repository).accept(Credential::Bearer("right")).start();
    let volume = of(&closed.url(&scene.repository)).with_secret(&[("token", "right")]);
    scene.assert_fails(&volume, &["http", "credentialsOverHttp"]);
    assert!(closed.requests().iter().all(|request| request.authorization().is_none()));
    assert!(scene.server.requests().is_empty());
}

#[test]
fn an_unreachable_remote_is_reported_as_such() {
    let Some(scene) = Scene::new() else { return };
    let closed = ClosedPort::reserve();
    for scheme in ["http", "https", "ssh"] {
        let url = closed.url(scheme).replace("ssh://", "ssh://git@");
        scene.assert_fails(&of(&url), &["cannot reach", "127.0.0.1"]);
    }
    scene.assert_fails(&of("https://host.invalid/a.git"), &["host.invalid"]);
    let failing = misbehaving(&scene, |_| Answer::status(503));
    scene.assert_fails(&of(&failing.url(&scene.repository)), &["503"]);
}

#[test]
fn a_remote_that_stalls_or_breaks_off_is_given_up() {
    let Some(scene) = Scene::new() else { return };
    scene.node.configure(&json!({"limits": {"stall": "1s"}}));
    scene.assert_fails(&of(&SilentServer::start().url("http")), &["went silent"]);
    let stalling = misbehaving(&scene, hostile::pack_ends_midway(Ending::Silent));
    scene.assert_fails(&of(&stalling.url(&scene.repository)), &["went silent"]);
    // A busy machine is not silence.
    scene.node.configure(&json!({}));
    let breaking = misbehaving(&scene, hostile::pack_ends_midway(Ending::Broken));
    scene.assert_fails(&of(&breaking.url(&scene.repository)), &["127.0.0.1"]);
    let lying = misbehaving(&scene, hostile::pack_is_garbage());
    scene.assert_fails(&of(&lying.url(&scene.repository)), &["is damaged"]);
}

/// The kubelet does not limit a call's time, so the driver does.
#[test]
fn a_mount_fails_after_its_timeout() {
    let Some(scene) = Scene::new() else { return };
    scene.node.configure(&json!({"flexTimeout": "2s"}));
    let gate = scene.server.hold(Request::is_upload_pack);
    scene.assert_fails(&scene.inline("v"), &["flexTimeout"]);
    gate.open();
    scene.node.configure(&json!({}));
    let (pod, _) = scene.start_pod("pod", &scene.inline("v"));
    scene.kubelet().must_tear_down(&pod, &scene.inline("v"));
    scene.node.assert_nothing_set_up();
}

#[test]
fn an_exceeded_limit_is_named() {
    let Some(scene) = Scene::new() else { return };
    let large = Repository::new("large");
    let files =
        (0..40).fold(Files::new(), |files, number| files.file(format!("file-{number}"), vec![number; 70 << 10]));
    large.commit("main", &files.file("noise", gitrepo_tests::fixtures::noise(1, 1 << 20)));
    scene.server.add(&large);
    for (limits, field) in [
        (json!({"fetchBytes": "100Ki"}), "limits.fetchBytes"),
        (json!({"treeBytes": "1Mi"}), "limits.treeBytes"),
        (json!({"entries": 10}), "limits.entries"),
    ] {
        scene.node.configure(&json!({"limits": limits}));
        scene.assert_fails(&of(&scene.server.url(&large)), &[field]);
    }
}

#[test]
fn a_full_disk_fails_the_mount_and_nothing_else() {
    let Some(scene) = Scene::with_disk(16 << 20) else { return };
    let volume = scene.inline("v").read_only();
    let (pod, target) = scene.start_pod("pod", &volume);
    let (other, copy) = (Pod::new("other"), scene.persistent("copy"));
    // The kubelet's directories are on this disk too.
    fs::create_dir_all(scene.kubelet().target(&other, &copy)).unwrap();
    let filler = fill(&scene);
    let failed = scene.kubelet().set_up(&other, &copy).unwrap_err();
    assert!(failed.reason.to_lowercase().contains("space"), "{failed:?}");
    assert!(!scene.kubelet().target(&other, &copy).exists());
    scene.assert_shown_on(&target);
    scene.kubelet().must_tear_down(&pod, &volume);
    scene.node.assert_nothing_set_up();
    drop(filler);
    fs::remove_file(scene.node.home().join("filler")).unwrap();
    // ext4 gives the blocks back with its next journal commit.
    nix::unistd::sync();
    let (pod, _) = scene.start_pod("pod", &volume);
    scene.kubelet().must_tear_down(&pod, &volume);
}

/// Writes until no block is free.
fn fill(scene: &Scene) -> File {
    let mut file = File::create(scene.node.home().join("filler")).unwrap();
    for size in [1 << 20, 1 << 10] {
        let chunk = vec![0; size];
        while file.write_all(&chunk).is_ok() {}
        file.sync_all().unwrap();
    }
    file
}

/// The kubelet does not call for a mounted target, but its check may miss a mount.
#[test]
fn an_occupied_target_is_refused_and_left_alone() {
    let Some(scene) = Scene::new() else { return };
    let (pod, volume) = (Pod::new("pod"), scene.inline("v").read_only());
    let target = scene.kubelet().target(&pod, &volume);
    fs::create_dir_all(&target).unwrap();
    nix::mount::mount(None::<&str>, &target, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    fs::write(target.join("theirs"), "theirs\n").unwrap();
    let path = target.to_str().unwrap();
    let mount = |volume: &Volume| scene.kubelet().plugin().call(["mount", path, &volume.json(&pod)]);
    assert!(mount(&volume).failure().contains("mount point of something else"));
    assert_eq!(fs::read(target.join("theirs")).unwrap(), b"theirs\n");
    scene.kubelet().plugin().call(["unmount", path]).assert_success();
    assert_eq!(scene.node.mounts_on(&target), 1, "a foreign mount stays");
    nix::mount::umount(&target).unwrap();

    mount(&volume).assert_success();
    let other = volume.clone().with_option("directory", "elsewhere");
    assert!(mount(&other).failure().contains("already shows"));
    scene.assert_shown_on(&target);
    scene.kubelet().must_tear_down(&pod, &volume);
    scene.node.assert_nothing_set_up();
}

#[test]
fn an_unknown_host_key_or_certificate_is_refused() {
    let Some(scene) = Scene::new() else { return };
    let authority = Authority::new();
    let secure = HttpServer::builder().serve(&scene.repository).tls(authority.issue_for_loopback()).start();
    scene.assert_fails(&of(&secure.url(&scene.repository)), &["certificate", "ca.crt"]);
    let volume = of(&secure.url(&scene.repository)).with_secret(&[("ca.crt", &authority.ca_pem())]);
    let (pod, target) = scene.start_pod("pod", &volume);
    scene.assert_shown_on(&target);
    scene.kubelet().must_tear_down(&pod, &volume);
    if !require::tool("sshd") {
        return;
    }
    let key = ClientKey::new();
    let server = SshServer::start(&key);
    let volume = of(&server.url(&scene.repository)).with_secret(&[("sshKey", &key.private)]);
    scene.assert_fails(&volume, &["SHA256:", "known_hosts"]);
}

#[test]
fn an_unmount_fails_while_the_store_is_missing() {
    let Some(scene) = Scene::new() else { return };
    let volume = scene.inline("v").read_only();
    let (pod, target) = scene.start_pod("pod", &volume);
    // An empty directory, as if the store's filesystem were not mounted.
    let store = scene.node.store();
    nix::mount::mount(Some("tmpfs"), &store, Some("tmpfs"), MsFlags::empty(), Some("mode=700")).unwrap();
    let failed = scene.kubelet().tear_down(&pod, &volume).unwrap_err();
    for words in ["the store", "is missing", "check its mount, then retry"] {
        assert!(failed.reason.contains(words), "{words:?} is not in {:?}", failed.reason);
    }
    assert_eq!((scene.node.mounts_on(&target), fs::read_dir(&store).unwrap().count()), (1, 0));
    nix::mount::umount(&store).unwrap();
    scene.kubelet().must_tear_down(&pod, &volume);
    assert_eq!(scene.node.mounts_on(&target), 0);
}
