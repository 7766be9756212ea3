//! A key with all that its owner says about it (RFC 9580, section 10.1).

use super::key::Issuer;
use super::key::PublicKey;
use super::keyring::Keyring;
use super::kind;
use super::moment;
use super::packet::Signature;

/// A key, its user IDs and its subkeys, each with the signatures that follow it.
#[derive(Debug)]
pub(super) struct Certificate<'a> {
    pub(super) primary: PublicKey<'a>,
    pub(super) direct: Vec<Signature<'a>>,
    pub(super) users: Vec<User<'a>>,
    pub(super) subkeys: Vec<Subkey<'a>>,
    /// Whether a signature is cut off that follows one of these.
    pub(super) is_damaged: bool,
}

/// A user ID, or an attribute such as a photo.
#[derive(Debug)]
pub(super) struct User<'a> {
    pub(super) kind: u8,
    pub(super) content: &'a [u8],
    pub(super) signatures: Vec<Signature<'a>>,
}

#[derive(Debug)]
pub(super) struct Subkey<'a> {
    pub(super) key: PublicKey<'a>,
    pub(super) signatures: Vec<Signature<'a>>,
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
struct Statement<'a> {
    key_lifetimes: Vec<u64>,
    ends: Vec<u64>,
    may_sign: Vec<bool>,
    /// Fingerprints of keys that may revoke the key and its subkeys.
    revokers: Vec<&'a [u8]>,
    /// Of a signature that counts.
    has_any: bool,
    /// Why another one does not.
    weakness: Option<String>,
}

/// The owner's last word about something, back to the last that is not weak. Several may be of the same second.
struct LastWord<'b, 'a> {
    signatures: Vec<&'b Signature<'a>>,
    /// Whether the owner took it back.
    is_revoked: bool,
}

impl<'a> Certificate<'a> {
    pub(super) fn new(primary: PublicKey<'a>) -> Self {
        Self { primary, direct: Vec::new(), users: Vec::new(), subkeys: Vec::new(), is_damaged: false }
    }

    /// Whether the key itself may sign now; otherwise why not. The keyring is that of the key.
    pub(super) fn of_primary(&self, keyring: &Keyring<'a>, now: u64) -> Result<Standing, String> {
        let (statement, owner) = self.statement(keyring, now)?;
        statement.check_signing()?;
        Ok(Standing { end: statement.end(&self.primary, now)?, owner })
    }

    /// Whether one of its subkeys may sign now; otherwise why not.
    pub(super) fn of_subkey(&self, subkey: &Subkey<'a>, keyring: &Keyring<'a>, now: u64) -> Result<Standing, String> {
        let standing = || {
            let (statement, owner) = self.statement(keyring, now)?;
            let end = statement.end(&self.primary, now)?;
            let about = [self.primary.hashed(), subkey.key.hashed()].concat();
            check_revocations(&self.primary, kind::REVOKED_SUBKEY, &about, keyring)?;
            check_revokers(&statement.revokers, kind::REVOKED_SUBKEY, &about, keyring)?;
            // It may be a key of its own, too.
            check_revocations(&subkey.key, kind::REVOKED_KEY, &subkey.key.hashed(), keyring)?;
            let of_subkey = self.statement_about(subkey, &about, now)?;
            of_subkey.check_signing()?;
            let own_end = of_subkey.end(&subkey.key, now)?;
            Ok(Standing { end: [end, own_end].into_iter().flatten().min(), owner })
        };
        standing().map_err(|reason: String| format!("a subkey of {}, {reason}", self.primary.name()))
    }

    /// What the owner says about a subkey, last. The subkey must say itself whose it is: otherwise somebody could claim
    /// another one's key, and its signatures.
    fn statement_about(&self, subkey: &Subkey<'a>, about: &[u8], now: u64) -> Result<Statement<'a>, String> {
        let own = own(&self.primary, &subkey.signatures, about)?;
        let last = LastWord::among(&own, |kind| kind == kind::SUBKEY);
        let last = last.ok_or("which that key has not signed")?;
        let mut statement = Statement::default();
        statement.add(&last, now).map_err(|reason| format!("whose binding signature {reason}"))?;
        if let Some(weakness) = statement.weakness {
            return Err(format!("whose binding signature {weakness}"));
        }
        if statement.check_signing().is_ok() {
            let embedded = last.signatures.iter().flat_map(|binding| &binding.embedded);
            let mut in_turn = embedded
                .filter_map(|body| Signature::read(body).ok())
                .filter(|found| found.kind == kind::PRIMARY_KEY && found.is_by(&subkey.key, &[about]));
            let in_turn = in_turn.next().ok_or("which has not signed that key in turn (gpg's `cross-certify` does)")?;
            let end = in_turn.check(now).map_err(|reason| format!("whose signature of that key {reason}"))?;
            statement.ends.extend(end);
        }
        Ok(statement)
    }

    /// What the owner says about the key: the last word about the key itself and about each user ID. All of them hold.
    /// Also returns the owner's user ID.
    fn statement(&self, keyring: &Keyring<'a>, now: u64) -> Result<(Statement<'a>, Option<String>), String> {
        if let Some(weakness) = self.primary.weakness() {
            return Err(weakness);
        }
        let about = self.primary.hashed();
        check_revocations(&self.primary, kind::REVOKED_KEY, &about, keyring)?;
        if self.is_damaged {
            return Err("with which openpgpKeys has a signature that is cut off, and that may take it back".to_owned());
        }
        let (mut all, mut owner) = (Statement::default(), None);
        let wrong = |reason| format!("whose own signature of itself {reason}");
        let direct = own(&self.primary, &self.direct, &about)?;
        all.add_revokers(&direct);
        if let Some(last) = LastWord::among(&direct, |kind| kind == kind::DIRECT) {
            all.add(&last, now).map_err(wrong)?;
        }
        for user in &self.users {
            let about = [self.primary.hashed(), user.hashed()].concat();
            let own = own(&self.primary, &user.signatures, &about)?;
            all.add_revokers(&own);
            let last = LastWord::among(&own, |kind| kind::CERTIFICATIONS.contains(&kind));
            // With a user ID goes what was said with it.
            let Some(last) = last.filter(|last| !last.is_revoked) else { continue };
            if all.add(&last, now).map_err(wrong)? {
                owner = owner.or_else(|| user.name());
            }
        }
        check_revokers(&all.revokers, kind::REVOKED_KEY, &about, keyring)?;
        match (all.has_any, all.weakness.take()) {
            (true, _) => Ok((all, owner)),
            (false, Some(weakness)) => Err(wrong(weakness)),
            (false, None) => {
                Err("which has no signature of its own on itself, or on a user ID, in openpgpKeys".to_owned())
            }
        }
    }
}

/// Refuses a key or subkey that a key revoked, whenever and however weakly.
fn check_revocations(by: &PublicKey<'_>, kind: u8, about: &[u8], keyring: &Keyring<'_>) -> Result<(), String> {
    match own(by, keyring.revocations(kind), about)?.first() {
        Some(revocation) => Err(format!("which was revoked {}", revocation.time())),
        None => Ok(()),
    }
}

/// Refuses a key or subkey that one of these has revoked, whom its owner allowed to. Where that one's key is not in the
/// file, the claim cannot be checked, so it is believed.
fn check_revokers(revokers: &[&[u8]], kind: u8, about: &[u8], keyring: &Keyring<'_>) -> Result<(), String> {
    if revokers.is_empty() {
        return Ok(());
    }
    for claim in keyring.revocations(kind).filter(|claim| claim.is_about(&[about]) != Some(false)) {
        let is_made = |key| claim.made_by(key, &[about]) != Some(false);
        let may_be_by = |by: &&&[u8]| claim.may_be_by(by) && keyring.primary(by).is_none_or(is_made);
        let found = revokers.iter().filter(may_be_by);
        // Of several, the one that it names itself.
        if let Some(by) = found.max_by_key(|by| claim.issuer.is_some_and(|issuer| issuer.is(by))) {
            return Err(format!("which {} has revoked for its owner", Issuer::Fingerprint(by).name()));
        }
    }
    Ok(())
}

/// The signatures that a key made of something.
///
/// # Errors
///
/// If nobody can tell here whether it made one: that may be the one that takes the key back.
fn own<'b, 'a: 'b>(
    by: &PublicKey<'_>,
    signatures: impl IntoIterator<Item = &'b Signature<'a>>,
    about: &[u8],
) -> Result<Vec<&'b Signature<'a>>, String> {
    let mut own = Vec::new();
    for signature in signatures.into_iter().filter(|signature| signature.may_be_by(by.fingerprint())) {
        match signature.made_by(by, &[about]) {
            Some(true) => own.push(signature),
            Some(false) => {}
            None => {
                let reason = signature.weakness().unwrap_or_else(|| "cannot be computed".to_owned());
                return Err(format!("of which a signature in openpgpKeys {reason}, and may take it back"));
            }
        }
    }
    Ok(own)
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
        let shown = text.chars().map(|letter| if is_shown(letter) { letter } else { char::REPLACEMENT_CHARACTER });
        (self.kind == USER_ID).then(|| shown.take(LONGEST_NAME).collect())
    }
}

impl<'b, 'a> LastWord<'b, 'a> {
    /// Finds it among what the owner said about something; `None` if there is none of these types.
    fn among(own: &[&'b Signature<'a>], is_of: impl Fn(u8) -> bool) -> Option<Self> {
        let all = || own.iter().copied().filter(|found| is_of(found.kind));
        let last = all().map(|found| found.created).max()?;
        // A weak one hides no restriction that a good one made.
        let first = all().filter(|found| found.weakness().is_none()).map(|found| found.created).max().unwrap_or(last);
        // Who takes something back may say it again.
        let is_revoked = own.iter().any(|found| found.kind == kind::REVOKED_CERTIFICATION && found.created >= last);
        Some(Self { signatures: all().filter(|found| found.created >= first).collect(), is_revoked })
    }
}

impl<'a> Statement<'a> {
    /// Adds the owner's last word. What it restricts holds; what it grants does not if it is weak, or was taken back.
    /// Returns whether it counts.
    ///
    /// # Errors
    ///
    /// If it no longer holds, or if nobody can tell all that it restricts.
    fn add(&mut self, last: &LastWord<'_, 'a>, now: u64) -> Result<bool, String> {
        let weakness = last.signatures.iter().find_map(|signature| signature.weakness());
        let counts = weakness.is_none() && !last.is_revoked;
        for signature in &last.signatures {
            self.ends.extend(signature.check_statements(now)?);
            self.key_lifetimes.extend(signature.key_lifetime);
            self.may_sign.extend(signature.may_sign.filter(|may_sign| counts || !may_sign));
        }
        self.weakness = self.weakness.take().or(weakness);
        self.has_any |= counts;
        Ok(counts)
    }

    /// Adds whom the owner ever allowed to revoke the key: no later word takes that back, or a thief could say it.
    fn add_revokers(&mut self, own: &[&Signature<'a>]) {
        self.revokers.extend(own.iter().flat_map(|signature| &signature.revokers));
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

/// Whether a letter shows up as one: no control, and nothing that is invisible or turns the text around it.
fn is_shown(letter: char) -> bool {
    let is_format = matches!(
        letter,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    );
    !letter.is_control() && !is_format
}
