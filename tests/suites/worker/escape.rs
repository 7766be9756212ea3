//! A worker can write only its staging directory, read only its job, and reach only the pinned address.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::UdpSocket;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::chown;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::thread;

use gitrepo_tests::attempts::Outcomes;
use gitrepo_tests::attempts::Surroundings;
use gitrepo_tests::require;

use super::Rooms;
use super::program;

/// An otherwise unused ordinary user.
const USER: u32 = 64_999;

/// Attempts that only namespaces stop.
const NEED_NAMESPACES: &[&str] =
    &["open /dev/null", "send a datagram", "make code", "reach the port at another address"];

/// Targets for a worker's attempts on the host. Closed when dropped.
struct Host {
    rooms: Rooms,
    _listeners: Vec<TcpListener>,
    _udp: UdpSocket,
    _abstract: UnixListener,
}

impl Host {
    fn new() -> Self {
        let rooms = Rooms::new();
        let path = rooms.path();
        fs::create_dir(path.join("base")).unwrap();
        for (file, mode) in [("readable", 0o644), ("writable", 0o666)] {
            fs::write(path.join(file), "the host's").unwrap();
            fs::set_permissions(path.join(file), fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();

        let pinned = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = pinned.local_addr().unwrap().port();
        let greeter = pinned.try_clone().unwrap();
        thread::spawn(move || greeter.incoming().flatten().for_each(|mut stream| drop(stream.write_all(b"pinned"))));
        let elsewhere: [(&str, SocketAddr); 3] = [
            ("reach another port of the host", ([127, 0, 0, 1], 0).into()),
            ("reach the port at another address", ([127, 0, 0, 2], port).into()),
            ("reach the host over IPv6", ([0, 0, 0, 0, 0, 0, 0, 1_u16], 0).into()),
        ];
        let listeners = elsewhere.map(|(name, address)| (name, TcpListener::bind(address).unwrap()));
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let abstract_socket = format!("gitrepo-test-{port}");
        let name = std::os::unix::net::SocketAddr::from_abstract_name(&abstract_socket).unwrap();
        let surroundings = Surroundings {
            staging: rooms.staging(),
            base: path.join("base"),
            readable: path.join("readable"),
            writable: path.join("writable"),
            pinned: ("localhost".to_owned(), port),
            others: listeners
                .iter()
                .map(|(name, listener)| ((*name).to_owned(), listener.local_addr().unwrap()))
                .collect(),
            udp: udp.local_addr().unwrap(),
            abstract_socket,
            parent: std::process::id().try_into().unwrap(),
        };
        fs::write(path.join("base/surroundings.json"), serde_json::to_vec(&surroundings).unwrap()).unwrap();
        Self {
            rooms,
            _listeners: listeners.into_iter().map(|(_, listener)| listener).chain([pinned]).collect(),
            _udp: udp,
            _abstract: UnixListener::bind_addr(&name).unwrap(),
        }
    }

    /// Gives the session's directories to an ordinary user.
    fn of(self, user: u32) -> Self {
        chown(self.rooms.staging(), Some(user), Some(user)).unwrap();
        self
    }

    fn path(&self) -> &Path {
        self.rooms.path()
    }

    fn assert_untouched(&self) {
        assert_eq!(fs::read(self.path().join("writable")).unwrap(), b"the host's");
        assert_eq!(fs::read_dir(self.path().join("base")).unwrap().count(), 1);
    }
}

fn outcomes<T: serde::de::DeserializeOwned>(command: &mut Command) -> T {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn escape(command: &mut Command, allowed: &[&str]) {
    let outcomes: BTreeMap<String, Outcomes> = outcomes(command);
    let failed: Vec<_> = outcomes["controls"].iter().filter(|(_, outcome)| outcome.is_some()).collect();
    assert!(failed.is_empty(), "a worker must be able to: {failed:?}");
    let escaped: Vec<_> = ["harmless", "harmful"]
        .iter()
        .flat_map(|what| &outcomes[*what])
        .filter(|(name, outcome)| outcome.is_none() && !allowed.contains(&name.as_str()))
        .collect();
    assert!(escaped.is_empty(), "the worker could: {escaped:?}");
}

#[test]
fn attempts_succeed_without_confinement() {
    if !require::root("to be unconfined") {
        return;
    }
    let host = Host::new();
    fs::write(host.rooms.staging().join("file"), "").unwrap();
    let outcomes: Outcomes = outcomes(Command::new(program()).arg("attempt").arg(host.path()));
    let failed: Vec<_> = outcomes.iter().filter(|(_, outcome)| outcome.is_some()).collect();
    assert!(failed.is_empty(), "these attempts prove nothing: {failed:?}");
}

#[test]
fn s19_a_worker_of_root_does_not_escape() {
    if !require::root("to make namespaces") {
        return;
    }
    let host = Host::new();
    escape(Command::new(program()).arg("escape").arg(host.path()), &[]);
    host.assert_untouched();
}

#[test]
fn s19_a_worker_of_an_ordinary_user_does_not_escape() {
    if !require::root("to become an ordinary user") {
        return;
    }
    let host = Host::new().of(USER);
    let works =
        Command::new("unshare").args(["-U", "true"]).uid(USER).gid(USER).status().is_ok_and(|status| status.success());
    if !require::feature(works, "user namespaces for ordinary users") {
        return;
    }
    escape(Command::new(program()).arg("escape").arg(host.path()).uid(USER).gid(USER), &[]);
    host.assert_untouched();
}

#[test]
fn s19_a_worker_without_namespaces_is_confined_by_landlock_and_the_filter() {
    if !require::root("to refuse user namespaces") || !require::tool("unshare") || !require::tool("setpriv") {
        return;
    }
    let host = Host::new();
    // In a user namespace that allows no nested ones, without capabilities.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all -- \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-Ur", "sh", "-c", script, "sh"]).arg(program()).arg("escape").arg(host.path());
    escape(&mut command, NEED_NAMESPACES);
    assert_eq!(fs::read(host.path().join("writable")).unwrap(), b"the host's");
}
