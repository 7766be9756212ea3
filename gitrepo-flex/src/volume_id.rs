//! What a volume is called, and so which targets of a node may share one writable copy.

use std::path::Path;

use gitrepo_core::spec::VolumeSpec;
use gitrepo_core::spec::Writable;
use gitrepo_core::store::CredentialId;
use gitrepo_core::store::Record;
use gitrepo_flex::stores::ORIGIN;
use sha2::Digest;
use sha2::Sha256;

use crate::options::Pod;

/// The name of a volume, but for the credential: `flex:<namespace>/<volume>:<hash of what is asked>`.
///
/// The kubelet names no volume in a way that is the same for all pods that share it and different for all others, so
/// everything that two sharing pods must agree on is part of the name.
pub(crate) struct VolumeName(String);

impl VolumeName {
    /// The name of what `pod` asks for. Who does not say whose volume it is shares it with nobody: its target is its name.
    pub(crate) fn new(pod: &Pod, target: &Path, spec: &VolumeSpec, group: Option<u32>) -> Self {
        let mut content = spec.content();
        // Only whether it is shared makes a difference.
        content.insert("writable".to_owned(), (spec.writable == Some(Writable::Shared)).to_string());
        // A map of plain texts: writing it down cannot fail, and if it did the name would be the target's.
        let asked = serde_json::to_vec(&(content, group)).unwrap_or_else(|_| target.display().to_string().into());
        let hash: String = Sha256::digest(asked).iter().map(|byte| format!("{byte:02x}")).collect();
        Self(match pod.namespace.is_empty() || pod.volume.is_empty() {
            true => format!("flex:{}:{hash}", target.display()),
            false => format!("flex:{}/{}:{hash}", pod.namespace, pod.volume),
        })
    }

    /// The whole id, for who fetches with this credential: pods with different credentials share nothing that they can
    /// write to.
    pub(crate) fn with(&self, credential: &CredentialId) -> String {
        format!("{}:{credential}", self.0)
    }

    /// The id under which this volume is on its target already. It stays when the secret changes while the pod lives:
    /// the same pod then gets its volume back, once the new credential has proved what it may read.
    pub(crate) fn recorded(&self, record: &Record) -> Option<String> {
        let (name, _credential) = record.volume_id.rsplit_once(':')?;
        (record.origin == ORIGIN && name == self.0).then(|| record.volume_id.clone())
    }
}

#[cfg(test)]
mod tests {
    use gitrepo_core::spec::RepositoryUrl;
    use gitrepo_core::spec::Revision;

    use super::*;

    fn pod(namespace: &str, volume: &str) -> Pod {
        Pod { namespace: namespace.to_owned(), name: "any".to_owned(), volume: volume.to_owned() }
    }

    fn spec(revision: &str) -> VolumeSpec {
        let repository = RepositoryUrl::parse("https://git.example.org/a.git").unwrap();
        VolumeSpec { revision: Revision::parse(revision).unwrap(), ..VolumeSpec::new(repository) }
    }

    fn name(pod: &Pod, target: &str, spec: &VolumeSpec, group: Option<u32>) -> String {
        VolumeName::new(pod, Path::new(target), spec, group).0
    }

    #[test]
    fn pods_of_one_namespace_share_a_volume_of_one_name_and_content() {
        let first = name(&pod("a", "data"), "/pods/1/data", &spec("main"), Some(7));
        assert!(first.starts_with("flex:a/data:"), "{first}");
        assert_eq!(first, name(&pod("a", "data"), "/pods/2/data", &spec("main"), Some(7)));
        for other in [
            name(&pod("b", "data"), "/pods/1/data", &spec("main"), Some(7)),
            name(&pod("a", "other"), "/pods/1/data", &spec("main"), Some(7)),
            name(&pod("a", "data"), "/pods/1/data", &spec("v1"), Some(7)),
            name(&pod("a", "data"), "/pods/1/data", &spec("main"), Some(8)),
            name(&pod("a", "data"), "/pods/1/data", &spec("main"), None),
        ] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn who_does_not_say_whose_volume_it_is_shares_it_with_nobody() {
        for pod in [pod("", "data"), pod("a", ""), Pod::default()] {
            assert_ne!(name(&pod, "/mnt/1", &spec("main"), None), name(&pod, "/mnt/2", &spec("main"), None));
        }
    }
}
