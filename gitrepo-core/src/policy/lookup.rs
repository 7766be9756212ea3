//! DNS lookups with a time limit.

use std::io;
use std::net::IpAddr;
use std::net::ToSocketAddrs;
use std::sync::mpsc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use crate::cancel::Cancel;
use crate::cancel::Interrupted;

/// Maximum time for one lookup.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often cancellation is checked.
const INTERVAL: Duration = Duration::from_millis(50);

/// Resolves a name to addresses.
pub(super) type Resolver = fn(&str) -> io::Result<Vec<IpAddr>>;

/// Why a name has no addresses.
#[derive(Debug)]
pub(super) enum LookupError {
    Failed(io::Error),
    Interrupted(Interrupted),
}

/// The system's resolver: `/etc/hosts`, DNS, or whatever the node is configured for.
pub(super) fn system(name: &str) -> io::Result<Vec<IpAddr>> {
    // This interface requires a port, which the resolver does not use.
    let found = (name, 0).to_socket_addrs().map_err(in_words)?;
    Ok(found.map(|address| address.ip()).collect())
}

/// Explains musl's "Try again" (`EAI_AGAIN`): all name servers were tried, until the resolver's own timeout.
fn in_words(error: io::Error) -> io::Error {
    match error.to_string().strip_suffix("Try again") {
        Some(what) => io::Error::other(format!("{what}no name server answered; is /etc/resolv.conf right?")),
        None => error,
    }
}

/// Resolves `name` on a thread of its own: `getaddrinfo` supports neither deadline nor cancellation. After a timeout
/// the thread stays behind until the resolver's own timeout.
pub(super) fn resolve(resolver: Resolver, name: &str, cancel: &Cancel) -> Result<Vec<IpAddr>, LookupError> {
    let cancel = cancel.within(PATIENCE);
    let (answer, answered) = mpsc::sync_channel(1);
    let owned = name.to_owned();
    std::thread::Builder::new()
        .name("resolver".to_owned())
        // If the caller no longer waits, the answer is dropped.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_of_the_name_servers_is_called_so() {
        let of_musl = in_words(io::Error::other("failed to lookup address information: Try again"));
        assert!(of_musl.to_string().starts_with("failed to lookup address information: no name server"), "{of_musl}");
        assert_eq!(in_words(io::Error::other("Name does not resolve")).to_string(), "Name does not resolve");
    }
}
