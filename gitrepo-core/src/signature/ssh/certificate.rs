//! SSH certificates: a key that an authority vouches for (OpenSSH's PROTOCOL.certkeys).

use super::key;
use super::key::PublicKey;
use super::wire::Reader;
use super::wire::string;

/// What follows the type of a key in that of its certificate.
const SUFFIX: &[u8] = b"-cert-v01@openssh.com";

/// The type of a user's certificate. A host signs nothing.
const USER: u32 = 1;

/// Most principals that are looked at.
const MOST_PRINCIPALS: usize = 256;

/// A certificate whose signature has not been checked yet.
pub(super) struct Certificate<'a> {
    /// The key, in the wire format.
    pub(super) key: Vec<u8>,
    /// The key of the authority.
    pub(super) authority: &'a [u8],
    principals: Vec<&'a [u8]>,
    is_of_user: bool,
    has_restrictions: bool,
    after: u64,
    before: u64,
    signed: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Certificate<'a> {
    /// Reads a certificate: `Some(None)` if this is a plain key, and `None` if it is malformed.
    #[allow(clippy::option_option)]
    pub(super) fn read(blob: &'a [u8]) -> Option<Option<Self>> {
        let mut reader = Reader(blob);
        let kind = reader.string()?;
        let plain = match kind.strip_suffix(SUFFIX) {
            None => return Some(None),
            // The types of keys in hardware have a suffix of their own.
            Some(plain) if plain.starts_with(b"sk-") => [plain, b"@openssh.com"].concat(),
            Some(plain) => plain.to_vec(),
        };
        let _nonce = reader.string()?;
        let fields = key::fields(&plain, &mut reader)?;
        let (_serial, kind) = (reader.long_number()?, reader.number()?);
        let (_id, principals) = (reader.string()?, list(reader.string()?)?);
        let (after, before) = (reader.long_number()?, reader.long_number()?);
        let (restrictions, _extensions, _reserved) = (reader.string()?, reader.string()?, reader.string()?);
        let authority = reader.string()?;
        let signed = &blob[..blob.len() - reader.0.len()];
        let signature = reader.string()?;
        reader.is_at_end().then_some(Some(Self {
            key: [string(&plain), fields.to_vec()].concat(),
            authority,
            principals,
            is_of_user: kind == USER,
            has_restrictions: !restrictions.is_empty(),
            after,
            before,
            signed,
            signature,
        }))
    }

    /// Checks that its authority, which the caller trusts, made it for signing at this time, in seconds since 1970.
    pub(super) fn check(&self, time: u64) -> Result<(), &'static str> {
        let authority = PublicKey::read(self.authority).filter(|key| key.has_signed(self.signed, self.signature));
        match authority {
            None => Err("but its authority did not sign its certificate"),
            Some(_) if !self.is_of_user => Err("but its certificate is of a host"),
            Some(_) if self.has_restrictions => Err("but its certificate is restricted to certain logins"),
            Some(_) if time < self.after => Err("but its certificate was not valid yet"),
            Some(_) if time >= self.before => Err("but its certificate had expired"),
            Some(_) => Ok(()),
        }
    }

    /// Whom it is for.
    pub(super) fn principals(&self) -> impl Iterator<Item = &'a str> {
        self.principals.iter().filter_map(|name| std::str::from_utf8(name).ok())
    }
}

fn list(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut reader = Reader(bytes);
    let mut all = Vec::new();
    while !reader.is_at_end() {
        if all.len() == MOST_PRINCIPALS {
            return None;
        }
        all.push(reader.string()?);
    }
    Some(all)
}
