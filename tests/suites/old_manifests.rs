//! Manifests of the bash driver work unchanged: `repo`, `hostTarget` and the secret's `sshKey`.

use std::fs;
use std::path::Path;

use gitrepo_tests::fixtures;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::kubelet::flex::Node;
use gitrepo_tests::kubelet::flex::Volume;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::require;
use gitrepo_tests::ssh::Algorithm;
use gitrepo_tests::ssh::ClientKey;
use gitrepo_tests::ssh::Format;
use gitrepo_tests::ssh::SshServer;
use gitrepo_tests::tree::assert_same_tree;
use serde_json::json;

/// A node as its admin configures it for the new driver: the old directories are listed, and the node knows the host
/// keys, which the old driver never checked.
struct Scene {
    node: Node,
    repository: Repository,
    commit: String,
}

impl Scene {
    fn new(known_hosts: &str) -> Option<Self> {
        let node = Node::new(128 << 20)?;
        let file = node.home().join("known_hosts");
        fs::write(&file, known_hosts).unwrap();
        let roots = [node.home().join("data/images"), node.directory("images")];
        node.configure(&json!({"hostTargetRoots": roots, "hostKeys": {"file": file}}));
        let (repository, commit) = fixtures::small();
        Some(Self { node, repository, commit })
    }

    /// Every combination of options that the old driver had.
    fn option_sets(&self, repo: &str) -> Vec<Vec<(&'static str, String)>> {
        let home = self.node.home();
        let targets =
            [None, Some(home.join("images")), Some(home.join("data/images")), Some(home.join("images/nginx"))];
        let with = |target: Option<std::path::PathBuf>| {
            let target = target.map(|target| ("hostTarget", target.display().to_string()));
            [("repo", repo.to_owned())].into_iter().chain(target).collect()
        };
        targets.into_iter().map(with).collect()
    }

    fn assert_works(&self, repo: &str, secret: &[(&str, &str)]) {
        for options in self.option_sets(repo) {
            let options: Vec<_> = options.iter().map(|(key, value)| (*key, value.as_str())).collect();
            for make in [Volume::inline, Volume::persistent] {
                let volume = make("gitrepo-data", &options).with_secret(secret);
                self.assert_two_pods(&volume.clone().read_only());
                self.assert_two_pods(&volume);
            }
        }
    }

    /// Asserts that two pods of one volume see the repository's files at the volume's root, without `.git`, and share
    /// their writes.
    fn assert_two_pods(&self, volume: &Volume) {
        let pods = ["nginx-deployment1", "nginx-deployment2"].map(Pod::new);
        let targets = pods.each_ref().map(|pod| self.node.kubelet().must_set_up(pod, volume));
        for target in &targets {
            assert_eq!(self.node.mounts_on(target), 1);
            assert_same_tree(&self.repository, &self.commit, ".", target);
        }
        let written = fs::write(targets[0].join("index.html"), "hello\n");
        assert_eq!(written.is_ok(), !volume.is_read_only(), "{written:?}");
        assert_eq!(exists(&targets[1].join("index.html")), !volume.is_read_only());
        pods.iter().for_each(|pod| self.node.kubelet().must_tear_down(pod, volume));
        self.node.assert_nothing_set_up();
    }
}

fn exists(path: &Path) -> bool {
    path.try_exists().unwrap()
}

#[test]
fn every_old_option_set_works_over_http() {
    let Some(scene) = Scene::new("") else { return };
    let server = HttpServer::start(&scene.repository);
    scene.assert_works(&server.url(&scene.repository), &[]);
    // One fetch per store.
    assert_eq!(server.packs(), 3);
}

#[test]
fn every_old_option_set_works_over_ssh_with_the_old_secret() {
    if !require::tool("sshd") {
        return;
    }
    let key = ClientKey::generate(Algorithm::Rsa, Format::Pem, None);
    let server = SshServer::start(&key);
    let Some(scene) = Scene::new(&server.known_hosts()) else { return };
    scene.assert_works(&server.url(&scene.repository), &[("sshKey", &key.private)]);
}

/// Old secrets have keys of every kind, with and without a final newline.
#[test]
fn old_keys_of_every_kind_work() {
    if !require::tool("sshd") {
        return;
    }
    for (algorithm, format, key) in ClientKey::all_kinds().into_iter().filter(|(_, _, key)| key.passphrase.is_none()) {
        let server = SshServer::start(&key);
        let Some(scene) = Scene::new(&server.known_hosts()) else { return };
        for private in [key.private.clone(), key.private.trim_end().to_owned(), key.private.replace('\n', "\r\n")] {
            let volume = Volume::persistent("data", &[("repo", &server.url(&scene.repository))]).read_only();
            let volume = volume.with_secret(&[("sshKey", &private)]);
            let pod = Pod::new(&format!("{algorithm:?}-{format:?}"));
            scene.node.kubelet().must_set_up(&pod, &volume);
            scene.node.kubelet().must_tear_down(&pod, &volume);
        }
    }
}

/// The message tells the pod's owner what to ask the admin for.
#[test]
fn an_unlisted_host_target_is_refused_with_the_listed_ones() {
    let Some(scene) = Scene::new("") else { return };
    let server = HttpServer::start(&scene.repository);
    let options = [("repo", &*server.url(&scene.repository)), ("hostTarget", "/mnt/elsewhere")];
    let failed = scene.node.kubelet().set_up(&Pod::new("pod"), &Volume::inline("v", &options)).unwrap_err();
    let listed = scene.node.home().join("images").display().to_string();
    assert!(failed.reason.contains("/mnt/elsewhere") && failed.reason.contains(&listed), "{failed:?}");
    assert!(!exists(Path::new("/mnt/elsewhere")));
    scene.node.assert_nothing_set_up();
}

/// The most common hosts are known without configuration. Others need a line in the node's known_hosts.
#[test]
fn with_an_unknown_host_key_an_old_secret_is_refused_with_the_line_to_add() {
    if !require::tool("sshd") {
        return;
    }
    let key = ClientKey::new();
    let server = SshServer::start(&key);
    let Some(scene) = Scene::new("") else { return };
    let volume = Volume::persistent("data", &[("repo", &server.url(&scene.repository))]);
    let volume = volume.with_secret(&[("sshKey", &key.private)]);
    let failed = scene.node.kubelet().set_up(&Pod::new("pod"), &volume).unwrap_err();
    let line = format!("[127.0.0.1]:{} ", server.port());
    let at = failed.reason.rfind(&line).unwrap_or_else(|| panic!("no line for known_hosts in {}", failed.reason));
    let offered: Vec<&str> = failed.reason[at..].split([' ', '"', '\n', ';']).take(3).collect();
    let file = scene.node.home().join("known_hosts");
    fs::write(file, offered.join(" ") + "\n").unwrap();
    let pod = Pod::new("pod");
    scene.node.kubelet().must_set_up(&pod, &volume);
    scene.node.kubelet().must_tear_down(&pod, &volume);
    scene.node.assert_nothing_set_up();
}
