//! Test repositories, made object by object so that they can contain objects that git never makes.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

use git2::ObjectType;
use git2::Oid;
use tempfile::TempDir;

use super::Directory;
use super::Listed;
use super::Owner;
use super::SnapshotError;
use super::SnapshotFormat;
use super::TreeRequest;
use super::TreeSummary;
use super::Watch;
use super::adopt;
use super::mountable;
use crate::content;
use crate::content::SegmentWriter;
use crate::policy::Limits;
use crate::reserve::Reserve;
use crate::spec::CommitId;
use crate::spec::RelativePath;
use crate::spec::TreeOptions;

/// The time of every commit.
pub(crate) const TIME: i64 = 1_234_567_890;

pub(crate) const FILE: u32 = 0o100644;
pub(crate) const EXECUTABLE: u32 = 0o100755;
pub(crate) const SYMLINK: u32 = 0o120000;
pub(crate) const TREE: u32 = 0o040000;
pub(crate) const SUBMODULE: u32 = 0o160000;

pub(crate) struct Fixture {
    directory: TempDir,
    pub(crate) repository: git2::Repository,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let repository = git2::Repository::init_bare(directory.path()).unwrap();
        Self { directory, repository }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    fn object(&self, kind: ObjectType, data: &[u8]) -> Oid {
        self.repository.odb().unwrap().write(kind, data).unwrap()
    }

    pub(crate) fn blob(&self, data: impl AsRef<[u8]>) -> Oid {
        let data = data.as_ref();
        // For git and libgit2, which the product is compared with.
        let id = self.object(ObjectType::Blob, data);
        let segments = self.path().join(content::DIRECTORY);
        fs::create_dir_all(&segments).unwrap();
        let mut segment = SegmentWriter::create(&segments).unwrap();
        let offset = segment.begin().unwrap();
        segment.write_all(data).unwrap();
        segment.finish([(id, offset, data.len() as u64)].into_iter()).unwrap();
        id
    }

    /// Flips a bit of a blob with this content, in the segments alone.
    pub(crate) fn damage(&self, data: impl AsRef<[u8]>) {
        let segments = self.path().join(content::DIRECTORY);
        let paths = fs::read_dir(segments).unwrap().map(|entry| entry.unwrap().path());
        let mut contents = paths.filter(|path| path.extension() == Some(content::CONTENT.as_ref()));
        let path = contents.find(|path| fs::read(path).unwrap().starts_with(data.as_ref())).unwrap();
        let mut content = fs::read(&path).unwrap();
        content[0] ^= 1;
        // It is read-only.
        fs::remove_file(&path).unwrap();
        fs::write(&path, content).unwrap();
    }

    /// Puts all blobs into one segment, as a compaction does, the last ones first.
    #[expect(clippy::disallowed_methods, reason = "nothing is mounted in a directory of a test")]
    pub(crate) fn compact(&self) {
        let segments = self.path().join(content::DIRECTORY);
        let before = content::Segments::open(self.path()).unwrap();
        let mut blobs = before.blobs().unwrap();
        blobs.sort_unstable_by_key(|(id, _)| std::cmp::Reverse(*id));
        blobs.dedup_by_key(|(id, _)| *id);
        fs::remove_dir_all(&segments).unwrap();
        fs::create_dir(&segments).unwrap();
        let mut segment = SegmentWriter::create(&segments).unwrap();
        let copied: Vec<_> = blobs
            .into_iter()
            .map(|(id, extent)| {
                let offset = segment.begin().unwrap();
                std::io::copy(&mut before.read(extent), &mut segment).unwrap();
                (id, offset, extent.length)
            })
            .collect();
        segment.finish(copied.into_iter()).unwrap();
    }

    /// Creates a tree of exactly these entries, in this order.
    pub(crate) fn tree(&self, entries: &[(u32, &[u8], Oid)]) -> Oid {
        let mut data = Vec::new();
        for (mode, name, id) in entries {
            data.extend_from_slice(format!("{mode:o} ").as_bytes());
            data.extend_from_slice(name);
            data.push(0);
            data.extend_from_slice(id.as_bytes());
        }
        self.object(ObjectType::Tree, &data)
    }

    /// Creates a tree object of these bytes, which may be malformed.
    pub(crate) fn malformed_tree(&self, data: &[u8]) -> Oid {
        self.object(ObjectType::Tree, data)
    }

    pub(crate) fn commit(&self, tree: Oid) -> CommitId {
        let text = format!("tree {tree}\nauthor A <a@b> 1 +0000\ncommitter C <c@d> {TIME} +0200\n\nmessage\n");
        let id = self.object(ObjectType::Commit, text.as_bytes());
        CommitId::from_bytes(id.as_bytes().try_into().unwrap())
    }

    /// Creates a commit of a tree of these entries.
    pub(crate) fn commit_of(&self, entries: &[(u32, &[u8], Oid)]) -> CommitId {
        self.commit(self.tree(entries))
    }

    /// Creates a commit with every kind of entry, correctly sorted.
    pub(crate) fn varied(&self) -> CommitId {
        let deep = (0..40)
            .fold(self.tree(&[(FILE, b"leaf", self.blob("leaf\n"))]), |tree, _| self.tree(&[(TREE, b"deep", tree)]));
        let inner = self.tree(&[
            (0o100664, b"historic", self.blob("group writable\n")),
            (EXECUTABLE, b"run.sh", self.blob("#!/bin/sh\r\necho hi\r\n")),
            (SYMLINK, b"up", self.blob("../a.b")),
        ]);
        let entries: &[(u32, &[u8], Oid)] = &[
            (FILE, b".gitattributes", self.blob("* text=auto eol=crlf ident filter=evil\n")),
            (FILE, b"a", self.blob("$Id$\nunix\n")),
            (TREE, b"a-dir", inner),
            (FILE, b"a.b", self.blob("")),
            (FILE, b"back\\slash", self.blob("b")),
            (FILE, b"big", self.blob(vec![0xa5; 10 << 20])),
            (SYMLINK, b"dangling", self.blob("/no/such/place")),
            (TREE, b"deep", deep),
            (TREE, b"empty", self.tree(&[])),
            (FILE, b"name with space", self.blob("s")),
            (FILE, b"new\nline", self.blob("n")),
            (SUBMODULE, b"sub", self.blob("any id")),
            (FILE, b"tab\t\"quote\"", self.blob("t")),
            (FILE, "übung".as_bytes(), self.blob("u")),
            (FILE, b"\xff\xfe", self.blob([0, 1, 2, 255])),
        ];
        self.commit_of(entries)
    }

    /// What a worker and its parent make of a tree.
    pub(crate) fn write(&self, request: &TreeRequest) -> Result<(Staging, TreeSummary), SnapshotError> {
        self.write_watched(request, &Watch::default())
    }

    pub(crate) fn write_watched(
        &self,
        request: &TreeRequest,
        watch: &Watch,
    ) -> Result<(Staging, TreeSummary), SnapshotError> {
        let staging = Staging(tempfile::tempdir().unwrap());
        let summary = self.write_into(staging.path(), request, watch)?;
        Ok((staging, summary))
    }

    pub(crate) fn write_into(
        &self,
        staging: &Path,
        request: &TreeRequest,
        watch: &Watch,
    ) -> Result<TreeSummary, SnapshotError> {
        let summary = list(self.path(), request, staging, watch)?;
        let listed = adopt(staging, request, Owner::ourselves())?;
        assert_eq!(listed.summary, summary);
        Directory.complete(&listed, staging, self.path(), request, no_reserve(), watch)?;
        Ok(summary)
    }
}

/// Lists a tree out of a repository that can be written to.
pub(crate) fn list(
    repository: &Path,
    request: &TreeRequest,
    staging: &Path,
    watch: &Watch,
) -> Result<TreeSummary, SnapshotError> {
    mountable::list(repository, &mut || Ok(repository.to_owned()), request, staging, watch)
}

/// A worker's staging directory.
pub(crate) struct Staging(TempDir);

impl Staging {
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Lays out what was listed here once more.
    pub(crate) fn lay_out_again(
        &self,
        fixture: &Fixture,
        request: &TreeRequest,
        watch: &Watch,
    ) -> Result<(), SnapshotError> {
        let manifest = fs::File::open(self.path().join("manifest")).unwrap();
        let listed = Listed::read(manifest, request)?;
        fs::rename(self.root(), self.path().join("before")).unwrap();
        Directory.complete(&listed, self.path(), fixture.path(), request, no_reserve(), watch)
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.path().join("root")
    }
}

/// All of the filesystem may be used.
pub(crate) fn no_reserve() -> Reserve {
    Reserve::new(PathBuf::from("/"), 0)
}

pub(crate) fn request(commit: CommitId) -> TreeRequest {
    TreeRequest::new(&TreeOptions::default(), commit, &Directory, &Limits::default())
}

pub(crate) fn path(text: &str) -> RelativePath {
    RelativePath::parse(text).unwrap()
}

/// Mode with file type, modification time, and content or target, of everything below `root`.
pub(crate) type Contents = BTreeMap<PathBuf, (u32, i64, Vec<u8>)>;

pub(crate) fn contents(root: &Path) -> Contents {
    let mut found = Contents::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let content = match metadata.file_type() {
                kind if kind.is_symlink() => path.read_link().unwrap().as_os_str().as_bytes().to_vec(),
                kind if kind.is_file() => fs::read(&path).unwrap(),
                _ => Vec::new(),
            };
            let relative = path.strip_prefix(root).unwrap().to_owned();
            found.insert(relative, (metadata.mode(), metadata.mtime(), content));
            if metadata.is_dir() {
                pending.push(path);
            }
        }
    }
    found
}
