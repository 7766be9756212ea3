//! Volume ids. Targets of a node with the same id may share one writable copy.

use std::path::Path;

use gitrepo_core::spec::VolumeSpec;
use gitrepo_core::spec::Writable;
use gitrepo_core::store::CredentialId;
use gitrepo_core::store::Record;
use gitrepo_flex::stores::ORIGIN;
use sha2::Digest;
use sha2::Sha256;

use crate::options::Pod;

/// The part of a volume id before the credential: `flex:<namespace>/<volume>:<hash of the request>`.
///
/// The kubelet passes no name that pods have in common exactly if they share a volume. So everything that pods must
/// have in common to share a volume is part of this name.
pub(crate) struct VolumeName(String);

impl VolumeName {
    /// Returns the name of the volume that `pod` asks for. Without a namespace or volume name it contains the target,
    /// so the volume is not shared.
    pub(crate) fn new(pod: &Pod, target: &Path, spec: &VolumeSpec, group: Option<u32>) -> Self {
        let mut content = spec.content();
        // Of `writable`, it matters only whether the volume is shared.
        content.insert("writable".to_owned(), (spec.writable == Some(Writable::Shared)).to_string());
        // Serializing a map of strings cannot fail; if it did, the target would replace it.
        let request = serde_json::to_vec(&(content, group)).unwrap_or_else(|_| target.display().to_string().into());
        let hash: String = Sha256::digest(request).iter().map(|byte| format!("{byte:02x}")).collect();
        Self(match pod.namespace.is_empty() || pod.volume.is_empty() {
            true => format!("flex:{}:{hash}", target.display()),
            false => format!("flex:{}/{}:{hash}", pod.namespace, pod.volume),
        })
    }

    /// Returns the full id, with this credential: pods with different credentials share no writable copy.
    pub(crate) fn with(&self, credential: &CredentialId) -> String {
        format!("{}:{credential}", self.0)
    }

    /// Returns the id from the record of the target, if it belongs to this volume. So the id does not change if the
    /// secret changes during the pod's life: the pod gets its volume back once the new credential has proved its
    /// access.
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
        Pod { namespace: namespace.to_owned(), volume: volume.to_owned(), ..Pod::default() }
    }

    fn spec(revision: &str) -> VolumeSpec {
        let repository = RepositoryUrl::parse("https://git.example.org/a.git").unwrap();
        let mut spec = VolumeSpec::new(repository);
        spec.revision = Revision::parse(revision).unwrap();
        spec
    }

    fn name(pod: &Pod, target: &str, spec: &VolumeSpec, group: Option<u32>) -> String {
        VolumeName::new(pod, Path::new(target), spec, group).0
    }

    #[test]
    fn the_name_depends_on_namespace_volume_content_and_group() {
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
    fn without_a_namespace_or_volume_name_nothing_is_shared() {
        for pod in [pod("", "data"), pod("a", ""), Pod::default()] {
            assert_ne!(name(&pod, "/mnt/1", &spec("main"), None), name(&pod, "/mnt/2", &spec("main"), None));
        }
    }
}
