//! Finds out what confines the workers of this node.

use super::Gateway;
use super::GatewayError;
use crate::credentials::Credentials;
use crate::credentials::HostKeys;
use crate::remote::Errand;
use crate::spec::RepositoryUrl;
use crate::watch::Watch;
use crate::worker::Confinement;
use crate::worker::Job;

impl Gateway {
    /// Starts a worker as for this repository, which does nothing and can reach nobody, and ends it. Returns what confined
    /// it; `None` if workers run in this process.
    ///
    /// # Errors
    ///
    /// If no worker can be started or confined.
    pub fn try_confinement(&self, url: &RepositoryUrl, watch: &Watch) -> Result<Option<Confinement>, GatewayError> {
        let errand = Errand {
            url: url.clone(),
            credentials: Credentials::none(),
            host_keys: HostKeys::new(self.policy.config().host_keys.checking),
            ca_file: None,
            proxy: None,
            credentials_over_http: false,
            staging: None,
            base: None,
            shows_base: false,
            shows_kept: true,
            limits: self.policy.limits().clone(),
        };
        let session = self.worker.start(Job::new(errand, watch.clone()))?;
        let confinement = session.confinement().cloned();
        session.finish()?;
        Ok(confinement)
    }
}
