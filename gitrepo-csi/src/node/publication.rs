//! Parses a request to publish into a request to core.

use std::path::Path;

use gitrepo_core::credentials::CredentialError;
use gitrepo_core::credentials::Credentials;
use gitrepo_core::spec::DefaultDirectory;
use gitrepo_core::spec::VolumeSpec;
use gitrepo_core::spec::Writable;
use gitrepo_core::volume::PublishError;
use gitrepo_core::volume::VolumeRequest;
use gitrepo_frontend::audit::Requester;
use gitrepo_frontend::pods;

use crate::ORIGIN;
use crate::capability::Capability;
use crate::context;
use crate::failure::CallFailure;
use crate::proto::csi::v1::NodePublishVolumeRequest;
use crate::target;

/// The volume to publish. The credentials may be invalid: a volume that is published already needs none.
pub(super) struct Publication {
    pub(super) request: VolumeRequest,
    pub(super) requester: Requester,
    pub(super) credentials: Result<Credentials, CredentialError>,
    /// The pod's namespace, if the kubelet told it.
    pub(super) namespace: Option<String>,
    /// The access mode allows only one target.
    pub(super) one_target: bool,
    /// What asks for a read-only volume, if the kubelet does not pass that on to the container runtime.
    pub(super) read_only_by: Option<&'static str>,
}

impl Publication {
    /// Parses a request.
    ///
    /// # Errors
    ///
    /// `InvalidRequest`.
    pub(super) fn read(request: NodePublishVolumeRequest, kubelet_dir: &Path) -> Result<Self, CallFailure> {
        // Take the secrets first, so that they are wiped even if the rest of the request is refused.
        let credentials = context::credentials(request.secrets);
        target::check_id(&request.volume_id)?;
        let target = target::check(&request.target_path, kubelet_dir)?;
        let capability = Capability::read(request.volume_capability.as_ref())?;
        let is_read_only = request.readonly || capability.is_for_readers();
        let inline = context::is_inline(&request.volume_context);
        let requester = context::requester(&request.volume_id, &request.volume_context);
        let tenant = context::namespace(&request.volume_context);
        let namespace = context::pod_namespace(&request.volume_context, &target);
        let attributes = context::own(request.volume_context);
        let mut spec = VolumeSpec::from_attributes(&attributes, DefaultDirectory::BaseName)?;
        if !is_read_only && spec.writable.is_none() {
            spec.writable = Some(if inline { Writable::Private } else { Writable::Shared });
        }
        let mut volume = VolumeRequest::new(request.volume_id, target, spec);
        volume.origin = ORIGIN;
        volume.read_only = is_read_only;
        volume.only_image = !request.readonly && is_read_only;
        volume.group = capability.group;
        volume.id_mapped = pods::have_user_namespace(&volume.target);
        volume.tenant = tenant;
        let source = if capability.read_only_flag { "the mount option ro" } else { "the access mode" };
        let read_only_by = volume.only_image.then_some(source);
        let one_target = capability.is_for_one_target();
        Ok(Self { request: volume, requester, credentials, namespace, one_target, read_only_by })
    }
}

/// Returns the failure for a volume that asks for reading, but without `readonly`, and is no image. The kubelet passes only
/// `readonly` on to the container runtime. Without it, current runtimes lift a mount's read-only flag, so the pod could
/// write to a tree that it shares with others.
pub(super) fn not_kept_read_only(read_only_by: &str, error: &PublishError) -> CallFailure {
    CallFailure::new(
        error.kind(),
        format!(
            "{read_only_by} asks for a read-only volume, but the kubelet does not pass that on to the container runtime: \
             set persistentVolumeClaim.readOnly: true in the pod's volume (csi.readOnly: true for an inline one); {error}"
        ),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use gitrepo_core::error::Kind;

    use super::*;
    use crate::capability::tests::filesystem;
    use crate::proto::csi::v1::volume_capability::access_mode::Mode;

    fn map(entries: &[(&str, &str)]) -> HashMap<String, String> {
        entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn request(mode: Mode, flags: &[&str], readonly: bool, attributes: &[(&str, &str)]) -> NodePublishVolumeRequest {
        let mut volume_context = map(attributes);
        volume_context.insert("repository".to_owned(), "https://git.example.org/group/app.git".to_owned());
        NodePublishVolumeRequest {
            volume_id: "handle".to_owned(),
            target_path: "/var/lib/kubelet/pods/1/mount".to_owned(),
            volume_capability: Some(filesystem(mode, flags, "3000")),
            readonly,
            volume_context,
            ..NodePublishVolumeRequest::default()
        }
    }

    fn read(request: NodePublishVolumeRequest) -> Result<Publication, CallFailure> {
        Publication::read(request, Path::new("/var/lib/kubelet"))
    }

    /// The request is one that a kubelet sends for an inline volume.
    #[test]
    fn a_request_of_the_kubelet_is_parsed() {
        let attributes = [
            ("csi.storage.k8s.io/ephemeral", "true"),
            ("csi.storage.k8s.io/pod.name", "csi-a"),
            ("csi.storage.k8s.io/pod.namespace", "default"),
            ("csi.storage.k8s.io/pod.uid", "c5bdec01"),
            ("csi.storage.k8s.io/serviceAccount.name", "default"),
            ("csi.storage.k8s.io/serviceAccount.tokens", r#"{"":{"token":"canary"}}"#),
            ("revision", "v1"),
        ];
        let mut request = request(Mode::SingleNodeMultiWriter, &[], false, &attributes);
        request.secrets =
            map(&[("token", "t0k3n"), ("csi.storage.k8s.io/serviceAccount.tokens", r#"{"":{"token":"canary"}}"#)]);
        let publication = read(request).unwrap();
        assert!(!publication.one_target && !publication.request.read_only);
        assert_eq!(publication.request.group, Some(3000));
        assert_eq!(publication.request.tenant.as_deref(), Some("default"));
        let spec = &publication.request.spec;
        assert_eq!((spec.revision.to_string().as_str(), spec.tree.directory.as_str()), ("v1", "app"));
        assert_eq!(spec.writable, Some(Writable::Private));
        let credentials = publication.credentials.unwrap();
        assert_eq!(credentials.secret_keys().keys().collect::<Vec<_>>(), ["token"]);
    }

    #[test]
    fn inline_volumes_are_private_and_others_shared_unless_they_set_writable() {
        let inline = ("csi.storage.k8s.io/ephemeral", "true");
        let persistent = ("csi.storage.k8s.io/ephemeral", "false");
        for (attributes, expected) in [
            (vec![inline], Writable::Private),
            (vec![persistent], Writable::Shared),
            (vec![], Writable::Shared),
            (vec![inline, ("writable", "")], Writable::Private),
            (vec![inline, ("writable", "shared")], Writable::Shared),
            (vec![persistent, ("writable", "private")], Writable::Private),
            (vec![persistent, ("writable", "copy")], Writable::Copy),
        ] {
            let publication = read(request(Mode::SingleNodeMultiWriter, &[], false, &attributes)).unwrap();
            assert_eq!(publication.request.spec.writable, Some(expected), "{attributes:?}");
        }
        let publication = read(request(Mode::SingleNodeMultiWriter, &[], true, &[inline])).unwrap();
        assert_eq!(publication.request.spec.writable, None);
    }

    #[test]
    fn a_volume_for_readers_is_read_only_and_without_readonly_only_as_an_image() {
        for (mode, flags) in [
            (Mode::MultiNodeReaderOnly, &[][..]),
            (Mode::SingleNodeReaderOnly, &[]),
            (Mode::MultiNodeReaderOnly, &["ro"]),
            (Mode::SingleNodeMultiWriter, &["ro"]),
        ] {
            let publication = read(request(mode, flags, false, &[])).unwrap();
            assert!(publication.request.read_only && publication.request.only_image);
            assert_eq!(publication.request.spec.writable, None);
            let source = if flags.is_empty() { "the access mode" } else { "the mount option ro" };
            assert_eq!(publication.read_only_by, Some(source));
            let publication = read(request(mode, flags, true, &[])).unwrap();
            assert!(publication.request.read_only && !publication.request.only_image);
            assert_eq!(publication.read_only_by, None);
        }
    }

    #[test]
    fn only_modes_for_a_single_pod_allow_one_target() {
        for (mode, one_target) in [
            (Mode::SingleNodeWriter, true),
            (Mode::SingleNodeSingleWriter, true),
            (Mode::SingleNodeMultiWriter, false),
            (Mode::MultiNodeSingleWriter, false),
            (Mode::MultiNodeMultiWriter, false),
        ] {
            assert_eq!(read(request(mode, &[], false, &[])).unwrap().one_target, one_target, "{mode:?}");
        }
    }

    #[test]
    fn missing_and_unknown_fields_are_named() {
        let good = || request(Mode::SingleNodeWriter, &[], false, &[]);
        let cases = [
            (NodePublishVolumeRequest { volume_id: String::new(), ..good() }, "volume_id"),
            (NodePublishVolumeRequest { target_path: String::new(), ..good() }, "target_path"),
            (NodePublishVolumeRequest { target_path: "/etc".to_owned(), ..good() }, "--kubelet-dir"),
            (NodePublishVolumeRequest { volume_capability: None, ..good() }, "volume_capability"),
            (NodePublishVolumeRequest { volume_context: HashMap::new(), ..good() }, "repository"),
            (request(Mode::SingleNodeWriter, &[], false, &[("revison", "v1")]), "did you mean revision?"),
            (request(Mode::SingleNodeWriter, &[], false, &[("ref", "v1")]), "did you mean revision?"),
            (request(Mode::SingleNodeWriter, &[], false, &[("identity", "x")]), "secret, as the key ssh-privatekey"),
            (request(Mode::SingleNodeWriter, &[], false, &[("writable", "yes")]), "writable"),
        ];
        for (request, named) in cases {
            let failure = read(request).err().unwrap();
            assert_eq!(failure.kind, Kind::InvalidRequest);
            assert!(failure.message.contains(named), "{failure}");
        }
    }

    #[test]
    fn s25_attributes_longer_than_csi_allows_are_refused_with_a_short_message() {
        let long = "x".repeat(1_400_000);
        let failure = read(request(Mode::SingleNodeWriter, &[], true, &[(&long, "")])).err().unwrap();
        assert_eq!(failure.kind, Kind::InvalidRequest);
        assert!(failure.message.contains("at most 4096") && failure.message.len() < 200, "{failure}");
        let token = ("csi.storage.k8s.io/serviceAccount.tokens", long.as_str());
        read(request(Mode::SingleNodeWriter, &[], true, &[token])).unwrap();
    }

    #[test]
    fn a_request_with_an_invalid_secret_is_parsed() {
        let secrets = map(&[("tokn", "canary")]);
        let publication =
            read(NodePublishVolumeRequest { secrets, ..request(Mode::SingleNodeWriter, &[], true, &[]) }).unwrap();
        let failure = CallFailure::from(publication.credentials.unwrap_err());
        assert_eq!(failure.kind, Kind::InvalidRequest);
        assert!(failure.message.contains("token") && !failure.message.contains("canary"), "{failure}");
    }
}
