//! Where a revision stands, for who does not publish yet.

use super::PublishError;
use super::Volumes;
use super::obtain::Wanted;
use crate::credentials::Credentials;
use crate::error::Kind;
use crate::error::chain;
use crate::progress::Step;
use crate::remote::Resolved;
use crate::snapshot::Watch;
use crate::spec::VolumeSpec;
use crate::store::Turn;

impl Volumes {
    /// Asks the remote where the revision stands, under the same rules as a publish: the policy is asked first, what the
    /// same credential was told within the last second is not asked again, and a refusal voids its proof of access.
    pub fn resolve(
        &self,
        spec: &VolumeSpec,
        credentials: &Credentials,
        watch: &Watch,
    ) -> Result<Resolved, PublishError> {
        self.gateway.policy().check(&spec.repository)?;
        let access = self.store.access();
        let credential = access.credential(&spec.repository, credentials)?;
        let wanted = Wanted { spec, revision: &spec.revision, credentials, credential: &credential };
        if let Some(resolved) = self.known(wanted)? {
            return Ok(resolved);
        }
        watch.progress.report(&Step::Resolving);
        let _asking = match access.resolve_lock_unless(&credential, &watch.cancel, || self.known(wanted))? {
            Turn::Done(resolved) => return Ok(resolved),
            Turn::Ours(lock) => lock,
        };
        if let Some(resolved) = self.known(wanted)? {
            return Ok(resolved);
        }
        match self.gateway.resolve(&spec.repository, &spec.revision, credentials, watch) {
            Ok(resolved) => {
                access.record_answer(&credential, &spec.revision, &resolved)?;
                Ok(resolved)
            }
            Err(error) => {
                if matches!(error.kind(), Kind::Unauthenticated | Kind::PermissionDenied | Kind::NotFound)
                    && let Err(failure) = access.forget(&credential)
                {
                    tracing::error!(error = %chain(&failure), "a proof of access that is void could not be deleted");
                }
                Err(error.into())
            }
        }
    }
}
