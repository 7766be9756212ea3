//! A credential goes to no host but its own.

use std::sync::Arc;

use gitrepo_tests::http::Credential;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::http::Request;
use gitrepo_tests::person::Person;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
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
