//! What is known of each published target.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::Deserialize;
use serde::Serialize;

use crate::spec::CommitId;
use crate::store::CredentialId;

use super::clock::BootId;
use super::clock::wall_clock;
use super::digest::sha256_hex;
use super::durable;
use super::error::StoreError;
use super::error::optional;
use super::origin::Origin;
use super::snapshot::SnapshotId;
use super::target::TARGETS_DIRECTORY;

pub(super) const RECORD_FILE: &str = "record.json";
const RECORD_LIMIT: u64 = 1024 * 1024;

/// One published target: written before it is mounted, deleted after it is unmounted, and until then a reference to its
/// snapshot, whichever process looks.
///
/// A field that this version does not know is ignored when reading; a field that an older version does not write needs
/// a default. So the version before and the version after this one read each other's records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Version of this schema.
    pub version: u64,
    /// Which program published it, and alone may collect it.
    #[serde(flatten)]
    pub origin: Origin,
    /// The kubelet's name of the volume, or the CLI's.
    pub volume_id: String,
    /// Where it is mounted: absolute.
    pub target: PathBuf,
    /// The repository's URL, without secrets.
    pub repository: String,
    /// As asked for.
    pub revision: String,
    /// The ref that led to the commit; `None` when it was asked for by its id.
    #[serde(default)]
    pub reference: Option<String>,
    /// What the revision resolved to when it was first published; it stays.
    pub commit: CommitId,
    /// What is mounted.
    pub snapshot: SnapshotId,
    /// Every option that selects the content, to tell a retry from a different request.
    #[serde(default)]
    pub content: BTreeMap<String, String>,
    /// What the target shows.
    #[serde(flatten)]
    pub shows: Shows,
    /// The credential that proved it may read the repository.
    pub credential: CredentialId,
    /// Where it was mounted.
    pub(crate) mounted_in: MountTable,
    /// When it was first published, by the wall clock: for people only.
    #[serde(with = "wall_clock")]
    pub created_at: SystemTime,
    /// The target directory was made by us, and goes when the volume goes.
    #[serde(default)]
    pub target_created: bool,
}

/// What a target shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Flags", into = "Flags")]
pub enum Shows {
    /// The snapshot itself, read-only.
    Snapshot,
    /// A copy of its own, writable.
    Copy,
    /// The copy that all targets of the volume on this node show, writable.
    SharedCopy,
}

impl Shows {
    /// Nothing can be written through the mount.
    pub fn is_read_only(self) -> bool {
        self == Self::Snapshot
    }
}

/// How [`Shows`] stands in a record.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Flags {
    read_only: bool,
    #[serde(default)]
    copy: bool,
    #[serde(default)]
    shared: bool,
}

impl From<Shows> for Flags {
    fn from(shows: Shows) -> Self {
        Self { read_only: shows.is_read_only(), copy: !shows.is_read_only(), shared: shows == Shows::SharedCopy }
    }
}

impl From<Flags> for Shows {
    fn from(flags: Flags) -> Self {
        match flags {
            Flags { shared: true, .. } => Self::SharedCopy,
            Flags { copy: true, .. } => Self::Copy,
            Flags { .. } => Self::Snapshot,
        }
    }
}

impl Record {
    /// The schema that this program writes.
    pub const VERSION: u64 = 1;
}

/// Which mount table a mount was made in. A process in another mount namespace does not see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MountTable {
    /// The boot; no mount outlives it.
    pub(crate) boot_id: BootId,
    /// The mount namespace, as `/proc/thread-self/ns/mnt` names it.
    pub(crate) namespace: String,
}

impl MountTable {
    /// Of the calling thread.
    pub(crate) fn current() -> Result<Self, StoreError> {
        let path = Path::new("/proc/thread-self/ns/mnt");
        let namespace = std::fs::read_link(path).map_err(StoreError::io("read", path))?;
        Ok(Self { boot_id: BootId::current()?, namespace: namespace.to_string_lossy().into_owned() })
    }

    /// The current mount table tells whether a mount made in this one is still there: it is the same one, or a reboot
    /// has taken the mount from everybody.
    pub(crate) fn is_told_by(&self, current: &Self) -> bool {
        self.boot_id != current.boot_id || self.namespace == current.namespace
    }
}

/// The hash that stands for a target in paths: one for all spellings that compare equal, such as with a slash at the end.
pub(super) fn target_hash(target: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let plain: PathBuf = target.components().collect();
    sha256_hex(plain.as_os_str().as_bytes())
}

/// Reads the record in the directory of one target. [`StoreError::Corrupt`] if it is there but makes no sense, or speaks
/// of another target than its place says.
pub(super) fn read(slot: &Path) -> Result<Option<Record>, StoreError> {
    let path = slot.join(RECORD_FILE);
    let Some(json) = optional(durable::read(&path, RECORD_LIMIT))? else { return Ok(None) };
    let record = serde_json::from_slice::<Record>(&json).map_err(|error| unreadable(&path, &json, &error))?;
    let place = Path::new(&sha256_hex(&record.volume_id)).join(TARGETS_DIRECTORY).join(target_hash(&record.target));
    if !slot.ends_with(place) {
        return Err(StoreError::corrupt(&path, "it speaks of another volume"));
    }
    Ok(Some(record))
}

/// Not understood because it is damaged, or because it is of a later version that must not be thrown away.
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
