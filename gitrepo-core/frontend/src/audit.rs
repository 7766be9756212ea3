//! The audit log: which pod got which commit of which repository, and what proved its access; or that it was refused.
//!
//! A line for each publish and each refusal, whatever the level of the log. It contains no secret: the credential appears as
//! the beginning of its id, an HMAC with a key that never leaves the node.

use gitrepo_core::credentials::Credentials;
use gitrepo_core::error::Kind;
use gitrepo_core::error::chain;
use gitrepo_core::spec::Revision;
use gitrepo_core::store::CredentialId;
use gitrepo_core::volume::PublishError;
use gitrepo_core::volume::Published;
use gitrepo_core::volume::VolumeRequest;
use gitrepo_core::volume::Volumes;

use crate::log::printable;

/// The target of the lines.
pub const TARGET: &str = "audit";

/// Hexadecimal digits of a credential's id in a line.
const DIGITS: usize = 16;

/// The pod that asks for a volume, as far as its kubelet says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requester {
    /// The pod's namespace.
    pub namespace: Option<String>,
    /// The pod's name.
    pub pod: Option<String>,
    /// The pod's service account.
    pub service_account: Option<String>,
    /// The volume's name or id.
    pub volume: String,
}

/// Logs a volume that was published for a pod, by this call or an earlier one.
pub fn published(requester: &Requester, request: &VolumeRequest, published: &Published) {
    let credential = short(&published.credential);
    let signer = published.signer.as_ref().map(|signer| format!("{} ({})", signer.name, signer.key));
    line(requester, request, Some(published.commit.to_string()), Some(credential), published.proof.name(), Ok(signer));
}

/// Logs a failure to publish, if it is a refusal: by the remote, by the policy, or because there is no such commit.
pub fn refused(
    requester: &Requester,
    request: &VolumeRequest,
    credentials: &Credentials,
    volumes: &Volumes,
    error: &PublishError,
) {
    if !matches!(error.kind(), Kind::Unauthenticated | Kind::PermissionDenied | Kind::NotFound) {
        return;
    }
    let commit = match &request.spec.revision {
        Revision::Commit(commit) => Some(commit.to_string()),
        _ => None,
    };
    // Without the node's key, the line has to do without the credential.
    let credential = volumes.store().access().credential(&request.spec.repository, credentials).ok();
    line(requester, request, commit, credential.as_ref().map(short), "none", Err(&chain(error)));
}

fn short(credential: &CredentialId) -> String {
    credential.as_str().chars().take(DIGITS).collect()
}

fn line(
    requester: &Requester,
    request: &VolumeRequest,
    commit: Option<String>,
    credential: Option<String>,
    proof: &str,
    outcome: Result<Option<String>, &str>,
) {
    let (signer, error) = (outcome.as_ref().ok().cloned().flatten(), outcome.err());
    let known = |text: &Option<String>| text.as_deref().map(printable);
    tracing::info!(
        target: TARGET,
        namespace = known(&requester.namespace),
        pod = known(&requester.pod),
        service_account = known(&requester.service_account),
        volume = printable(&requester.volume),
        repository = printable(&request.spec.repository.to_string()),
        revision = printable(&request.spec.revision.to_string()),
        commit,
        credential,
        proof,
        signer = known(&signer),
        error,
        "{}",
        if error.is_some() { "refused" } else { "published" }
    );
}
