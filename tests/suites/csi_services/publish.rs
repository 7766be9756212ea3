//! Publishing: jobs, deadlines, final codes, access modes.

use gitrepo_csi::proto::csi::v1::NodePublishVolumeRequest;
use gitrepo_csi::proto::csi::v1::volume_capability::access_mode::Mode;
use tonic::Code;

use super::Bench;
use super::capability;
use super::map;

#[test]
fn a_volume_shows_the_tree_in_a_directory_named_after_the_repository() {
    let bench = Bench::new();
    bench.publish(bench.request("a")).unwrap();
    assert_eq!(bench.mounts("a"), 1);
    assert_eq!(bench.readme("a"), "# Second\n");
    bench.publish(bench.request("b")).unwrap();
    assert_eq!(bench.server.packs(), 1, "one fetch for both");
    let metrics = bench.metrics();
    for line in [
        "gitrepo_publishes_total{result=\"ok\",outcome=\"fetched\"} 1",
        "gitrepo_publishes_total{result=\"ok\",outcome=\"hit\"} 1",
        "gitrepo_rpcs_total{method=\"NodePublishVolume\",code=\"OK\"} 2",
    ] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
    for pod in ["a", "b"] {
        bench.unpublish(pod).unwrap();
    }
    bench.assert_nothing_is_left();
}

#[test]
fn r7_a_clone_outlives_its_call_and_the_retry_joins_it() {
    let bench = Bench::new();
    let gate = bench.server.hold(|request| request.is_upload_pack());
    bench.publish_up_to(&gate, &bench.request("a"));
    assert_eq!(bench.node.jobs.count().running, 1);
    let status = bench.publish_within(bench.request("a"), Some(100)).unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(status.message().ends_with("a retry joins it"), "{}", status.message());
    gate.open();
    bench.publish(bench.request("a")).unwrap();
    assert_eq!(bench.server.packs(), 1);
    assert_eq!(bench.mounts("a"), 1);
}

#[test]
fn a_remote_that_hangs_does_not_delay_other_volumes() {
    let bench = Bench::new();
    bench.publish(bench.request("standing")).unwrap();
    let gate = bench.server.hold(|_| true);
    let commit = |pod: &str| NodePublishVolumeRequest {
        volume_context: map(&[("repository", &bench.server.url(&bench.repository)), ("revision", &bench.first)]),
        ..bench.request(pod)
    };
    bench.publish_up_to(&gate, &commit("stalled"));
    bench.publish(bench.request("standing")).unwrap();
    bench.unpublish("standing").unwrap();
    bench.unpublish_at("stalled", &gate);
    bench.assert_nothing_is_left();
}

#[test]
fn final_failures_are_reported_and_leave_nothing() {
    let bench = Bench::new();
    let with = |entries: &[(&str, &str)]| {
        let mut request = bench.request("a");
        request.volume_context.extend(map(entries));
        request
    };
    for (request, code, said) in [
        (with(&[("revision", "nowhere")]), Code::NotFound, "nowhere"),
        (with(&[("subdirectory", "nowhere")]), Code::NotFound, "nowhere"),
        (with(&[("revison", "main")]), Code::InvalidArgument, "did you mean revision?"),
        (with(&[("directory", "../x")]), Code::InvalidArgument, "directory"),
        (
            NodePublishVolumeRequest { secrets: map(&[("tokn", "canary")]), ..bench.request("a") },
            Code::InvalidArgument,
            "token",
        ),
    ] {
        let status = bench.publish(request).unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(said), "{}", status.message());
        assert!(!status.message().contains("canary") && status.details().is_empty());
        bench.assert_nothing_is_left();
    }
}

#[test]
fn a_final_code_ends_the_job_of_an_earlier_call() {
    let bench = Bench::new();
    let gate = bench.server.hold(|request| request.is_upload_pack());
    bench.publish_up_to(&gate, &bench.request("a"));
    let broken = NodePublishVolumeRequest { secrets: map(&[("tokn", "x")]), ..bench.request("a") };
    assert_eq!(bench.publish(broken).unwrap_err().code(), Code::InvalidArgument);
    gate.open();
    bench.assert_nothing_is_left();
}

#[test]
fn a_different_request_for_the_target_of_a_running_publish_is_aborted() {
    let bench = Bench::new();
    let gate = bench.server.hold(|request| request.is_upload_pack());
    bench.publish_up_to(&gate, &bench.request("a"));
    let writable = NodePublishVolumeRequest { readonly: false, ..bench.request("a") };
    assert_eq!(bench.publish(writable).unwrap_err().code(), Code::Aborted);
    gate.open();
    bench.publish(bench.request("a")).unwrap();
}

#[test]
fn an_access_mode_for_one_pod_is_enforced() {
    let bench = Bench::new();
    for mode in [Mode::SingleNodeWriter, Mode::SingleNodeSingleWriter] {
        let request = |pod: &str| NodePublishVolumeRequest {
            volume_id: "handle".to_owned(),
            volume_capability: Some(capability(mode)),
            readonly: false,
            ..bench.request(pod)
        };
        bench.publish(request("a")).unwrap();
        bench.publish(request("a")).unwrap();
        assert_eq!(bench.publish(request("b")).unwrap_err().code(), Code::FailedPrecondition);
        let shared = NodePublishVolumeRequest {
            volume_capability: Some(capability(Mode::SingleNodeMultiWriter)),
            ..request("b")
        };
        bench.publish(shared).unwrap();
        for pod in ["a", "b"] {
            let target_path = bench.target(pod).to_str().unwrap().to_owned();
            let request = super::NodeUnpublishVolumeRequest { volume_id: "handle".to_owned(), target_path };
            let unpublish = super::Node::node_unpublish_volume(&bench.node, tonic::Request::new(request));
            bench.runtime.block_on(unpublish).unwrap();
        }
        bench.assert_nothing_is_left();
    }
}

#[test]
fn writable_copies_of_inline_volumes_are_private_and_others_shared() {
    let bench = Bench::new();
    let request = |pod: &str, ephemeral: &str| {
        let mut request = NodePublishVolumeRequest { readonly: false, ..bench.request(pod) };
        request.volume_id = "handle".to_owned();
        request.volume_context.insert("csi.storage.k8s.io/ephemeral".to_owned(), ephemeral.to_owned());
        request
    };
    for pod in ["a", "b"] {
        bench.publish(request(pod, "false")).unwrap();
    }
    assert_eq!(bench.shown("a"), bench.shown("b"));
    for pod in ["c", "d"] {
        bench.publish(NodePublishVolumeRequest { volume_id: "inline".to_owned(), ..request(pod, "true") }).unwrap();
    }
    assert_ne!(bench.shown("c"), bench.shown("d"));
}
