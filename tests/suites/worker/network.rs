//! The relay reports how a connection ended.

use std::io::Write;
use std::net::TcpListener;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use gitrepo_core::error::Kind;
use gitrepo_core::error::chain;
use gitrepo_core::remote::FetchRequest;
use gitrepo_core::remote::RemoteError;
use gitrepo_core::remote::Resolved;
use gitrepo_core::spec::Revision;
use gitrepo_core::worker::Worker;
use gitrepo_core::worker::WorkerError;
use gitrepo_tests::fixtures;
use gitrepo_tests::hostile;
use gitrepo_tests::http::Ending;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::pktline;
use gitrepo_tests::require;

use super::Rooms;
use super::confined;
use super::job;
use super::with;

/// Far more than any of these takes on a busy machine, and far less than the default limits.
const PROMPT: Duration = Duration::from_secs(30);

#[test]
fn a_closed_port_is_reported_with_its_address_at_once() {
    if !require::root("to have a relay") {
        return;
    }
    let closed = hostile::ClosedPort::reserve();
    let rooms = Rooms::new();
    let mut session = confined(&rooms.locks()).start(job(&closed.url("http"))).unwrap();
    let begun = Instant::now();
    let error = session.resolve(&Revision::Head).unwrap_err();
    assert!(matches!(&error, WorkerError::Remote(RemoteError::Unreachable { .. })), "{error}");
    assert!(chain(&error).contains(&format!("127.0.0.1:{}: Connection refused", closed.port())), "{}", chain(&error));
    assert!(begun.elapsed() < PROMPT);
}

#[test]
fn r7_a_silent_server_is_given_up_in_time() {
    if !require::root("to have a relay") {
        return;
    }
    let rooms = Rooms::new();
    for (scheme, server) in [
        ("http", hostile::SilentServer::start()),
        ("git", hostile::SilentServer::start()),
        ("ssh", hostile::SilentServer::start_after(b"SSH-2.0-OpenSSH_9.2\r\n")),
    ] {
        let mut session = confined(&rooms.locks())
            .start(with(job(&server.url(scheme)), |errand| errand.limits.stall = Duration::from_secs(1)))
            .unwrap();
        let begun = Instant::now();
        let error = session.resolve(&Revision::Head).unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable, "{scheme}: {}", chain(&error));
        assert!(begun.elapsed() < PROMPT, "{scheme}: {:?}", begun.elapsed());
    }
}

fn attempt(what: &str, server: &hostile::SilentServer) -> Result<Resolved, WorkerError> {
    let rooms = Rooms::new();
    let mut session = confined(&rooms.locks())
        .start(with(job(&server.url("git")), |errand| errand.limits.stall = Duration::from_secs(1)))
        .unwrap();
    session.resolve(&Revision::parse(&format!("refs/attempts/{what}")).unwrap())
}

#[test]
fn r7_a_worker_that_waits_forever_for_a_silent_remote_is_ended() {
    if !require::root("to have a relay") {
        return;
    }
    let error = attempt("patience", &hostile::SilentServer::start()).unwrap_err();
    assert!(matches!(error, WorkerError::Remote(RemoteError::Stalled { seconds: 1, .. })), "{error}");
}

#[test]
fn a_worker_that_computes_while_the_remote_is_silent_is_not_ended() {
    if !require::root("to have a relay") {
        return;
    }
    attempt("thought", &hostile::SilentServer::start()).unwrap();
}

#[test]
fn r7_a_server_that_stops_inside_a_pack_is_given_up_in_time() {
    if !require::root("to have a relay") {
        return;
    }
    let repository = fixtures::many(200);
    let server = HttpServer::builder().serve(&repository).answer(hostile::pack_ends_midway(Ending::Silent)).start();
    let rooms = Rooms::new();
    let job = with(job(&server.url(&repository)), |errand| {
        // Enough for the refs on a busy machine.
        errand.limits.stall = Duration::from_secs(5);
        errand.staging = Some(rooms.staging());
    });
    let mut session = confined(&rooms.locks()).start(job).unwrap();
    let resolved = session.resolve(&Revision::Head).unwrap();
    let begun = Instant::now();
    let error = session.fetch(&FetchRequest::new(resolved, 1)).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{}", chain(&error));
    assert!(begun.elapsed() < PROMPT, "{:?}", begun.elapsed());
}

#[test]
fn s15_an_endless_advertisement_is_cut_by_the_relay() {
    if !require::root("to have a relay") {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("git://127.0.0.1:{}/site.git", listener.local_addr().unwrap().port());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let id = "a11ce".repeat(8);
        let refs = (0..1000).map(|number| format!("{id} refs/heads/branch-{number}\n"));
        let refs = refs.flat_map(pktline::packet).collect::<Vec<_>>();
        let mut sent = 0_usize;
        while stream.write_all(&refs).is_ok() {
            sent += refs.len();
        }
        sent
    });
    let rooms = Rooms::new();
    let mut session =
        confined(&rooms.locks()).start(with(job(&url), |errand| errand.limits.fetch_bytes = 1 << 20)).unwrap();
    let error = session.resolve(&Revision::Head).unwrap_err();
    assert_eq!(error.kind(), Kind::ResourceExhausted, "{}", chain(&error));
    session.finish().unwrap();
    let sent = server.join().unwrap();
    assert!(sent < 40 << 20, "{sent}: more than the limit and the kernel's buffers");
}
