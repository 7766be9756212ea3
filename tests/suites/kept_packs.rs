//! A completely received pack is not fetched again, even if the process that fetched it failed or died.

use std::fs;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use gitrepo_core::cancel::Cancel;
use gitrepo_core::credentials::Credentials;
use gitrepo_core::error::Kind;
use gitrepo_core::policy::Config;
use gitrepo_core::progress::Progress;
use gitrepo_core::progress::Step;
use gitrepo_core::remote::Git;
use gitrepo_core::spec::RelativePath;
use gitrepo_core::testing::FakeMounter;
use gitrepo_core::watch::Watch;
use gitrepo_core::worker::InProcess;
use gitrepo_tests::fixtures;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::manifests;
use gitrepo_tests::manifests::Object;
use gitrepo_tests::manifests::workspace;
use gitrepo_tests::program;
use gitrepo_tests::program::Program;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::require;
use gitrepo_tests::shell::Shell;
use gitrepo_tests::tree::assert_same_tree;
use gitrepo_tests::volumes;
use gitrepo_tests::volumes::Node;
use gitrepo_tests::volumes::entries;
use gitrepo_tests::volumes::read_only;
use k8s_openapi::api::apps::v1::DaemonSet;
use tempfile::TempDir;

/// Enough files that a kill can interrupt their writing.
const FILES: usize = 1000;

/// A refs answer and a commit take hundreds of bytes, a pack of these files hundreds of thousands.
const NEXT_TO_NOTHING: u64 = 50_000;

/// A store in which a mount was killed after it had received its pack, while it was writing the tree.
struct Killed {
    shell: Shell,
    server: HttpServer,
    repository: Repository,
}

impl Killed {
    fn new() -> Option<Self> {
        let repository = fixtures::many(FILES);
        // The commit is given out once more, as the proof that a killed mount had no time to record.
        repository.configure("uploadpack.allowFilter", "true");
        let server = HttpServer::start(&repository);
        // If the mount ends before the kill, try again with a new store.
        let shell = (0..10).find_map(|_| {
            let shell = Shell::new(512 << 20)?;
            let mounting = shell.spawn_mount(&server.url(&repository), &shell.target("killed"), &[]);
            wait_for_tree(&shell);
            mounting.kill();
            entries(&shell.store().join("snapshots")).is_empty().then_some(shell)
        });
        if shell.is_none() {
            assert_eq!(server.packs(), 0, "every mount ended before it could be killed");
        }
        Some(Self { shell: shell?, server, repository })
    }

    /// Bytes and packs that the server sends for a successful mount.
    fn cost_of_mounting(&self, pod: &str) -> (u64, usize) {
        self.server.settle();
        let (bytes, packs) = (self.server.bytes_sent(), self.server.packs());
        let target = self.shell.target(pod);
        self.shell.mount(&self.server.url(&self.repository), &target, &[]).assert_success();
        assert_same_tree(&self.repository, "main", ".", &target);
        self.server.settle();
        (self.server.bytes_sent() - bytes, self.server.packs() - packs)
    }

    fn pack(&self) -> PathBuf {
        let place = dead_staging(&self.shell).join("repository.git/objects/pack");
        entries(&place).into_iter().find(|path| path.extension().is_some_and(|end| end == "pack")).expect("a pack")
    }

    fn assert_nothing_left(&self, pod: &str) {
        self.shell.unmount(&self.shell.target(pod)).assert_success();
        self.shell.run(&["sweep"]).assert_success();
        assert_eq!(self.shell.leftovers(), [] as [PathBuf; 0]);
    }
}

fn dead_staging(shell: &Shell) -> PathBuf {
    entries(&shell.store().join("staging")).pop().expect("a staging directory")
}

fn wait_for_tree(shell: &Shell) {
    let patience = Instant::now() + Duration::from_secs(60);
    while !entries(&shell.store().join("staging")).iter().any(|staging| staging.join("tree").exists()) {
        assert!(Instant::now() < patience, "no tree is being written");
        std::thread::yield_now();
    }
}

#[test]
fn a_pack_received_before_a_kill_is_not_fetched_again() {
    let Some(killed) = Killed::new() else { return };
    let (bytes, packs) = killed.cost_of_mounting("next");
    assert_eq!(packs, 0);
    assert!(bytes < NEXT_TO_NOTHING, "{bytes} bytes");
    killed.assert_nothing_left("next");
}

#[test]
fn sweeps_between_a_kill_and_the_next_mount_lose_no_pack() {
    let Some(killed) = Killed::new() else { return };
    // The mount of another volume runs a short sweep.
    let (other, _) = fixtures::small();
    let server = HttpServer::start(&other);
    killed.shell.mount(&server.url(&other), &killed.shell.target("other"), &[]).assert_success();
    killed.shell.unmount(&killed.shell.target("other")).assert_success();
    killed.shell.run(&["sweep"]).assert_success();
    assert_eq!(killed.shell.leftovers(), [] as [PathBuf; 0]);
    let (bytes, packs) = killed.cost_of_mounting("next");
    assert_eq!(packs, 0);
    assert!(bytes < NEXT_TO_NOTHING, "{bytes} bytes");
    killed.assert_nothing_left("next");
}

/// `gitrepo-cli` run by root with only the capabilities of the FlexVolume installer's container.
fn with_the_rights_of_the_installer(place: &Path) -> Option<Program> {
    if !require::tool("setpriv") {
        return None;
    }
    let manifest = workspace().join("deploy/flexvolume/base/daemonset.yaml");
    let objects = manifests::parse(&fs::read_to_string(manifest).unwrap()).unwrap();
    let pod = objects.iter().find_map(Object::get::<DaemonSet>).unwrap().spec.template.spec.unwrap();
    let capabilities = pod.containers[0].security_context.clone().unwrap().capabilities.unwrap();
    let kept: String = capabilities.add.unwrap().iter().map(|name| format!(",+{}", name.to_lowercase())).collect();
    let script = place.join("installer");
    let [setpriv, cli] = [require::find("setpriv").unwrap(), program::executable("gitrepo-cli")];
    let line = format!("exec {} --bounding-set=-all{kept} {} \"$@\"", setpriv.display(), cli.display());
    fs::write(&script, format!("#!/bin/sh\n{line}\n")).unwrap();
    fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    Some(Program::new(script))
}

#[test]
fn the_installers_capabilities_are_enough_to_keep_a_pack() {
    let Some(killed) = Killed::new() else { return };
    let place = TempDir::new().unwrap();
    let Some(installer) = with_the_rights_of_the_installer(place.path()) else { return };
    let store = killed.shell.store();
    // On such a small disk, the default reserve would remove the pack.
    let configuration = place.path().join("config.json");
    fs::write(&configuration, r#"{"cache": {"reserveBytes": "0"}}"#).unwrap();
    let [store_text, configuration] = [&store, &configuration].map(|path| path.to_str().unwrap());
    installer.run(["sweep", "--store", store_text, "--config", configuration]).assert_success();
    assert_eq!(entries(&store.join("staging")), [] as [PathBuf; 0]);
    let (bytes, packs) = killed.cost_of_mounting("next");
    assert_eq!(packs, 0);
    assert!(bytes < NEXT_TO_NOTHING, "{bytes} bytes");
}

#[test]
fn an_incomplete_pack_is_fetched_again() {
    let Some(killed) = Killed::new() else { return };
    let pack = File::options().write(true).open(killed.pack()).unwrap();
    pack.set_len(pack.metadata().unwrap().len() / 2).unwrap();
    drop(pack);
    let (_, packs) = killed.cost_of_mounting("next");
    assert_eq!(packs, 1);
    killed.assert_nothing_left("next");
}

/// A node whose workers are threads, and a server with a repository of some files.
struct Scene {
    place: TempDir,
    server: HttpServer,
    repository: Repository,
}

impl Scene {
    fn new() -> Self {
        let repository = fixtures::many(200);
        Self { place: TempDir::new().unwrap(), server: HttpServer::start(&repository), repository }
    }

    fn node(&self, change: impl FnOnce(&mut Config)) -> Node {
        let mut config = volumes::config();
        change(&mut config);
        let worker = InProcess::new(Arc::new(Git::default()));
        Node::new(self.place.path(), config, Arc::new(worker), Arc::new(FakeMounter::new()))
    }

    fn assert_published_without_a_pack(&self) {
        self.server.settle();
        let (bytes, node) = (self.server.bytes_sent(), self.node(|_| {}));
        let target = node.target("next");
        node.publish(&read_only(&self.server.url(&self.repository), &target)).unwrap();
        assert_same_tree(&self.repository, "main", ".", &node.shown(&target));
        assert_eq!(self.server.packs(), 1);
        assert!(self.server.bytes_sent() - bytes < NEXT_TO_NOTHING);
        assert_eq!(entries(&node.store().join("staging")), [] as [&Path; 0]);
    }
}

#[test]
fn a_pack_without_the_requested_directory_is_not_fetched_again() {
    let scene = Scene::new();
    let node = scene.node(|_| {});
    for pod in ["first", "second"] {
        let mut request = read_only(&scene.server.url(&scene.repository), &node.target(pod));
        request.spec.tree.subdirectory = RelativePath::parse("missing").unwrap();
        assert_eq!(node.publish(&request).unwrap_err().kind(), Kind::NotFound);
    }
    assert_eq!(entries(&node.store().join("staging")), [] as [&Path; 0]);
    scene.assert_published_without_a_pack();
}

#[test]
fn a_pack_whose_tree_is_refused_is_dropped() {
    let scene = Scene::new();
    let strict = scene.node(|config| config.limits.entries = 1);
    for pod in ["first", "second"] {
        let request = read_only(&scene.server.url(&scene.repository), &strict.target(pod));
        assert_eq!(strict.publish(&request).unwrap_err().kind(), Kind::ResourceExhausted);
    }
    assert_eq!(entries(&strict.store().join("staging")), [] as [&Path; 0]);
    assert_eq!(entries(&strict.store().join("repositories")), [] as [&Path; 0]);
}

/// Cancels the publish once the tree is being written.
struct GivesUp(Cancel);

impl Progress for GivesUp {
    fn report(&self, step: &Step) {
        if matches!(step, Step::Writing { .. }) {
            self.0.cancel();
        }
    }
}

#[test]
fn a_pack_whose_publish_is_given_up_is_not_fetched_again() {
    let scene = Scene::new();
    let node = scene.node(|_| {});
    let cancel = Cancel::new();
    let watch = Watch::new(cancel.clone(), Arc::new(GivesUp(cancel)));
    let request = read_only(&scene.server.url(&scene.repository), &node.target("first"));
    assert_eq!(node.volumes.publish(&request, &Credentials::none(), &watch).unwrap_err().kind(), Kind::Cancelled);
    assert_eq!(entries(&node.store().join("snapshots")), [] as [&Path; 0]);
    scene.assert_published_without_a_pack();
}
