//! The signatures that the configuration requires: nothing is leased without one.
//!
//! A fetch checks the commit before its tree is listed. Whatever else is leased, out of the store, for a record or
//! offline, needs the verdict of an earlier check, or is checked now: from the store's repository, or from what the
//! remote gives out. The verifier checks; this process never reads what is signed.

use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use super::LeaseError;
use super::Snapshots;
use super::Wanted;
use super::proof::Proven;
use super::proof::unless_full;
use crate::error::chain;
use crate::gateway::GatewayError;
use crate::gateway::Session;
use crate::gateway::Workspace;
use crate::remote::Resolved;
use crate::signature::Requirement;
use crate::signature::SignatureRequest;
use crate::signature::Signer;
use crate::signature::TAGS;
use crate::spec::Revision;
use crate::store::Judged;
use crate::store::Verdict;
use crate::watch::Watch;

impl Snapshots {
    /// Returns who signed a commit that may be leased, or `None` if no signature is required. Checks it unless that was
    /// done before.
    ///
    /// # Errors
    ///
    /// [`LeaseError::is_unsigned`] if the commit lacks the signature.
    pub(super) fn signer(
        &self,
        wanted: Wanted<'_>,
        resolved: &Resolved,
        watch: &Watch,
    ) -> Result<Option<Signer>, LeaseError> {
        let Some(requirement) = self.requirement(wanted)? else { return Ok(None) };
        if let Some(signer) = self.known_signer(wanted, resolved, &requirement) {
            return Ok(Some(signer));
        }
        let (signer, required) = self.check_signature(wanted, resolved, requirement, watch)?;
        self.record_signer(wanted, &signer, &required)?;
        Ok(Some(signer))
    }

    /// Returns what is known of the wanted commit without asking the remote: a fresh proof, and who signed it. `None` if a
    /// proof is missing, or a signature that is required has yet to be checked.
    pub(super) fn known_signed(&self, wanted: Wanted<'_>) -> Result<Option<(Proven, Option<Signer>)>, LeaseError> {
        let Some(proven) = self.known(wanted) else { return Ok(None) };
        let Some(requirement) = self.requirement(wanted)? else { return Ok(Some((proven, None))) };
        let signer = self.known_signer(wanted, &proven.resolved, &requirement);
        Ok(signer.map(|signer| (proven, Some(signer))))
    }

    /// What the commits of the repository need.
    fn requirement(&self, wanted: Wanted<'_>) -> Result<Option<Requirement>, LeaseError> {
        Ok(self.gateway.policy().required_signature(&wanted.spec.repository)?)
    }

    /// What a commit that is fetched now still needs; `None` if it needs no signature, or is known to have it.
    pub(super) fn still_required(
        &self,
        wanted: Wanted<'_>,
        resolved: &Resolved,
        session: &mut Session<'_>,
    ) -> Result<Option<Required>, LeaseError> {
        match self.requirement(wanted)? {
            Some(requirement) if self.known_signer(wanted, resolved, &requirement).is_none() => {
                required(wanted, resolved, requirement, session).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Returns who signed, if that is known without a check: by the commit itself, or by the tag that the remote named.
    /// Where nobody asked the remote about a ref, as for a record, the tag counts that it named before.
    fn known_signer(&self, wanted: Wanted<'_>, resolved: &Resolved, requirement: &Requirement) -> Option<Signer> {
        let (access, digest) = (self.store.access(), requirement.digest());
        let now = SystemTime::now();
        let verdict = |reference: Option<&str>| {
            let judged = Judged { commit: &resolved.commit, reference, requirement: &digest };
            let verdict = access.verdict(wanted.credential, &judged)?;
            counts_at(&verdict.signer, now).then_some(verdict)
        };
        if let Some(found) = verdict(None) {
            return Some(found.signer);
        }
        let revision = &wanted.spec.revision;
        let found = verdict(Some(&tag_of(revision, resolved)?))?;
        let is_told = !matches!(wanted.revision, Revision::Commit(_));
        (!is_told || found.tag == by_its_tag(revision, resolved).tag).then_some(found.signer)
    }

    /// Records a verdict, so that it need not be found again.
    pub(super) fn record_signer(
        &self,
        wanted: Wanted<'_>,
        signer: &Signer,
        Required { requirement, resolved }: &Required,
    ) -> Result<(), LeaseError> {
        let (digest, reference) = (requirement.digest(), resolved.reference.as_deref());
        let judged =
            Judged { commit: &resolved.commit, reference: reference.filter(|_| signer.tag), requirement: &digest };
        let verdict = Verdict { signer: signer.clone(), tag: resolved.tag.filter(|_| signer.tag) };
        Ok(unless_full(self.store.access().record_verdict(wanted.credential, &judged, &verdict))?)
    }

    fn check_signature(
        &self,
        wanted: Wanted<'_>,
        resolved: &Resolved,
        requirement: Requirement,
        watch: &Watch,
    ) -> Result<(Signer, Required), LeaseError> {
        if requirement.on.takes_commits() {
            let has_tag = requirement.on.takes_tags() && tag_of(&wanted.spec.revision, resolved).is_some();
            let alone = Resolved::new(resolved.commit, None);
            let required = Required::new(requirement.clone(), &wanted.spec.revision, &alone);
            match self.check_in_store(wanted, &required, watch) {
                Some(Ok(signer)) => return Ok((signer, required)),
                Some(Err(error)) if error.is_unsigned() && !has_tag => return Err(error),
                Some(Err(error)) if !error.is_unsigned() => {
                    tracing::info!(error = %chain(&error), "the remote is asked for a commit that must be signed");
                }
                _ => {}
            }
        }
        let staging = self.store.staging()?;
        let workspace = Workspace { staging: staging.path(), base: None, shows_base: false };
        let (url, credentials) = (&wanted.spec.repository, wanted.credentials);
        let mut session = self.gateway.open(url, credentials, Some(workspace), watch)?;
        let required = required(wanted, resolved, requirement, &mut session)?;
        let content = session.commit(resolved.commit)?;
        let signer = check(&mut session, &required, Some(&content))?;
        session.finish()?;
        Ok((signer, required))
    }

    /// Checks the commit itself if the store's repository has it; `None` if not. Another call may add to the repository
    /// or replace it meanwhile: then the check fails for that.
    fn check_in_store(
        &self,
        wanted: Wanted<'_>,
        required: &Required,
        watch: &Watch,
    ) -> Option<Result<Signer, LeaseError>> {
        let repository = self.store.repository(&wanted.spec.repository);
        if !repository.contains(&required.resolved.commit) {
            return None;
        }
        let check_it = || -> Result<Signer, LeaseError> {
            let staging = self.store.staging()?;
            let workspace = Workspace { staging: staging.path(), base: Some(repository.path()), shows_base: false };
            let mut session = self.gateway.open_offline(&wanted.spec.repository, workspace, watch)?;
            let signer = check(&mut session, required, None)?;
            session.finish()?;
            Ok(signer)
        };
        Some(check_it())
    }
}

/// Whether a verdict still counts. With a clock before 1970, nobody knows that of a key that ends.
fn counts_at(signer: &Signer, now: SystemTime) -> bool {
    let now = now.duration_since(UNIX_EPOCH).map(|now| now.as_secs());
    signer.until.is_none_or(|until| now.is_ok_and(|now| now <= until))
}

/// What is required of a commit.
pub(crate) struct Required {
    requirement: Requirement,
    /// The commit, with the tag that led to it if the volume names that tag.
    resolved: Resolved,
}

impl Required {
    /// What is required of the commit that a volume of this revision shows.
    pub(crate) fn new(requirement: Requirement, revision: &Revision, resolved: &Resolved) -> Self {
        Self { requirement, resolved: by_its_tag(revision, resolved) }
    }
}

/// Checks a commit, first by itself and then with its tag. Without `content`, it was fetched by this session, or is in
/// its base.
pub(crate) fn check(
    session: &mut Session<'_>,
    Required { requirement, resolved }: &Required,
    content: Option<&[u8]>,
) -> Result<Signer, GatewayError> {
    let request = SignatureRequest {
        requirement: requirement.clone(),
        commit: resolved.commit,
        content: content.map(<[u8]>::to_vec),
        tag: None,
    };
    let tag = resolved.tag.zip(resolved.reference.as_deref()).filter(|_| requirement.on.takes_tags());
    let Some((id, reference)) = tag else { return session.check_signature(request) };
    if requirement.on.takes_commits()
        && let Ok(signer) = session.check_signature(request.clone())
    {
        return Ok(signer);
    }
    let tag = session.tag(id, reference)?;
    session.check_signature(SignatureRequest { tag: Some(tag), ..request })
}

/// The ref of the tag that a volume of this revision names, if no other ref led to the commit. The default branch is no
/// tag, whatever the remote says.
fn tag_of(revision: &Revision, resolved: &Resolved) -> Option<String> {
    let named = match revision {
        Revision::Named(name) => format!("{TAGS}{name}"),
        Revision::Ref(name) if name.starts_with(TAGS) => name.clone(),
        Revision::Ref(_) | Revision::Head | Revision::Commit(_) => return None,
    };
    resolved.reference.as_ref().is_none_or(|reference| *reference == named).then_some(named)
}

/// Drops the tag that led to a commit unless the revision names it. A remote, and a process that asks it, may answer with
/// the signed tag of an old version.
fn by_its_tag(revision: &Revision, resolved: &Resolved) -> Resolved {
    let names_it = resolved.reference.is_some() && tag_of(revision, resolved).is_some();
    Resolved { tag: resolved.tag.filter(|_| names_it), ..resolved.clone() }
}

/// Finds out which tag led to a commit that was asked for by its id: the tag that the remote names now is what counts.
fn required(
    wanted: Wanted<'_>,
    resolved: &Resolved,
    requirement: Requirement,
    session: &mut Session<'_>,
) -> Result<Required, LeaseError> {
    let revision = &wanted.spec.revision;
    let tag = tag_of(revision, resolved).filter(|_| requirement.on.takes_tags() && resolved.tag.is_none());
    let resolved = match tag {
        Some(reference) => named_now(session, resolved, reference)?,
        None => resolved.clone(),
    };
    Ok(Required::new(requirement, revision, &resolved))
}

/// Asks the remote for the tag of a ref. Without one that leads to the commit, the commit has to do by itself.
fn named_now(session: &mut Session<'_>, resolved: &Resolved, reference: String) -> Result<Resolved, LeaseError> {
    let Ok(revision) = Revision::parse(&reference) else { return Ok(resolved.clone()) };
    match session.resolve(&revision).map_err(LeaseError::from) {
        Ok(found) if found.commit == resolved.commit => Ok(found),
        Ok(_) => Ok(resolved.clone()),
        // The tag is gone.
        Err(error) if error.is_missing_revision() => Ok(resolved.clone()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn s20_a_verdict_counts_until_its_key_ends_and_never_by_a_clock_before_1970() {
        let signer = |until| Signer { key: "key".to_owned(), name: "name".to_owned(), tag: false, until };
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let before = UNIX_EPOCH - Duration::from_secs(1);
        assert!(counts_at(&signer(Some(7)), at(7)));
        assert!(!counts_at(&signer(Some(7)), at(8)));
        assert!(!counts_at(&signer(Some(7)), before));
        for now in [at(0), at(8), before] {
            assert!(counts_at(&signer(None), now));
        }
    }
}
