//! The way to a server through a proxy: with and without login, by configuration and by environment.

use gitrepo_tests::authority::Authority;
use gitrepo_tests::canaries::Canaries;
use gitrepo_tests::fixtures;
use gitrepo_tests::http::Credential;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::person::Person;
use gitrepo_tests::program::Program;
use gitrepo_tests::proxy::Proxy;
use gitrepo_tests::repository::Repository;
use serde_json::json;

const USER: &str = "canary-user-7Hd2";
const PASSWORD: &str = "canary-p:ss-8Kw3";

/// A host that only the proxies know.
const HOST: &str = "git.inside.example";

/// Two servers with one repository, and a user who trusts the one with TLS.
struct Bench {
    repository: Repository,
    plain: HttpServer,
    encrypted: HttpServer,
    person: Person,
    secret: String,
}

impl Bench {
    fn new() -> Self {
        let (repository, _) = fixtures::small();
        let authority = Authority::new();
        let plain = HttpServer::start(&repository);
        let identity = authority.issue(&[HOST, "localhost", "127.0.0.1"]);
        let encrypted =
            HttpServer::builder().serve(&repository).tls(identity).accept(Credential::Bearer("t0k3n")).start();
        let person = Person::new();
        let secret = person.secret(&[("ca.crt", &authority.ca_pem()), ("token", "t0k3n")]);
        Self { repository, plain, encrypted, person, secret }
    }

    fn urls(&self) -> [String; 2] {
        [self.plain.url_by(HOST, self.repository.name()), self.encrypted.url_by(HOST, self.repository.name())]
    }

    /// Clones over both servers, through the proxy of this configuration.
    fn assert_clones(&self, configuration: &str) {
        for (url, secret) in self.urls().iter().zip([None, Some(&*self.secret)]) {
            let more: Vec<_> = [configuration].into_iter().chain(secret).collect();
            self.person.clone(url, &more).assert_success();
            self.person.assert_tree_alone();
            self.person.discard_tree();
        }
    }

    /// Fails to clone over both servers, with `words`, and without showing the login.
    fn assert_refused(&self, configuration: &str, code: i32, words: &str) {
        for (url, secret) in self.urls().iter().zip([None, Some(&*self.secret)]) {
            let more: Vec<_> = [configuration, "-vv"].into_iter().chain(secret).collect();
            let outcome = self.person.clone(url, &more).assert_code(code);
            assert!(outcome.stderr.contains(words), "{words}: {}", outcome.stderr);
            canaries().assert_absent("standard error", outcome.stderr.as_bytes());
            self.person.assert_nothing_left();
        }
        assert_eq!(self.plain.connections() + self.encrypted.connections(), 0);
    }

    /// A configuration with this proxy and the content of its credentials file.
    fn configuration(&self, url: &str, login: Option<&str>) -> String {
        let file = login.map(|login| {
            let directory = self.person.secret(&[("login", login)]);
            format!("{}/login", directory.strip_prefix("--secret-dir=").unwrap())
        });
        self.person.configuration(&json!({ "proxy": { "url": url, "credentialsFile": file } }).to_string())
    }
}

fn canaries() -> Canaries {
    Canaries::new(&[USER, PASSWORD]).with_login(USER, PASSWORD)
}

#[test]
fn a_proxy_leads_to_hosts_that_only_it_knows() {
    let bench = Bench::new();
    let proxy = Proxy::start();
    let (plain, encrypted) = (bench.plain.port(), bench.encrypted.port());
    bench.assert_clones(&bench.configuration(&proxy.http(), None));
    let asked = proxy.asked();
    assert!(
        asked.contains(&format!("GET {HOST}:{plain}")) && asked.contains(&format!("POST {HOST}:{plain}")),
        "{asked:?}"
    );
    assert!(asked.contains(&format!("CONNECT {HOST}:{encrypted}")), "{asked:?}");
    bench.assert_clones(&bench.configuration(&proxy.socks(), None));
    let asked = proxy.asked();
    for port in [plain, encrypted] {
        assert!(asked.contains(&format!("SOCKS {HOST}:{port}")), "{asked:?}");
    }
    // The older form of the field.
    bench.assert_clones(&bench.person.configuration(&json!({ "proxy": proxy.http() }).to_string()));
}

#[test]
fn a_proxy_gets_the_login_that_it_wants_and_the_server_does_not() {
    let bench = Bench::new();
    let proxy = Proxy::with_login(USER, PASSWORD);
    for url in [proxy.http(), proxy.socks()] {
        for login in [format!("{USER}\n{PASSWORD}\n"), format!("{USER}:{PASSWORD}")] {
            bench.assert_clones(&bench.configuration(&url, Some(&login)));
        }
    }
    for request in bench.plain.requests().iter().chain(&bench.encrypted.requests()) {
        assert_eq!(request.header("proxy-authorization"), None);
    }
}

#[test]
fn a_login_that_is_missing_or_wrong_is_told_finally() {
    let bench = Bench::new();
    let proxy = Proxy::with_login("somebody", "else");
    for url in [proxy.http(), proxy.socks()] {
        bench.assert_refused(&bench.configuration(&url, None), 64, "wants a user and a password");
        let wrong = format!("{USER}\n{PASSWORD}");
        bench.assert_refused(&bench.configuration(&url, Some(&wrong)), 64, "refuses the user and password");
        bench.assert_refused(
            &bench.configuration(&url, Some(PASSWORD.trim_start_matches("canary-p:"))),
            64,
            "user:password",
        );
    }
    assert!(proxy.asked().is_empty());
}

#[test]
fn a_proxy_that_is_down_is_unavailable() {
    let bench = Bench::new();
    let closed = gitrepo_tests::hostile::ClosedPort::reserve();
    for scheme in ["http", "socks5"] {
        let url = format!("{scheme}://127.0.0.1:{}", closed.port());
        bench.assert_refused(&bench.configuration(&url, None), 69, "refused");
    }
}

#[test]
fn hosts_of_no_proxy_are_reached_straight() {
    let bench = Bench::new();
    let proxy = Proxy::start();
    let url = bench.plain.url(&bench.repository);
    let port = bench.plain.port();
    let clone = |exceptions: &[&str]| {
        let before = proxy.connections();
        let json = json!({ "proxy": { "url": proxy.http(), "noProxy": exceptions } });
        bench.person.clone(&url, &[&bench.person.configuration(&json.to_string())]).assert_success();
        bench.person.discard_tree();
        proxy.connections() > before
    };
    for (exception, proxied) in [
        ("*".to_owned(), false),
        ("127.0.0.1".to_owned(), false),
        ("127.0.0.0/8".to_owned(), false),
        (format!("127.0.0.1:{port}"), false),
        ("127.0.0.1:1".to_owned(), true),
        ("10.0.0.0/8".to_owned(), true),
        (".example.com".to_owned(), true),
    ] {
        assert_eq!(clone(&["example.org", &exception]), proxied, "{exception}");
    }
}

#[test]
fn s14_a_proxy_does_not_lead_to_denied_addresses() {
    let bench = Bench::new();
    let proxy = Proxy::start();
    let json = json!({ "proxy": proxy.http(), "allowLoopback": false, "allowLinkLocal": false, "deniedHosts": ["*.inside.example"] });
    let configuration = bench.person.configuration(&json.to_string());
    for host in ["127.0.0.1", "localhost", "git.localhost", "[::1]", "169.254.169.254", HOST] {
        let url = bench.plain.url_by(host, bench.repository.name());
        let outcome = bench.person.clone(&url, &[&configuration]).assert_code(77);
        assert!(outcome.stderr.contains("denied"), "{host}: {}", outcome.stderr);
    }
    assert_eq!(proxy.connections(), 0);
}

#[test]
fn the_environment_names_proxies_as_for_curl() {
    let bench = Bench::new();
    let proxy = Proxy::with_login(USER, PASSWORD);
    let with_login = format!("http://{USER}:{}@127.0.0.1:{}", PASSWORD.replace(':', "%3A"), proxy.port());
    let [plain, encrypted] = bench.urls();
    let run = |url: &str, variables: &[(&str, &str)], more: &[&str]| {
        let program = variables.iter().fold(Program::cli(), |program, (name, value)| program.env(*name, *value));
        program.run([&["resolve", url, "main", &*bench.secret, "-vv"], more].concat())
    };
    run(&encrypted, &[("https_proxy", &with_login)], &[]).assert_success();
    run(&plain, &[("http_proxy", &with_login)], &["--config="]).assert_success();
    run(&encrypted, &[("ALL_PROXY", &with_login.replace("http://", "socks5h://"))], &[]).assert_success();
    let asked = proxy.asked();
    let expected = [format!("CONNECT {HOST}"), format!("GET {HOST}"), format!("SOCKS {HOST}")];
    assert!(expected.iter().all(|start| asked.iter().any(|asked| asked.starts_with(start))), "{asked:?}");

    let straight = bench.encrypted.url(&bench.repository);
    run(&straight, &[("https_proxy", &with_login), ("no_proxy", "example.com,127.0.0.1")], &[]).assert_success();
    run(&straight, &[("http_proxy", &with_login)], &[]).assert_success();
    run(&straight, &[("https_proxy", ""), ("HTTP_PROXY", &with_login)], &[]).assert_success();

    let other = Proxy::start();
    run(&encrypted, &[("https_proxy", &with_login)], &[&bench.configuration(&other.http(), None)]).assert_success();
    assert_eq!((proxy.asked(), other.asked().len()), (asked, 1));

    let outcome = run(&encrypted, &[("https_proxy", "https://canary-user-7Hd2:x@127.0.0.1:1")], &[]).assert_code(64);
    assert!(outcome.stderr.contains("https_proxy is refused"), "{}", outcome.stderr);
    canaries().assert_absent("standard error", outcome.stderr.as_bytes());
}
