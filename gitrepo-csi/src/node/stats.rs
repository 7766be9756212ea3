//! `NodeGetVolumeStats`: what was counted when the tree was written, or what the filesystem says. No tree is walked.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use gitrepo_core::error::Kind;
use gitrepo_core::store::Record;
use gitrepo_core::volume::State;
use gitrepo_core::volume::Volumes;
use nix::sys::statvfs::statvfs;

use super::NodeService;
use crate::blocking;
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
        let storage = Arc::clone(&self.storage);
        blocking::until(deadline, move || stats(&*storage.volumes()?, &request)).await
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
    let amounts =
        if volume.record.read_only { counted(volumes, &volume.record)? } else { asked(volumes, path, mounted)? };
    let [bytes, inodes] = amounts;
    let message = match mounted {
        true => format!("shows {} of {}", volume.record.commit, volume.record.repository),
        false => format!("nothing of this volume is mounted on {}; a new pod gets it mounted again", path.display()),
    };
    Ok(NodeGetVolumeStatsResponse {
        usage: vec![usage(bytes, Unit::Bytes), usage(inodes, Unit::Inodes)],
        volume_condition: Some(VolumeCondition { abnormal: !mounted, message }),
    })
}

/// A read-only tree: as full as can be.
fn counted(volumes: &Volumes, record: &Record) -> Result<[Amount; 2], Failure> {
    let summary = volumes.store().snapshot(&record.snapshot)?.map(|lease| lease.meta().summary).unwrap_or_default();
    Ok([summary.bytes, summary.entries()].map(|size| Amount { total: size, used: size, available: 0 }))
}

/// A writable copy has the filesystem of the store to grow in.
fn asked(volumes: &Volumes, path: &Path, mounted: bool) -> Result<[Amount; 2], Failure> {
    let place = if mounted { path } else { volumes.store().root() };
    let filesystem = statvfs(place).map_err(|error| {
        Failure::new(Kind::Unavailable, format!("cannot size the filesystem of {}: {error}", place.display()))
    })?;
    let bytes = |blocks: u64| blocks.saturating_mul(filesystem.fragment_size());
    Ok([
        Amount {
            total: bytes(filesystem.blocks()),
            used: bytes(filesystem.blocks().saturating_sub(filesystem.blocks_free())),
            available: bytes(filesystem.blocks_available()),
        },
        Amount {
            total: filesystem.files(),
            used: filesystem.files().saturating_sub(filesystem.files_free()),
            available: filesystem.files_available(),
        },
    ])
}

fn usage(amount: Amount, unit: Unit) -> VolumeUsage {
    let [total, used, available] =
        [amount.total, amount.used, amount.available].map(|size| i64::try_from(size).unwrap_or(i64::MAX));
    VolumeUsage { available, total, used, unit: unit.into() }
}
