//! Signature packets of versions 4 and 6 (RFC 9580, section 5.2).

use super::hash::Hash;
use super::key::Issuer;
use super::key::PublicKey;
use super::key::Version;
use super::moment;
use super::wire::Reader;
use super::wire::Subpacket;

/// How much later than now a signature may be: clocks differ. In seconds.
const TOLERANCE: u64 = 30 * 60;

/// The flag of a key that may sign.
const MAY_SIGN: u8 = 0x02;

/// A signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signature<'a> {
    version: Version,
    /// What it is for; see [`kind`](super::kind).
    pub(super) kind: u8,
    /// The number of the key's algorithm.
    algorithm: u8,
    hash: u8,
    salt: &'a [u8],
    /// The first octets of what it signs.
    prefix: &'a [u8],
    value: &'a [u8],
    /// What it says about itself, as it is hashed after the content.
    trailer: Vec<u8>,
    /// When it was made, in seconds since 1970.
    pub(super) created: u64,
    /// How long it counts, in seconds.
    lifetime: Option<u64>,
    /// How long the key counts that it vouches for, in seconds from when that was made.
    pub(super) key_lifetime: Option<u64>,
    /// Whether the key may sign that it vouches for, if it says so.
    pub(super) may_sign: Option<bool>,
    /// The key that made it.
    pub(super) issuer: Option<Issuer<'a>>,
    /// Signatures that are part of it.
    pub(super) embedded: Vec<&'a [u8]>,
    /// Fingerprints of keys that may revoke the key.
    pub(super) revokers: Vec<&'a [u8]>,
    /// Why it counts for nothing, whoever made it.
    problem: Option<String>,
}

impl<'a> Signature<'a> {
    /// Reads the body of a packet; `None` if it is malformed, of another version, or does not say when it was made.
    pub(super) fn read(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let version = Version::of(reader.byte()?)?;
        let (kind, algorithm, hash) = (reader.byte()?, reader.byte()?, reader.byte()?);
        let (hashed, unhashed) = match version {
            Version::V4 => (reader.after_short()?, reader.after_short()?),
            Version::V6 => (reader.after_number()?, reader.after_number()?),
        };
        let prefix = reader.take(2)?;
        let salt = match version {
            Version::V4 => &[],
            Version::V6 => {
                let length = usize::from(reader.byte()?);
                reader.take(length)?
            }
        };
        let mut signature = Self {
            version,
            kind,
            algorithm,
            hash,
            salt,
            prefix,
            value: reader.0,
            trailer: trailer(version, &body[..4], hashed),
            created: 0,
            lifetime: None,
            key_lifetime: None,
            may_sign: None,
            issuer: None,
            embedded: Vec::new(),
            revokers: Vec::new(),
            problem: Hash::weakness(hash).map(|weakness| format!("has {weakness}")),
        };
        signature.read_hashed(hashed)?;
        signature.read_unhashed(unhashed)?;
        Some(signature)
    }

    /// Reads what the signature says and signs.
    fn read_hashed(&mut self, area: &'a [u8]) -> Option<()> {
        let (mut reader, mut seen) = (Reader(area), [false; 128]);
        let mut created = None;
        while !reader.is_at_end() {
            let subpacket = reader.subpacket()?;
            let Subpacket { kind, is_critical, body } = subpacket;
            let number = || Reader(body).number().filter(|_| body.len() == 4).map(u64::from);
            // Zero stands for no end.
            let lifetime = || number().map(|seconds| (seconds != 0).then_some(seconds));
            // If it says two things, nobody knows which it means.
            let is_repeated = std::mem::replace(&mut seen[usize::from(kind)], true);
            match kind {
                2 | 3 | 9 | 27 if is_repeated => self.flaw(format!("says something twice (subpacket {kind})")),
                2 => created = Some(number()?),
                3 => self.lifetime = lifetime()?,
                9 => self.key_lifetime = lifetime()?,
                27 => self.may_sign = Some(body.first().is_some_and(|flags| flags & MAY_SIGN != 0)),
                12 => self.revokers.extend(body.get(2..)),
                16 | 32 | 33 => self.read_common(subpacket)?,
                // What they restrict is nothing here: exportable, revocable, preferences, names, and what revocations say.
                4 | 7 | 11 | 21..=26 | 28..=30 | 34 | 35 | 39 => {}
                _ if is_critical => self.flaw(format!("has a condition that is not known here (subpacket {kind})")),
                _ => {}
            }
        }
        self.created = created?;
        Some(())
    }

    /// Reads what the signature does not sign: only what speaks for itself counts.
    fn read_unhashed(&mut self, area: &'a [u8]) -> Option<()> {
        let mut reader = Reader(area);
        while !reader.is_at_end() {
            self.read_common(reader.subpacket()?)?;
        }
        Some(())
    }

    fn read_common(&mut self, Subpacket { kind, body, .. }: Subpacket<'a>) -> Option<()> {
        match kind {
            16 if body.len() != 8 => return None,
            16 if self.issuer.is_none() => self.issuer = Some(Issuer::Id(body)),
            32 => self.embedded.push(body),
            33 if !matches!(body.len(), 21 | 33) => return None,
            33 if !matches!(self.issuer, Some(Issuer::Fingerprint(_))) => {
                self.issuer = Some(Issuer::Fingerprint(&body[1..]));
            }
            _ => {}
        }
        Some(())
    }

    fn flaw(&mut self, problem: String) {
        self.problem.get_or_insert(problem);
    }

    /// Whether a key made it, of this content. Whether it counts is another question.
    pub(super) fn is_by(&self, key: &PublicKey<'_>, content: &[&[u8]]) -> bool {
        let Some(hash) = Hash::of(self.hash) else { return false };
        let is_fit = self.version == key.version && self.algorithm == key.algorithm;
        if !is_fit || (self.version == Version::V6 && self.salt.len() != hash.salt) {
            return false;
        }
        let parts = [&[self.salt], content, &[&self.trailer]].concat();
        let digest = hash.digest(&parts).filter(|digest| digest.starts_with(self.prefix));
        digest.is_some_and(|digest| key.has_signed(hash.function, &digest, self.value))
    }

    /// Checks that it counts at this time. Returns the first second at which it no longer does.
    pub(super) fn check(&self, now: u64) -> Result<Option<u64>, String> {
        if let Some(problem) = &self.problem {
            return Err(problem.clone());
        }
        if self.created > now.saturating_add(TOLERANCE) {
            return Err(format!("is dated {}, in the future", moment(self.created)));
        }
        let end = self.lifetime.map(|lifetime| self.created + lifetime);
        match end {
            Some(end) if end <= now => Err(format!("expired on {}", moment(end))),
            end => Ok(end),
        }
    }
}

/// What a signature hashes after the content.
fn trailer(version: Version, first: &[u8], hashed: &[u8]) -> Vec<u8> {
    // The signature was read: its areas are no longer than their lengths say.
    let length = u32::try_from(hashed.len()).unwrap_or(u32::MAX).to_be_bytes();
    let length = match version {
        Version::V4 => &length[2..],
        Version::V6 => &length[..],
    };
    let own = [first, length, hashed].concat();
    let total = u32::try_from(own.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&own[..], &[first[0], 0xff], &total].concat()
}
