//! Resolves a revision to a commit and checks that the credential may read that commit. Uses a recent answer, or asks the
//! remote.

use std::time::Duration;

use super::LeaseError;
use super::Snapshots;
use super::Wanted;
use super::fetch::Fetching;
use super::proof::Proof;
use super::proof::Proven;
use super::proof::unless_full;
use crate::progress::Step;
use crate::remote::Resolved;
use crate::spec::PullPolicy;
use crate::spec::Revision;
use crate::store::Evidence;
use crate::store::Turn;
use crate::watch::Watch;

/// How long other calls with the same credential may reuse the remote's answer about a moving revision. Long enough
/// that a hundred pods that start at once ask once; too short for anyone to notice.
const SHARED_ANSWER: Duration = Duration::from_secs(1);

impl Snapshots {
    /// Resolves the revision and proves access to its commit, or reuses a recent answer. If `may_fetch`, and no other
    /// call is fetching from the repository, a call that asked the remote also returns its session for a fetch.
    pub(super) fn ask(
        &self,
        wanted: Wanted<'_>,
        may_fetch: bool,
        watch: &Watch,
    ) -> Result<(Proven, Option<Fetching<'_>>), LeaseError> {
        if let Some(proven) = self.known(wanted) {
            return Ok((proven, None));
        }
        watch.progress.report(&Step::Resolving);
        let access = self.store.access();
        let (credential, tenant) = (wanted.credential, watch.account());
        let _asking = match access.resolve_lock_unless(credential, tenant, &watch.cancel, || Ok(self.known(wanted)))? {
            Turn::Done(proven) => return Ok((proven, None)),
            Turn::Ours(lock) => lock,
        };
        if let Some(proven) = self.known(wanted) {
            return Ok((proven, None));
        }
        let mut fetching = match may_fetch {
            true => self.try_fetching(wanted, watch)?,
            false => None,
        };
        let mut question = |revision: &Revision| match &mut fetching {
            Some(fetching) => fetching.resolve(revision),
            None => Ok(self.gateway.resolve(&wanted.spec.repository, revision, wanted.credentials, watch)?),
        };
        let proven = match self.still_given(wanted, &mut question)? {
            Some(proven) => proven,
            None => {
                let resolved = question(wanted.revision)?;
                unless_full(access.record_answer(wanted.credential, wanted.revision, &resolved))?;
                let proof = if resolved.reference.is_some() { Proof::Ref } else { Proof::Commit };
                Proven { resolved, proof }
            }
        };
        Ok((proven, fetching))
    }

    /// Under `IfNotPresent`, the remote's last answer to this credential stands if the remote still gives out its commit.
    fn still_given(
        &self,
        wanted: Wanted<'_>,
        question: &mut dyn FnMut(&Revision) -> Result<Resolved, LeaseError>,
    ) -> Result<Option<Proven>, LeaseError> {
        let is_moving = !matches!(wanted.revision, Revision::Commit(_));
        if !is_moving || wanted.spec.pull_policy != PullPolicy::IfNotPresent {
            return Ok(None);
        }
        let access = self.store.access();
        let Some(last) = access.resolution(wanted.credential, wanted.revision) else { return Ok(None) };
        let commit = last.resolved.commit;
        match question(&Revision::Commit(commit)) {
            Ok(_) => {
                unless_full(access.record_proof(wanted.credential, &commit, Evidence::Commit))?;
                Ok(Some(Proven { resolved: last.resolved, proof: Proof::Commit }))
            }
            Err(error) if error.is_about_one_commit() => {
                self.void(wanted, &error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the commit that the remote last told or gave this credential, if that is recent enough to act on without
    /// asking again.
    ///
    /// A proof of access holds for `accessTtl`. Under `Always`, each call asks the remote to resolve a moving revision,
    /// but calls within [`SHARED_ANSWER`] share one answer.
    pub(super) fn known(&self, wanted: Wanted<'_>) -> Option<Proven> {
        let max_age = match wanted.spec.pull_policy {
            PullPolicy::IfNotPresent => None,
            PullPolicy::Always => Some(SHARED_ANSWER),
        };
        self.proven(wanted, max_age, self.gateway.policy().config().cache.access_ttl)
    }

    /// Like [`Snapshots::known`], however long ago it was.
    pub(super) fn once_known(&self, wanted: Wanted<'_>) -> Option<Proven> {
        self.proven(wanted, None, Duration::MAX)
    }

    /// Returns the commit of the revision by an answer of at most this age, if it has a proof younger than `ttl`.
    fn proven(&self, wanted: Wanted<'_>, max_age: Option<Duration>, ttl: Duration) -> Option<Proven> {
        let access = self.store.access();
        let resolved = match wanted.revision {
            Revision::Commit(commit) => Resolved::new(*commit, None),
            revision => {
                let answer = access.resolution(wanted.credential, revision)?;
                let is_recent = max_age.is_none_or(|most| answer.age.is_some_and(|age| age <= most));
                is_recent.then_some(answer.resolved)?
            }
        };
        let proof = access.proof(wanted.credential, &resolved.commit, ttl)?.into();
        Some(Proven { resolved, proof })
    }
}
