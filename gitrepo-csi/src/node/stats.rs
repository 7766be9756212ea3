//! `NodeGetVolumeStats`: reports the size of the tree and the free space of the store, or what was written to a layer.
//!
//! All targets of a volume that show the same report the same, because the kubelet's metrics are per claim, not per pod.
//! `used` is the size of the tree when it was written. `available` is the free space of the store's filesystem, where
//! writable copies grow. `total` is the sum. So a small tree on a large disk never looks nearly full.
//!
//! Of a layer, the tree below it does not count: `used` is what was written when it was measured last, and `total` is
//! `limits.writableBytes`. Of a layer or copy with a project quota, `used` is what the quota counts now.

use std::path::Path;
use std::time::Instant;

use gitrepo_core::error::Kind;
use gitrepo_core::store::Record;
use gitrepo_core::volume::Overgrown;
use gitrepo_core::volume::State;
use gitrepo_core::volume::Volumes;
use nix::sys::statvfs::statvfs;

use super::NodeService;
use crate::failure::CallFailure;
use crate::proto::csi::v1::NodeGetVolumeStatsRequest;
use crate::proto::csi::v1::NodeGetVolumeStatsResponse;
use crate::proto::csi::v1::VolumeCondition;
use crate::proto::csi::v1::VolumeUsage;
use crate::proto::csi::v1::volume_usage::Unit;
use crate::target;

impl NodeService {
    pub(super) async fn stats(
        &self,
        request: NodeGetVolumeStatsRequest,
        deadline: Instant,
    ) -> Result<NodeGetVolumeStatsResponse, CallFailure> {
        target::check_id(&request.volume_id)?;
        if request.volume_path.is_empty() {
            return Err(CallFailure::invalid("volume_path is missing"));
        }
        let mut overgrown = self.storage.overgrown();
        overgrown
            .retain(|volume| volume.volume_id == request.volume_id && volume.target == Path::new(&request.volume_path));
        self.storage.call(deadline, move |volumes| stats(volumes, &request, overgrown.first())).await
    }
}

fn stats(
    volumes: &Volumes,
    request: &NodeGetVolumeStatsRequest,
    overgrown: Option<&Overgrown>,
) -> Result<NodeGetVolumeStatsResponse, CallFailure> {
    let path = Path::new(&request.volume_path);
    let Some(volume) = volumes.find(&request.volume_id, path)? else {
        return Err(CallFailure::new(
            Kind::NotFound,
            format!("the volume {:?} is not published on {}", request.volume_id, path.display()),
        ));
    };
    let mounted = volume.state == State::Mounted;
    let damage = volumes.damage(&volume.record)?;
    // The layer itself tells, whatever the last measuring found, and before the first one of this process.
    let is_frozen = volumes.is_full(&volume.record);
    let is_current = |found: &&Overgrown| found.bytes > found.limit && found.frozen == is_frozen && !found.stopped;
    // A quota tells at any time whether it is reached.
    let overgrown = overgrown.filter(is_current).cloned().or_else(|| volumes.at_quota(&volume.record));
    let message = match (mounted, &damage, &overgrown) {
        (true, Some(reason), _) => format!(
            "the volume shows a tree that was changed or damaged on this node: {reason}; delete the pod, and its \
             successor gets a good one"
        ),
        (true, None, overgrown) if is_frozen => {
            let written = match overgrown {
                Some(Overgrown { bytes, limit, .. }) => {
                    format!("at least {bytes} bytes were written to it, more than the {limit} that")
                }
                None => "more was written to it than".to_owned(),
            };
            format!(
                "the volume is read-only, because {written} limits.writableBytes allowed; it stays read-only until it is \
                 unpublished: delete the pods that use it, and their successors get an empty layer"
            )
        }
        (true, None, Some(Overgrown { bytes, limit, stopped: true, .. })) => format!(
            "the volume takes {bytes} of the {limit} bytes that limits.writableBytes allows, and a project quota refuses \
             more: writes fail with \"Disk quota exceeded\" or \"No space left on device\"; delete some of its files"
        ),
        (true, None, Some(Overgrown { bytes, limit, .. })) => format!(
            "the volume has grown to at least {bytes} bytes, more than the {limit} that limits.writableBytes allows; \
             delete some of its files"
        ),
        (true, None, None) => format!("shows {} of {}", volume.record.commit, volume.record.repository),
        (false, ..) => {
            format!("the volume is not mounted on {} any more; for a new pod it is mounted again", path.display())
        }
    };
    let abnormal = !mounted || damage.is_some() || is_frozen || overgrown.is_some();
    Ok(NodeGetVolumeStatsResponse {
        usage: usage(volumes, &volume.record)?,
        volume_condition: Some(VolumeCondition { abnormal, message }),
    })
}

fn usage(volumes: &Volumes, record: &Record) -> Result<Vec<VolumeUsage>, CallFailure> {
    let place = volumes.store().root();
    let filesystem = statvfs(place).map_err(|error| {
        CallFailure::new(Kind::Unavailable, format!("cannot measure the filesystem of {}: {error}", place.display()))
    })?;
    let free = filesystem.blocks_available().saturating_mul(filesystem.fragment_size());
    let (bytes, entries, available) = match volumes.layer_usage(record) {
        // One that is read-only takes no more, also if the limit was raised or files were deleted before.
        Some(layer) if volumes.is_full(record) => (layer.bytes, layer.inodes, 0),
        Some(layer) => (layer.bytes, layer.inodes, free.min(layer.limit.saturating_sub(layer.bytes))),
        None => {
            let snapshot = volumes.store().snapshot(&record.snapshot)?;
            let summary = snapshot.map(|lease| lease.meta().summary).unwrap_or_default();
            (summary.bytes, summary.entries(), free)
        }
    };
    let inodes = match filesystem.files() {
        // This filesystem creates inodes on demand and has no limit. The kubelet reports zeros for its own volumes
        // there.
        0 => amount(Unit::Inodes, 0, 0),
        _ => amount(Unit::Inodes, entries, filesystem.files_available()),
    };
    Ok(vec![amount(Unit::Bytes, bytes, available), inodes])
}

fn amount(unit: Unit, used: u64, available: u64) -> VolumeUsage {
    let sizes = [used.saturating_add(available), used, available];
    let [total, used, available] = sizes.map(|size| i64::try_from(size).unwrap_or(i64::MAX));
    VolumeUsage { available, total, used, unit: unit.into() }
}
