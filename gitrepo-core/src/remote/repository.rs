//! The bare repository that a fetch writes into.
//!
//! It is created by hand from the few files that make a directory a repository, so that no template, hook or setting of
//! the host gets in. `objects/info/alternates` gives access to the objects of a base, whose refs and `shallow` file are
//! copied: what they name is offered to the server, so that it sends a thin pack.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use git2::ErrorCode;
use git2::ObjectType;
use git2::OdbLookupFlags;
use git2::Oid;

use crate::content::DIRECTORY as SEGMENTS;
use crate::content::Extent;
use crate::content::Segments;
use crate::error::Cause;
use crate::error::Kind;
use crate::error::io_kind;
use crate::lfs;
use crate::object;
use crate::pack::Places;
use crate::remote::RemoteError;
use crate::spec::CommitId;
use crate::sys;

mod compact;
mod verify;

pub(crate) use compact::compact;
pub(crate) use verify::Verifier;
pub(crate) use verify::content_limit;
pub(crate) use verify::refusal;

const CONFIG: &str = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n";
const HEAD: &str = "ref: refs/heads/main\n";

/// The repositories whose objects can be read in another one.
const ALTERNATES: &str = "objects/info/alternates";

/// The directory of the packs with the history.
const PACKS: &str = "objects/pack";

/// A ref below this is named after its commit, and records that the commit's whole tree is here.
const COMMITS: &str = "refs/commits";

/// Most commits that are offered to a server.
const OFFERED: usize = 256;

/// How far the clock of an honest committer may be ahead of ours.
const CLOCK_SKEW: Duration = Duration::from_secs(24 * 60 * 60);

/// Most tags of tags that are followed.
const TAGS_FOLLOWED: usize = 16;

/// A bare repository on disk.
pub(crate) struct Repository {
    git: git2::Repository,
}

/// Where the object of a remote's ref leads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// To a commit that is here with its root tree.
    Commit(CommitId),
    /// To another type of object.
    Other(ObjectType),
    /// To an object that is not here.
    Nothing,
}

/// What a server is told of a repository.
pub(crate) struct Offer {
    /// The commits that are here with their whole trees, newest first.
    pub(crate) commits: Vec<CommitId>,
    /// Commits in their history whose parents are not here.
    pub(crate) shallow: BTreeSet<CommitId>,
    /// The other commits whose parents are not here.
    pub(crate) untold: BTreeSet<CommitId>,
}

impl Repository {
    /// Creates a bare repository on top of `base` at `path`, an absent or empty directory.
    pub(crate) fn create(path: &Path, base: Option<&Path>) -> Result<Self, RemoteError> {
        sys::git::isolate().map_err(|error| RemoteError::Library { source: Cause::new(error.message()) })?;
        lay_out(path, base).map_err(|error| unusable_io(path, &error))?;
        if let Some(base) = base {
            let refs = refs_of(base).map_err(|error| unusable(base, &error))?;
            fs::write(path.join("packed-refs"), refs).map_err(|error| unusable_io(path, &error))?;
        }
        Self::open(path)
    }

    /// Like [`Repository::create`], for a process whose objects another one keeps in the repository at `kept`.
    pub(crate) fn create_beside(path: &Path, base: Option<&Path>, kept: &Path) -> Result<Self, RemoteError> {
        Self::create(path, base)?;
        let alternates = fs::File::options().append(true).create(true).open(path.join(ALTERNATES));
        alternates.and_then(|mut file| add_alternate(&mut file, kept)).map_err(|error| unusable_io(path, &error))?;
        Self::open(path)
    }

    /// Opens a repository that an earlier session of the same fetch made, or creates one.
    pub(crate) fn open_or_create(path: &Path, base: Option<&Path>) -> Result<Self, RemoteError> {
        if !path.join("objects").exists() {
            return Self::create(path, base);
        }
        sys::git::isolate().map_err(|error| RemoteError::Library { source: Cause::new(error.message()) })?;
        Self::open(path)
    }

    fn open(path: &Path) -> Result<Self, RemoteError> {
        let git = git2::Repository::open_bare(path).map_err(|error| unusable(path, &error))?;
        Ok(Self { git })
    }

    /// The same repository with the packs that it has by now. Those of an alternate that was not there before are found
    /// in no other way.
    pub(crate) fn anew(&self) -> Result<Self, RemoteError> {
        Self::open(self.path())
    }

    /// libgit2's view of it.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn git(&self) -> &git2::Repository {
        &self.git
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        self.git.path()
    }

    /// Where the parts of a pack go, of which no more than `limit` bytes are written.
    pub(crate) fn places(&self, limit: u64) -> Places {
        places(self.path(), limit)
    }

    /// The segments, those of the base included.
    pub(crate) fn segments(&self) -> Result<Segments, RemoteError> {
        Segments::open(self.path()).map_err(|error| unusable_io(self.path(), &error))
    }

    /// The commits, trees and tags, those of the base included.
    pub(crate) fn objects(&self) -> Result<git2::Odb<'_>, RemoteError> {
        self.git.odb().map_err(|error| unusable(self.path(), &error))
    }

    /// Whether this object is here or in the base.
    pub(crate) fn has(&self, object: CommitId) -> Result<bool, RemoteError> {
        Ok(self.objects()?.exists(oid(object)))
    }

    /// Whether this commit is here or in the base with so many commits of its history; with all of it if that is 0.
    pub(crate) fn reaches(&self, commit: CommitId, depth: u32) -> Result<bool, RemoteError> {
        let objects = self.objects()?;
        let (mut seen, mut generation, mut level) = (BTreeSet::new(), vec![oid(commit)], 0);
        while !generation.is_empty() {
            level += 1;
            let mut parents = Vec::new();
            for id in generation.into_iter().filter(|id| seen.insert(*id)).collect::<Vec<_>>() {
                // Otherwise libgit2 looks for new packs after each one that is missing.
                if !objects.exists_ext(id, OdbLookupFlags::NO_REFRESH) {
                    return Ok(false);
                }
                let found = objects.read(id).map_err(|error| unusable(self.path(), &error))?;
                parents.extend(object::parents_of(found.data()));
            }
            generation = if level == depth { Vec::new() } else { parents };
        }
        Ok(true)
    }

    /// Those of these objects that are here or in the base.
    pub(crate) fn all_present(&self, ids: impl IntoIterator<Item = CommitId>) -> Result<Vec<CommitId>, RemoteError> {
        let objects = self.objects()?;
        objects.refresh().map_err(|error| unusable(self.path(), &error))?;
        // Otherwise libgit2 looks for new packs after each one that is missing.
        let exists = |id: &CommitId| objects.exists_ext(oid(*id), OdbLookupFlags::NO_REFRESH);
        Ok(ids.into_iter().filter(exists).collect())
    }

    /// Whether the commit was fetched with its whole tree into this repository or its base.
    pub(crate) fn holds(&self, commit: CommitId) -> bool {
        self.git.find_reference(&format!("{COMMITS}/{commit}")).is_ok()
    }

    /// The commits that are here with their whole trees, newest first, as many as a server is offered at most.
    pub(crate) fn offers(&self) -> Result<Vec<CommitId>, RemoteError> {
        let unusable = |error| unusable(self.path(), &error);
        let commits = commits_of(&self.git).map_err(unusable)?;
        Ok(commits.into_iter().take(OFFERED).map(commit_id).collect())
    }

    /// What a server is told that may be told of these commits; `None` for all of them.
    pub(crate) fn offer(&self, of: Option<&[CommitId]>) -> Result<Offer, RemoteError> {
        let (mut commits, shallow) = (self.offers()?, self.shallow()?);
        let everything = commits_of(&self.git).map_err(|error| unusable(self.path(), &error))?;
        let told: BTreeSet<_> = match of {
            Some(of) => of.iter().copied().collect(),
            None => BTreeSet::new(),
        };
        if of.is_none() || everything.into_iter().all(|commit| told.contains(&commit_id(commit))) {
            return Ok(Offer { commits, shallow, untold: BTreeSet::new() });
        }
        // If a history is cut, the server must know where. Where a commit itself is cut, nobody has to look for that.
        commits.retain(|commit| told.contains(commit) && (shallow.is_empty() || shallow.contains(commit)));
        let (shallow, untold) = shallow.into_iter().partition(|commit| commits.contains(commit));
        Ok(Offer { commits, shallow, untold })
    }

    /// Records that these commits are here with their whole trees: [`holds`](Self::holds) reads this, and the next fetch
    /// offers them.
    pub(crate) fn record(&self, commits: impl IntoIterator<Item = CommitId>) -> Result<(), RemoteError> {
        for commit in commits.into_iter().take(OFFERED) {
            let name = format!("{COMMITS}/{commit}");
            self.git.reference(&name, oid(commit), true, "").map_err(|error| unusable(self.path(), &error))?;
        }
        Ok(())
    }

    /// The commits whose parents are not here. A line that is damaged is skipped: at worst more is fetched.
    pub(crate) fn shallow(&self) -> Result<BTreeSet<CommitId>, RemoteError> {
        match fs::read_to_string(self.path().join("shallow")) {
            Ok(text) => Ok(text.lines().filter_map(|line| CommitId::parse(line).ok()).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
            Err(error) => Err(unusable_io(self.path(), &error)),
        }
    }

    /// Replaces the commits whose parents are not here.
    pub(crate) fn set_shallow(&self, commits: &BTreeSet<CommitId>) -> Result<(), RemoteError> {
        let text: String = commits.iter().map(|commit| format!("{commit}\n")).collect();
        let path = self.path().join("shallow");
        let written = match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ if text.is_empty() => Ok(()),
            _ => fs::write(&path, text),
        };
        written.map_err(|error| unusable_io(self.path(), &error))
    }

    /// Follows annotated tags from `target` to a commit.
    pub(crate) fn peel(&self, target: CommitId) -> Result<Found, RemoteError> {
        let objects = self.objects()?;
        let mut id = oid(target);
        for _ in 0..TAGS_FOLLOWED {
            let object = match objects.read(id) {
                Ok(object) => object,
                Err(error) if error.code() == ErrorCode::NotFound => return self.blob_or_nothing(id),
                Err(error) => return Err(unusable(self.path(), &error)),
            };
            match object.kind() {
                ObjectType::Tag => match object::target_of(object.data()) {
                    Some((next, _)) => id = next,
                    None => return Ok(Found::Other(ObjectType::Tag)),
                },
                ObjectType::Commit => {
                    let is_whole = object::tree_of(object.data()).is_some_and(|tree| objects.exists(tree));
                    return Ok(if is_whole { Found::Commit(commit_id(id)) } else { Found::Nothing });
                }
                kind => return Ok(Found::Other(kind)),
            }
        }
        Ok(Found::Other(ObjectType::Tag))
    }

    fn blob_or_nothing(&self, id: Oid) -> Result<Found, RemoteError> {
        let found = self.locate(&[id])?.pop().flatten();
        Ok(found.map_or(Found::Nothing, |_| Found::Other(ObjectType::Blob)))
    }

    /// Finds these blobs in the segments.
    pub(crate) fn locate(&self, ids: &[Oid]) -> Result<Vec<Option<Extent>>, RemoteError> {
        self.segments()?.locate(ids).map_err(|error| unusable_io(self.path(), &io::Error::other(error)))
    }
}

/// The places in the repository at `path`, which need not be there yet.
pub(crate) fn places(path: &Path, limit: u64) -> Places {
    Places { segments: path.join(SEGMENTS), packs: path.join(PACKS), limit }
}

fn lay_out(path: &Path, base: Option<&Path>) -> io::Result<()> {
    for directory in ["objects/info", PACKS, SEGMENTS, "refs"] {
        fs::create_dir_all(path.join(directory))?;
    }
    fs::File::create_new(path.join("config"))?.write_all(CONFIG.as_bytes())?;
    fs::File::create_new(path.join("HEAD"))?.write_all(HEAD.as_bytes())?;
    let Some(base) = base else { return Ok(()) };
    add_alternate(&mut fs::File::create_new(path.join(ALTERNATES))?, base)?;
    for name in ["shallow", lfs::KNOWN] {
        match fs::copy(base.join(name), path.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Makes the objects of another repository readable.
fn add_alternate(alternates: &mut fs::File, other: &Path) -> io::Result<()> {
    let mut line = other.join("objects").as_os_str().as_bytes().to_vec();
    line.push(b'\n');
    alternates.write_all(&line)
}

/// The refs of `base` whose commits exist, newest first, as the text of a `packed-refs` file.
fn refs_of(base: &Path) -> Result<String, git2::Error> {
    let commits = commits_of(&git2::Repository::open_bare(base)?)?;
    Ok(commits.iter().map(|target| format!("{target} {COMMITS}/{target}\n")).collect())
}

/// The commits that were fetched into a repository and can be read, newest first.
///
/// Committers choose their dates. One that is still to come would be the newest for years, so it counts as the oldest.
fn commits_of(repository: &git2::Repository) -> Result<Vec<Oid>, git2::Error> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + CLOCK_SKEW;
    let is_to_come = |time: i64| u64::try_from(time).is_ok_and(|time| time > now.as_secs());
    let objects = repository.odb()?;
    let mut commits = Vec::new();
    for reference in repository.references_glob(&format!("{COMMITS}/*"))? {
        let Some(target) = reference?.target() else { continue };
        // What cannot be read cannot be built on.
        if let Ok(commit) = objects.read(target) {
            let time = object::time_of(commit.data());
            commits.push((is_to_come(time), Reverse(time), target));
        }
    }
    commits.sort_unstable();
    Ok(commits.into_iter().map(|(.., target)| target).collect())
}

/// A failure of libgit2 on the local disk.
pub(crate) fn unusable(path: &Path, error: &git2::Error) -> RemoteError {
    let message = error.message();
    let full =
        ["No space left on device", "Disk quota exceeded", "File too large"].iter().any(|text| message.contains(text));
    RemoteError::Local { path: path.to_owned(), full, source: Cause::new(message) }
}

pub(crate) fn unusable_io(path: &Path, error: &io::Error) -> RemoteError {
    let full = io_kind(error) == Kind::ResourceExhausted;
    RemoteError::Local { path: path.to_owned(), full, source: Cause::new(error) }
}

pub(crate) fn oid(commit: CommitId) -> Oid {
    // libgit2 fails only for a different length, which this array cannot have.
    Oid::from_bytes(commit.as_bytes()).unwrap_or(Oid::ZERO_SHA1)
}

pub(crate) fn commit_id(oid: Oid) -> CommitId {
    let mut id = [0; 20];
    id.copy_from_slice(oid.as_bytes());
    CommitId::from_bytes(id)
}
