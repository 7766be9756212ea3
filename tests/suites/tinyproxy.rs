//! tinyproxy between us and the servers, with git beside us.

use gitrepo_tests::authority::Authority;
use gitrepo_tests::fixtures;
use gitrepo_tests::git;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::namespace;
use gitrepo_tests::person::Person;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::require;
use gitrepo_tests::tinyproxy::Tinyproxy;
use gitrepo_tests::tree;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

const USER: &str = "alice";
const PASSWORD: &str = "canary-s3cret";

/// A network with a proxy, two servers of one repository, and a user who trusts the one with TLS.
struct Scene {
    proxy: Tinyproxy,
    repository: Repository,
    authority: Authority,
    servers: [HttpServer; 2],
    person: Person,
}

impl Scene {
    /// `None` where it cannot be.
    fn new(login: Option<(&str, &str)>) -> Option<Self> {
        if !require::root("for a network of its own") || !require::tool("tinyproxy") {
            return None;
        }
        namespace::private_network();
        let (repository, _) = fixtures::small();
        let authority = Authority::new();
        let plain = HttpServer::start(&repository);
        let encrypted = HttpServer::builder().serve(&repository).tls(authority.issue_for_loopback()).start();
        let proxy = Tinyproxy::start(login);
        Some(Self { proxy, repository, authority, servers: [plain, encrypted], person: Person::new() })
    }

    /// The file of a login, as a secret has it.
    fn login(&self, text: &str) -> Value {
        let directory = self.person.secret(&[("login", text)]);
        json!(format!("{}/login", directory.strip_prefix("--secret-dir=").unwrap()))
    }

    /// Clones from both servers with this configuration of the proxy; returns the exit statuses and what was said.
    fn clone(&self, proxy: &Value) -> Vec<(i32, String)> {
        let configuration = self.person.configuration(&json!({ "proxy": proxy }).to_string());
        let secret = self.person.secret(&[("ca.crt", &self.authority.ca_pem())]);
        let clone = |server: &HttpServer| {
            let outcome = self.person.clone(&server.url(&self.repository), &[&configuration, &secret]);
            if outcome.status.success() {
                let commit = self.repository.resolve("main");
                tree::assert_same_tree(&self.repository, &commit, ".", &self.person.tree());
                self.person.discard_tree();
            }
            assert!(!outcome.stderr.contains(PASSWORD), "{}", outcome.stderr);
            (outcome.code(), outcome.stderr)
        };
        self.servers.iter().map(clone).collect()
    }

    /// Whether git clones from both servers through this proxy.
    fn git_clones(&self, proxy: &str) -> [bool; 2] {
        let trust = format!("http.sslCAInfo={}", self.authority.ca_file().display());
        self.servers.each_ref().map(|server| {
            let place = TempDir::new().unwrap();
            let mut clone = git::command(place.path());
            clone.args(["-c", &trust, "-c", &format!("http.proxy={proxy}"), "clone", "--quiet"]);
            clone.args([&server.url(&self.repository), "tree"]).output().unwrap().status.success()
        })
    }

    /// What the proxy was asked for since `before`.
    fn asked(&self, before: usize) -> Vec<String> {
        self.proxy.requests().split_off(before)
    }
}

#[test]
fn http_and_https_go_through_a_proxy() {
    let Some(scene) = Scene::new(None) else { return };
    assert_eq!(scene.git_clones(&scene.proxy.url()), [true, true]);
    for proxy in [json!({ "url": scene.proxy.url() }), json!(scene.proxy.url())] {
        let before = scene.proxy.requests().len();
        for (code, said) in scene.clone(&proxy) {
            assert_eq!(code, 0, "{said}");
        }
        let asked = scene.asked(before);
        let [plain, encrypted] = scene.servers.each_ref().map(HttpServer::port);
        assert!(asked.iter().any(|line| line.starts_with(&format!("GET http://127.0.0.1:{plain}/"))), "{asked:?}");
        assert!(asked.iter().any(|line| line.starts_with(&format!("CONNECT 127.0.0.1:{encrypted} "))), "{asked:?}");
    }
}

#[test]
fn a_proxy_gets_its_login_and_a_wrong_or_missing_one_is_told() {
    let Some(scene) = Scene::new(Some((USER, PASSWORD))) else { return };
    let url = scene.proxy.url();
    assert_eq!(scene.git_clones(&url.replace("://", &format!("://{USER}:{PASSWORD}@"))), [true, true]);
    assert_eq!(scene.git_clones(&url), [false, false]);
    for login in [format!("{USER}\n{PASSWORD}\n"), format!("{USER}:{PASSWORD}")] {
        for (code, said) in scene.clone(&json!({ "url": url, "credentialsFile": scene.login(&login) })) {
            assert_eq!(code, 0, "{said}");
        }
    }
    let count = |server: &HttpServer| server.connections();
    let before = scene.servers.each_ref().map(count);
    for (code, said) in scene.clone(&json!({ "url": url })) {
        assert_eq!(code, 64, "{said}");
        assert!(said.contains(&url) && said.contains("wants a user and a password"), "{said}");
    }
    // tinyproxy answers a wrong login like a server, with 401.
    let wrong = json!({ "url": url, "credentialsFile": scene.login(&format!("{USER}:wrong")) });
    for (code, said) in scene.clone(&wrong) {
        assert!(code == 64 || code == 77, "{code}: {said}");
    }
    assert_eq!(scene.servers.each_ref().map(count), before, "the servers are not asked");
}

#[test]
fn what_the_exceptions_name_goes_straight() {
    let Some(scene) = Scene::new(None) else { return };
    for exception in ["127.0.0.1", "127.0.0.0/8"] {
        for (code, said) in scene.clone(&json!({ "url": scene.proxy.url(), "noProxy": [exception] })) {
            assert_eq!(code, 0, "{said}");
        }
    }
    assert_eq!(scene.proxy.requests(), [] as [String; 0]);
}
