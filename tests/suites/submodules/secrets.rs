//! A credential goes to no host but its own.

use std::net::Ipv4Addr;
use std::sync::Arc;

use gitrepo_tests::http::Credential;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::http::Request;
use gitrepo_tests::person::Person;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::require;
use gitrepo_tests::ssh::ClientKey;
use gitrepo_tests::ssh::SshServer;
use gitrepo_tests::submodules::Submodule;
use gitrepo_tests::submodules::with_submodules;

use super::RECURSIVE;

const OWN: &str = "canary-own-5Xw2";
const OTHER: &str = "canary-other-8Lm4";

/// A private superproject, and a submodule on another host.
struct TwoHosts {
    person: Person,
    url: String,
    /// Of the submodule, by a name that is another host's.
    submodule: String,
    other: HttpServer,
    _own: HttpServer,
    _repositories: [Repository; 2],
}

fn header(token: &str) -> String {
    format!("Bearer {token}")
}

impl TwoHosts {
    /// The host of the submodule is `localhost`, or that of the superproject at another port.
    fn new(host: &str, accepted: &[Credential]) -> Self {
        let [super_project, sub] = ["super", "sub"].map(Repository::new);
        let commit = sub.commit("main", &Files::new().file("x", "x"));
        let other = accepted.iter().fold(HttpServer::builder().serve(&sub), |server, one| server.accept(one.clone()));
        let other = other.start();
        let submodule = other.url_by(host, "sub.git");
        let submodules = [Submodule { path: "lib/sub", url: &submodule, commit: &commit }];
        super_project.commit("main", &with_submodules(Files::new(), &submodules));
        let own = HttpServer::builder().serve(&super_project).accept(Credential::Bearer(OWN)).start();
        let url = own.url(&super_project);
        Self { person: Person::new(), url, submodule, other, _own: own, _repositories: [super_project, sub] }
    }

    fn clone(&self, keys: &[(&str, &str)]) -> gitrepo_tests::program::Outcome {
        let configuration = self.person.configuration(r#"{"credentialsOverHttp": true}"#);
        let secret = self.person.secret(keys);
        self.person.clone(&self.url, &[RECURSIVE, "-vv", &configuration, &secret])
    }

    /// Fails if the submodule's server was shown another credential than this one.
    fn assert_shown_at_most(&self, token: Option<&str>) {
        let expected = token.map(header);
        let wrong =
            |request: &&Arc<Request>| request.authorization().is_some_and(|shown| Some(shown) != expected.as_deref());
        assert!(self.other.requests().iter().find(wrong).is_none(), "another credential was sent");
    }
}

#[test]
fn s13_the_superprojects_credential_is_not_sent_to_another_host_nor_to_another_port_of_its_own() {
    for host in ["localhost", "127.0.0.1"] {
        let hosts = TwoHosts::new(host, &[Credential::Bearer(OTHER)]);
        let refused = hosts.clone(&[("token", OWN)]).assert_code(77);
        let words = refused.stderr.lines().last().unwrap_or_default();
        for part in ["\"lib/sub\"", &hosts.submodule, &format!("{host}.token")] {
            assert!(refused.stderr.contains(part), "{part}: {words}");
        }
        assert!(!refused.stderr.contains(OWN), "{}", refused.stderr);
        assert!(!hosts.other.requests().is_empty());
        hosts.assert_shown_at_most(None);
        hosts.person.assert_nothing_left();
    }
}

#[test]
fn a_key_with_the_hosts_prefix_opens_the_submodule() {
    let hosts = TwoHosts::new("localhost", &[Credential::Bearer(OTHER)]);
    hosts.clone(&[("token", OWN), ("localhost.token", OTHER)]).assert_success();
    assert_eq!(std::fs::read(hosts.person.tree().join("lib/sub/x")).unwrap(), b"x");
    hosts.assert_shown_at_most(Some(OTHER));
}

#[test]
fn a_public_submodule_on_another_host_needs_no_credential_and_gets_none() {
    let hosts = TwoHosts::new("localhost", &[]);
    hosts.clone(&[("token", OWN), ("third.example.com.token", OTHER)]).assert_success();
    hosts.assert_shown_at_most(None);
}

/// Addresses of the loopback, each a host of its own.
const HOSTS: [[u8; 4]; 3] = [[127, 0, 0, 1], [127, 0, 0, 2], [127, 0, 0, 3]];

/// A superproject, its submodule `lib`, and `lib/in`, at these hosts. Returns the URL of each.
fn one_in_another(url_of: impl Fn(usize, &Repository) -> String) -> ([Repository; 3], [String; 3]) {
    let repositories = ["super", "middle", "leaf"].map(Repository::new);
    let urls = [0, 1, 2].map(|at| url_of(at, &repositories[at]));
    let [whole, middle, leaf] = &repositories;
    let in_leaf = leaf.commit("main", &Files::new().file("x", "leaf"));
    let inner = Submodule { path: "in", url: &urls[2], commit: &in_leaf };
    let in_middle = middle.commit("main", &with_submodules(Files::new().file("x", "middle"), &[inner]));
    let outer = Submodule { path: "lib", url: &urls[1], commit: &in_middle };
    whole.commit("main", &with_submodules(Files::new(), &[outer]));
    (repositories, urls)
}

fn assert_has_all(person: &Person) {
    for (path, content) in [("lib/x", "middle"), ("lib/in/x", "leaf")] {
        assert_eq!(std::fs::read_to_string(person.tree().join(path)).unwrap(), content);
    }
}

/// Fails unless the clone was refused for the submodule at this path and URL, and left nothing.
fn assert_refused_for(person: &Person, outcome: gitrepo_tests::program::Outcome, path: &str, url: &str) {
    let refused = outcome.assert_code(77);
    let url = url.replace(&format!("{}@", gitrepo_tests::ssh::user()), "");
    let words = format!("{:?}", refused.stderr);
    assert!(refused.stderr.contains(&format!("{path:?}")), "{path}: {words}");
    assert!(refused.stderr.contains(url.rsplit_once("://").unwrap().1), "{url}: {words}");
    person.assert_nothing_left();
}

#[test]
fn each_host_of_submodules_in_each_other_gets_its_own_ssh_key() {
    if !require::tool("sshd") {
        return;
    }
    let keys = [(); 3].map(|()| ClientKey::new());
    let start = |at: usize| SshServer::builder().authorize(&keys[at]).at((Ipv4Addr::from(HOSTS[at]), 0).into()).start();
    let servers = [0, 1, 2].map(start);
    let (_repositories, urls) = one_in_another(|at, repository| servers[at].url(repository));
    let person = Person::new();
    let clone = |of_second: Option<&ClientKey>, of_third: Option<&ClientKey>| {
        let known: Vec<_> = servers.iter().map(SshServer::known_hosts).collect();
        let mut secret = vec![("ssh-privatekey", &*keys[0].private), ("known_hosts", &known[0])];
        if let Some(key) = of_second {
            secret.extend([("127.0.0.2.ssh-privatekey", &*key.private), ("127.0.0.2.known_hosts", &known[1])]);
        }
        if let Some(key) = of_third {
            secret.extend([("127.0.0.3.ssh-privatekey", &*key.private), ("127.0.0.3.known_hosts", &known[2])]);
        }
        person.clone(&urls[0], &[RECURSIVE, &person.secret(&secret)])
    };
    let sessions = || servers.each_ref().map(SshServer::sessions);
    assert_refused_for(&person, clone(None, Some(&keys[2])), "lib", &urls[1]);
    assert_eq!(sessions()[1..], [0, 0], "the superproject's key was used elsewhere");
    assert_refused_for(&person, clone(Some(&keys[1]), Some(&keys[1])), "lib/in", &urls[2]);
    assert_refused_for(&person, clone(Some(&keys[2]), Some(&keys[1])), "lib", &urls[1]);
    assert_eq!(sessions()[2], 0);
    clone(Some(&keys[1]), Some(&keys[2])).assert_success();
    assert_has_all(&person);
}

#[test]
fn each_host_of_submodules_in_each_other_gets_its_own_password() {
    let credentials = ["one", "two", "three"].map(|password| Credential::Basic("same", password));
    let start =
        |at: usize| HttpServer::builder().accept(credentials[at].clone()).at(Ipv4Addr::from(HOSTS[at]).into()).start();
    let servers = [0, 1, 2].map(start);
    let (repositories, urls) =
        one_in_another(|at, repository| servers[at].url_by(&Ipv4Addr::from(HOSTS[at]).to_string(), repository.name()));
    servers.iter().zip(&repositories).for_each(|(server, repository)| server.add(repository));
    let person = Person::new();
    let configuration = person.configuration(r#"{"credentialsOverHttp": true}"#);
    let clone = |second: &str, third: &str| {
        let secret = person.secret(&[
            ("username", "same"),
            ("password", "one"),
            ("127.0.0.2.username", "same"),
            ("127.0.0.2.password", second),
            ("127.0.0.3.username", "same"),
            ("127.0.0.3.password", third),
        ]);
        person.clone(&urls[0], &[RECURSIVE, &configuration, &secret])
    };
    assert_refused_for(&person, clone("two", "two"), "lib/in", &urls[2]);
    clone("two", "three").assert_success();
    assert_has_all(&person);
    // The first two servers saw their own alone.
    for (server, credential) in servers.iter().zip(&credentials).take(2) {
        let requests = server.requests();
        let mut shown = requests.iter().filter_map(|request| request.authorization()).peekable();
        assert!(shown.peek().is_some());
        assert!(shown.all(|shown| shown == credential.header()), "another credential was sent");
    }
}
