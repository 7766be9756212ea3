//! Keys in a volume's attributes and secrets that belong to others.

use std::collections::BTreeMap;
use std::collections::HashMap;

use gitrepo_core::credentials::CredentialError;
use gitrepo_core::credentials::Credentials;
use gitrepo_core::credentials::Secret;

/// The requested revision, in the context of a created volume. Only for people: the driver serves the commit under
/// `revision`.
pub const REQUESTED_REVISION: &str = "csi.gitrepo.internal/requestedRevision";

/// Whether the volume is inline. The kubelet sets this and overwrites the pod author's value, if the CSIDriver object
/// has `podInfoOnMount`. Without it a volume may lie, but gains nothing: only the default for `writable` depends on
/// this.
const EPHEMERAL: &str = "csi.storage.k8s.io/ephemeral";

/// Domains of Kubernetes, with their subdomains: `csi.storage.k8s.io/pod.name` and tokens come from the kubelet,
/// `storage.kubernetes.io/csiProvisionerIdentity` from the provisioner.
const DOMAINS: [&str; 2] = ["kubernetes.io", "k8s.io"];

/// Whether a key does not belong to the volume or secret itself.
fn is_foreign(key: &str) -> bool {
    let below = |domain: &str, parent: &str| domain.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'));
    let domain = key.split_once('/').map(|(domain, _)| domain);
    key == REQUESTED_REVISION
        || domain.is_some_and(|domain| DOMAINS.iter().any(|ours| domain == *ours || below(domain, ours)))
}

/// Whether the attributes mark an inline volume.
pub fn is_inline(attributes: &HashMap<String, String>) -> bool {
    attributes.get(EPHEMERAL).is_some_and(|ephemeral| ephemeral == "true")
}

/// The entries that belong to the volume or secret itself.
pub fn own(entries: HashMap<String, String>) -> BTreeMap<String, String> {
    entries.into_iter().filter(|(key, _)| !is_foreign(key)).collect()
}

/// The credentials in the secrets of a request. All values are wiped from memory, also those of keys that belong to
/// others, and also if this fails.
pub fn credentials(secrets: HashMap<String, String>) -> Result<Credentials, CredentialError> {
    let mut secrets: BTreeMap<_, _> = secrets.into_iter().map(|(key, value)| (key, Secret::new(value))).collect();
    secrets.retain(|key, _| !is_foreign(key));
    Credentials::from_secret_keys(secrets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_kubernetes_are_dropped_and_no_others() {
        let foreign = [
            "csi.storage.k8s.io/pod.name",
            "csi.storage.k8s.io/serviceAccount.tokens",
            "storage.kubernetes.io/csiProvisionerIdentity",
            "kubernetes.io/secret",
            "csi.gitrepo.internal/requestedRevision",
        ];
        let own_keys =
            ["repository", "evilk8s.io/key", "csi.gitrepo.internal/other", "k8s.io", "git.example.com.token", "/"];
        let all = foreign.iter().chain(&own_keys).map(|key| ((*key).to_owned(), String::new())).collect();
        let mut expected = own_keys.map(str::to_owned);
        expected.sort();
        assert!(own(all).into_keys().eq(expected));
    }

    #[test]
    fn only_the_word_true_is_inline() {
        for (value, inline) in [(Some("true"), true), (Some("false"), false), (Some("TRUE"), false), (None, false)] {
            let attributes = value.map(|value| (EPHEMERAL.to_owned(), value.to_owned())).into_iter().collect();
            assert_eq!(is_inline(&attributes), inline, "{value:?}");
        }
    }
}
