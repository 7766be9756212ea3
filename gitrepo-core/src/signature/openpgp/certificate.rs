//! A key with all that its owner says about it (RFC 9580, section 10.1).

use super::key::PublicKey;
use super::kind;
use super::moment;
use super::packet::Signature;

/// A key, its user IDs and its subkeys, each with the signatures that follow it.
#[derive(Debug)]
pub(super) struct Certificate<'a> {
    pub(super) primary: PublicKey<'a>,
    pub(super) direct: Vec<&'a [u8]>,
    pub(super) users: Vec<User<'a>>,
    pub(super) subkeys: Vec<Subkey<'a>>,
}

/// A user ID, or an attribute such as a photo.
#[derive(Debug)]
pub(super) struct User<'a> {
    pub(super) kind: u8,
    pub(super) content: &'a [u8],
    pub(super) signatures: Vec<&'a [u8]>,
}

#[derive(Debug)]
pub(super) struct Subkey<'a> {
    pub(super) key: PublicKey<'a>,
    pub(super) signatures: Vec<&'a [u8]>,
}

/// A key that may sign now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    /// The first second at which it may no longer, since 1970.
    pub(super) end: Option<u64>,
    /// The user ID of its owner, if it has one.
    pub(super) owner: Option<String>,
}

/// The type of a packet with a user ID.
pub(super) const USER_ID: u8 = 13;

/// Longest user ID in a message, in letters.
const LONGEST_NAME: usize = 200;

/// What the owner says about the key, or about a subkey.
#[derive(Default)]
struct Statement {
    key_lifetimes: Vec<u64>,
    ends: Vec<u64>,
    may_sign: Vec<bool>,
}

impl<'a> Certificate<'a> {
    pub(super) fn new(primary: PublicKey<'a>) -> Self {
        Self { primary, direct: Vec::new(), users: Vec::new(), subkeys: Vec::new() }
    }

    /// Whether the key itself may sign now; otherwise why not. The revocations may be of other keys.
    pub(super) fn of_primary(&self, revocations: &[&[u8]], now: u64) -> Result<Standing, String> {
        let (statement, owner) = self.statement(revocations, now)?;
        statement.check_signing()?;
        Ok(Standing { end: statement.end(&self.primary, now)?, owner })
    }

    /// Whether one of its subkeys may sign now; otherwise why not.
    pub(super) fn of_subkey(&self, subkey: &Subkey<'a>, revocations: &[&[u8]], now: u64) -> Result<Standing, String> {
        let standing = || {
            let (statement, owner) = self.statement(revocations, now)?;
            let end = statement.end(&self.primary, now)?;
            let of_subkey = self.statement_about(subkey, now)?;
            of_subkey.check_signing()?;
            let own_end = of_subkey.end(&subkey.key, now)?;
            Ok(Standing { end: [end, own_end].into_iter().flatten().min(), owner })
        };
        standing().map_err(|reason: String| format!("a subkey of {}, {reason}", self.primary.name()))
    }

    /// What the owner says about a subkey, last. The subkey must say itself whose it is: otherwise somebody could claim
    /// another one's key, and its signatures.
    fn statement_about(&self, subkey: &Subkey<'a>, now: u64) -> Result<Statement, String> {
        let about = [self.primary.hashed(), subkey.key.hashed()].concat();
        let own: Vec<_> = self.own(&subkey.signatures, &about).collect();
        if let Some(revocation) = own.iter().find(|found| found.kind == kind::REVOKED_SUBKEY) {
            return Err(format!("which was revoked on {}", moment(revocation.created)));
        }
        let binding = newest(own.into_iter().filter(|found| found.kind == kind::SUBKEY));
        let binding = binding.ok_or("which that key has not signed")?;
        let mut statement = Statement::default();
        statement.add(&binding, now).map_err(|reason| format!("whose binding signature {reason}"))?;
        if statement.check_signing().is_ok() {
            let embedded = binding.embedded.iter().filter_map(|body| Signature::read(body));
            let mut in_turn =
                embedded.filter(|found| found.kind == kind::PRIMARY_KEY && found.is_by(&subkey.key, &[&about]));
            let in_turn = in_turn.next().ok_or("which has not signed that key in turn (gpg's `cross-certify` does)")?;
            statement
                .ends
                .extend(in_turn.check(now).map_err(|reason| format!("whose signature of that key {reason}"))?);
        }
        Ok(statement)
    }

    /// What the owner says about the key: the last word about the key itself and about each user ID. All of them hold.
    /// Also returns the owner's user ID.
    fn statement(&self, revocations: &[&[u8]], now: u64) -> Result<(Statement, Option<String>), String> {
        if let Some(weakness) = self.primary.weakness() {
            return Err(weakness);
        }
        let about = self.primary.hashed();
        let mut all = Statement::default();
        let (mut has_any, mut owner, mut problem) = (false, None, None);
        if let Some(revocation) = self.own(revocations, &about).find(|found| found.kind == kind::REVOKED_KEY) {
            return Err(format!("which was revoked on {}", moment(revocation.created)));
        }
        if let Some(last) = newest(self.own(&self.direct, &about).filter(|found| found.kind == kind::DIRECT)) {
            match all.add(&last, now) {
                Ok(()) => has_any = true,
                Err(reason) => problem = Some(reason),
            }
            self.check_revokers(&last, revocations)?;
        }
        for user in &self.users {
            let Some(last) = self.certification(user) else { continue };
            match all.add(&last, now) {
                Ok(()) => {
                    has_any = true;
                    owner = owner.or_else(|| user.name());
                }
                Err(reason) => problem = problem.or(Some(reason)),
            }
            self.check_revokers(&last, revocations)?;
        }
        match (has_any, problem) {
            (true, _) => Ok((all, owner)),
            (false, Some(problem)) => Err(format!("whose own signature of itself {problem}")),
            (false, None) => {
                Err("which has no signature of its own on itself, or on a user ID, in openpgpKeys".to_owned())
            }
        }
    }

    /// The owner's last word about a user ID; `None` if there is none, or it was revoked.
    fn certification(&self, user: &User<'a>) -> Option<Signature<'a>> {
        let about = [self.primary.hashed(), user.hashed()].concat();
        let own: Vec<_> = self.own(&user.signatures, &about).collect();
        let revoked = own.iter().filter(|found| found.kind == kind::REVOKED_CERTIFICATION).map(|found| found.created);
        let revoked = revoked.max();
        let last = newest(own.into_iter().filter(|found| kind::CERTIFICATIONS.contains(&found.kind)))?;
        // Who revokes a user ID may take it up again.
        revoked.is_none_or(|revoked| revoked < last.created).then_some(last)
    }

    /// Refuses a key that another one claims to have revoked, if its owner allowed that one to. The claim cannot be
    /// checked where that one's key is not known, so it is believed.
    fn check_revokers(&self, statement: &Signature<'_>, revocations: &[&[u8]]) -> Result<(), String> {
        if statement.revokers.is_empty() {
            return Ok(());
        }
        let issuers = revocations.iter().filter_map(|body| Signature::read(body)?.issuer);
        let mut named = issuers.filter(|issuer| statement.revokers.iter().any(|key| issuer.is(key)));
        named.next().map_or(Ok(()), |by| Err(format!("which {} has revoked for its owner", by.name())))
    }

    /// The signatures that the key itself made of something.
    fn own<'b>(
        &'b self,
        signatures: &'b [&'a [u8]],
        about: &'b [u8],
    ) -> impl Iterator<Item = Signature<'a>> + use<'a, 'b> {
        let found = signatures.iter().filter_map(|body| Signature::read(body));
        found.filter(move |found| {
            found.issuer.is_none_or(|issuer| self.primary.is(issuer)) && found.is_by(&self.primary, &[about])
        })
    }
}

impl User<'_> {
    /// As signatures of it hash it.
    fn hashed(&self) -> Vec<u8> {
        let length = u32::try_from(self.content.len()).unwrap_or(u32::MAX).to_be_bytes();
        let first = if self.kind == USER_ID { 0xb4 } else { 0xd1 };
        [&[first], &length[..], self.content].concat()
    }

    fn name(&self) -> Option<String> {
        let text = String::from_utf8_lossy(self.content);
        let shown = text.chars().map(|letter| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter });
        (self.kind == USER_ID).then(|| shown.take(LONGEST_NAME).collect())
    }
}

impl Statement {
    /// Adds a signature of the owner.
    fn add(&mut self, signature: &Signature<'_>, now: u64) -> Result<(), String> {
        self.ends.extend(signature.check(now)?);
        self.key_lifetimes.extend(signature.key_lifetime);
        self.may_sign.extend(signature.may_sign);
        Ok(())
    }

    /// Without flags, a key is for nothing.
    fn check_signing(&self) -> Result<(), &'static str> {
        match self.may_sign.is_empty() || self.may_sign.contains(&false) {
            true => Err("which is not for signing, by its key flags"),
            false => Ok(()),
        }
    }

    /// The first second at which it no longer holds for a key.
    fn end(&self, key: &PublicKey<'_>, now: u64) -> Result<Option<u64>, String> {
        let expiry = self.key_lifetimes.iter().min().map(|lifetime| key.created + lifetime);
        match expiry {
            Some(expiry) if expiry <= now => {
                Err(format!("which expired on {}: extend it, and export it to openpgpKeys again", moment(expiry)))
            }
            expiry => Ok(expiry.into_iter().chain(self.ends.iter().copied()).min()),
        }
    }
}

/// The last word.
fn newest<'a>(signatures: impl Iterator<Item = Signature<'a>>) -> Option<Signature<'a>> {
    signatures.max_by_key(|signature| signature.created)
}
