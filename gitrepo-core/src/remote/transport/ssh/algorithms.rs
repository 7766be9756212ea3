//! Which algorithms are offered to an SSH server.

use ssh2::MethodType;
use ssh2::Session;

use crate::remote::ConnectRequest;

/// Parts of names of ciphers that OpenSSH no longer offers.
const WEAK_CIPHERS: [&str; 6] = ["cbc", "arcfour", "3des", "blowfish", "cast128", "rijndael"];

/// Parts of names of message authentication codes that OpenSSH no longer offers.
const WEAK_MACS: [&str; 3] = ["md5", "ripemd", "-96"];

/// Key exchanges with groups or hashes that can be broken.
const WEAK_EXCHANGES: [&str; 2] = ["group1-sha1", "group-exchange-sha1"];

/// Types of host keys that are not asked for: DSA is weak, and `known_hosts` knows keys, not certificates.
const WEAK_HOST_KEYS: [&str; 2] = ["ssh-dss", "-cert-"];

/// Sets the algorithms before the handshake: none that is weak, and first the types of host keys that are known for
/// this host, as OpenSSH does. Otherwise a server could present a key of another type than the known one.
pub(super) fn prefer(session: &Session, request: &ConnectRequest) -> Result<(), ssh2::Error> {
    for (method, weak) in [
        (MethodType::CryptCs, &WEAK_CIPHERS[..]),
        (MethodType::CryptSc, &WEAK_CIPHERS),
        (MethodType::MacCs, &WEAK_MACS),
        (MethodType::MacSc, &WEAK_MACS),
        (MethodType::Kex, &WEAK_EXCHANGES),
    ] {
        let strong = strong(session.supported_algs(method)?, weak);
        session.method_pref(method, &strong.join(","))?;
    }
    let errand = &request.errand;
    let known = match (errand.url.host(), errand.url.port()) {
        (Some(host), Some(port)) => errand.host_keys.key_types(host, port),
        _ => Vec::new(),
    };
    let mut types = strong(session.supported_algs(MethodType::HostKey)?, &WEAK_HOST_KEYS);
    types.sort_by_key(|kind| !known.iter().any(|known| signs_with(known, kind)));
    session.method_pref(MethodType::HostKey, &types.join(","))
}

fn strong(supported: Vec<&'static str>, weak: &[&str]) -> Vec<&'static str> {
    supported.into_iter().filter(|name| !weak.iter().any(|part| name.contains(part))).collect()
}

/// Whether a host key of type `key` signs with `algorithm`: RSA keys have several (RFC 8332).
fn signs_with(key: &str, algorithm: &str) -> bool {
    key == algorithm || (key == "ssh-rsa" && algorithm.starts_with("rsa-sha2-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_weak_is_offered_and_something_is_left() {
        let session = Session::new().unwrap();
        for (method, weak) in [
            (MethodType::CryptCs, &WEAK_CIPHERS[..]),
            (MethodType::MacCs, &WEAK_MACS),
            (MethodType::Kex, &WEAK_EXCHANGES),
            (MethodType::HostKey, &WEAK_HOST_KEYS),
        ] {
            let supported = session.supported_algs(method).unwrap();
            let offered = strong(supported, weak);
            assert!(!offered.is_empty());
            assert!(offered.iter().all(|name| !weak.iter().any(|part| name.contains(part))), "{offered:?}");
        }
    }

    #[test]
    fn a_post_quantum_key_exchange_is_offered() {
        let supported = Session::new().unwrap().supported_algs(MethodType::Kex).unwrap();
        assert!(strong(supported, &WEAK_EXCHANGES).contains(&"mlkem768x25519-sha256"));
    }

    #[test]
    fn rsa_keys_sign_with_sha2() {
        assert!(signs_with("ssh-rsa", "rsa-sha2-512") && signs_with("ssh-ed25519", "ssh-ed25519"));
        assert!(!signs_with("ssh-ed25519", "rsa-sha2-512"));
    }
}
