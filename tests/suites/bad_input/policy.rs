//! S14: a driver's policy refuses hosts and addresses in every spelling.

use gitrepo_tests::fixtures;
use gitrepo_tests::hostile::SilentServer;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::person::Person;

use super::assert_refused;

const DRIVER: &str = r#"{
    "allowedSchemes": ["https", "ssh", "http"], "allowLoopback": false, "allowLinkLocal": false
}"#;

#[test]
fn s14_loopback_is_refused_to_drivers_in_every_spelling() {
    let server = SilentServer::start();
    let person = Person::new();
    let driver = person.configuration(DRIVER);
    for host in [
        "127.0.0.1",
        "127.1.2.3",
        "localhost",
        "LOCALHOST",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "0.0.0.0",
        "[::]",
    ] {
        for scheme in ["http", "https", "ssh"] {
            let url = format!("{scheme}://{host}:{}/a", server.port());
            let url = url.replace("ssh://", "ssh://git@");
            assert_refused(&person, &url, 77, "denied", || person.clone(&url, &[&driver]));
        }
    }
    assert_eq!(server.connections(), 0);
}

/// `inet_aton` reads these as addresses, and the resolver or libgit2 may call it.
#[test]
fn s14_address_that_is_written_as_a_number_is_refused() {
    let server = SilentServer::start();
    let person = Person::new();
    let driver = person.configuration(DRIVER);
    for host in ["2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", "127.0.1"] {
        let url = format!("http://{host}:{}/a", server.port());
        let outcome = person.clone(&url, &[&driver]);
        assert!([64, 77].contains(&outcome.code()), "{url}: {outcome:?}");
        person.assert_nothing_left();
    }
    assert_eq!(server.connections(), 0);
}

#[test]
fn s14_link_local_and_metadata_addresses_are_refused() {
    let person = Person::new();
    let driver = person.configuration(DRIVER);
    for host in ["169.254.169.254", "[fe80::1]", "[fd00:ec2::254]", "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]"] {
        let url = format!("http://{host}/latest/meta-data");
        assert_refused(&person, &url, 77, "denied", || person.clone(&url, &[&driver]));
        // The command line allows the loopback, but not these.
        assert_refused(&person, &url, 77, "denied", || person.clone(&url, &[]));
    }
}

#[test]
fn s14_scheme_that_is_not_allowed_is_refused() {
    let (repository, _) = fixtures::small();
    let person = Person::new();
    let driver = person.configuration(DRIVER);
    for url in [
        "git://host.example/a".to_owned(),
        "file:///etc".to_owned(),
        "file:///var/lib/kubelet/pods".to_owned(),
        format!("file://{}", repository.path().display()),
    ] {
        assert_refused(&person, &url, 77, "allowedSchemes", || person.clone(&url, &[&driver]));
    }
}

#[test]
fn s14_hosts_are_allowed_and_denied_by_pattern() {
    let (repository, _) = fixtures::small();
    let server = HttpServer::start(&repository);
    let url = server.url(&repository).replace("127.0.0.1", "localhost");
    let person = Person::new();
    for (configuration, words) in [
        (r#"{"allowedHosts": ["*.example.com"]}"#, "not in allowedHosts"),
        (r#"{"deniedHosts": ["local*"]}"#, "denied"),
        (r#"{"allowedHosts": ["localhost"], "deniedHosts": ["*"]}"#, "denied"),
        (r#"{"deniedHosts": ["127.0.0.1", "::1"]}"#, "denied"),
    ] {
        let configuration = person.configuration(configuration);
        assert_refused(&person, words, 77, words, || person.clone(&url, &[&configuration]));
    }
    assert_eq!(server.connections(), 0);
    let allowed = person.configuration(r#"{"allowedHosts": ["localhost"], "deniedHosts": ["*.example.com"]}"#);
    person.clone(&url, &[&allowed]).assert_success();
}
