//! SSH signatures (OpenSSH's PROTOCOL.sshsig), as `ssh-keygen -Y verify` checks them for git.

use openssl::hash::MessageDigest;
use openssl::hash::hash;

use super::Flaw;
use super::Signer;
use super::armor;

mod allowed_signers;
mod certificate;
mod key;
mod pattern;
mod wire;

use allowed_signers::AllowedSigners;
use certificate::Certificate;
use key::PublicKey;
use wire::Reader;
use wire::string;

/// The beginning of a signature, and of what it signs.
const MAGIC: &[u8] = b"SSHSIG";

/// The only version.
const VERSION: u32 = 1;

/// What git signs: a signature of a file or a login counts for nothing.
const NAMESPACE: &[u8] = b"git";

/// A signature without its armor.
struct SshSignature<'a> {
    key: &'a [u8],
    namespace: &'a [u8],
    hash: MessageDigest,
    hash_name: &'a [u8],
    signature: &'a [u8],
}

/// Checks a signature of `payload` against a file of allowed signers. `time` is the object's own, in seconds since 1970.
pub(super) fn verify(armored: &[u8], payload: &[u8], allowed: &str, time: u64) -> Result<Signer, Flaw> {
    let malformed = || Flaw::new("has a malformed SSH signature");
    let blob = armor::decode(armored, "SSH SIGNATURE").ok_or_else(malformed)?;
    let signature = SshSignature::read(&blob).ok_or_else(malformed)?;
    let certificate = Certificate::read(signature.key).ok_or_else(malformed)?;
    let key = certificate.as_ref().map_or(signature.key, |certificate| &certificate.key);
    let public = PublicKey::read(key)
        .ok_or_else(|| Flaw::new("is signed with an SSH key that is weak or of an unknown type"))?;
    let name = public.fingerprint();
    let flaw = |reason: &str| Flaw::of_key(&name, reason);
    if signature.namespace != NAMESPACE {
        let namespace = String::from_utf8_lossy(signature.namespace).chars().take(64).collect::<String>();
        return Err(flaw(&format!("for {namespace:?} and not for git")));
    }
    // The file tells whether the key matters at all; only then is it worth computing anything.
    let signers = AllowedSigners::new(allowed);
    let signer = match &certificate {
        Some(certificate) => signers.of_certificate(certificate, time),
        None => signers.of_key(key, time),
    };
    let signer = signer.map_err(|reason| flaw(&reason))?;
    let digest = hash(signature.hash, payload).map_err(|_| flaw("but the message cannot be hashed"))?;
    let signed = [MAGIC, &string(NAMESPACE), &string(b""), &string(signature.hash_name), &string(&digest)].concat();
    if !public.has_signed(&signed, signature.signature) {
        return Err(flaw("but the signature is not of this content"));
    }
    Ok(Signer { key: name, name: signer, tag: false, until: None })
}

impl<'a> SshSignature<'a> {
    fn read(blob: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(blob.strip_prefix(MAGIC)?);
        if reader.number()? != VERSION {
            return None;
        }
        let (key, namespace, _reserved) = (reader.string()?, reader.string()?, reader.string()?);
        let hash_name = reader.string()?;
        let hash = match hash_name {
            b"sha256" => MessageDigest::sha256(),
            b"sha512" => MessageDigest::sha512(),
            _ => return None,
        };
        let signature = reader.string()?;
        reader.is_at_end().then_some(Self { key, namespace, hash, hash_name, signature })
    }
}

#[cfg(test)]
mod tests;
