//! Separates a volume's own attributes and secret keys from those that Kubernetes and this driver add.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::path::Path;

use gitrepo_core::credentials::CredentialError;
use gitrepo_core::credentials::Credentials;
use gitrepo_core::credentials::Secret;
use gitrepo_frontend::audit::Requester;
use gitrepo_frontend::node_credentials;

/// The key of the requested revision in the context of a created volume. It is for people only: the driver serves the
/// commit under `revision`.
pub const REQUESTED_REVISION: &str = "csi.gitrepo.internal/requestedRevision";

/// The key that says whether the volume is inline. If the CSIDriver object has `podInfoOnMount`, the kubelet sets it,
/// and overwrites the value of the pod's author. Otherwise the author may set a false value, but gains nothing: it
/// changes only the default for `writable`.
const EPHEMERAL: &str = "csi.storage.k8s.io/ephemeral";

/// The keys of the pod's namespace and uid, which the kubelet sets as it does [`EPHEMERAL`]. Without `podInfoOnMount`, an
/// author who sets the namespace takes places for sessions on the account of another one.
const POD_NAMESPACE: &str = "csi.storage.k8s.io/pod.namespace";
const POD_UID: &str = "csi.storage.k8s.io/pod.uid";

/// The key of the claim's namespace, which the provisioner adds to the parameters (`--extra-create-metadata`).
const CLAIM_NAMESPACE: &str = "csi.storage.k8s.io/pvc/namespace";

/// Domains of keys that Kubernetes adds; their subdomains count too. `csi.storage.k8s.io/pod.name` and tokens come from
/// the kubelet, `storage.kubernetes.io/csiProvisionerIdentity` from the provisioner.
const DOMAINS: [&str; 2] = ["kubernetes.io", "k8s.io"];

/// Whether Kubernetes or this driver added the key.
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

/// Returns the pod that a volume is published for. If the CSIDriver object has `podInfoOnMount`, the kubelet names it;
/// otherwise nobody does, or the pod's author.
pub fn requester(volume_id: &str, attributes: &HashMap<String, String>) -> Requester {
    let text = |key: &str| attributes.get(&format!("csi.storage.k8s.io/{key}")).cloned();
    Requester {
        namespace: text("pod.namespace"),
        pod: text("pod.name"),
        service_account: text("serviceAccount.name"),
        volume: volume_id.to_owned(),
    }
}

/// Longest name of a namespace, in bytes: a DNS label.
const LONGEST_NAMESPACE: usize = 63;

/// Returns the namespace of the pod that a volume is for, or of the claim that it is created for.
pub fn namespace(attributes: &HashMap<String, String>) -> Option<String> {
    let found = [POD_NAMESPACE, CLAIM_NAMESPACE].iter().find_map(|key| attributes.get(*key));
    found.filter(|name| name.len() <= LONGEST_NAMESPACE).cloned()
}

/// Returns the namespace of the pod with this target. `None` if the kubelet did not say so: without `podInfoOnMount` the
/// author of the pod could set the key. The author does not know the pod's uid, which is part of the target, so a uid that
/// fits was set by the kubelet, which then also sets the namespace.
pub fn pod_namespace(attributes: &HashMap<String, String>, target: &Path) -> Option<String> {
    let uid = attributes.get(POD_UID)?;
    node_credentials::is_target_of(target, uid).then(|| attributes.get(POD_NAMESPACE).cloned()).flatten()
}

/// Returns the entries that belong to the volume or secret itself.
pub fn own(entries: HashMap<String, String>) -> BTreeMap<String, String> {
    entries.into_iter().filter(|(key, _)| !is_foreign(key)).collect()
}

/// Returns the credentials in the secrets of a request. All values are wiped from memory, also those of keys that belong
/// to others, and also if this fails.
pub fn credentials(secrets: HashMap<String, String>) -> Result<Credentials, CredentialError> {
    let mut secrets: BTreeMap<_, _> = secrets.into_iter().map(|(key, value)| (key, Secret::new(value))).collect();
    secrets.retain(|key, _| !is_foreign(key));
    Credentials::from_secret_keys(secrets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_of_kubernetes_and_the_driver_are_dropped() {
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
    fn the_namespace_is_the_pods_or_the_claims() {
        let of = |key: &str, value: &str| namespace(&[(key.to_owned(), value.to_owned())].into());
        for key in [POD_NAMESPACE, CLAIM_NAMESPACE] {
            assert_eq!(of(key, "team-a").as_deref(), Some("team-a"));
            assert_eq!(of(key, &"x".repeat(64)), None);
        }
        assert_eq!(of("namespace", "team-a"), None);
    }

    #[test]
    fn s13_a_namespace_counts_only_beside_the_uid_of_the_target() {
        let attributes = |uid: &str| -> HashMap<String, String> {
            [(POD_NAMESPACE, "ci"), (POD_UID, uid)].map(|(key, value)| (key.to_owned(), value.to_owned())).into()
        };
        let target = Path::new("/var/lib/kubelet/pods/c5bdec01-0000/volumes/kubernetes.io~csi/v/mount");
        assert_eq!(pod_namespace(&attributes("c5bdec01-0000"), target).as_deref(), Some("ci"));
        assert_eq!(pod_namespace(&attributes("c5bdec01-0001"), target), None);
        assert_eq!(pod_namespace(&attributes(""), target), None);
        let forged = [(POD_NAMESPACE.to_owned(), "ci".to_owned())].into();
        assert_eq!(pod_namespace(&forged, target), None, "written by the author of a pod");
    }

    #[test]
    fn a_volume_is_inline_only_if_the_value_is_true() {
        for (value, inline) in [(Some("true"), true), (Some("false"), false), (Some("TRUE"), false), (None, false)] {
            let attributes = value.map(|value| (EPHEMERAL.to_owned(), value.to_owned())).into_iter().collect();
            assert_eq!(is_inline(&attributes), inline, "{value:?}");
        }
    }
}
