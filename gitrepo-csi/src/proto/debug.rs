//! `Debug` of the messages that hold, or may hold, secrets.
//!
//! The values of every map are withheld, not only those of `secrets`: a volume context may carry a pod's tokens
//! (`csi.storage.k8s.io/serviceAccount.tokens`), and people write passwords into URLs.

use std::collections::HashMap;
use std::fmt;

use super::csi::v1::*;

/// The keys of a map, in order, without its values.
struct Keys<'a>(&'a HashMap<String, String>);

impl fmt::Debug for Keys<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut keys: Vec<&String> = self.0.keys().collect();
        keys.sort_unstable();
        f.debug_set().entries(keys).finish()
    }
}

/// How many values are withheld.
struct Withheld(usize);

impl fmt::Debug for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} withheld>", self.0)
    }
}

macro_rules! withholding {
    ($($message:ty: $($shown:ident)*, keys $($map:ident)*, withheld $($secret:ident)*;)*) => {$(
        impl fmt::Debug for $message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($message))
                    $(.field(stringify!($shown), &self.$shown))*
                    $(.field(stringify!($map), &Keys(&self.$map)))*
                    $(.field(stringify!($secret), &Withheld(self.$secret.len())))*
                    .finish()
            }
        }
    )*};
}

withholding! {
    CreateVolumeRequest: name capacity_range volume_capabilities volume_content_source accessibility_requirements,
        keys parameters mutable_parameters, withheld secrets;
    DeleteVolumeRequest: volume_id, keys, withheld secrets;
    ControllerPublishVolumeRequest: volume_id node_id volume_capability readonly, keys volume_context,
        withheld secrets;
    ControllerUnpublishVolumeRequest: volume_id node_id, keys, withheld secrets;
    ValidateVolumeCapabilitiesRequest: volume_id volume_capabilities,
        keys volume_context parameters mutable_parameters, withheld secrets;
    ControllerModifyVolumeRequest: volume_id, keys mutable_parameters, withheld secrets;
    CreateSnapshotRequest: source_volume_id name, keys parameters, withheld secrets;
    DeleteSnapshotRequest: snapshot_id, keys, withheld secrets;
    ListSnapshotsRequest: max_entries starting_token source_volume_id snapshot_id, keys, withheld secrets;
    GetSnapshotRequest: snapshot_id, keys, withheld secrets;
    ControllerExpandVolumeRequest: volume_id capacity_range volume_capability, keys, withheld secrets;
    NodeStageVolumeRequest: volume_id staging_target_path volume_capability, keys publish_context volume_context,
        withheld secrets;
    NodePublishVolumeRequest: volume_id staging_target_path target_path volume_capability readonly,
        keys publish_context volume_context, withheld secrets;
    NodeExpandVolumeRequest: volume_id volume_path capacity_range staging_target_path volume_capability, keys,
        withheld secrets;
    CreateVolumeGroupSnapshotRequest: name source_volume_ids, keys parameters, withheld secrets;
    DeleteVolumeGroupSnapshotRequest: group_snapshot_id snapshot_ids, keys, withheld secrets;
    GetVolumeGroupSnapshotRequest: group_snapshot_id snapshot_ids, keys, withheld secrets;
    GetMetadataAllocatedRequest: snapshot_id starting_offset max_results, keys, withheld secrets;
    GetMetadataDeltaRequest: base_snapshot_id target_snapshot_id starting_offset max_results, keys,
        withheld secrets;
    // The specification says that mount flags may be sensitive, without marking the field.
    volume_capability::MountVolume: fs_type volume_mount_group, keys, withheld mount_flags;
}
