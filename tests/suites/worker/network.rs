//! The relay knows what became of a connection.

use std::time::Duration;
use std::time::Instant;

use gitrepo_core::error::Kind;
use gitrepo_core::error::chain;
use gitrepo_core::policy::Limits;
use gitrepo_core::remote::RemoteError;
use gitrepo_core::spec::Revision;
use gitrepo_core::worker::Job;
use gitrepo_core::worker::Worker;
use gitrepo_core::worker::WorkerError;
use gitrepo_tests::hostile;
use gitrepo_tests::require;

use super::Rooms;
use super::confined;
use super::job;

#[test]
fn a_closed_port_is_named_with_its_address_at_once() {
    if !require::root("to have a relay") {
        return;
    }
    let closed = hostile::ClosedPort::new();
    let rooms = Rooms::new();
    let mut session = confined(&rooms.locks()).start(job(&closed.url("http"))).unwrap();
    let begun = Instant::now();
    let error = session.resolve(&Revision::Head).unwrap_err();
    assert!(matches!(&error, WorkerError::Remote(RemoteError::Unreachable { .. })), "{error}");
    assert!(chain(&error).contains(&format!("127.0.0.1:{}: Connection refused", closed.port())), "{}", chain(&error));
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn r7_a_silent_server_is_given_up_after_the_time_allowed() {
    if !require::root("to have a relay") {
        return;
    }
    let rooms = Rooms::new();
    for (scheme, server) in [
        ("http", hostile::SilentServer::start()),
        ("git", hostile::SilentServer::start()),
        ("ssh", hostile::SilentServer::start_after(b"SSH-2.0-OpenSSH_9.2\r\n")),
    ] {
        let limits = Limits { stall: Duration::from_secs(1), ..Limits::default() };
        let mut session = confined(&rooms.locks()).start(Job { limits, ..job(&server.url(scheme)) }).unwrap();
        let begun = Instant::now();
        let error = session.resolve(&Revision::Head).unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable, "{scheme}: {}", chain(&error));
        assert!(begun.elapsed() < Duration::from_secs(10), "{scheme}: {:?}", begun.elapsed());
    }
}
