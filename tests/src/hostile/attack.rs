//! Twenty volumes of one namespace on ten host names, which want every place that a CSI driver has.

use std::fs;
use std::path::Path;
use std::sync::mpsc;
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use nix::mount::MsFlags;
use serde_json::Value;
use serde_json::json;

use super::SilentServer;
use crate::http::HttpServer;
use crate::kubelet::Pod;
use crate::kubelet::csi::Node;
use crate::kubelet::csi::Volume;
use crate::repository::Repository;

const HOSTS: usize = 10;
const VOLUMES: usize = 20;

/// How long a kubelet pauses between two tries; a real one pauses longer and longer.
const PAUSE: Duration = Duration::from_millis(500);

/// How long the attack may take to begin.
const PATIENCE: Duration = Duration::from_secs(60);

/// One of the host names.
pub fn host(number: usize) -> String {
    format!("host-{}.test", number % HOSTS)
}

/// A configuration under which no attacker is stopped for long.
pub fn configuration() -> Value {
    json!({
        "limits": { "stall": "10m", "fetchBytes": "32Mi" },
        "cache": { "reserveBytes": "0", "accessTtl": "1s" },
    })
}

/// Calls `act` while the volumes are set up again and again.
///
/// # Panics
///
/// If the attack does not begin, or one of its volumes is set up.
pub fn during<T>(node: &Node, repository: &Repository, act: impl FnOnce() -> T) -> T {
    name_hosts(node.home());
    let hostile = Hostile::start(repository);
    let attackers: Vec<_> = (0..VOLUMES)
        .map(|number| (Pod::new(&format!("hostile-{number}")).in_namespace("hostile"), hostile.volume(number)))
        .collect();
    let sessions = |state: &str| node.metric(&format!("gitrepo_sessions{{state=\"{state}\"}}"));
    let acted = thread::scope(|scope| {
        // The attackers stop once their ends are dropped, even by a panic.
        let stops: Vec<mpsc::Sender<()>> = attackers
            .iter()
            .map(|(pod, volume)| {
                let (stop, stopped) = mpsc::channel();
                scope.spawn(move || {
                    while stopped.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                        node.kubelet().set_up(pod, volume).expect_err("a hostile volume");
                    }
                });
                stop
            })
            .collect();
        let begun = Instant::now();
        while sessions("active") < 5.0 || sessions("queued") < 1.0 {
            assert!(begun.elapsed() < PATIENCE, "the attack does not begin");
            thread::yield_now();
        }
        let acted = act();
        assert!(sessions("queued") >= 1.0, "the attack has ended");
        drop(stops);
        drop(hostile);
        acted
    });
    for (pod, volume) in &attackers {
        node.kubelet().must_tear_down(pod, volume);
    }
    acted
}

/// Gives this machine ten more names.
fn name_hosts(home: &Path) {
    let names = home.join("hosts");
    let lines: String = (0..HOSTS).map(|number| format!("127.0.0.1 {}\n", host(number))).collect();
    fs::write(&names, format!("127.0.0.1 localhost\n{lines}")).unwrap();
    nix::mount::mount(Some(&names), "/etc/hosts", None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
}

/// Servers that send a byte a second, never answer a handshake, and send a pack without end.
struct Hostile<'a> {
    repository: &'a Repository,
    trickling: HttpServer,
    silent: SilentServer,
    endless: HttpServer,
}

impl<'a> Hostile<'a> {
    fn start(repository: &'a Repository) -> Self {
        let serve = || HttpServer::builder().serve(repository);
        Self {
            repository,
            trickling: serve().answer(super::pack_trickles(Duration::from_secs(1))).start(),
            silent: SilentServer::start(),
            endless: serve().answer(super::pack_never_ends()).start(),
        }
    }

    fn volume(&self, number: usize) -> Volume {
        let (host, path) = (host(number), self.repository.name());
        let url = match number % 3 {
            0 => self.trickling.url_by(&host, path),
            1 => self.silent.url("https").replace("127.0.0.1", &host),
            _ => self.endless.url_by(&host, path),
        };
        Volume::inline("v", &[("repository", &url), ("directory", ".")]).read_only()
    }
}
