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
    let found = (name, 0).to_socket_addrs().map_err(in_words)?;
    Ok(found.map(|address| address.ip()).collect())
}

/// What musl's resolver means by "Try again" (`EAI_AGAIN`): it has tried all name servers, for as long as it does.
fn in_words(error: io::Error) -> io::Error {
    match error.to_string().strip_suffix("Try again") {
        Some(what) => io::Error::other(format!("{what}no name server answered; is /etc/resolv.conf right?")),
        None => error,
    }
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
