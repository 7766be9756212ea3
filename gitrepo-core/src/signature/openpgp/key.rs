//! OpenPGP public keys (RFC 9580, section 5.5.2), and the signatures that they make. OpenSSL computes.

use openssl::bn::BigNum;
use openssl::ec::EcKey;
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::Id;
use openssl::pkey::PKey;
use openssl::pkey::Public;
use openssl::pkey_ctx::PkeyCtx;
use openssl::rsa::Padding;
use openssl::sha::sha1;
use openssl::sha::sha256;
use openssl::sign::Verifier;

use super::wire::Reader;
use crate::signature::public_key;
use crate::signature::public_key::RSA_BITS;

/// The curves of ECDSA, by their object identifiers.
pub(super) const CURVES: [(&[u8], Nid); 3] = [
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07], Nid::X9_62_PRIME256V1),
    (&[0x2b, 0x81, 0x04, 0x00, 0x22], Nid::SECP384R1),
    (&[0x2b, 0x81, 0x04, 0x00, 0x23], Nid::SECP521R1),
];

/// The same of Ed25519, in keys that name the curve.
pub(super) const ED25519: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xda, 0x47, 0x0f, 0x01];

/// The version of a key, and of the signatures that it makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// That of RFC 4880.
    V4,
    /// That of RFC 9580.
    V6,
}

impl Version {
    pub(super) fn of(number: u8) -> Option<Self> {
        match number {
            4 => Some(Self::V4),
            6 => Some(Self::V6),
            _ => None,
        }
    }
}

/// How a signature names the key that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Issuer<'a> {
    Fingerprint(&'a [u8]),
    /// Some octets of it. Two keys may have the same.
    Id(&'a [u8]),
}

impl Issuer<'_> {
    /// As gpg prints it.
    pub(super) fn name(&self) -> String {
        let (Self::Fingerprint(bytes) | Self::Id(bytes)) = self;
        hex(bytes)
    }

    /// Whether it may be the key with this fingerprint.
    pub(super) fn is(&self, fingerprint: &[u8]) -> bool {
        match self {
            Self::Fingerprint(named) => *named == fingerprint,
            // That of version 4, which is shorter, is at the end.
            Self::Id(id) if fingerprint.len() == 20 => fingerprint.ends_with(id),
            Self::Id(id) => fingerprint.starts_with(id),
        }
    }
}

/// A public key or subkey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PublicKey<'a> {
    pub(super) version: Version,
    /// When it was made, in seconds since 1970.
    pub(super) created: u64,
    /// The number of its algorithm.
    pub(super) algorithm: u8,
    material: &'a [u8],
    body: &'a [u8],
    fingerprint: Vec<u8>,
}

/// What a key computes with.
enum Algorithm {
    Rsa(PKey<Public>, usize),
    Ecdsa(EcKey<Public>),
    /// In the signature, two integers.
    NamedEdwards(PKey<Public>),
    Edwards(PKey<Public>),
}

impl<'a> PublicKey<'a> {
    /// Reads the body of a packet; `None` if it is malformed or of another version.
    pub(super) fn read(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let version = Version::of(reader.byte()?)?;
        let (created, algorithm) = (u64::from(reader.number()?), reader.byte()?);
        let material = match version {
            Version::V4 => reader.0,
            Version::V6 => reader.after_number().filter(|_| reader.is_at_end())?,
        };
        let mut key = Self { version, created, algorithm, material, body, fingerprint: Vec::new() };
        key.fingerprint = match version {
            Version::V4 if body.len() > usize::from(u16::MAX) => return None,
            Version::V4 => sha1(&key.hashed()).to_vec(),
            Version::V6 => sha256(&key.hashed()).to_vec(),
        };
        Some(key)
    }

    /// As signatures of it hash it (RFC 9580, section 5.2.4). No body is longer than its packet says in four octets.
    pub(super) fn hashed(&self) -> Vec<u8> {
        let length = u32::try_from(self.body.len()).unwrap_or(u32::MAX).to_be_bytes();
        match self.version {
            Version::V4 => [&[0x99], &length[2..], self.body].concat(),
            Version::V6 => [&[0x9b], &length[..], self.body].concat(),
        }
    }

    /// Its fingerprint, as gpg prints it.
    pub(super) fn name(&self) -> String {
        hex(&self.fingerprint)
    }

    pub(super) fn fingerprint(&self) -> &[u8] {
        &self.fingerprint
    }

    /// Whether a signature that names its key so may be this one's.
    pub(super) fn is(&self, issuer: Issuer<'_>) -> bool {
        issuer.is(&self.fingerprint)
    }

    /// Says why the key makes no signature that counts, if so.
    pub(super) fn weakness(&self) -> Option<String> {
        match self.algorithm {
            1 | 3 | 19 | 22 | 27 | 28 => self.algorithm().is_none().then(|| {
                let (shortest, longest) = (RSA_BITS.start(), RSA_BITS.end());
                match self.algorithm {
                    1 | 3 => format!("which is an RSA key without the {shortest} to {longest} bits that are needed"),
                    _ => "which is malformed, or of a curve that is not supported".to_owned(),
                }
            }),
            17 => Some("which is a DSA key; these are too weak".to_owned()),
            number => Some(format!("which is of a kind (algorithm {number}) that is not supported")),
        }
    }

    /// Whether a signature is this key's, of a message with this digest.
    pub(super) fn has_signed(&self, hash: MessageDigest, digest: &[u8], signature: &[u8]) -> bool {
        let mut reader = Reader(signature);
        let checked = self.algorithm().and_then(|algorithm| match algorithm {
            Algorithm::Rsa(key, length) => {
                let value = padded(reader.integer()?, length)?;
                reader.is_at_end().then(|| check_rsa(&key, hash, digest, &value))
            }
            Algorithm::Ecdsa(key) => {
                let (r, s) = (reader.integer()?, reader.integer()?);
                reader.is_at_end().then(|| check_ecdsa(&key, digest, r, s))
            }
            Algorithm::NamedEdwards(key) => {
                let value = [padded(reader.integer()?, 32)?, padded(reader.integer()?, 32)?].concat();
                reader.is_at_end().then(|| check_edwards(&key, digest, &value))
            }
            Algorithm::Edwards(key) => Some(check_edwards(&key, digest, reader.0)),
        });
        checked.is_some_and(|checked| checked.unwrap_or(false))
    }

    /// `None` if the key is malformed, weak or of an unknown kind.
    fn algorithm(&self) -> Option<Algorithm> {
        let mut reader = Reader(self.material);
        let edwards = |bytes: &[u8], id| PKey::public_key_from_raw_bytes(bytes, id).ok();
        let algorithm = match self.algorithm {
            1 | 3 => rsa(reader.integer()?, reader.integer()?)?,
            19 => ecdsa(identifier(&mut reader)?, reader.integer()?)?,
            // Its curves have no other name in version 6.
            22 if self.version == Version::V4 && identifier(&mut reader)? == ED25519 => {
                Algorithm::NamedEdwards(edwards(reader.integer()?.strip_prefix(&[0x40])?, Id::ED25519)?)
            }
            27 => Algorithm::Edwards(edwards(reader.take(32)?, Id::ED25519)?),
            28 => Algorithm::Edwards(edwards(reader.take(57)?, Id::ED448)?),
            _ => return None,
        };
        reader.is_at_end().then_some(algorithm)
    }
}

/// The name of a curve.
fn identifier<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let length = reader.byte()?;
    reader.take(usize::from(length))
}

fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<Algorithm> {
    public_key::rsa(modulus, exponent).map(|(key, length)| Algorithm::Rsa(key, length))
}

fn ecdsa(curve: &[u8], point: &[u8]) -> Option<Algorithm> {
    let (_, curve) = CURVES.into_iter().find(|(name, _)| *name == curve)?;
    public_key::ecdsa(curve, point).map(Algorithm::Ecdsa)
}

fn check_rsa(key: &PKey<Public>, hash: MessageDigest, digest: &[u8], value: &[u8]) -> Result<bool, ErrorStack> {
    let mut context = PkeyCtx::new(key)?;
    context.verify_init()?;
    context.set_rsa_padding(Padding::PKCS1)?;
    let hash = openssl::md::Md::from_nid(hash.type_());
    let Some(hash) = hash else { return Ok(false) };
    context.set_signature_md(hash)?;
    context.verify(digest, value)
}

fn check_ecdsa(key: &EcKey<Public>, digest: &[u8], r: &[u8], s: &[u8]) -> Result<bool, ErrorStack> {
    let signature = EcdsaSig::from_private_components(BigNum::from_slice(r)?, BigNum::from_slice(s)?)?;
    signature.verify(digest, key)
}

fn check_edwards(key: &PKey<Public>, digest: &[u8], value: &[u8]) -> Result<bool, ErrorStack> {
    Verifier::new_without_digest(key)?.verify_oneshot(value, digest)
}

/// An integer with the zeros before it that it is written without; `None` if it is too long.
fn padded(integer: &[u8], length: usize) -> Option<Vec<u8>> {
    let missing = length.checked_sub(integer.len())?;
    Some([&vec![0; missing], integer].concat())
}

fn hex(bytes: &[u8]) -> String {
    crate::digest::hex(bytes).to_uppercase()
}
