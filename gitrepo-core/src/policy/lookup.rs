//! Asking DNS, without waiting for ever.

use std::io;
use std::net::IpAddr;
use std::net::ToSocketAddrs;
use std::sync::mpsc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use crate::cancel::Cancel;
use crate::cancel::Interrupted;

/// Longest wait for a name.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often the caller's wish to give up is looked at.
const INTERVAL: Duration = Duration::from_millis(50);

/// How a name becomes addresses.
pub(super) type Resolver = fn(&str) -> io::Result<Vec<IpAddr>>;

/// Why a name has no addresses.
#[derive(Debug)]
pub(super) enum LookupError {
    Failed(io::Error),
    Interrupted(Interrupted),
}

/// The system's resolver: `/etc/hosts`, DNS, whatever the node is set up for.
pub(super) fn system(name: &str) -> io::Result<Vec<IpAddr>> {
    // The port is none of the resolver's business, but part of this interface.
    Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
}

/// Resolves `name` on a thread of its own: `getaddrinfo` knows neither deadline nor cancellation. Whoever gives up leaves
/// the thread behind; it ends when the resolver's own patience does.
pub(super) fn resolve(resolver: Resolver, name: &str, cancel: &Cancel) -> Result<Vec<IpAddr>, LookupError> {
    let cancel = cancel.within(PATIENCE);
    let (answer, answered) = mpsc::sync_channel(1);
    let owned = name.to_owned();
    std::thread::Builder::new()
        .name("resolver".to_owned())
        // An answer that nobody waits for any more is lost, which is right.
        .spawn(move || answer.send(resolver(&owned)).unwrap_or_default())
        .map_err(LookupError::Failed)?;
    loop {
        match answered.recv_timeout(INTERVAL) {
            Ok(addresses) => return addresses.map_err(LookupError::Failed),
            Err(RecvTimeoutError::Timeout) => cancel.check().map_err(LookupError::Interrupted)?,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(LookupError::Failed(io::Error::other("the resolver's thread ended without an answer")));
            }
        }
    }
}
