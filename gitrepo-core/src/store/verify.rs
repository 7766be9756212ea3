//! Verifies a store: reads all of its repositories and snapshots, and compares the content with the ids of the blobs.
//!
//! Segments and snapshots never change once they have their names, so they are read without locks. What looks damaged
//! is verified again under its lock: a compaction or an eviction may have removed it meanwhile.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::cancel::Interrupted;
use crate::error::Kind;
use crate::error::chain;
use crate::mount::Attachment;
use crate::policy::Limits;
use crate::snapshot;
use crate::snapshot::Pace;
use crate::snapshot::TreeRequest;
use crate::snapshot::Verifier;
use crate::snapshot::VerifyError;
use crate::spec::CommitId;
use crate::spec::RepositoryUrl;
use crate::watch::Watch;

use super::Store;
use super::changed::is_marked;
use super::error::StoreError;
use super::inventory::Condition;
use super::inventory::KeptRepository;
use super::inventory::KeptSnapshot;
use super::protect::protect;
use super::repository::Repository;
use super::repository::check_pack_slowly;
use super::snapshot::SnapshotLease;
use super::snapshot_id::SnapshotId;
use super::snapshot_meta::SnapshotMeta;

/// How long to wait for a fetch into a repository that looks damaged.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a repository is read without a lock while others replace its files.
const ATTEMPTS: usize = 3;

/// What to do about damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// Only report it.
    No,
    /// Take what is damaged out of service, so that the next publish fetches it anew.
    Quarantine,
}

/// The result of verifying a store.
#[derive(Debug, Default)]
pub struct Verification {
    /// Repositories that were read.
    pub repositories: usize,
    /// Snapshots that were read. Those that are quarantined already are not.
    pub snapshots: usize,
    /// Bytes of content that were read.
    pub bytes: u64,
    /// What is damaged.
    pub damages: Vec<Damage>,
    /// Why something could not be read, or not be repaired.
    pub failures: Vec<String>,
    /// A repository looked damaged, and a fetch into it kept it from being read again.
    pub is_put_off: bool,
}

/// A damaged repository or snapshot.
#[derive(Debug, Clone)]
pub struct Damage {
    /// What is damaged.
    pub part: Part,
    /// The repository's URL, if it is known.
    pub repository: Option<String>,
    /// The commit of the snapshot.
    pub commit: Option<CommitId>,
    /// What is wrong.
    pub reason: String,
    /// The number of targets that show the snapshot, or a copy of it.
    pub volumes: usize,
    /// Whether it is no longer served to new volumes.
    pub quarantined: bool,
}

/// A part of a store that may be damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// What fetches brought, by the repository's hash.
    Repository(String),
    /// A snapshot.
    Snapshot(SnapshotId),
}

/// How to verify.
#[derive(Clone, Copy)]
pub(super) struct How<'a> {
    pub(super) repair: Repair,
    /// Bytes to read per second at most.
    pub(super) rate: Option<NonZeroU64>,
    /// Bytes to keep free while the filesystem protects what is good; `None` to leave it as it is.
    pub(super) protect: Option<u64>,
    pub(super) watch: &'a Watch,
}

/// What the store has of one repository.
#[derive(Default)]
pub(super) struct Kept {
    /// `None` if nothing in the store tells.
    url: Option<String>,
    snapshots: Vec<KeptSnapshot>,
}

impl Store {
    /// Reads the repositories for which `wanted` returns true, and all their snapshots.
    ///
    /// # Errors
    ///
    /// If the store cannot be read, or the watch ends the verification. A single unreadable part is among the
    /// [failures](Verification::failures).
    pub fn verify(
        &self,
        wanted: impl Fn(Option<&str>) -> bool,
        repair: Repair,
        watch: &Watch,
    ) -> Result<Verification, StoreError> {
        let mut verification = Verification::default();
        for (hash, kept) in self.kept()? {
            if wanted(kept.url.as_deref()) {
                self.verify_kept(
                    hash.as_deref(),
                    &kept,
                    How { repair, rate: None, protect: None, watch },
                    &mut verification,
                )?;
            }
        }
        Ok(verification)
    }

    /// What the store has of each repository, by its hash. Without a hash: snapshots of unknown repositories.
    pub(super) fn kept(&self) -> Result<BTreeMap<Option<String>, Kept>, StoreError> {
        let inventory = self.inventory()?;
        let mut all: BTreeMap<Option<String>, Kept> = BTreeMap::new();
        for KeptRepository { hash, url, .. } in inventory.repositories {
            all.insert(Some(hash), Kept { url, snapshots: Vec::new() });
        }
        for snapshot in inventory.snapshots {
            all.entry(snapshot.repository.clone()).or_default().snapshots.push(snapshot);
        }
        Ok(all)
    }

    /// Reads a repository and its snapshots.
    pub(super) fn verify_kept(
        &self,
        hash: Option<&str>,
        kept: &Kept,
        how: How<'_>,
        verification: &mut Verification,
    ) -> Result<(), StoreError> {
        // The memory of what is good ends with each repository: they share nothing.
        let mut verifier = Verifier::new(how.watch, verification.bytes, Pace::new(how.rate));
        if let Some(hash) = hash {
            self.verify_repository(hash, kept.url.as_deref(), how, &mut verifier, verification)?;
        }
        let mut composed = Vec::new();
        for snapshot in &kept.snapshots {
            if let Some(reason) = self.verify_snapshot(snapshot, how, &mut verifier, verification)? {
                composed.push((snapshot, reason));
            }
        }
        verification.bytes = verifier.bytes();
        self.quarantine_composed(composed, how, verification)
    }

    /// Takes damaged trees with submodules out of service, after whatever is damaged of their submodules: the next publish
    /// would compose them of the same content again.
    fn quarantine_composed(
        &self,
        composed: Vec<(&KeptSnapshot, String)>,
        how: How<'_>,
        verification: &mut Verification,
    ) -> Result<(), StoreError> {
        let parts = composed.iter().filter_map(|(kept, _)| kept.meta.as_ref()).flat_map(|meta| &meta.parts);
        self.verify_parts(parts.map(|part| &part.repository), how, verification)?;
        for (kept, reason) in composed {
            if let Some(lease) = self.try_leased(&kept.id)? {
                self.found_damaged(kept, &lease, reason, how, verification);
            }
        }
        Ok(())
    }

    /// Reads these repositories, and what trees with submodules are composed of. Takes what is damaged out of service.
    ///
    /// # Errors
    ///
    /// As for [`Store::verify`].
    pub(crate) fn quarantine_damaged(&self, repositories: &[RepositoryUrl], watch: &Watch) -> Result<(), StoreError> {
        let how = How { repair: Repair::Quarantine, rate: None, protect: None, watch };
        let mut verification = Verification::default();
        self.verify_parts(repositories.iter(), how, &mut verification)?;
        verification.failures.iter().for_each(|failure| tracing::warn!(failure, "damaged content stays in service"));
        Ok(())
    }

    /// Reads repositories, and what trees with submodules are composed of.
    fn verify_parts<'a>(
        &self,
        repositories: impl Iterator<Item = &'a RepositoryUrl>,
        how: How<'_>,
        verification: &mut Verification,
    ) -> Result<(), StoreError> {
        let hashes: BTreeSet<_> = repositories.map(|url| Some(Repository::hash_of(url))).collect();
        if hashes.is_empty() {
            return Ok(());
        }
        let is_part = |kept: &KeptSnapshot| kept.meta.as_ref().is_some_and(|meta| meta.format == snapshot::Part::NAME);
        for (hash, mut kept) in self.kept()?.into_iter().filter(|(hash, _)| hashes.contains(hash)) {
            // A part has no parts: this ends.
            kept.snapshots.retain(is_part);
            self.verify_kept(hash.as_deref(), &kept, how, verification)?;
        }
        Ok(())
    }

    fn verify_repository(
        &self,
        hash: &str,
        url: Option<&str>,
        how: How<'_>,
        verifier: &mut Verifier<'_>,
        verification: &mut Verification,
    ) -> Result<(), StoreError> {
        let repository = Repository::of_hash(&self.layout, hash.to_owned());
        if !repository.exists() {
            return Ok(());
        }
        verification.repositories += 1;
        let path = repository.path().display().to_string();
        let mut good = BTreeMap::new();
        let mut attempts = 0;
        let lock = loop {
            let before = repository.contents().ok();
            match read_repository(&repository, verifier, &mut good) {
                Ok(()) => return self.protect(repository.segments()?, how, verifier, &path, verification),
                Err(VerifyError::Damaged(_)) => attempts += 1,
                Err(error) => return self.keep(error, &path, verification),
            }
            let lock = match repository.lock(&how.watch.cancel.within(PATIENCE)) {
                Err(error @ StoreError::Locked { .. }) => {
                    how.watch.cancel.check().map_err(interrupted)?;
                    // A fetch that takes long keeps nothing else from being verified.
                    verification.failures.push(chain(&error));
                    verification.is_put_off = true;
                    return Ok(());
                }
                lock => lock?,
            };
            if !repository.exists() {
                return Ok(());
            }
            // A compaction may have replaced it meanwhile. Much is read anew then, which must not hold up fetches.
            if repository.contents().ok() == before || attempts == ATTEMPTS {
                break lock;
            }
        };
        // Fetches wait.
        let pace = verifier.keep_to(Pace::new(None));
        let checked = lock.check_segments().map_err(of_store);
        let read = checked.and_then(|()| read_repository(&repository, verifier, &mut good));
        verifier.keep_to(pace);
        let reason = match read {
            Ok(()) => return Ok(()),
            Err(VerifyError::Damaged(reason)) => reason,
            Err(error) => return self.keep(error, &path, verification),
        };
        let mut quarantined = false;
        if how.repair == Repair::Quarantine {
            match lock.discard() {
                Ok(()) => quarantined = true,
                Err(error) => verification.failures.push(chain(&error)),
            }
        }
        verification.damages.push(Damage {
            part: Part::Repository(hash.to_owned()),
            repository: url.map(str::to_owned),
            commit: None,
            reason,
            volumes: 0,
            quarantined,
        });
        Ok(())
    }

    /// Reads a snapshot. Returns what is wrong with a tree of parts that has yet to be taken out of service.
    fn verify_snapshot(
        &self,
        kept: &KeptSnapshot,
        how: How<'_>,
        verifier: &mut Verifier<'_>,
        verification: &mut Verification,
    ) -> Result<Option<String>, StoreError> {
        let path = self.snapshot_path(&kept.id);
        // It may have been found with a tree that is composed of it.
        if kept.condition == Condition::Quarantined || is_marked(&path)? {
            return Ok(None);
        }
        if kept.condition == Condition::Unreadable {
            verification.snapshots += 1;
            let quarantined = how.repair == Repair::Quarantine && self.discarded(&kept.id, verification);
            let reason = "its meta.json is damaged or missing".to_owned();
            verification.damages.push(damage_of(kept, None, reason, quarantined));
            return Ok(None);
        }
        // `None`: somebody is about to remove it, or has.
        let Some(lease) = self.try_leased(&kept.id)? else { return Ok(None) };
        verification.snapshots += 1;
        let reason = match read_snapshot(&lease, verifier) {
            Ok(()) if how.protect.is_some() => {
                let files = match lease.attachment()? {
                    Attachment::Image { metadata, devices } => devices.into_iter().chain([metadata]).collect(),
                    _ => Vec::new(),
                };
                let path = path.display().to_string();
                return self.protect(files, how, verifier, &path, verification).map(|()| None);
            }
            Ok(()) => return Ok(None),
            Err(VerifyError::Damaged(reason)) => reason,
            Err(error) => return self.keep(error, &path.display().to_string(), verification).map(|()| None),
        };
        if how.repair == Repair::Quarantine && !lease.meta().parts.is_empty() {
            return Ok(Some(reason));
        }
        self.found_damaged(kept, &lease, reason, how, verification);
        Ok(None)
    }

    /// Notes that a snapshot is damaged, and takes it out of service if that is wanted.
    fn found_damaged(
        &self,
        kept: &KeptSnapshot,
        lease: &SnapshotLease,
        reason: String,
        how: How<'_>,
        verification: &mut Verification,
    ) {
        let mut quarantined = false;
        if how.repair == Repair::Quarantine {
            match self.mark_damaged(lease, &reason) {
                Ok(()) => quarantined = true,
                Err(error) => verification.failures.push(chain(&error)),
            }
        }
        verification.damages.push(damage_of(kept, Some(lease.meta()), reason, quarantined));
    }

    /// Discards a snapshot that nobody can use any more. Returns whether that was possible.
    fn discarded(&self, id: &SnapshotId, verification: &mut Verification) -> bool {
        match self.discard_snapshot(id) {
            Ok(()) => true,
            Err(error) => {
                verification.failures.push(chain(&error));
                false
            }
        }
    }

    /// Has the filesystem protect the files of what is good.
    fn protect(
        &self,
        files: Vec<PathBuf>,
        how: How<'_>,
        verifier: &mut Verifier<'_>,
        what: &str,
        verification: &mut Verification,
    ) -> Result<(), StoreError> {
        let Some(kept_free) = how.protect else { return Ok(()) };
        protect(files, kept_free, verifier).or_else(|error| self.keep(error, what, verification))
    }

    /// Notes that something could not be read, unless the verification was given up.
    fn keep(&self, error: VerifyError, what: &str, verification: &mut Verification) -> Result<(), StoreError> {
        if let VerifyError::Interrupted(source) = error {
            return Err(interrupted(source));
        }
        verification.failures.push(format!("cannot verify {what}: {}", chain(&error)));
        Ok(())
    }
}

fn damage_of(kept: &KeptSnapshot, meta: Option<&SnapshotMeta>, reason: String, quarantined: bool) -> Damage {
    Damage {
        part: Part::Snapshot(kept.id.clone()),
        repository: meta.map(|meta| meta.repository.clone()),
        commit: meta.map(|meta| meta.commit),
        reason,
        volumes: kept.volumes,
        quarantined,
    }
}

/// Reads a repository. What was good before is not read again.
fn read_repository(
    repository: &Repository,
    verifier: &mut Verifier<'_>,
    good: &mut BTreeMap<PathBuf, u64>,
) -> Result<(), VerifyError> {
    verifier.segments(repository.path())?;
    for (pack, index) in repository.packs().map_err(of_store)? {
        let inode = pack.metadata().map_err(StoreError::io("examine", &pack)).map_err(of_store)?.ino();
        if good.get(&pack) == Some(&inode) {
            continue;
        }
        let mut was_read = |bytes| match verifier.was_read(bytes) {
            Err(VerifyError::Interrupted(source)) => Err(interrupted(source)),
            _ => Ok(()),
        };
        check_pack_slowly(&pack, &index, &mut was_read).map_err(of_store)?;
        good.insert(pack, inode);
    }
    Ok(())
}

fn read_snapshot(lease: &SnapshotLease, verifier: &mut Verifier<'_>) -> Result<(), VerifyError> {
    let meta = lease.meta();
    let Some(format) = snapshot::format(&meta.format) else {
        return Err(VerifyError::Unreadable(std::io::Error::other(format!(
            "a newer version wrote it, in the format {:?}",
            meta.format
        ))));
    };
    let request = TreeRequest::new(&meta.tree, meta.commit, format, &Limits::default());
    let request = request.showing(meta.working_repository.clone());
    let manifest = format.verify(lease.path(), &request, &meta.ownership, verifier)?;
    match &meta.manifest {
        Some(sealed) if *sealed != manifest => {
            Err(VerifyError::Damaged("its manifest is not the one that it was made with".to_owned()))
        }
        _ => Ok(()),
    }
}

/// What a failure of the store says about its content.
fn of_store(error: StoreError) -> VerifyError {
    match error {
        StoreError::GivenUp { source, .. } => VerifyError::Interrupted(source),
        error if error.kind() == Kind::Corrupt || error.is_not_found() => VerifyError::Damaged(chain(&error)),
        error => VerifyError::Unreadable(std::io::Error::other(chain(&error))),
    }
}

fn interrupted(source: Interrupted) -> StoreError {
    StoreError::GivenUp { work: "the verification", source }
}

#[cfg(test)]
pub(super) mod tests;
