//! The hash algorithms of OpenPGP (RFC 9580, section 9.5).

use openssl::hash::Hasher;
use openssl::hash::MessageDigest;

/// A hash algorithm that signatures are checked with.
#[derive(Clone, Copy)]
pub(super) struct Hash {
    pub(super) name: &'static str,
    pub(super) function: MessageDigest,
    /// Octets of salt in a signature of version 6.
    pub(super) salt: usize,
    /// Whether nobody can find two messages with the same hash.
    pub(super) is_strong: bool,
}

impl Hash {
    /// `None` if it is unknown. The weak ones are here to find out who made a signature: a key is restricted with them, too.
    pub(super) fn of(number: u8) -> Option<Self> {
        let hash = |name, function, salt, is_strong| Some(Self { name, function, salt, is_strong });
        match number {
            1 => hash("MD5", MessageDigest::md5(), 0, false),
            2 => hash("SHA-1", MessageDigest::sha1(), 0, false),
            3 => hash("RIPEMD-160", MessageDigest::ripemd160(), 0, false),
            8 => hash("SHA-256", MessageDigest::sha256(), 16, true),
            9 => hash("SHA-384", MessageDigest::sha384(), 24, true),
            10 => hash("SHA-512", MessageDigest::sha512(), 32, true),
            11 => hash("SHA-224", MessageDigest::sha224(), 16, false),
            12 => hash("SHA3-256", MessageDigest::sha3_256(), 16, true),
            14 => hash("SHA3-512", MessageDigest::sha3_512(), 32, true),
            _ => None,
        }
    }

    /// Why it does not count, if so.
    pub(super) fn weakness(number: u8) -> Option<String> {
        match Self::of(number) {
            Some(hash) if hash.is_strong => None,
            Some(hash) => Some(format!("the hash {}, which is too weak: SHA-256 is the least", hash.name)),
            None => Some(format!("an unknown hash (algorithm {number})")),
        }
    }

    /// `None` if it cannot be computed.
    pub(super) fn digest(self, parts: &[&[u8]]) -> Option<Vec<u8>> {
        let mut hasher = Hasher::new(self.function).ok()?;
        for part in parts {
            hasher.update(part).ok()?;
        }
        Some(hasher.finish().ok()?.to_vec())
    }
}
