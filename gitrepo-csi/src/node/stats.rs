//! `NodeGetVolumeStats`: the size of the tree, and the free space of the store. Walks no tree.
//!
//! All targets of a volume report the same, because the kubelet's metrics are per claim, not per pod. `used` is the
//! size of the tree when it was written. `available` is the free space of the store's filesystem, where writable copies
//! grow. `total` is the sum. So a small tree on a large disk never looks nearly full.

use std::path::Path;
use std::time::Instant;

use gitrepo_core::error::Kind;
use gitrepo_core::store::Record;
use gitrepo_core::volume::State;
use gitrepo_core::volume::Volumes;
use nix::sys::statvfs::statvfs;

use super::NodeService;
use crate::failure::Failure;
use crate::proto::csi::v1::NodeGetVolumeStatsRequest;
use crate::proto::csi::v1::NodeGetVolumeStatsResponse;
use crate::proto::csi::v1::VolumeCondition;
use crate::proto::csi::v1::VolumeUsage;
use crate::proto::csi::v1::volume_usage::Unit;
use crate::target;

/// One resource.
#[derive(Debug, Clone, Copy, Default)]
struct Amount {
    total: u64,
    used: u64,
    available: u64,
}

impl Amount {
    fn of(used: u64, available: u64) -> Self {
        Self { total: used.saturating_add(available), used, available }
    }
}

impl NodeService {
    pub(super) async fn stats(
        &self,
        request: NodeGetVolumeStatsRequest,
        deadline: Instant,
    ) -> Result<NodeGetVolumeStatsResponse, Failure> {
        target::check_id(&request.volume_id)?;
        if request.volume_path.is_empty() {
            return Err(Failure::invalid("volume_path is missing"));
        }
        self.storage.call(deadline, move |volumes| stats(volumes, &request)).await
    }
}

fn stats(volumes: &Volumes, request: &NodeGetVolumeStatsRequest) -> Result<NodeGetVolumeStatsResponse, Failure> {
    let path = Path::new(&request.volume_path);
    let Some(volume) = volumes.find(&request.volume_id, path)? else {
        return Err(Failure::new(
            Kind::NotFound,
            format!("the volume {:?} is not published on {}", request.volume_id, path.display()),
        ));
    };
    let mounted = volume.state == State::Mounted;
    let [bytes, inodes] = amounts(volumes, &volume.record)?;
    let message = match mounted {
        true => format!("shows {} of {}", volume.record.commit, volume.record.repository),
        false => format!("nothing of this volume is mounted on {}; a new pod gets it mounted again", path.display()),
    };
    Ok(NodeGetVolumeStatsResponse {
        usage: vec![usage(bytes, Unit::Bytes), usage(inodes, Unit::Inodes)],
        volume_condition: Some(VolumeCondition { abnormal: !mounted, message }),
    })
}

/// Bytes and inodes.
fn amounts(volumes: &Volumes, record: &Record) -> Result<[Amount; 2], Failure> {
    let summary = volumes.store().snapshot(&record.snapshot)?.map(|lease| lease.meta().summary).unwrap_or_default();
    let place = volumes.store().root();
    let filesystem = statvfs(place).map_err(|error| {
        Failure::new(Kind::Unavailable, format!("cannot size the filesystem of {}: {error}", place.display()))
    })?;
    let bytes = filesystem.blocks_available().saturating_mul(filesystem.fragment_size());
    let inodes = match filesystem.files() {
        // It makes them as they are needed, and is never short of them: nothing to be told, as of the kubelet's own
        // volumes.
        0 => Amount::default(),
        _ => Amount::of(summary.entries(), filesystem.files_available()),
    };
    Ok([Amount::of(summary.bytes, bytes), inodes])
}

fn usage(amount: Amount, unit: Unit) -> VolumeUsage {
    let [total, used, available] =
        [amount.total, amount.used, amount.available].map(|size| i64::try_from(size).unwrap_or(i64::MAX));
    VolumeUsage { available, total, used, unit: unit.into() }
}
