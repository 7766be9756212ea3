//! Resolves a revision to a commit and checks that the credential may read the repository. Uses a recent answer, or
//! asks the remote.

use std::time::Duration;

use super::LeaseError;
use super::Snapshots;
use super::Wanted;
use super::fetch::Fetching;
use crate::error::chain;
use crate::progress::Step;
use crate::remote::Resolved;
use crate::spec::PullPolicy;
use crate::spec::Revision;
use crate::store::StoreError;
use crate::store::Turn;
use crate::watch::Watch;

/// How long other calls with the same credential may reuse the remote's answer about a moving revision. Long enough
/// that a hundred pods that start at once ask once; too short for anyone to notice.
const SHARED_ANSWER: Duration = Duration::from_secs(1);

impl Snapshots {
    /// Resolves the revision, or reuses a recent answer. If `may_fetch`, and no other call is fetching from the
    /// repository, a call that asked the remote also returns its session for a fetch.
    pub(super) fn ask(
        &self,
        wanted: Wanted<'_>,
        may_fetch: bool,
        watch: &Watch,
    ) -> Result<(Resolved, Option<Fetching<'_>>), LeaseError> {
        if let Some(resolved) = self.known(wanted)? {
            return Ok((resolved, None));
        }
        watch.progress.report(&Step::Resolving);
        let access = self.store.access();
        let (credential, tenant) = (wanted.credential, watch.account());
        let _asking = match access.resolve_lock_unless(credential, tenant, &watch.cancel, || self.known(wanted))? {
            Turn::Done(resolved) => return Ok((resolved, None)),
            Turn::Ours(lock) => lock,
        };
        if let Some(resolved) = self.known(wanted)? {
            return Ok((resolved, None));
        }
        let mut fetching = match may_fetch {
            true => self.try_fetching(wanted, watch)?,
            false => None,
        };
        let resolved = match &mut fetching {
            Some(fetching) => fetching.resolve(wanted.revision)?,
            None => self.gateway.resolve(&wanted.spec.repository, wanted.revision, wanted.credentials, watch)?,
        };
        match access.record_answer(wanted.credential, wanted.revision, &resolved) {
            // Without the record, the next call asks the remote again.
            Err(error) if error.is_full() => {
                tracing::warn!(error = %chain(&error), "cannot record the remote's answer: the disk is full");
            }
            result => result?,
        }
        Ok((resolved, fetching))
    }

    /// Returns the remote's last answer to this credential, if it is fresh enough to act on without asking again.
    ///
    /// A proof of access holds for `accessTtl`. Under `Always`, each call asks the remote to resolve a moving revision,
    /// but calls within [`SHARED_ANSWER`] share one answer.
    pub(super) fn known(&self, wanted: Wanted<'_>) -> Result<Option<Resolved>, StoreError> {
        let access = self.store.access();
        if !access.proof(wanted.credential, self.gateway.policy().config().cache.access_ttl) {
            return Ok(None);
        }
        if let Revision::Commit(commit) = wanted.revision {
            return Ok(Some(Resolved { commit: *commit, reference: None }));
        }
        let answer = access.resolution(wanted.credential, wanted.revision);
        let fresh = answer.filter(|answer| match wanted.spec.pull_policy {
            PullPolicy::IfNotPresent => true,
            PullPolicy::Always => answer.age.is_some_and(|age| age <= SHARED_ANSWER),
        });
        Ok(fresh.map(|answer| answer.resolved))
    }
}
