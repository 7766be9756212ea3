//! A file of OpenPGP public keys, as `gpg --export` writes it (RFC 9580, section 10.1).

use super::KeysError;
use super::certificate::Certificate;
use super::certificate::Standing;
use super::certificate::Subkey;
use super::certificate::USER_ID;
use super::certificate::User;
use super::key::Issuer;
use super::key::PublicKey;
use super::kind;
use super::packet::Signature;
use super::packet::Unread;
use super::wire::Packet;
use super::wire::Reader;

/// Types of packets (RFC 9580, section 5).
const SIGNATURE: u8 = 2;
const SECRET_KEY: u8 = 5;
const PUBLIC_KEY: u8 = 6;
const SECRET_SUBKEY: u8 = 7;
const MARKER: u8 = 10;
const TRUST: u8 = 12;
const PUBLIC_SUBKEY: u8 = 14;
const USER_ATTRIBUTE: u8 = 17;
const PADDING: u8 = 21;

/// Packets of this type and above may be passed over by those who do not know them.
const PRIVATE_USE: u8 = 40;

/// Most packets of a file that are looked at. A key that thousands signed has fewer.
const MOST: usize = 10_000;

/// The keys of a file.
#[derive(Debug)]
pub(super) struct Keyring<'a> {
    certificates: Vec<Certificate<'a>>,
    /// Of keys and subkeys, wherever they stand in the file: gpg writes a revocation certificate without its key.
    revocations: Vec<Signature<'a>>,
}

/// A key or subkey of a keyring.
#[derive(Clone, Copy)]
pub(super) struct Candidate<'b, 'a> {
    certificate: &'b Certificate<'a>,
    subkey: Option<&'b Subkey<'a>>,
    keyring: &'b Keyring<'a>,
}

/// Where the next signature belongs.
#[derive(Clone, Copy)]
enum Place {
    /// A key or subkey of another version, which is passed over.
    Nowhere,
    Key,
    User(usize),
    Subkey(usize),
}

impl<'a> Keyring<'a> {
    /// Reads the packets of all keys. A key that occurs twice is one key, with all that both say: an older copy does not
    /// hide that the key was revoked since.
    pub(super) fn read(packets: &'a [u8]) -> Result<Self, KeysError> {
        let mut keyring = Self { certificates: Vec::new(), revocations: Vec::new() };
        let (mut reader, mut current, mut place) = (Reader(packets), None, Place::Nowhere);
        let mut count = 0;
        while !reader.is_at_end() {
            count += 1;
            if count > MOST {
                return Err(KeysError::Many { most: MOST });
            }
            let packet = reader.packet().ok_or(KeysError::Packet)?;
            match packet.kind {
                PUBLIC_KEY => {
                    current = PublicKey::read(packet.body).map(|key| keyring.certificate_of(key));
                    place = if current.is_some() { Place::Key } else { Place::Nowhere };
                }
                SECRET_KEY | SECRET_SUBKEY => return Err(KeysError::Secret),
                MARKER | TRUST | PADDING | PRIVATE_USE.. => {}
                SIGNATURE => {
                    let signature = Signature::read(packet.body);
                    let certificate = current.and_then(|index: usize| keyring.certificates.get_mut(index));
                    match (signature, certificate) {
                        (Ok(signature), _) if kind::is_revocation(signature.kind) => {
                            keyring.revocations.push(signature)
                        }
                        // Nobody can tell of which key.
                        (Err(Unread::Malformed), _) if packet.body.get(1).copied().is_some_and(kind::is_revocation) => {
                            return Err(KeysError::Packet);
                        }
                        (signature, Some(certificate)) => add_signature(certificate, signature, place),
                        (_, None) => {}
                    }
                }
                USER_ID | USER_ATTRIBUTE | PUBLIC_SUBKEY => {
                    let certificate = current.and_then(|index: usize| keyring.certificates.get_mut(index));
                    place = certificate.map_or(place, |certificate| add(certificate, packet));
                }
                kind => return Err(KeysError::Foreign { kind }),
            }
        }
        if keyring.certificates.is_empty() { Err(KeysError::Empty) } else { Ok(keyring) }
    }

    /// Where the certificate of a key is: it is added unless it is there.
    fn certificate_of(&mut self, key: PublicKey<'a>) -> usize {
        let found = self.certificates.iter().position(|certificate| certificate.primary == key);
        found.unwrap_or_else(|| {
            self.certificates.push(Certificate::new(key));
            self.certificates.len() - 1
        })
    }

    /// The keys and subkeys that may have made a signature.
    pub(super) fn named<'b>(&'b self, issuer: Issuer<'b>) -> impl Iterator<Item = Candidate<'b, 'a>> {
        let all = self.certificates.iter().flat_map(move |certificate| {
            let subkeys = certificate.subkeys.iter().map(Some);
            let all = std::iter::once(None).chain(subkeys);
            all.map(move |subkey| Candidate { certificate, subkey, keyring: self })
        });
        all.filter(move |candidate| candidate.key().is(issuer))
    }

    /// The revocations of keys and subkeys of the file, of this type. Anybody may have made them.
    pub(super) fn revocations(&self, kind: u8) -> impl Iterator<Item = &Signature<'a>> {
        self.revocations.iter().filter(move |found| found.kind == kind)
    }

    /// The key with this fingerprint, if it is one that signatures can be checked with.
    pub(super) fn primary(&self, fingerprint: &[u8]) -> Option<&PublicKey<'a>> {
        let mut keys = self.certificates.iter().map(|certificate| &certificate.primary);
        keys.find(|key| key.is(Issuer::Fingerprint(fingerprint))).filter(|key| key.weakness().is_none())
    }
}

impl<'a> Candidate<'_, 'a> {
    pub(super) fn key(&self) -> &PublicKey<'a> {
        self.subkey.map_or(&self.certificate.primary, |subkey| &subkey.key)
    }

    /// Whether it may sign now; otherwise why not.
    pub(super) fn standing(&self, now: u64) -> Result<Standing, String> {
        match self.subkey {
            Some(subkey) => self.certificate.of_subkey(subkey, self.keyring, now),
            None => self.certificate.of_primary(self.keyring, now),
        }
    }
}

/// Adds a signature to what it follows. One that the key makes of itself may stand anywhere behind it.
fn add_signature<'a>(certificate: &mut Certificate<'a>, signature: Result<Signature<'a>, Unread>, place: Place) {
    match (signature, place) {
        (Ok(signature), _) if signature.kind == kind::DIRECT => certificate.direct.push(signature),
        (_, Place::Nowhere) | (Err(Unread::Version(_)), _) => {}
        (Err(Unread::Malformed), _) => certificate.is_damaged = true,
        (Ok(signature), Place::Key) => certificate.direct.push(signature),
        (Ok(signature), Place::User(index)) => certificate.users[index].signatures.push(signature),
        (Ok(signature), Place::Subkey(index)) => certificate.subkeys[index].signatures.push(signature),
    }
}

/// Adds what follows a key. Returns where the signatures belong that follow.
fn add<'a>(certificate: &mut Certificate<'a>, packet: Packet<'a>) -> Place {
    let Packet { kind, body } = packet;
    match kind {
        PUBLIC_SUBKEY => {
            let Some(key) = PublicKey::read(body) else { return Place::Nowhere };
            let all = &mut certificate.subkeys;
            Place::Subkey(all.iter().position(|known| known.key == key).unwrap_or_else(|| {
                all.push(Subkey { key, signatures: Vec::new() });
                all.len() - 1
            }))
        }
        kind => {
            let all = &mut certificate.users;
            let known = all.iter().position(|user| user.kind == kind && user.content == body);
            Place::User(known.unwrap_or_else(|| {
                all.push(User { kind, content: body, signatures: Vec::new() });
                all.len() - 1
            }))
        }
    }
}
