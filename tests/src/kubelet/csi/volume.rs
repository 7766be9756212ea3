//! A CSI volume in a manifest, and the requests for it.

use std::collections::BTreeMap;

use gitrepo_csi::proto::csi::v1::NodePublishVolumeRequest;
use gitrepo_csi::proto::csi::v1::VolumeCapability;
use gitrepo_csi::proto::csi::v1::volume_capability;
use gitrepo_csi::proto::csi::v1::volume_capability::AccessType;
use gitrepo_csi::proto::csi::v1::volume_capability::MountVolume;
use gitrepo_csi::proto::csi::v1::volume_capability::access_mode::Mode;
use openssl::sha::sha256;

use crate::kubelet::Pod;

/// A Kubernetes access mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessMode {
    /// `ReadWriteOnce`, which inline volumes have.
    ReadWriteOnce,
    /// `ReadWriteOncePod`.
    ReadWriteOncePod,
    /// `ReadOnlyMany`.
    ReadOnlyMany,
    /// `ReadWriteMany`.
    ReadWriteMany,
}

/// A volume of a CSI driver.
#[derive(Debug, Clone)]
pub struct Volume {
    /// The name of the volume in the pod, or of the PersistentVolume.
    pub name: String,
    handle: Option<String>,
    attributes: BTreeMap<String, String>,
    secret: BTreeMap<String, String>,
    read_only: bool,
    access_mode: AccessMode,
    mount_options: Vec<String>,
}

impl Volume {
    /// An inline volume: `volumes[].csi`.
    pub fn inline(name: &str, attributes: &[(&str, &str)]) -> Self {
        Self {
            name: name.to_owned(),
            handle: None,
            attributes: map(attributes),
            secret: BTreeMap::new(),
            read_only: false,
            access_mode: AccessMode::ReadWriteOnce,
            mount_options: Vec::new(),
        }
    }

    /// A PersistentVolume with this name and `volumeHandle`.
    pub fn persistent(name: &str, handle: &str, attributes: &[(&str, &str)]) -> Self {
        Self { handle: Some(handle.to_owned()), ..Self::inline(name, attributes) }
    }

    /// `csi.readOnly` of an inline volume, or `persistentVolumeClaim.readOnly` of the pod's volume.
    #[must_use]
    pub fn read_only(self) -> Self {
        Self { read_only: true, ..self }
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with_attribute(mut self, key: &str, value: &str) -> Self {
        self.attributes.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Adds a `nodePublishSecretRef` to a secret with these keys.
    #[must_use]
    pub fn with_secret(self, keys: &[(&str, &str)]) -> Self {
        Self { secret: map(keys), ..self }
    }

    /// Sets the first access mode.
    #[must_use]
    pub fn with_access(self, access_mode: AccessMode) -> Self {
        Self { access_mode, ..self }
    }

    /// Sets `mountOptions`.
    #[must_use]
    pub fn with_mount_options(self, options: &[&str]) -> Self {
        Self { mount_options: options.iter().map(|option| (*option).to_owned()).collect(), ..self }
    }

    /// Whether the kubelet treats it as read-only.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Whether it is behind a claim.
    pub fn is_persistent(&self) -> bool {
        self.handle.is_some()
    }

    /// The `volume_id` for this pod (`makeVolumeHandle` for an inline one).
    pub fn id(&self, pod: &Pod) -> String {
        self.handle.clone().unwrap_or_else(|| {
            let hash = sha256(format!("{}{}", pod.uid, self.name).as_bytes());
            format!("csi-{}", hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        })
    }

    /// The request to publish, for a driver with VOLUME_MOUNT_GROUP and SINGLE_NODE_MULTI_WRITER, and `podInfoOnMount`
    /// in its CSIDriver object.
    pub fn request(&self, pod: &Pod, target: &str) -> NodePublishVolumeRequest {
        let mount = MountVolume {
            fs_type: String::new(),
            mount_flags: self.mount_options.clone(),
            volume_mount_group: pod.fs_group.map(|group| group.to_string()).unwrap_or_default(),
        };
        let mode = match self.access_mode {
            AccessMode::ReadWriteOnce => Mode::SingleNodeMultiWriter,
            AccessMode::ReadWriteOncePod => Mode::SingleNodeSingleWriter,
            AccessMode::ReadOnlyMany => Mode::MultiNodeReaderOnly,
            AccessMode::ReadWriteMany => Mode::MultiNodeMultiWriter,
        };
        NodePublishVolumeRequest {
            volume_id: self.id(pod),
            target_path: target.to_owned(),
            volume_capability: Some(VolumeCapability {
                access_mode: Some(volume_capability::AccessMode { mode: mode.into() }),
                access_type: Some(AccessType::Mount(mount)),
            }),
            readonly: self.read_only,
            secrets: self.secret.clone().into_iter().collect(),
            volume_context: self.context(pod).into_iter().collect(),
            ..NodePublishVolumeRequest::default()
        }
    }

    /// The attributes, overridden by the kubelet's own.
    fn context(&self, pod: &Pod) -> BTreeMap<String, String> {
        let ephemeral = (!self.is_persistent()).to_string();
        let own = [
            ("pod.name", &pod.name),
            ("pod.namespace", &pod.namespace),
            ("pod.uid", &pod.uid),
            ("serviceAccount.name", &pod.service_account),
            ("ephemeral", &ephemeral),
        ];
        let mut context = self.attributes.clone();
        context.extend(own.map(|(key, value)| (format!("csi.storage.k8s.io/{key}"), value.clone())));
        context
    }
}

fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A recorded call of a kubelet.
    #[test]
    fn an_inline_volumes_request_is_that_of_a_real_call() {
        let pod = Pod { uid: "c5bdec01-0000".to_owned(), ..Pod::new("csi-a") };
        let volume = Volume::inline("repo", &[("repository", "git://git.example.org/small.git")])
            .with_attribute("csi.storage.k8s.io/pod.name", "forged")
            .with_secret(&[("token", "t0k3n")]);
        let target = "/var/lib/kubelet/pods/c5bdec01-0000/volumes/kubernetes.io~csi/repo/mount";
        let request = volume.request(&pod, target);
        assert_eq!((request.volume_id.len(), &request.volume_id[..4]), (68, "csi-"));
        assert_eq!((request.target_path.as_str(), request.readonly), (target, false));
        assert_eq!(request.secrets, [("token".to_owned(), "t0k3n".to_owned())].into());
        let context: BTreeMap<_, _> = request.volume_context.into_iter().collect();
        let expected = [
            ("csi.storage.k8s.io/ephemeral", "true"),
            ("csi.storage.k8s.io/pod.name", "csi-a"),
            ("csi.storage.k8s.io/pod.namespace", "default"),
            ("csi.storage.k8s.io/pod.uid", "c5bdec01-0000"),
            ("csi.storage.k8s.io/serviceAccount.name", "default"),
            ("repository", "git://git.example.org/small.git"),
        ];
        assert_eq!(context, map(&expected));
        assert_ne!(volume.id(&pod), volume.id(&Pod::new("csi-a")), "of another pod");
        assert_eq!(Volume::persistent("pv", "git-handle-1", &[]).id(&pod), "git-handle-1");
    }
}
