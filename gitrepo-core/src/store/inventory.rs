//! What a store holds: its repositories and snapshots, what each takes on the disk, and who uses it.
//!
//! A segment has a name in its repository and one in each snapshot that shows a part of it. A total counts it once.

use std::collections::BTreeMap;
use std::fs;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use crate::snapshot;

use super::Store;
use super::changed::is_marked;
use super::clock::Moment;
use super::error::StoreError;
use super::last_use;
use super::names::Taken;
use super::repository::Repository;
use super::snapshot::read_meta;
use super::snapshot_id::SnapshotId;
use super::snapshot_meta::SnapshotMeta;
use super::target::hashes_in;
use super::unused::repository_of_snapshot;

/// The repositories and snapshots of a store.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    /// Sorted by hash.
    pub repositories: Vec<KeptRepository>,
    /// Sorted by id.
    pub snapshots: Vec<KeptSnapshot>,
}

/// A repository with all that the store has of it: what its fetches brought, and its snapshots.
#[derive(Debug, Clone)]
pub struct KeptRepository {
    /// The SHA-256 of its canonical URL: its name in the store.
    pub hash: String,
    /// Its URL. `None` if no snapshot tells: only the hash is kept.
    pub url: Option<String>,
    /// The number of its snapshots.
    pub snapshots: usize,
    /// The number of its segments.
    pub segments: usize,
    /// What it takes with its snapshots.
    pub size: Size,
    /// Time since a fetch last added to it. `None` if only snapshots are left.
    pub idle: Option<Duration>,
}

/// A snapshot.
#[derive(Debug, Clone)]
pub struct KeptSnapshot {
    /// Its id.
    pub id: SnapshotId,
    /// Its repository's hash; `None` if its metadata cannot be read.
    pub repository: Option<String>,
    /// Its metadata; `None` if that cannot be read.
    pub meta: Option<SnapshotMeta>,
    /// Bytes that only this snapshot has.
    pub own_bytes: u64,
    /// Bytes of segments and other files that it shares with its repository or other snapshots.
    pub shared_bytes: u64,
    /// Time since its last use.
    pub idle: Duration,
    /// The number of targets that show it or a copy of it.
    pub volumes: usize,
    /// Whether it can be served.
    pub condition: Condition,
}

/// Whether a snapshot can be served, as far as is known without reading its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// No damage is known.
    Good,
    /// It was found changed or damaged. It is not served to new volumes, and removed once none shows it.
    Quarantined,
    /// Its metadata cannot be read. The next publish replaces it.
    Unreadable,
}

/// Bytes by kind. Files with several names count once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Segments with the content of blobs, and the `.git` of images.
    pub content: u64,
    /// Commits and trees, and indexes of segments.
    pub history: u64,
    /// Images: their EROFS metadata and manifests.
    pub images: u64,
    /// Snapshots of plain files.
    pub directories: u64,
}

impl Size {
    /// Returns the bytes of all kinds.
    pub fn total(&self) -> u64 {
        [self.content, self.history, self.images, self.directories].into_iter().fold(0, u64::saturating_add)
    }

    /// Adds another size.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            content: self.content.saturating_add(other.content),
            history: self.history.saturating_add(other.history),
            images: self.images.saturating_add(other.images),
            directories: self.directories.saturating_add(other.directories),
        }
    }
}

impl Inventory {
    /// Returns what the repositories and snapshots take together.
    pub fn size(&self) -> Size {
        // Repositories share nothing with each other.
        let unreadable = self.snapshots.iter().filter(|snapshot| snapshot.repository.is_none());
        let unreadable = Size { images: unreadable.map(|snapshot| snapshot.own_bytes).sum(), ..Size::default() };
        self.repositories.iter().fold(unreadable, |sum, repository| sum.plus(repository.size))
    }

    /// Returns the bytes of [`Inventory::size`].
    pub fn bytes(&self) -> u64 {
        self.size().total()
    }
}

impl Store {
    /// Lists repositories and snapshots. Reads no content, takes no lock, and changes nothing. Trees of plain files
    /// count with the size of their content when they were written. What disappears meanwhile is left out.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn inventory(&self) -> Result<Inventory, StoreError> {
        let now = Moment::now()?;
        let mut users: BTreeMap<SnapshotId, usize> = BTreeMap::new();
        for record in self.records()? {
            *users.entry(record.snapshot).or_default() += 1;
        }
        let mut repositories: BTreeMap<String, (KeptRepository, Taken)> = BTreeMap::new();
        for hash in hashes_in(&self.layout.repositories())? {
            let mut taken = Taken::default();
            let repository = self.kept_repository(&hash, &mut taken, &now);
            repositories.insert(hash, (repository, taken));
        }
        let mut snapshots = Vec::new();
        for name in hashes_in(&self.layout.snapshots())? {
            let Ok(id) = SnapshotId::try_from(name) else { continue };
            let volumes = users.get(&id).copied().unwrap_or_default();
            let Some(snapshot) = self.kept_snapshot(id, volumes, &now)? else { continue };
            if let (Some(hash), Some(meta)) = (&snapshot.repository, &snapshot.meta) {
                let new = || (KeptRepository::without_content(hash.clone()), Taken::default());
                let (repository, taken) = repositories.entry(hash.clone()).or_insert_with(new);
                repository.add(meta, &self.snapshot_path(&snapshot.id), taken);
            }
            snapshots.push(snapshot);
        }
        snapshots.sort_by(|one, other| one.id.cmp(&other.id));
        let repositories = repositories.into_values().map(|(repository, _)| repository).collect();
        Ok(Inventory { repositories, snapshots })
    }

    fn kept_repository(&self, hash: &str, taken: &mut Taken, now: &Moment) -> KeptRepository {
        let repository = Repository::of_hash(&self.layout, hash.to_owned());
        let mut kept = KeptRepository::without_content(hash.to_owned());
        kept.idle = Some(last_use::of(repository.path(), now).age(now).unwrap_or_default());
        for (name, file) in repository.directories().iter().flat_map(|directory| named_files(directory)) {
            let is_content = name.ends_with(&format!(".{}", crate::content::CONTENT));
            kept.segments += usize::from(is_content);
            let bytes = taken.count(std::iter::once(file));
            *(if is_content { &mut kept.size.content } else { &mut kept.size.history }) += bytes;
        }
        kept
    }

    /// Describes a snapshot; `None` if it is gone.
    fn kept_snapshot(&self, id: SnapshotId, volumes: usize, now: &Moment) -> Result<Option<KeptSnapshot>, StoreError> {
        let path = self.snapshot_path(&id);
        let meta = match read_meta(&path) {
            Ok(None) => return Ok(None),
            Ok(meta) => meta,
            Err(StoreError::Corrupt { .. }) => None,
            Err(error) => return Err(error),
        };
        let condition = match &meta {
            None => Condition::Unreadable,
            Some(_) if is_marked(&path)? => Condition::Quarantined,
            Some(_) => Condition::Good,
        };
        let (mut own_bytes, mut shared_bytes) = (meta.as_ref().map_or(0, tree_bytes), 0_u64);
        for (_, file) in named_files(&path) {
            let bytes = if file.nlink() == 1 { &mut own_bytes } else { &mut shared_bytes };
            *bytes = bytes.saturating_add(file.len());
        }
        let idle = last_use::of(&path, now).age(now).unwrap_or_default();
        let repository = meta.as_ref().and_then(|_| repository_of_snapshot(&path));
        Ok(Some(KeptSnapshot { id, repository, meta, own_bytes, shared_bytes, idle, volumes, condition }))
    }
}

impl KeptRepository {
    fn without_content(hash: String) -> Self {
        Self { hash, url: None, snapshots: 0, segments: 0, size: Size::default(), idle: None }
    }

    /// Adds a snapshot, and those of its files that were not counted yet.
    fn add(&mut self, meta: &SnapshotMeta, snapshot: &Path, taken: &mut Taken) {
        self.url.get_or_insert_with(|| meta.repository.clone());
        self.snapshots += 1;
        self.size.directories = self.size.directories.saturating_add(tree_bytes(meta));
        let is_image = snapshot::is_of_segments(&meta.format);
        for (name, file) in named_files(snapshot) {
            let is_device = is_image && name.bytes().all(|byte| byte.is_ascii_digit());
            let bytes = taken.count(std::iter::once(file));
            let kind = match (is_image, is_device) {
                (_, true) => &mut self.size.content,
                (true, _) => &mut self.size.images,
                (false, _) => &mut self.size.directories,
            };
            *kind = kind.saturating_add(bytes);
        }
    }
}

/// Returns the bytes of a tree of plain files.
pub(super) fn tree_bytes(meta: &SnapshotMeta) -> u64 {
    if snapshot::is_of_segments(&meta.format) { 0 } else { meta.summary.bytes }
}

/// Returns the files in a directory with their names. What cannot be examined is left out.
fn named_files(directory: &Path) -> impl Iterator<Item = (String, Metadata)> + use<> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let named = entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.metadata().ok()?)));
    named.filter(|(_, metadata)| metadata.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::Cancel;
    use crate::store::fixture::commit;
    use crate::store::fixture::install;
    use crate::store::fixture::record;
    use crate::store::fixture::store;
    use crate::store::fixture::url;

    #[test]
    fn files_with_several_names_count_once_and_users_are_counted() {
        let (_place, store) = store();
        let leases = [1, 2].map(|digit| install(&store, commit(digit), ""));
        let [one, two] = leases.each_ref().map(|lease| lease.path().to_owned());
        let before = store.inventory().unwrap().bytes();
        fs::write(one.join("segment"), [7; 1000]).unwrap();
        fs::hard_link(one.join("segment"), two.join("segment")).unwrap();
        let segments = Repository::new(&store.layout, &url()).path().join(crate::content::DIRECTORY);
        fs::create_dir_all(&segments).unwrap();
        fs::hard_link(one.join("segment"), segments.join("segment-1.content")).unwrap();
        fs::write(segments.join("segment-1.index"), [7; 10]).unwrap();
        for target in ["/pods/a", "/pods/b"].map(Path::new) {
            let slot = store.target("volume", target, &Cancel::new()).unwrap();
            slot.write(&record(&store, "volume", target, &leases[0])).unwrap();
        }

        let inventory = store.inventory().unwrap();
        assert_eq!(inventory.bytes(), before + 1010);
        let [repository] = &inventory.repositories[..] else { panic!("{inventory:?}") };
        assert_eq!(repository.url, Some(url().to_string()));
        assert_eq!((repository.snapshots, repository.segments), (2, 1));
        assert_eq!((repository.size.content, repository.size.history), (1000, 10));
        assert!(inventory.snapshots.iter().all(|snapshot| snapshot.shared_bytes == 1000));
        let volumes = |id: &SnapshotId| inventory.snapshots.iter().find(|kept| kept.id == *id).unwrap().volumes;
        assert_eq!(leases.each_ref().map(|lease| volumes(lease.id())), [2, 0]);
    }

    #[test]
    fn damaged_and_quarantined_snapshots_are_told_apart() {
        let (_place, store) = store();
        let leases = [1, 2, 3].map(|digit| install(&store, commit(digit), ""));
        store.mark_damaged(&leases[1], "a test").unwrap();
        fs::write(leases[2].path().join("meta.json"), "{").unwrap();
        let inventory = store.inventory().unwrap();
        let condition = |id: &SnapshotId| inventory.snapshots.iter().find(|kept| kept.id == *id).unwrap().condition;
        let found = leases.each_ref().map(|lease| condition(lease.id()));
        assert_eq!(found, [Condition::Good, Condition::Quarantined, Condition::Unreadable]);
        assert_eq!(inventory.repositories[0].snapshots, 2);
    }
}
