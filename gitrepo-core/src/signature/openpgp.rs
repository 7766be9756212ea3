//! OpenPGP signatures (RFC 9580) of commits and tags, checked as `gpg --verify` checks them for git, but stricter where
//! gpg trusts a weak hash.
//!
//! Only what such a check needs is read: public keys and signatures of versions 4 and 6. There is no encryption, no
//! compression and no secret key here.

use std::time::Duration;
use std::time::UNIX_EPOCH;

use super::Flaw;
use super::Signer;

mod armor;
mod certificate;
mod hash;
mod key;
mod keyring;
mod kind;
mod packet;
mod wire;

use key::Issuer;
use keyring::Candidate;
use keyring::Keyring;
use packet::Signature;
use wire::Reader;

/// Most signatures of one object that are looked at.
const MOST: usize = 16;

/// The type of a packet with a signature.
const SIGNATURE: u8 = 2;

/// Why a file of keys cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeysError {
    /// Neither keys nor a text.
    #[error("it is neither armored nor binary keys")]
    NoText,
    /// A line outside of the armor.
    #[error("line {line} belongs to no PGP PUBLIC KEY BLOCK; begin comments with #")]
    Line {
        /// Counted from 1.
        line: usize,
    },
    /// A revocation that gpg made in advance, with a colon before it against use by mistake.
    #[error(
        "line {line} begins with a colon, as gpg writes revocations that it makes in advance: add only the block, without \
         the colon and the text above it"
    )]
    Colon {
        /// Counted from 1.
        line: usize,
    },
    /// A block without end, or with something else in it than base64.
    #[error("the PGP PUBLIC KEY BLOCK of line {line} is malformed or cut off")]
    Block {
        /// Counted from 1.
        line: usize,
    },
    /// More packets than are looked at.
    #[error(
        "it has more than {most} packets in it: keys, user IDs and signatures; gpg leaves most out with --export-options export-minimal"
    )]
    Many {
        /// How many are looked at.
        most: usize,
    },
    /// A packet without end.
    #[error("its keys are malformed or cut off")]
    Packet,
    /// A packet that is not of public keys.
    #[error("it has something else in it than public keys (a packet of type {kind})")]
    Foreign {
        /// The type of the packet.
        kind: u8,
    },
    /// A secret key.
    #[error("it has a secret key in it; only public keys belong there: gpg --armor --export KEYID")]
    Secret,
    /// No key of a version that is known.
    #[error("it has no OpenPGP public key of version 4 or 6 in it: gpg --armor --export KEYID prints one")]
    Empty,
}

/// Reads a file of keys, armored or binary, and returns it armored. Checks no signature in it.
///
/// # Errors
///
/// If it is not one.
pub(crate) fn read_keys(content: &[u8]) -> Result<String, KeysError> {
    let text = match content {
        // The first octet of a packet.
        [first, ..] if first & 0x80 != 0 && !content.starts_with("\u{feff}".as_bytes()) => armor::of_keys(content),
        content => String::from_utf8(content.to_vec()).map_err(|_| KeysError::NoText)?.replace('\u{feff}', ""),
    };
    Keyring::read(&armor::keys(&text)?)?;
    Ok(text)
}

/// Checks a signature of `payload` against a file of armored keys. `now` is in seconds since 1970.
///
/// Keys and signatures count if they do so now, as for gpg: the time of the signature is what the signer says.
pub(super) fn verify(armored: &[u8], payload: &[u8], keys: &str, now: u64) -> Result<Signer, Flaw> {
    let unusable = |error: KeysError| Flaw::new(format!("cannot be checked: of openpgpKeys, {error}"));
    let keys = armor::keys(keys).map_err(unusable)?;
    let keyring = Keyring::read(&keys).map_err(unusable)?;
    let block = armor::signature(armored).ok_or_else(malformed)?;
    let mut of_known_key = None;
    let mut of_other_key = None;
    for signature in signatures(&block)? {
        let signature = signature.map_err(|flaw| (false, flaw));
        match signature.and_then(|signature| check(&signature, payload, &keyring, now)) {
            Ok(signer) => return Ok(signer),
            Err((true, flaw)) => of_known_key = of_known_key.or(Some(flaw)),
            Err((false, flaw)) => of_other_key = of_other_key.or(Some(flaw)),
        }
    }
    Err(of_known_key.or(of_other_key).unwrap_or_else(malformed))
}

/// The key that made a signature, as the signature says.
pub(super) fn key_of(armored: &[u8]) -> Option<String> {
    let block = armor::signature(armored)?;
    let named = signatures(&block).ok()?.into_iter().find_map(|signature| signature.ok()?.issuer)?;
    Some(named.name())
}

fn malformed() -> Flaw {
    Flaw::new("has a malformed OpenPGP signature")
}

/// The signatures of a block, each of which may be of a version that is not known.
fn signatures(block: &[u8]) -> Result<Vec<Result<Signature<'_>, Flaw>>, Flaw> {
    let (mut reader, mut all) = (Reader(block), Vec::new());
    while !reader.is_at_end() {
        let packet = reader.packet().filter(|packet| packet.kind == SIGNATURE).ok_or_else(malformed)?;
        if all.len() == MOST {
            return Err(Flaw::new(format!("has more than {MOST} OpenPGP signatures")));
        }
        all.push(match (packet.body.first(), Signature::read(packet.body)) {
            (Some(4 | 6), Ok(signature)) if signature.is_dated() => Ok(signature),
            (Some(4 | 6) | None, _) => Err(malformed()),
            (Some(version), _) => {
                Err(Flaw::new(format!("has an OpenPGP signature of version {version}, not of 4 or 6")))
            }
        });
    }
    Ok(all)
}

/// Checks one signature. The error says whether its key is in the keyring.
fn check(signature: &Signature<'_>, payload: &[u8], keyring: &Keyring<'_>, now: u64) -> Result<Signer, (bool, Flaw)> {
    let issuer = signature.issuer.ok_or((false, Flaw::new("has an OpenPGP signature that does not name its key")))?;
    let mut first = None;
    for candidate in keyring.named(issuer) {
        match check_with(candidate, signature, payload, now) {
            Ok(signer) => return Ok(signer),
            Err(flaw) => first = first.or(Some(flaw)),
        }
    }
    Err(first.map_or_else(|| (false, unknown(issuer)), |flaw| (true, flaw)))
}

fn unknown(issuer: Issuer<'_>) -> Flaw {
    let name = issuer.name();
    let reason = format!("which openpgpKeys does not have (gpg --armor --export {name} prints it for that file)");
    Flaw::of_key(&name, reason)
}

fn check_with(key: Candidate<'_, '_>, signature: &Signature<'_>, payload: &[u8], now: u64) -> Result<Signer, Flaw> {
    let public = key.key();
    let name = public.name();
    let flaw = |reason: String| Flaw::of_key(&name, reason);
    match signature.kind {
        kind::DOCUMENT => {}
        kind::TEXT => {
            return Err(flaw("but as a text, so that its line ends are not signed: sign without --textmode".into()));
        }
        kind => return Err(flaw(format!("but not as a document (signature type {kind:#04x})"))),
    }
    if let Some(weakness) = public.weakness() {
        return Err(flaw(weakness));
    }
    let end = signature.check(now).map_err(|reason| flaw(format!("but the signature {reason}")))?;
    if signature.created < public.created {
        return Err(flaw(format!("but dated before the key was made, on {}", moment(public.created))));
    }
    if !signature.is_by(public, &[payload]) {
        return Err(flaw("but the signature is not of this content".into()));
    }
    // Last, because it takes the longest: only a key's own signature makes anybody compute this.
    let standing = key.standing(now).map_err(flaw)?;
    // The last second is the one before the first at which it no longer counts.
    let until = [end, standing.end].into_iter().flatten().min().map(|end| end.saturating_sub(1));
    Ok(Signer { name: standing.owner.unwrap_or_else(|| name.clone()), key: name, tag: false, until })
}

/// A time in a message. `seconds` since 1970 are at most twice what 32 bits hold.
fn moment(seconds: u64) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests;
