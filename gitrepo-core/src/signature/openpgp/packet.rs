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

/// When a signature was made that does not say so: nobody has a later word. As many seconds after 1970 as 32 bits hold.
const UNKNOWN: u64 = u32::MAX as u64;

/// Why a packet is no signature that can be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unread {
    /// Its parts are cut off. Nobody can tell what it says, or who made it.
    Malformed,
    /// It is of this version: no key of version 4 or 6 makes it.
    Version(u8),
}

/// A signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signature<'a> {
    /// That of the keys that make such signatures.
    version: Version,
    /// Whether it is of version 3, and thus says nothing but what it is and when it was made.
    is_old: bool,
    /// What it is for; see [`kind`](super::kind).
    pub(super) kind: u8,
    /// The number of the key's algorithm.
    algorithm: u8,
    hash: u8,
    salt: &'a [u8],
    /// The first octets of what it signs.
    prefix: &'a [u8],
    value: &'a [u8],
    /// What of it is hashed after the content.
    trailer: Vec<u8>,
    /// When it was made, in seconds since 1970; the end of all times if it does not say so.
    pub(super) created: u64,
    /// How long it counts, in seconds.
    lifetime: Option<u64>,
    /// How long the key counts that it vouches for, in seconds from when that was made.
    pub(super) key_lifetime: Option<u64>,
    /// Whether the key may sign that it vouches for, if it says so.
    pub(super) may_sign: Option<bool>,
    /// The key that made it.
    pub(super) issuer: Option<Issuer<'a>>,
    /// The same where the signature signs it. Whoever passes the signature on can change the rest.
    signed_issuer: Option<Issuer<'a>>,
    /// Signatures that are part of it.
    pub(super) embedded: Vec<&'a [u8]>,
    /// Fingerprints of keys that may revoke the key.
    pub(super) revokers: Vec<&'a [u8]>,
    /// Why nobody can tell what it says, whoever made it.
    problem: Option<String>,
}

impl<'a> Signature<'a> {
    /// Reads the body of a packet. What is wrong with its statements is a problem of the signature: whose it is can still be
    /// told, and that is needed to know which key it may restrict.
    pub(super) fn read(body: &'a [u8]) -> Result<Self, Unread> {
        match body.first() {
            Some(3) => Self::read_old(body).ok_or(Unread::Malformed),
            Some(4 | 6) | None => Self::read_new(body).ok_or(Unread::Malformed),
            Some(version) => Err(Unread::Version(*version)),
        }
    }

    /// Reads one of version 3 (RFC 9580, section 5.2.2), with which old programs signed for keys of version 4. It counts for
    /// nothing, but may take something back.
    fn read_old(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(body.get(1..)?);
        if reader.byte()? != 5 {
            return None;
        }
        let trailer = reader.0.get(..5)?.to_vec();
        let (kind, created) = (reader.byte()?, reader.number()?);
        let issuer = reader.take(8)?;
        let (algorithm, hash) = (reader.byte()?, reader.byte()?);
        let prefix = reader.take(2)?;
        Some(Self {
            created: created.into(),
            issuer: Some(Issuer::Id(issuer)),
            is_old: true,
            ..Self::bare(Version::V4, [kind, algorithm, hash], trailer, (prefix, &[], reader.0))
        })
    }

    fn read_new(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let version = Version::of(reader.byte()?)?;
        let numbers = [reader.byte()?, reader.byte()?, reader.byte()?];
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
        let trailer = trailer(version, &body[..4], hashed);
        let mut signature = Self::bare(version, numbers, trailer, (prefix, salt, reader.0));
        if version == Version::V6 && Hash::of(signature.hash).is_some_and(|hash| hash.salt != salt.len()) {
            signature.flaw("has a salt of another length than its hash needs".to_owned());
        }
        if signature.read_hashed(hashed).is_none() {
            signature.flaw("is malformed in what it says".to_owned());
        }
        signature.signed_issuer = signature.issuer;
        signature.read_unhashed(unhashed);
        Some(signature)
    }

    /// One that says nothing yet.
    fn bare(
        version: Version,
        [kind, algorithm, hash]: [u8; 3],
        trailer: Vec<u8>,
        (prefix, salt, value): (&'a [u8], &'a [u8], &'a [u8]),
    ) -> Self {
        Self {
            version,
            is_old: false,
            kind,
            algorithm,
            hash,
            salt,
            prefix,
            value,
            trailer,
            created: UNKNOWN,
            lifetime: None,
            key_lifetime: None,
            may_sign: None,
            issuer: None,
            signed_issuer: None,
            embedded: Vec::new(),
            revokers: Vec::new(),
            problem: None,
        }
    }

    /// Reads what the signature says and signs; `None` if it is malformed, or does not say when it was made.
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
                3 | 9 | 27 if is_repeated => self.flaw(format!("says something twice (subpacket {kind})")),
                2 => {
                    if is_repeated {
                        self.flaw(format!("says something twice (subpacket {kind})"));
                    }
                    created = created.max(Some(number()?));
                }
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

    /// Reads what the signature does not sign: only what speaks for itself counts. It ends where it is malformed: anybody can
    /// have changed it, and that must not hide a signature.
    fn read_unhashed(&mut self, area: &'a [u8]) {
        let mut reader = Reader(area);
        while let Some(subpacket) = reader.subpacket() {
            if self.read_common(subpacket).is_none() {
                return;
            }
        }
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
        self.made_by(key, content) == Some(true)
    }

    /// Whether a key made it, of this content; `None` if nobody can tell here.
    pub(super) fn made_by(&self, key: &PublicKey<'_>, content: &[&[u8]]) -> Option<bool> {
        if self.version != key.version || self.algorithm != key.algorithm {
            return Some(false);
        }
        let Some((hash, digest)) = self.digest(content) else {
            return if self.issuer.is_none_or(|issuer| key.is(issuer)) { None } else { Some(false) };
        };
        Some(digest.starts_with(self.prefix) && key.has_signed(hash.function, &digest, self.value))
    }

    /// Whether it is of this content, as far as its first octets tell, whoever made it; `None` if nobody can tell here.
    pub(super) fn is_about(&self, content: &[&[u8]]) -> Option<bool> {
        self.digest(content).map(|(_, digest)| digest.starts_with(self.prefix))
    }

    /// `None` with an unknown hash.
    fn digest(&self, content: &[&[u8]]) -> Option<(Hash, Vec<u8>)> {
        let hash = Hash::of(self.hash)?;
        let parts = [&[self.salt], content, &[&self.trailer]].concat();
        Some((hash, hash.digest(&parts)?))
    }

    /// Whether it does not itself say that another key made it.
    pub(super) fn may_be_by(&self, fingerprint: &[u8]) -> bool {
        self.signed_issuer.is_none_or(|issuer| issuer.is(fingerprint))
    }

    /// Why it proves too little to grant anything, if so.
    pub(super) fn weakness(&self) -> Option<String> {
        if self.is_old {
            return Some("is of version 3, not of 4 or 6".to_owned());
        }
        Hash::weakness(self.hash).map(|weakness| format!("has {weakness}"))
    }

    /// Checks that it counts at this time. Returns the first second at which it no longer does.
    pub(super) fn check(&self, now: u64) -> Result<Option<u64>, String> {
        self.weakness().map_or_else(|| self.check_statements(now), Err)
    }

    /// The same, however weak it is: what it says is known, and holds at this time.
    pub(super) fn check_statements(&self, now: u64) -> Result<Option<u64>, String> {
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

    /// Whether it says when it was made.
    pub(super) fn is_dated(&self) -> bool {
        self.created != UNKNOWN
    }

    /// When it was made, for messages.
    pub(super) fn time(&self) -> String {
        if self.is_dated() { format!("on {}", moment(self.created)) } else { "at an unknown time".to_owned() }
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
