//! Statistics and condition.

use std::path::Path;

use gitrepo_core::mount::Mounter;
use gitrepo_csi::proto::csi::v1::NodePublishVolumeRequest;
use gitrepo_csi::proto::csi::v1::volume_usage::Unit;
use tonic::Code;

use super::Bench;

#[test]
fn a_read_only_volume_is_as_large_as_its_tree() {
    let bench = Bench::new();
    bench.publish(bench.request("a")).unwrap();
    let stats = bench.stats("csi-a", &bench.target("a")).unwrap();
    let [bytes, inodes] = [Unit::Bytes, Unit::Inodes]
        .map(|unit| stats.usage.iter().find(|usage| usage.unit == i32::from(unit)).expect("both units"));
    assert_eq!((bytes.total, bytes.used, bytes.available), (14, 14, 0));
    assert!(inodes.total >= 3 && inodes.used == inodes.total, "{inodes:?}");
    let condition = stats.volume_condition.unwrap();
    assert!(!condition.abnormal && condition.message.contains(&bench.commit), "{}", condition.message);
}

#[test]
fn a_writable_volume_has_its_filesystem_to_grow_in() {
    let bench = Bench::new();
    bench.publish(NodePublishVolumeRequest { readonly: false, ..bench.request("a") }).unwrap();
    let stats = bench.stats("csi-a", &bench.target("a")).unwrap();
    assert_eq!(stats.usage.len(), 2);
    assert!(stats.usage[0].total > 14 && stats.usage[0].available > 0, "{stats:?}");
}

#[test]
fn what_is_not_mounted_is_abnormal_and_what_is_not_published_not_found() {
    let bench = Bench::new();
    bench.publish(bench.request("a")).unwrap();
    let target = bench.target("a");
    for (volume_id, path, code) in [
        ("", target.as_path(), Code::InvalidArgument),
        ("csi-a", Path::new(""), Code::InvalidArgument),
        ("csi-a", Path::new("some/path"), Code::NotFound),
        ("csi-a", &bench.target("b"), Code::NotFound),
        ("csi-b", &target, Code::NotFound),
    ] {
        assert_eq!(bench.stats(volume_id, path).unwrap_err().code(), code, "{volume_id:?} {path:?}");
    }
    bench.mounter.unmount(&target).unwrap();
    let stats = bench.stats("csi-a", &target).unwrap();
    assert!(stats.volume_condition.unwrap().abnormal);
    assert_eq!(stats.usage.len(), 2);
}
