//! The records of published targets.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::Deserialize;
use serde::Serialize;

use crate::snapshot::Ownership;
use crate::spec::CommitId;
use crate::store::CredentialId;

use super::clock::BootId;
use super::clock::wall_clock;
use super::durable;
use super::error::StoreError;
use super::error::optional;
use super::origin::Origin;
use super::snapshot_id::SnapshotId;
use super::target::TARGETS_DIRECTORY;
use crate::digest::sha256_hex;

pub(super) const RECORD_FILE: &str = "record.json";
const RECORD_LIMIT: u64 = 1024 * 1024;

/// One published target. The record is written before the mount and deleted after the unmount. In between, it tells
/// every process that the snapshot is in use.
///
/// Reading ignores unknown fields, and a field that older versions do not write has a default. So adjacent versions
/// read each other's records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Version of this schema.
    pub version: u64,
    /// The program that published it. Only this program may collect it.
    #[serde(flatten)]
    pub origin: Origin,
    /// The volume's name, as the caller chose it.
    pub volume_id: String,
    /// The absolute path of the target.
    pub target: PathBuf,
    /// The repository's URL, without secrets.
    pub repository: String,
    /// The revision, as the caller wrote it.
    pub revision: String,
    /// The ref that led to the commit; `None` if the commit was requested by its id.
    #[serde(default)]
    pub reference: Option<String>,
    /// The commit of the revision at the first publish. It never changes.
    pub commit: CommitId,
    /// The snapshot that is mounted, alone or under a layer, or copied.
    pub snapshot: SnapshotId,
    /// The options that decide the content. They tell a retry from a different request.
    #[serde(default)]
    pub content: BTreeMap<String, String>,
    /// What the target shows.
    #[serde(flatten)]
    pub shows: Shows,
    /// Whom the files of an image belong to, alone or under a layer. `None` for other volumes, and for images of versions that did not know
    /// owners.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ownership: Option<Ownership>,
    /// The credential that proved access to the commit.
    pub credential: CredentialId,
    /// Stands for the credentials that proved access to the submodules, where they are not the volume's own: those that the
    /// node keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submodule_credentials: Option<String>,
    /// The mount table that the mount was made in.
    pub(crate) mounted_in: MountTable,
    /// When it was first published, by the wall clock. Only for people to read.
    #[serde(with = "wall_clock")]
    pub created_at: SystemTime,
    /// Whether we created the target directory, so that an unpublish removes it.
    #[serde(default)]
    pub target_created: bool,
}

/// What a target shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Flags", into = "Flags")]
pub enum Shows {
    /// The snapshot itself, read-only.
    Snapshot,
    /// A copy of its own, writable.
    Copy,
    /// The copy that all targets of the volume on this node show, writable.
    SharedCopy,
    /// The snapshot under a layer of its own, writable.
    Layer,
    /// The snapshot under the layer that all targets of the volume on this node show, writable.
    SharedLayer,
}

impl Shows {
    /// Whether nothing can be written through the mount.
    pub fn is_read_only(self) -> bool {
        self == Self::Snapshot
    }

    /// Whether all targets of the volume on this node show the same.
    pub fn is_shared(self) -> bool {
        matches!(self, Self::SharedCopy | Self::SharedLayer)
    }

    /// Whether changes go to a layer over the snapshot.
    pub fn is_layer(self) -> bool {
        matches!(self, Self::Layer | Self::SharedLayer)
    }
}

/// The fields of [`Shows`] in a record.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Flags {
    /// Missing in the record of a layer. Versions that know none then refuse it as one of a newer version, and do not
    /// take it for a copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    read_only: Option<bool>,
    #[serde(default)]
    copy: bool,
    #[serde(default)]
    shared: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    layer: bool,
}

impl From<Shows> for Flags {
    fn from(shows: Shows) -> Self {
        Self {
            read_only: (!shows.is_layer()).then_some(shows.is_read_only()),
            copy: matches!(shows, Shows::Copy | Shows::SharedCopy),
            shared: shows.is_shared(),
            layer: shows.is_layer(),
        }
    }
}

impl TryFrom<Flags> for Shows {
    type Error = &'static str;

    fn try_from(flags: Flags) -> Result<Self, Self::Error> {
        match flags {
            Flags { layer: true, shared: true, .. } => Ok(Self::SharedLayer),
            Flags { layer: true, .. } => Ok(Self::Layer),
            Flags { read_only: None, .. } => Err("it does not say what the target shows"),
            Flags { shared: true, .. } => Ok(Self::SharedCopy),
            Flags { copy: true, .. } => Ok(Self::Copy),
            Flags { .. } => Ok(Self::Snapshot),
        }
    }
}

impl Record {
    /// The schema that this program writes.
    pub const VERSION: u64 = 2;
}

/// The mount table that a mount was made in. A process in another mount namespace does not see the mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MountTable {
    /// The boot. Mounts end with it.
    pub(crate) boot_id: BootId,
    /// The mount namespace, as `/proc/thread-self/ns/mnt` names it.
    pub(crate) namespace: String,
}

impl MountTable {
    /// Returns the mount table of the calling thread.
    pub(crate) fn current() -> Result<Self, StoreError> {
        let path = Path::new("/proc/thread-self/ns/mnt");
        let namespace = std::fs::read_link(path).map_err(StoreError::io("read", path))?;
        Ok(Self { boot_id: BootId::current()?, namespace: namespace.to_string_lossy().into_owned() })
    }

    /// Whether the table `current` tells if a mount made in this one still exists: it is the same table, or a reboot
    /// has removed the mount everywhere.
    pub(crate) fn can_be_checked_from(&self, current: &Self) -> bool {
        self.boot_id != current.boot_id || self.namespace == current.namespace
    }
}

/// Returns the hash that stands for a target in paths. All spellings of the same path, such as with a slash at the end,
/// have the same hash.
pub(super) fn target_hash(target: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let plain: PathBuf = target.components().collect();
    sha256_hex(plain.as_os_str().as_bytes())
}

/// Reads the record in a target's directory. Fails with [`StoreError::Corrupt`] if the record is damaged or names
/// another target.
pub(super) fn read(slot: &Path) -> Result<Option<Record>, StoreError> {
    let path = slot.join(RECORD_FILE);
    let Some(json) = optional(durable::read(&path, RECORD_LIMIT))? else { return Ok(None) };
    let record = serde_json::from_slice::<Record>(&json).map_err(|error| unreadable(&path, &json, &error))?;
    let place = Path::new(&sha256_hex(&record.volume_id)).join(TARGETS_DIRECTORY).join(target_hash(&record.target));
    if !slot.ends_with(place) {
        return Err(StoreError::corrupt(&path, "it belongs to another volume"));
    }
    Ok(Some(record))
}

/// Returns the error for a record that is damaged, or that a later version wrote and that must not be deleted.
fn unreadable(path: &Path, json: &[u8], error: &serde_json::Error) -> StoreError {
    #[derive(Deserialize)]
    struct Versioned {
        version: u64,
    }
    match serde_json::from_slice(json) {
        Ok(Versioned { version: found }) if found > Record::VERSION => {
            StoreError::Newer { path: path.to_path_buf(), found, supported: Record::VERSION }
        }
        _ => StoreError::corrupt(path, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_target_shows_is_read_back_and_old_records_mean_what_they_did() {
        for shows in [Shows::Snapshot, Shows::Copy, Shows::SharedCopy, Shows::Layer, Shows::SharedLayer] {
            let json = serde_json::to_value(shows).unwrap();
            assert_eq!(serde_json::from_value::<Shows>(json.clone()).unwrap(), shows, "{json}");
            assert_eq!(json.get("readOnly").is_none(), shows.is_layer(), "versions without layers refuse it: {json}");
        }
        for (old, shows) in [
            (r#"{"readOnly":true}"#, Shows::Snapshot),
            (r#"{"readOnly":true,"copy":false,"shared":false}"#, Shows::Snapshot),
            (r#"{"readOnly":false,"copy":true,"shared":false}"#, Shows::Copy),
            (r#"{"readOnly":false,"copy":true,"shared":true}"#, Shows::SharedCopy),
        ] {
            assert_eq!(serde_json::from_str::<Shows>(old).unwrap(), shows, "{old}");
        }
        assert!(serde_json::from_str::<Shows>("{}").is_err());
    }
}
