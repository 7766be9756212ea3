//! Remembers created volumes, so that creating one again returns the same volume, even after a restart.
//!
//! Each volume has one small file, in a separate directory of the store. Losing these files costs little: the context
//! of a created volume is complete, and creating a volume again resolves it again.

use std::collections::BTreeMap;
use std::fs;
use std::fs::DirBuilder;
use std::fs::File;
use std::io;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use gitrepo_core::error::Kind;
use serde::Deserialize;
use serde::Serialize;

use super::volume_id::VolumeId;
use super::volume_id::name_hash;
use crate::failure::CallFailure;

/// A created volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Created {
    /// The name that the provisioner gave the volume.
    pub(super) name: String,
    /// The id by which the cluster knows the volume.
    pub(super) volume_id: String,
    /// The requested parameters.
    pub(super) parameters: BTreeMap<String, String>,
    /// The volume's context.
    pub(super) context: BTreeMap<String, String>,
    /// The promised size in bytes; 0 for none.
    pub(super) capacity: i64,
}

/// The directory of the files.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    directory: PathBuf,
}

impl Memory {
    /// Uses this directory, which need not exist yet.
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Returns the volume of this name. A damaged file counts as missing.
    pub(super) fn recall(&self, name: &str) -> Result<Option<Created>, CallFailure> {
        let created = self.read(&self.path(&name_hash(name)))?;
        Ok(created.filter(|created| created.name == name))
    }

    /// Returns the volume with this id.
    pub(super) fn find(&self, id: &VolumeId) -> Result<Option<Created>, CallFailure> {
        let created = self.read(&self.path(id.name_hash()))?;
        Ok(created.filter(|created| created.volume_id == id.to_string()))
    }

    /// Stores the volume durably.
    pub(super) fn keep(&self, created: &Created) -> Result<(), CallFailure> {
        let path = self.path(&name_hash(&created.name));
        let json = serde_json::to_vec(created).map_err(io::Error::from);
        json.and_then(|json| self.write(&path, &json)).map_err(failed("write", &path))
    }

    /// Forgets the volume with this id.
    pub(super) fn forget(&self, id: &VolumeId) -> Result<(), CallFailure> {
        if self.find(id)?.is_none() {
            return Ok(());
        }
        let path = self.path(id.name_hash());
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("delete", &path)(error)),
            _ => Ok(()),
        }
    }

    fn path(&self, name_hash: &str) -> PathBuf {
        self.directory.join(format!("{name_hash}.json"))
    }

    fn read(&self, path: &Path) -> Result<Option<Created>, CallFailure> {
        match fs::read(path) {
            Ok(json) => Ok(serde_json::from_slice(&json)
                .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "a damaged file is ignored"))
                .ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", path)(error)),
        }
    }

    fn write(&self, path: &Path, json: &[u8]) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let unfinished = path.with_extension("new");
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        file.write_all(json)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)?;
        File::open(&self.directory)?.sync_all()
    }
}

/// Returns a failure that is not final, so that the provisioner retries.
fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CallFailure {
    move |error| {
        let kind = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Kind::ResourceExhausted,
            _ => Kind::Unavailable,
        };
        CallFailure::new(kind, format!("cannot {action} {}: {error}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn created(name: &str) -> Created {
        let context = BTreeMap::from([("repository".to_owned(), "https://git.example.org/a".to_owned())]);
        let volume_id = VolumeId::new(name, &context).to_string();
        Created { name: name.to_owned(), volume_id, parameters: context.clone(), context, capacity: 7 }
    }

    #[test]
    fn a_created_volume_is_remembered_until_it_is_forgotten() {
        let place = tempfile::tempdir().unwrap();
        let memory = Memory::new(place.path().join("controller"));
        assert_eq!(memory.recall("pvc-1"), Ok(None));
        let made = created("pvc-1");
        let id = VolumeId::parse(&made.volume_id).unwrap();
        memory.keep(&made).unwrap();
        memory.keep(&made).unwrap();
        let memory = Memory::new(place.path().join("controller"));
        assert_eq!(memory.recall("pvc-1"), Ok(Some(made.clone())));
        assert_eq!(memory.find(&id), Ok(Some(made)));
        assert_eq!(memory.recall("pvc-2"), Ok(None));
        assert_eq!(memory.find(&VolumeId::new("pvc-1", &BTreeMap::new())), Ok(None), "another volume of the same name");
        for _ in 0..2 {
            memory.forget(&id).unwrap();
            assert_eq!(memory.recall("pvc-1"), Ok(None));
        }
        assert_eq!(fs::read_dir(place.path().join("controller")).unwrap().count(), 0);
    }

    #[test]
    fn r13_a_damaged_file_counts_as_missing() {
        let place = tempfile::tempdir().unwrap();
        let memory = Memory::new(place.path().to_owned());
        let made = created("../../x");
        memory.keep(&made).unwrap();
        for damage in ["", "{}", "\0"] {
            fs::write(memory.path(&name_hash(&made.name)), damage).unwrap();
            assert_eq!(memory.recall(&made.name), Ok(None), "{damage:?}");
        }
        memory.keep(&made).unwrap();
        assert_eq!(memory.recall(&made.name), Ok(Some(made)));
    }
}
