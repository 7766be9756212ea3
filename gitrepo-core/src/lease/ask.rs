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
use crate::store::Moment;
use crate::store::StoreError;
use crate::store::Turn;
use crate::watch::Watch;

/// How long other calls with the same credential may reuse the remote's answer about a moving revision. Long enough
/// that a hundred pods that start at once ask once; too short for anyone to notice.
const SHARED_ANSWER: Duration = Duration::from_secs(1);

impl Snapshots {
    /// Resolves the revision and proves access to its commit, or reuses a recent answer.
    ///
    /// A call that `leases` the commit's tree gets no snapshot of the store unless the remote gave out the commit itself:
    /// whoever knows its id can say that a ref stands there. If such a call asked about a moving revision, and no other
    /// call is fetching from the repository, it also gets its session back for a fetch.
    pub(super) fn ask(
        &self,
        wanted: Wanted<'_>,
        leases: bool,
        watch: &Watch,
    ) -> Result<(Proven, Option<Fetching<'_>>), LeaseError> {
        let known = || self.known_enough(wanted, leases);
        if let Some(proven) = known()? {
            return Ok((proven, None));
        }
        watch.progress.report(&Step::Resolving);
        let access = self.store.access();
        let (credential, tenant) = (wanted.credential, watch.account());
        let _asking = match access.resolve_lock_unless(credential, tenant, &watch.cancel, known)? {
            Turn::Done(proven) => return Ok((proven, None)),
            Turn::Ours(lock) => lock,
        };
        if let Some(proven) = known()? {
            return Ok((proven, None));
        }
        let mut fetching = match leases && !matches!(wanted.revision, Revision::Commit(_)) {
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
                let asked = Moment::now()?;
                let resolved = question(wanted.revision)?;
                unless_full(access.record_answer(credential, wanted.revision, &resolved, &asked))?;
                let proof = match wanted.revision {
                    Revision::Commit(_) => Proof::Commit,
                    _ => Proof::Ref,
                };
                let content = proof == Proof::Commit || access.has_content(credential, &resolved.commit);
                Proven { resolved, proof, content }
            }
        };
        let proven = match !leases || proven.content || self.find(wanted, &proven.resolved)?.is_none() {
            true => proven,
            false => {
                let (commit, asked) = (proven.resolved.commit, Moment::now()?);
                question(&Revision::Commit(commit))?;
                unless_full(access.record_content(credential, &commit, proven.evidence(), &asked))?;
                Proven { content: true, ..proven }
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
        let (commit, asked) = (last.resolved.commit, Moment::now()?);
        match question(&Revision::Commit(commit)) {
            Ok(_) => {
                unless_full(access.record_content(wanted.credential, &commit, Evidence::Commit, &asked))?;
                Ok(Some(Proven { resolved: last.resolved, proof: Proof::Commit, content: true }))
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

    /// Like [`Snapshots::known`], unless the store has the snapshot and nothing has proven the commit's content.
    fn known_enough(&self, wanted: Wanted<'_>, leases: bool) -> Result<Option<Proven>, StoreError> {
        let Some(proven) = self.known(wanted) else { return Ok(None) };
        let is_enough = !leases || proven.content || self.find(wanted, &proven.resolved)?.is_none();
        Ok(is_enough.then_some(proven))
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
        self.still_proven(wanted, resolved, ttl)
    }

    /// Returns the proof of a commit if it is younger than `ttl`.
    pub(super) fn still_proven(&self, wanted: Wanted<'_>, resolved: Resolved, ttl: Duration) -> Option<Proven> {
        let access = self.store.access();
        let proof = access.proof(wanted.credential, &resolved.commit, ttl)?.into();
        let content = access.has_content(wanted.credential, &resolved.commit);
        Some(Proven { resolved, proof, content })
    }
}
