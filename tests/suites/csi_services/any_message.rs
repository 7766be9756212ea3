//! Messages that no kubelet would send: each is answered with a status and leaves nothing behind.

use std::collections::HashMap;

use gitrepo_csi::identity::IdentityService;
use gitrepo_csi::proto::csi::v1::CreateVolumeRequest;
use gitrepo_csi::proto::csi::v1::DeleteVolumeRequest;
use gitrepo_csi::proto::csi::v1::NodeGetVolumeStatsRequest;
use gitrepo_csi::proto::csi::v1::NodePublishVolumeRequest;
use gitrepo_csi::proto::csi::v1::NodeUnpublishVolumeRequest;
use gitrepo_csi::proto::csi::v1::ProbeRequest;
use gitrepo_csi::proto::csi::v1::ValidateVolumeCapabilitiesRequest;
use gitrepo_csi::proto::csi::v1::VolumeCapability;
use gitrepo_csi::proto::csi::v1::controller_server::Controller;
use gitrepo_csi::proto::csi::v1::identity_server::Identity;
use gitrepo_csi::proto::csi::v1::node_server::Node;
use proptest::collection::hash_map;
use proptest::prelude::*;
use prost::Message;

use super::*;

/// Words that the driver knows, and random ones.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        prop::sample::select(vec![
            "repository",
            "revision",
            "directory",
            "subdirectory",
            "writable",
            "depth",
            "uid",
            "token",
            "csi.storage.k8s.io/ephemeral",
            "shared",
            "true",
            "main",
            "..",
            "ro",
            "file:///etc",
            "ssh://git@host.invalid/x",
            "\0",
            "%2e%2e/",
            "-1",
        ])
        .prop_map(str::to_owned),
        ".{0,40}",
        "[/.]{1,30}",
        "x{0,3000}",
    ]
}

fn words() -> impl Strategy<Value = HashMap<String, String>> {
    hash_map(word(), word(), 0..6)
}

fn target() -> impl Strategy<Value = String> {
    prop_oneof![
        1 => word(),
        1 => word().prop_map(|word| format!("KUBELET/pods/{word}")),
        1 => word().prop_map(|word| format!("/{word}")),
        3 => "[a-z]{1,8}".prop_map(|name| format!("KUBELET/pods/{name}")),
    ]
}

/// No capability, one decoded from random bytes, one with unusual parts, or a usual one.
fn any_capability() -> impl Strategy<Value = Option<VolumeCapability>> {
    prop_oneof![
        1 => Just(None),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| VolumeCapability::decode(bytes.as_slice()).ok()),
        1 => (any::<i32>(), prop::collection::vec(word(), 0..4), word(), word()).prop_map(
            |(mode, mount_flags, fs_type, volume_mount_group)| {
                let mount = MountVolume { fs_type, mount_flags, volume_mount_group };
                Some(VolumeCapability {
                    access_mode: Some(AccessMode { mode: mode % 9 }),
                    access_type: Some(AccessType::Mount(mount)),
                })
            }
        ),
        3 => (1..=7).prop_map(|mode| Some(capability(Mode::try_from(mode).unwrap()))),
    ]
}

fn publish() -> impl Strategy<Value = NodePublishVolumeRequest> {
    (word(), target(), any_capability(), any::<bool>(), words(), words()).prop_map(
        |(volume_id, target_path, volume_capability, readonly, secrets, volume_context)| NodePublishVolumeRequest {
            volume_id,
            target_path,
            volume_capability,
            readonly,
            secrets,
            volume_context,
            ..NodePublishVolumeRequest::default()
        },
    )
}

/// Asserts that the services chose the failure: its code must not stand for a panic or lost data.
fn assert_chosen<T>(answer: Result<T, Status>) {
    if let Err(status) = answer {
        let chosen = ![Code::Unknown, Code::Internal, Code::DataLoss].contains(&status.code());
        assert!(chosen && !status.message().is_empty() && status.details().is_empty(), "{status:?}");
    }
}

#[test]
fn any_message_is_answered_with_a_status() {
    let bench = Bench::new();
    let kubelet = bench.node.kubelet_dir.display().to_string();
    let url = bench.server.url(&bench.repository);
    let controller = bench.controller();
    let identity = IdentityService {
        driver_name: "csi.gitrepo.internal".to_owned(),
        has_controller: true,
        metrics: bench.node.metrics.clone(),
    };
    let messages = (publish(), any_capability(), words(), any::<(i64, i64)>(), any::<bool>());
    let config = ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |((mut publish, capability, parameters, (required_bytes, limit_bytes), real) in messages)| {
        let mut parameters = parameters;
        if real {
            publish.secrets.clear();
            publish.volume_context = map(&[("repository", &url)]);
            parameters.insert("repository".to_owned(), url.clone());
        }
        publish.target_path = publish.target_path.replace("KUBELET", &kubelet);
        let (volume_id, target_path) = (publish.volume_id.clone(), publish.target_path.clone());
        let secrets = publish.secrets.clone();
        bench.runtime.block_on(async {
            assert_chosen(bench.node.node_publish_volume(Request::new(publish)).await);
            let volume_path = target_path.clone();
            let stats = NodeGetVolumeStatsRequest {
                volume_id: volume_id.clone(), volume_path, ..NodeGetVolumeStatsRequest::default()
            };
            assert_chosen(bench.node.node_get_volume_stats(Request::new(stats)).await);
            let unpublish = NodeUnpublishVolumeRequest { volume_id: volume_id.clone(), target_path };
            assert_chosen(bench.node.node_unpublish_volume(Request::new(unpublish)).await);
            let create = CreateVolumeRequest {
                name: volume_id.clone(),
                capacity_range: Some(gitrepo_csi::proto::csi::v1::CapacityRange { required_bytes, limit_bytes }),
                volume_capabilities: capability.clone().into_iter().collect(),
                parameters: parameters.clone(),
                secrets,
                ..CreateVolumeRequest::default()
            };
            assert_chosen(controller.create_volume(Request::new(create)).await);
            let validate = ValidateVolumeCapabilitiesRequest {
                volume_id: volume_id.clone(),
                volume_context: parameters,
                volume_capabilities: capability.into_iter().collect(),
                ..ValidateVolumeCapabilitiesRequest::default()
            };
            assert_chosen(controller.validate_volume_capabilities(Request::new(validate)).await);
            let delete = DeleteVolumeRequest { volume_id, ..DeleteVolumeRequest::default() };
            assert_chosen(controller.delete_volume(Request::new(delete)).await);
            assert!(identity.probe(Request::new(ProbeRequest {})).await.is_ok());
        });
    });
    assert!(bench.server.packs() > 0, "some messages are valid");
    assert_eq!(volumes::entries(&bench.store().join("volumes")), <[PathBuf; 0]>::default());
    assert!(bench.mounter.mounts().is_empty());
}
