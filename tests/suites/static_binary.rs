//! The static binaries need no libraries, no distribution's files, no `/dev` and no `/tmp`.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use gitrepo_tests::authority::Authority;
use gitrepo_tests::chroot::Chroot;
use gitrepo_tests::fixtures;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::kubelet::flex::Answer;
use gitrepo_tests::kubelet::flex::Volume;
use gitrepo_tests::name_server::Manner;
use gitrepo_tests::name_server::NameServer;
use gitrepo_tests::namespace;
use gitrepo_tests::program;
use gitrepo_tests::program::Outcome;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::require;
use gitrepo_tests::ssh::ClientKey;
use gitrepo_tests::ssh::SshServer;
use gitrepo_tests::tree;
use gitrepo_tests::volumes;

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
const HOST: &str = "git.example.test";

/// Two programs in an otherwise empty root directory, in a network with only the test's servers.
struct Host {
    chroot: Chroot,
    authority: Authority,
}

impl Host {
    /// `None` if it cannot be built or run here.
    fn new() -> Option<Self> {
        if !builds() || !require::root("for a chroot") || !require::tool("chroot") {
            return None;
        }
        let host = Self { chroot: Chroot::mounted(), authority: Authority::new() };
        for name in ["gitrepo-cli", "gitrepo-flex"] {
            host.chroot.install(&program::static_executables().join(name));
        }
        host.chroot.write("etc/gitrepo/config.json", r#"{"store": "/store", "allowLoopback": true}"#);
        host.chroot.trust(&host.authority.ca_pem());
        namespace::private_network();
        Some(host)
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        self.chroot.run("gitrepo-cli", arguments)
    }

    fn assert_clones(&self, url: &str, more: &[&str], repository: &Repository) {
        self.run(&[&["clone", url, "/tree"], more].concat()).assert_success();
        let tree = self.chroot.inside("tree");
        tree::assert_same_tree(repository, &repository.resolve("main"), ".", &tree);
        volumes::delete(&tree);
        assert_eq!(self.chroot.new_mounts(), [] as [String; 0], "the worker's mounts are its own");
    }

    /// Mounts and unmounts a volume with the FlexVolume driver, like the kubelet.
    fn assert_flex_mounts(&self, url: &str, secret: &[(&str, &str)], repository: &Repository) {
        const TARGET: &str = "pods/1-2/volumes/piersharding~gitrepo/site";
        std::fs::create_dir_all(self.chroot.inside(TARGET).parent().unwrap()).unwrap();
        let volume = Volume::inline("site", &[("repo", url)]).read_only().with_secret(secret);
        let target = format!("/{TARGET}");
        self.assert_flex_succeeds(&["mount", &target, &volume.json(&Pod::new("web"))]);
        let shown = self.chroot.inside(TARGET);
        tree::assert_same_tree(repository, &repository.resolve("main"), ".", &shown);
        assert_eq!(self.chroot.new_mounts().len(), 1, "{:?}", self.chroot.new_mounts());
        self.assert_flex_succeeds(&["unmount", &target]);
        assert_eq!(self.chroot.new_mounts(), [] as [String; 0]);
    }

    fn assert_flex_succeeds(&self, arguments: &[&str]) {
        let outcome = self.chroot.run("gitrepo-flex", arguments).assert_success();
        let answer = Answer::decode(outcome.stdout.as_bytes()).unwrap();
        assert_eq!(answer.status, "Success", "{outcome:?}");
        assert_eq!(outcome.stderr, "");
    }

    fn https(&self, repository: &Repository, names: &[&str]) -> HttpServer {
        HttpServer::builder().serve(repository).tls(self.authority.issue(names)).start()
    }
}

fn builds() -> bool {
    require::tool("musl-gcc") && require::feature(rust_builds_for_musl(), "Rust's standard library for musl")
}

fn rust_builds_for_musl() -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output =
        Command::new(rustc).current_dir(env!("CARGO_MANIFEST_DIR")).args(["--print", "sysroot"]).output().unwrap();
    let sysroot = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
    let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    sysroot.join("lib/rustlib").join(target).join("lib").is_dir()
}

#[test]
fn every_program_is_built_without_shared_libraries() {
    if !builds() || !require::tool("ldd") {
        return;
    }
    for name in ["gitrepo-flex", "gitrepo-flex-install", "gitrepo-csi", "gitrepo-cli"] {
        let executable = program::static_executables().join(name);
        let output = Command::new("ldd").arg(&executable).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains("statically linked") || said.contains("not a dynamic"), "{name}: {said}");
    }
}

#[test]
fn https_works_in_an_empty_chroot_with_a_dns_name() {
    let Some(host) = Host::new() else { return };
    let (repository, _) = fixtures::small();
    let server = host.https(&repository, &[HOST]);
    let names = NameServer::start(Manner::Plain, &[(HOST, V4)]);
    let url = server.url_by(HOST, repository.name());
    host.assert_clones(&url, &[], &repository);
    host.assert_flex_mounts(&url, &[], &repository);
    assert!(names.asked().iter().any(|name| name == HOST), "{:?}", names.asked());
}

#[test]
fn a_volume_is_mounted_and_unmounted_in_an_empty_chroot() {
    let Some(host) = Host::new() else { return };
    let repository = fixtures::everything().repository;
    let server = host.https(&repository, &[HOST]);
    let names = NameServer::start(Manner::Plain, &[(HOST, V4)]);
    let url = server.url_by(HOST, repository.name());
    for (target, packs) in [("/first", 1), ("/second", 1)] {
        host.run(&["mount", &url, target, "--store", "/store"]).assert_success();
        let shown = host.chroot.inside(&target[1..]);
        tree::assert_same_tree(&repository, &repository.resolve("main"), ".", &shown);
        assert_eq!(server.packs(), packs, "{target}");
    }
    assert_eq!(host.chroot.new_mounts().len(), 2, "{:?}", host.chroot.new_mounts());
    for target in ["/first", "/second"] {
        host.run(&["unmount", target, "--store", "/store"]).assert_success();
    }
    assert_eq!(host.chroot.new_mounts(), [] as [String; 0]);
    drop(names);
}

#[test]
fn ssh_works_in_an_empty_chroot_with_a_dns_name() {
    if !require::tool("sshd") {
        return;
    }
    let Some(host) = Host::new() else { return };
    let (repository, _) = fixtures::small();
    let key = ClientKey::new();
    let server = SshServer::start(&key);
    let names = NameServer::start(Manner::Plain, &[(HOST, V4)]);
    let known_hosts = server.known_hosts_at(&format!("[{HOST}]:{}", server.port()));
    host.chroot.write("secret/ssh-privatekey", &key.private);
    host.chroot.write("secret/known_hosts", &known_hosts);
    let url = server.url(&repository).replace("127.0.0.1", HOST);
    host.assert_clones(&url, &["--secret-dir", "/secret"], &repository);
    let secret = [("ssh-privatekey", &*key.private), ("known_hosts", &*known_hosts)];
    host.assert_flex_mounts(&url, &secret, &repository);
    drop(names);
}

#[test]
fn a_host_with_only_an_ipv6_address_is_found() {
    let Some(host) = Host::new() else { return };
    if !require::feature(Path::new("/proc/net/if_inet6").exists(), "IPv6") {
        return;
    }
    let (repository, _) = fixtures::small();
    let server = HttpServer::builder().serve(&repository).tls(host.authority.issue(&[HOST])).at(V6).start();
    let names = NameServer::start(Manner::Plain, &[(HOST, V6)]);
    host.assert_clones(&server.url_by(HOST, repository.name()), &[], &repository);
    drop(names);
}

#[test]
fn a_short_name_is_looked_up_in_the_search_domains() {
    let Some(host) = Host::new() else { return };
    let (repository, _) = fixtures::small();
    let server = host.https(&repository, &["git"]);
    let names = NameServer::start(Manner::Plain, &[(HOST, V4)]);
    // Like in a pod.
    host.chroot.write("etc/resolv.conf", "nameserver 127.0.0.1\nsearch other.test example.test\noptions ndots:5\n");
    host.assert_clones(&server.url_by("git", repository.name()), &[], &repository);
    drop(names);
}

#[test]
fn a_truncated_answer_is_requested_again_over_tcp() {
    let Some(host) = Host::new() else { return };
    let (repository, _) = fixtures::small();
    let server = host.https(&repository, &[HOST]);
    let names = NameServer::start(Manner::OnlyOverTcp, &[(HOST, V4)]);
    host.assert_clones(&server.url_by(HOST, repository.name()), &[], &repository);
    assert!(names.connections() > 0);
}

#[test]
fn etc_hosts_comes_before_dns() {
    let Some(host) = Host::new() else { return };
    let (repository, _) = fixtures::small();
    let server = host.https(&repository, &[HOST]);
    let names = NameServer::start(Manner::Plain, &[]);
    host.chroot.write("etc/hosts", &format!("127.0.0.1 {HOST}\n"));
    host.assert_clones(&server.url_by(HOST, repository.name()), &[], &repository);
    assert_eq!(names.asked(), [] as [String; 0]);
}

#[test]
fn the_message_names_a_host_that_does_not_exist() {
    let Some(host) = Host::new() else { return };
    let names = NameServer::start(Manner::Plain, &[]);
    let outcome = host.run(&["clone", &format!("https://{HOST}/site.git"), "/tree"]).assert_code(69);
    assert!(outcome.stderr.contains(HOST) && outcome.stderr.contains("does not resolve"), "{}", outcome.stderr);
    assert!(!host.chroot.inside("tree").exists());
    drop(names);
}

#[test]
fn a_silent_name_server_is_given_up_in_time() {
    let Some(host) = Host::new() else { return };
    let names = NameServer::start(Manner::Silent, &[]);
    let url = format!("https://{HOST}/site.git");
    // The resolver's own timeout, five seconds.
    let begun = Instant::now();
    let outcome = host.run(&["clone", &url, "/tree"]).assert_code(69);
    assert!(outcome.stderr.contains("no name server answered"), "{}", outcome.stderr);
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    // The caller's timeout.
    host.run(&["clone", &url, "/tree", "--timeout", "1s"]).assert_code(75);
    assert!(!names.asked().is_empty());
    assert!(!host.chroot.inside("tree").exists());
}

#[test]
fn an_authority_that_the_host_does_not_trust_is_refused() {
    let Some(host) = Host::new() else { return };
    let (repository, _) = fixtures::small();
    let server = host.https(&repository, &[HOST]);
    let names = NameServer::start(Manner::Plain, &[(HOST, V4)]);
    let url = server.url_by(HOST, repository.name());
    host.chroot.trust(&Authority::new().ca_pem());
    host.run(&["clone", &url, "/tree"]).assert_code(77);
    // The place that Alpine and OpenSSL use.
    volumes::delete(&host.chroot.inside("etc/ssl/certs"));
    host.run(&["clone", &url, "/tree"]).assert_code(77);
    host.chroot.write("etc/ssl/cert.pem", &host.authority.ca_pem());
    host.assert_clones(&url, &[], &repository);
    drop(names);
}
