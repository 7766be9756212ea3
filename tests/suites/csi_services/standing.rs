//! Publishing a published volume again: never an error, never a second mount.

use gitrepo_core::store::Store;
use gitrepo_csi::proto::csi::v1::NodePublishVolumeRequest;
use gitrepo_tests::volumes;
use tonic::Code;

use super::Bench;
use super::map;

#[test]
fn r10_publishing_again_contacts_no_remote_and_mounts_nothing() {
    let mut bench = Bench::new();
    bench.publish(bench.request("a")).unwrap();
    let asked = bench.server.requests().len();
    for _ in 0..10 {
        bench.publish(bench.request("a")).unwrap();
        bench.restart();
    }
    assert_eq!((bench.mounts("a"), bench.server.requests().len()), (1, asked));
}

#[test]
fn a_published_volume_is_published_again_with_other_secrets_and_pod_information() {
    let bench = Bench::new();
    bench.publish(bench.request("a")).unwrap();
    let _down = bench.server.hold(|_| true);
    for secrets in [map(&[("token", "other")]), map(&[("tokn", "wrong")]), map(&[("token", "")])] {
        let mut request = NodePublishVolumeRequest { secrets, ..bench.request("a") };
        request.volume_context.insert("csi.storage.k8s.io/serviceAccount.tokens".to_owned(), "{}".to_owned());
        bench.publish(request).unwrap();
    }
    assert_eq!(bench.mounts("a"), 1);
}

#[test]
fn different_content_is_refused_and_the_volume_stays() {
    let bench = Bench::new();
    bench.publish(bench.request("a")).unwrap();
    let mut other = bench.request("a");
    other.volume_context.insert("revision".to_owned(), bench.first.clone());
    let writable = NodePublishVolumeRequest { readonly: false, ..bench.request("a") };
    for request in [other, writable] {
        assert_eq!(bench.publish(request).unwrap_err().code(), Code::AlreadyExists);
        assert_eq!((bench.mounts("a"), bench.readme("a")), (1, "# Second\n".to_owned()));
    }
}

#[test]
fn r8_after_a_reboot_the_same_commit_is_published_without_the_remote() {
    let mut bench = Bench::new();
    bench.publish(bench.request("a")).unwrap();
    bench.repository.commit("main", &gitrepo_tests::repository::Files::new().file("README.md", "# Third\n"));
    let _down = bench.server.hold(|_| true);
    bench.mounter.reboot();
    bench.restart();
    bench.publish(bench.request("a")).unwrap();
    assert_eq!(bench.readme("a"), "# Second\n");
}

#[test]
fn a_store_that_cannot_be_opened_is_unavailable_until_it_can_be() {
    let bench = Bench::new();
    drop(Store::open(&bench.store()).unwrap());
    let version = bench.store().join("VERSION");
    let good = std::fs::read_to_string(&version).unwrap();
    std::fs::write(&version, "999\n").unwrap();
    let status = bench.publish(bench.request("a")).unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(bench.node.storage.check().is_err());
    std::fs::create_dir(bench.target("a")).unwrap();
    bench.unpublish("a").unwrap();
    assert!(!bench.target("a").exists(), "nothing is mounted there");
    std::fs::create_dir(bench.target("b")).unwrap();
    std::fs::write(bench.target("b").join("file"), "").unwrap();
    assert_eq!(bench.unpublish("b").unwrap_err().code(), Code::Unavailable);
    volumes::delete(&bench.target("b"));

    std::fs::write(&version, good).unwrap();
    bench.publish(bench.request("a")).unwrap();
    bench.node.storage.check().unwrap();
}
