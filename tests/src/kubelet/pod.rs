//! The kubelet's data of a pod with a volume.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

static PODS: AtomicU64 = AtomicU64::new(1);

/// A pod on the node.
#[derive(Debug, Clone)]
pub struct Pod {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.uid`, unique in the test run.
    pub uid: String,
    /// `spec.serviceAccountName`.
    pub service_account: String,
    /// `spec.securityContext.fsGroup`.
    pub fs_group: Option<u32>,
}

impl Pod {
    /// A new pod of the namespace `default`, without fsGroup.
    pub fn new(name: &str) -> Self {
        let number = PODS.fetch_add(1, Ordering::Relaxed);
        Self {
            name: name.to_owned(),
            namespace: "default".to_owned(),
            uid: format!("a32c0b1b-7f3e-4c55-9d1e-{number:012x}"),
            service_account: "default".to_owned(),
            fs_group: None,
        }
    }

    /// Sets another namespace.
    #[must_use]
    pub fn in_namespace(self, namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), ..self }
    }

    /// Sets an fsGroup.
    #[must_use]
    pub fn with_fs_group(self, group: u32) -> Self {
        Self { fs_group: Some(group), ..self }
    }
}
