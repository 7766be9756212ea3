//! Volumes of a StorageClass.

use gitrepo_csi::controller::ControllerService;
use gitrepo_csi::proto::csi::v1::CapacityRange;
use gitrepo_csi::proto::csi::v1::CreateVolumeRequest;
use gitrepo_csi::proto::csi::v1::DeleteVolumeRequest;
use gitrepo_csi::proto::csi::v1::NodePublishVolumeRequest;
use gitrepo_csi::proto::csi::v1::ValidateVolumeCapabilitiesRequest;
use gitrepo_csi::proto::csi::v1::ValidateVolumeCapabilitiesResponse;
use gitrepo_csi::proto::csi::v1::Volume;
use gitrepo_csi::proto::csi::v1::controller_server::Controller;
use gitrepo_csi::proto::csi::v1::volume_capability::access_mode::Mode;
use gitrepo_tests::repository::Files;
use tonic::Code;
use tonic::Request;
use tonic::Status;

use super::Bench;
use super::capability;
use super::map;

fn request(bench: &Bench, name: &str) -> CreateVolumeRequest {
    CreateVolumeRequest {
        name: name.to_owned(),
        capacity_range: Some(CapacityRange { required_bytes: 1 << 20, limit_bytes: 0 }),
        volume_capabilities: vec![capability(Mode::MultiNodeReaderOnly)],
        parameters: map(&[
            ("repository", &bench.server.url(&bench.repository)),
            ("revision", "main"),
            ("csi.storage.k8s.io/pvc/name", "claim"),
        ]),
        ..CreateVolumeRequest::default()
    }
}

fn create(bench: &Bench, controller: &ControllerService, request: CreateVolumeRequest) -> Result<Volume, Status> {
    let answer = bench.runtime.block_on(controller.create_volume(Request::new(request)))?;
    Ok(answer.into_inner().volume.unwrap())
}

fn delete(bench: &Bench, volume_id: &str) -> Result<(), Status> {
    let request = DeleteVolumeRequest { volume_id: volume_id.to_owned(), ..DeleteVolumeRequest::default() };
    bench.runtime.block_on(bench.controller().delete_volume(Request::new(request))).map(drop)
}

fn validate(bench: &Bench, volume: &Volume, mode: Mode) -> Result<ValidateVolumeCapabilitiesResponse, Status> {
    let request = ValidateVolumeCapabilitiesRequest {
        volume_id: volume.volume_id.clone(),
        volume_context: volume.volume_context.clone(),
        volume_capabilities: vec![capability(mode)],
        ..ValidateVolumeCapabilitiesRequest::default()
    };
    let answer = bench.runtime.block_on(bench.controller().validate_volume_capabilities(Request::new(request)))?;
    Ok(answer.into_inner())
}

#[test]
fn a_volume_stays_at_the_commit_of_its_creation_for_all_pods() {
    let mut bench = Bench::new();
    let volume = create(&bench, &bench.controller(), request(&bench, "pvc-1")).unwrap();
    assert_eq!(volume.capacity_bytes, 1 << 20);
    assert_eq!(volume.volume_context["revision"], bench.commit);
    assert_eq!(volume.volume_context["csi.gitrepo.internal/requestedRevision"], "main");
    bench.repository.commit("main", &Files::new().file("README.md", "# Third\n"));

    bench.restart();
    let asked = bench.server.requests().len();
    assert_eq!(create(&bench, &bench.controller(), request(&bench, "pvc-1")).unwrap(), volume, "even after a restart");
    assert_eq!(bench.server.requests().len(), asked);

    let mut volume_context = volume.volume_context.clone();
    volume_context.insert("storage.kubernetes.io/csiProvisionerIdentity".to_owned(), "provisioner".to_owned());
    for pod in ["a", "b"] {
        let volume_id = volume.volume_id.clone();
        let request =
            NodePublishVolumeRequest { volume_id, volume_context: volume_context.clone(), ..bench.request(pod) };
        bench.publish(request).unwrap();
        assert_eq!(bench.readme(pod), "# Second\n");
    }
}

#[test]
fn a_name_belongs_to_one_volume_until_it_is_deleted() {
    let bench = Bench::new();
    let volume = create(&bench, &bench.controller(), request(&bench, "pvc-1")).unwrap();
    let larger = Some(CapacityRange { required_bytes: 1 << 30, limit_bytes: 0 });
    let mut other = request(&bench, "pvc-1");
    other.parameters.insert("directory".to_owned(), ".".to_owned());
    for request in [CreateVolumeRequest { capacity_range: larger, ..request(&bench, "pvc-1") }, other.clone()] {
        let status = create(&bench, &bench.controller(), request).unwrap_err();
        assert_eq!(status.code(), Code::AlreadyExists, "{status}");
    }
    assert_ne!(create(&bench, &bench.controller(), request(&bench, "pvc-2")).unwrap().volume_id, volume.volume_id);
    for _ in 0..2 {
        delete(&bench, &volume.volume_id).unwrap();
    }
    create(&bench, &bench.controller(), other).unwrap();
}

#[test]
fn deleting_an_unknown_volume_succeeds() {
    let bench = Bench::new();
    for volume_id in ["unknown", "../../x", "gitrepo-0-0"] {
        delete(&bench, volume_id).unwrap();
    }
    assert_eq!(delete(&bench, "").unwrap_err().code(), Code::InvalidArgument);
}

#[test]
fn a_deleted_volume_is_still_validated_by_its_context() {
    let bench = Bench::new();
    let volume = create(&bench, &bench.controller(), request(&bench, "pvc-1")).unwrap();
    assert!(validate(&bench, &volume, Mode::SingleNodeMultiWriter).unwrap().confirmed.is_some());
    assert!(validate(&bench, &volume, Mode::Unknown).unwrap().confirmed.is_none());
    delete(&bench, &volume.volume_id).unwrap();
    assert!(validate(&bench, &volume, Mode::SingleNodeMultiWriter).unwrap().confirmed.is_some());
    let stripped = Volume { volume_context: map(&[]), ..volume.clone() };
    let unknown = Volume { volume_id: "unknown".to_owned(), ..volume };
    for volume in [stripped, unknown] {
        assert_eq!(validate(&bench, &volume, Mode::SingleNodeMultiWriter).unwrap_err().code(), Code::NotFound);
    }
}

#[test]
fn a_volume_that_the_remote_refuses_is_not_created() {
    let bench = Bench::new();
    let mut request = request(&bench, "pvc-1");
    request.parameters.insert("revision".to_owned(), "nowhere".to_owned());
    let status = create(&bench, &bench.controller(), request).unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status}");
    assert!(!bench.store().join("controller").exists());
}
