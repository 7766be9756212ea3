//! The defects of the bash driver `piersharding/gitrepo`, one test each. The comment above a test describes the bash
//! driver's behaviour, which would fail the test.

use std::fs;
use std::path::Path;

use gitrepo_tests::canaries::Canaries;
use gitrepo_tests::fixtures;
use gitrepo_tests::http::Answer;
use gitrepo_tests::http::Credential;
use gitrepo_tests::http::Ending;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::http::Request;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::kubelet::flex::Kubelet;
use gitrepo_tests::kubelet::flex::Node;
use gitrepo_tests::kubelet::flex::Volume;
use gitrepo_tests::pktline;
use gitrepo_tests::process;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::require;
use gitrepo_tests::ssh::ClientKey;
use gitrepo_tests::ssh::SshServer;
use gitrepo_tests::tree::assert_same_tree;
use gitrepo_tests::volumes::entries;
use serde_json::json;

/// A node whose stores are where the bash driver kept its clones, and a server with a repository.
struct Scene {
    node: Node,
    server: HttpServer,
    repository: Repository,
    commit: String,
}

impl Scene {
    fn new() -> Option<Self> {
        let node = Node::new(128 << 20)?;
        node.configure(&json!({"hostTargetRoots": [node.directory("images")]}));
        let (repository, commit) = fixtures::small();
        let server = HttpServer::start(&repository);
        Some(Self { node, server, repository, commit })
    }

    fn kubelet(&self) -> &Kubelet {
        self.node.kubelet()
    }

    /// A volume as in the bash driver's manifests.
    fn volume(&self, name: &str, repo: &str) -> Volume {
        let root = self.node.home().join("images");
        Volume::persistent(name, &[("repo", repo), ("hostTarget", root.to_str().unwrap())])
    }

    fn url(&self) -> String {
        self.server.url(&self.repository)
    }

    fn assert_shown_on(&self, target: &Path) {
        assert_eq!(self.node.mounts_on(target), 1);
        assert_same_tree(&self.repository, &self.commit, ".", target);
    }

    fn fail(&self, volume: &Volume) -> String {
        let failed = self.kubelet().set_up(&Pod::new("failing"), volume).expect_err("the volume must not be set up");
        self.node.assert_nothing_set_up();
        failed.reason
    }
}

/// It ran ssh with `StrictHostKeyChecking=no` and `UserKnownHostsFile=/dev/null`: it logged in to any server.
#[test]
fn defect_01_an_unknown_host_key_is_refused() {
    if !require::tool("sshd") {
        return;
    }
    let Some(scene) = Scene::new() else { return };
    let key = ClientKey::new();
    let server = SshServer::start(&key);
    let volume = scene.volume("data", &server.url(&scene.repository));
    let reason = scene.fail(&volume.with_secret(&[("sshKey", &key.private)]));
    assert!(reason.contains("SHA256:"), "{reason}");
    assert_eq!(server.sessions(), 0, "there was no login");
}

/// The key lay at `<hostTarget>/<repo>/id_rsa` until the last unmount.
#[test]
fn defect_02_no_private_key_is_kept_on_the_host() {
    if !require::tool("sshd") {
        return;
    }
    let Some(scene) = Scene::new() else { return };
    let key = ClientKey::new();
    let server = SshServer::start(&key);
    let keys = [("sshKey", &*key.private), ("known_hosts", &server.known_hosts())];
    let volume = scene.volume("data", &server.url(&scene.repository)).with_secret(&keys);
    let pod = Pod::new("pod");
    scene.assert_shown_on(&scene.kubelet().must_set_up(&pod, &volume));
    let canaries = Canaries::new(&[]).with_key(&key.private);
    for place in
        [&*scene.node.home().join("images"), Path::new("/var/lib"), Path::new("/var/log"), Path::new("/run/gitrepo")]
    {
        canaries.assert_absent_below(place);
    }
    scene.kubelet().must_tear_down(&pod, &volume);
}

/// With `DEBUG=true` it wrote the whole JSON to a file that everybody could read.
#[test]
fn defect_03_a_debug_log_holds_no_secret() {
    let Some(scene) = Scene::new() else { return };
    scene.node.configure(&json!({"log": {"level": "debug"}}));
    let volume = Volume::inline("data", &[("repo", &scene.url())]).with_secret(&[("token", "canary-4Wq7")]);
    let pod = Pod::new("pod");
    scene.kubelet().must_set_up(&pod, &volume);
    scene.kubelet().must_tear_down(&pod, &volume);
    let log = scene.node.log();
    assert!(log.contains(&scene.url()), "the log has the URL: {log}");
    let canaries = Canaries::new(&["canary-4Wq7"]);
    canaries.assert_absent("the log", log.as_bytes());
    canaries.assert_absent_below(Path::new("/var"));
}

/// `unmount` and `mount` locked different files, so one could remove what the other was making.
#[test]
fn defect_04_mount_and_unmount_of_a_volume_exclude_each_other() {
    let Some(scene) = Scene::new() else { return };
    let (stays, comes, volume) = (Pod::new("stays"), Pod::new("comes"), scene.volume("data", &scene.url()));
    let there = scene.kubelet().must_set_up(&stays, &volume);
    fs::write(there.join("mark"), "mark\n").unwrap();
    for round in 0..6 {
        // The last pod goes while the next one comes: it gets the old copy or a new one, never half a copy.
        let (goes, comes) = if round % 2 == 0 { (&stays, &comes) } else { (&comes, &stays) };
        let going = scene.kubelet().begin_tear_down(goes, &volume);
        let coming = scene.kubelet().begin_set_up(comes, &volume);
        going.wait().unwrap();
        coming.wait().unwrap();
        let target = scene.kubelet().target(comes, &volume);
        assert_eq!(fs::read(target.join("README.md")).unwrap(), b"# Small\n");
        fs::write(target.join("mark"), "mark\n").unwrap();
        assert_eq!(entries(&target).len(), 2);
    }
    scene.kubelet().must_tear_down(&stays, &volume);
    scene.node.assert_nothing_set_up();
}

/// After a failed bind or remount it ran `rm -rf` on the directory that other pods had mounted.
#[test]
fn defect_05_a_failed_mount_leaves_other_pods_trees_alone() {
    let Some(scene) = Scene::new() else { return };
    let volume = scene.volume("data", &scene.url());
    let (pod, other) = (Pod::new("pod"), Pod::new("other"));
    let target = scene.kubelet().must_set_up(&pod, &volume);
    fs::write(target.join("mark"), "mark\n").unwrap();
    // A file instead of a directory: nothing can be mounted there.
    let unusable = scene.kubelet().target(&other, &volume);
    fs::create_dir_all(unusable.parent().unwrap()).unwrap();
    fs::write(&unusable, "").unwrap();
    scene.kubelet().plugin().call(["mount", unusable.to_str().unwrap(), &volume.json(&other)]).failure();
    assert_eq!(fs::read(target.join("mark")).unwrap(), b"mark\n");
    fs::remove_file(target.join("mark")).unwrap();
    scene.assert_shown_on(&target);
    fs::remove_file(unusable).unwrap();
    scene.kubelet().must_tear_down(&pod, &volume);
    scene.node.assert_nothing_set_up();
}

/// Its state, and the paths that unmount acted on, lay inside the volume, where pods could read and write them.
#[test]
fn defect_06_no_state_is_inside_the_volume() {
    let Some(scene) = Scene::new() else { return };
    for volume in [scene.volume("data", &scene.url()), scene.volume("data", &scene.url()).read_only()] {
        let pod = Pod::new("pod");
        let target = scene.kubelet().must_set_up(&pod, &volume);
        assert_eq!(entries(&target), [target.join("README.md")]);
        if !volume.is_read_only() {
            // Files that a pod writes, even where the state was, are its data.
            fs::write(target.join("to"), "/etc\n").unwrap();
            fs::create_dir(target.join(".gitrepo")).unwrap();
        }
        scene.kubelet().must_tear_down(&pod, &volume);
        scene.node.assert_nothing_set_up();
    }
    assert!(Path::new("/etc/passwd").exists());
}

/// All pods of a node wrote to one tree, even with another namespace, volume or key.
#[test]
fn defect_07_only_pods_of_one_volume_share_a_writable_tree() {
    let Some(scene) = Scene::new() else { return };
    let pod = Pod::new("pod");
    let volume = scene.volume("data", &scene.url());
    let written = scene.kubelet().must_set_up(&pod, &volume);
    fs::write(written.join("README.md"), "changed\n").unwrap();
    for (other, volume) in [
        (Pod::new("pod").in_namespace("other"), volume.clone()),
        (Pod::new("pod"), scene.volume("other", &scene.url())),
        (Pod::new("pod"), volume.clone().with_secret(&[("token", "other")])),
        (Pod::new("pod"), volume.clone().with_option("writable", "private")),
        (Pod::new("pod"), volume.clone().read_only()),
    ] {
        let target = scene.kubelet().must_set_up(&other, &volume);
        scene.assert_shown_on(&target);
        scene.kubelet().must_tear_down(&other, &volume);
    }
    assert_eq!(fs::read(written.join("README.md")).unwrap(), b"changed\n");
    scene.kubelet().must_tear_down(&pod, &volume);
}

/// `a/b` and `a_b` were the same directory.
#[test]
fn defect_08_names_of_repositories_do_not_collide() {
    let Some(scene) = Scene::new() else { return };
    let repositories = ["a/b", "a_b", "a-b", "a.b", "a/b_git"].map(|name| {
        let repository = Repository::new("repository");
        repository.commit("main", &Files::new().file("name", name));
        (name, repository)
    });
    let serve = |server: gitrepo_tests::http::HttpServerBuilder, (name, repository): &(&str, Repository)| {
        server.serve_at(&format!("{name}.git"), repository)
    };
    let server = repositories.iter().fold(HttpServer::builder(), serve).start();
    let volumes = repositories.each_ref().map(|(name, _)| scene.volume("data", &server.url_at(&format!("{name}.git"))));
    let pods = repositories.each_ref().map(|_| Pod::new("pod"));
    for (((name, repository), volume), pod) in repositories.iter().zip(&volumes).zip(&pods) {
        let target = scene.kubelet().must_set_up(pod, volume);
        assert_same_tree(repository, &repository.resolve("main"), ".", &target);
        assert_eq!(fs::read_to_string(target.join("name")).unwrap(), *name);
    }
    for (volume, pod) in volumes.iter().zip(&pods) {
        scene.kubelet().must_tear_down(pod, volume);
    }
    scene.node.assert_nothing_set_up();
}

/// It put git's messages into the JSON unescaped: a quote in one broke or changed the answer.
#[test]
fn defect_09_messages_of_a_server_are_escaped() {
    let Some(scene) = Scene::new() else { return };
    const WORDS: &str = "\"}\n{\"status\":\"Success\"}\\ \x1b[31m\t'";
    let answer = |request: &Request| {
        if !request.is_info_refs() {
            return Answer::Git;
        }
        Answer::raw(|wire| {
            use std::io::Write;
            let service = pktline::packet("# service=git-upload-pack\n");
            let body = [&service[..], pktline::FLUSH, &pktline::packet(format!("ERR {WORDS}\n"))].concat();
            write!(wire, "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\n")?;
            write!(wire, "Content-Length: {}\r\n\r\n", body.len())?;
            wire.write_all(&body)?;
            Ok(Ending::Complete)
        })
    };
    let hostile = HttpServer::builder().serve(&scene.repository).answer(answer).start();
    // The fake kubelet asserts for every call that the answer is one object.
    let reason = scene.fail(&scene.volume("data", &hostile.url(&scene.repository)));
    assert!(reason.contains(&hostile.url(&scene.repository)) && !reason.contains('\x1b'), "{reason:?}");
    // The user's own words are escaped too.
    let quoted = scene.volume("data", &scene.url()).with_option("revision", "no\"such\\branch");
    let reason = scene.fail(&quoted);
    assert!(reason.contains("revision") || reason.contains("such"), "{reason}");
}

/// `domount $*` split the JSON at spaces, and `echo -ne` took `\n` and `\u0026` in it for escapes.
#[test]
fn defect_10_options_with_spaces_and_escapes_arrive_whole() {
    let Some(scene) = Scene::new() else { return };
    let names = ["two words", "amp&<x>", "quote\"d", "a  b", "$(id)", "*", "grüße-€"];
    let files = names.iter().fold(Files::new(), |files, name| files.file(format!("{name}/file"), *name));
    let commit = scene.repository.commit("spaces", &files);
    for name in names {
        let options = [("repo", &*scene.url()), ("revision", &commit), ("subdirectory", name), ("directory", name)];
        let (pod, volume) = (Pod::new("pod"), Volume::inline("data", &options).read_only());
        let target = scene.kubelet().must_set_up(&pod, &volume);
        assert_same_tree(&scene.repository, &commit, name, &target.join(name));
        scene.kubelet().must_tear_down(&pod, &volume);
    }
    let reason = scene.fail(&scene.volume("data", &scene.url()).with_option("directory", "back\\nslash\\u0026"));
    assert!(reason.contains(r#""back\\nslash\\u0026""#), "{reason}");
}

/// Its comments promised an option `sshKey`, but it never read it and cloned without a key.
#[test]
fn defect_11_a_key_among_the_options_is_refused_and_the_message_names_the_right_place() {
    let Some(scene) = Scene::new() else { return };
    let volume = scene.volume("data", &scene.url());
    let reason = scene.fail(&volume.with_option("sshKey", "canary-key"));
    assert!(reason.contains("sshKey") && reason.contains("secretRef"), "{reason}");
    assert!(!reason.contains("canary") && !scene.node.log().contains("canary"), "{reason}");
    assert!(scene.server.requests().is_empty());
}

/// It ran `git clone --single-branch "$REPO"` without `--`, after a check that matched anywhere: `--upload-pack=…` ran
/// as root.
#[test]
fn defect_12_no_option_of_git_can_be_smuggled_in() {
    let Some(scene) = Scene::new() else { return };
    let canary = scene.node.home().join("canary");
    let path = canary.display();
    scene.node.configure(&json!({"allowedHosts": ["127.0.0.1"]}));
    for repo in [
        format!("--upload-pack=touch {path};.git"),
        format!("-utouch {path} .git"),
        format!("--config=core.sshCommand=touch {path} x.git"),
        format!("ext::touch {path} .git"),
        format!("ssh://-oProxyCommand=touch%20{path}/a.git"),
        format!("-oProxyCommand=touch {path}:a.git"),
        format!("git@host.example:`touch {path}`.git --upload-pack=touch"),
        format!("{}\n--upload-pack=touch {path}", scene.url()),
        format!("file://{}", scene.repository.path().display()),
        scene.repository.path().display().to_string(),
    ] {
        scene.fail(&Volume::inline("data", &[("repo", &repo)]));
        assert!(!canary.exists(), "{repo} has run");
    }
    for revision in ["--upload-pack=touch", "-x", "--output=/etc/x"] {
        scene.fail(&Volume::inline("data", &[("repo", &scene.url())]).with_option("revision", revision));
    }
    // No git runs at all.
    let gate = scene.server.hold(Request::is_upload_pack);
    let (pod, volume) = (Pod::new("pod"), Volume::inline("data", &[("repo", &scene.url())]));
    let mounting = scene.kubelet().begin_set_up(&pod, &volume);
    gate.wait_for(1);
    for pid in process::with_descendants(mounting.id()) {
        let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap();
        assert_eq!(program.file_name(), scene.kubelet().plugin().executable().file_name(), "{}", program.display());
    }
    gate.open();
    mounting.wait().unwrap();
    scene.kubelet().must_tear_down(&pod, &volume);
}

/// It ignored errors of umount: a volume in use counted as unmounted, and with no other user its data was deleted while
/// still in use.
#[test]
fn defect_13_a_tree_in_use_is_not_deleted() {
    let Some(scene) = Scene::new() else { return };
    for volume in [scene.volume("data", &scene.url()), scene.volume("data", &scene.url()).read_only()] {
        let pod = Pod::new("pod");
        let target = scene.kubelet().must_set_up(&pod, &volume);
        // A process that outlives its pod has the volume's directory and a file open.
        let directory = fs::File::open(&target).unwrap();
        let file = fs::File::open(target.join("README.md")).unwrap();
        match scene.kubelet().tear_down(&pod, &volume) {
            Ok(()) => assert_eq!(scene.node.mounts_on(&target), 0, "success means unmounted"),
            Err(failed) => assert!(scene.node.mounts_on(&target) > 0, "{failed:?}"),
        }
        let mut text = String::new();
        std::io::Read::read_to_string(&mut &file, &mut text).unwrap();
        assert_eq!(text, "# Small\n");
        drop((file, directory));
        scene.kubelet().must_tear_down(&pod, &volume);
        scene.node.assert_nothing_set_up();
    }
}

/// Its installer fetched a git executable for amd64 over http, without the programs and libraries that git needs.
#[test]
fn defect_14_the_driver_needs_no_program_of_the_host() {
    let Some(scene) = Scene::new() else { return };
    let (pod, volume) = (Pod::new("pod"), scene.volume("data", &scene.url()));
    let target = scene.kubelet().target(&pod, &volume);
    fs::create_dir_all(&target).unwrap();
    let plugin = scene.kubelet().plugin();
    let without_programs = |arguments: &[&str]| {
        let output = plugin.command(arguments).env_clear().env("PATH", "/nonexistent").output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty());
        assert_eq!(output.stdout, b"{\"status\":\"Success\"}\n");
    };
    without_programs(&["mount", target.to_str().unwrap(), &volume.json(&pod)]);
    scene.assert_shown_on(&target);
    without_programs(&["unmount", target.to_str().unwrap()]);
    scene.kubelet().must_tear_down(&pod, &volume);
}

/// It exited with status 1 on failure, so the kubelet logged all arguments, including the key in base64.
#[test]
fn failures_exit_with_zero_so_that_the_kubelet_logs_no_secret() {
    let Some(scene) = Scene::new() else { return };
    let closed = HttpServer::builder().serve(&scene.repository).accept(Credential::Bearer("right")).start();
    let volume = scene.volume("data", &closed.url(&scene.repository)).with_secret(&[("token", "canary-4Wq7")]);
    scene.fail(&volume);
    scene.fail(&volume.clone().with_option("refresh", "60s"));
    scene.fail(&volume.with_option("no such option", "x"));
    Canaries::new(&["canary-4Wq7"]).assert_absent("the kubelet's log", scene.kubelet().log().as_bytes());
}
