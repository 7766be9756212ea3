//! The volume's vocabulary as text: `volumeAttributes`, StorageClass parameters, FlexVolume options, flags.

use std::collections::BTreeMap;

use crate::error::Kind;
use crate::spec::Checkout;
use crate::spec::Choice;
use crate::spec::GitDir;
use crate::spec::PathError;
use crate::spec::Refresh;
use crate::spec::RelativePath;
use crate::spec::RepositoryUrl;
use crate::spec::Revision;
use crate::spec::RevisionError;
use crate::spec::UrlError;
use crate::spec::VolumeSpec;
use crate::spec::decimal;
use crate::spec::foreign;
use crate::spec::nearest::nearest;

/// One key of the vocabulary, as shown in documentation and help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute {
    /// As written in attributes; the flag is the same in kebab case.
    pub name: &'static str,
    /// The allowed values.
    pub values: &'static str,
    /// The meaning if left out.
    pub default: &'static str,
    /// What it does.
    pub meaning: &'static str,
}

/// The whole vocabulary.
pub const KEYS: &[Attribute] = &[
    Attribute {
        name: "repository",
        values: "https://…, ssh://…, user@host:path; others by policy",
        default: "required",
        meaning: "where to fetch from",
    },
    Attribute {
        name: "revision",
        values: "branch, tag, full ref, full commit id",
        default: "the remote's HEAD",
        meaning: "what to serve; annotated tags peel to their commit",
    },
    Attribute {
        name: "directory",
        values: "relative path, .",
        default: "CSI: the repository's base name; FlexVolume and CLI: .",
        meaning: "where in the volume the tree appears",
    },
    Attribute {
        name: "subdirectory",
        values: "path inside the repository",
        default: "the whole tree",
        meaning: "serve only this directory, as the tree's root",
    },
    Attribute {
        name: "depth",
        values: "number, 0 for all",
        default: "1",
        meaning: "commits of history to fetch; visible only with gitDir: keep",
    },
    Attribute {
        name: "gitDir",
        values: "omit, keep",
        default: "omit",
        meaning: "whether .git is there, as a working repository for the pod",
    },
    Attribute {
        name: "submodules",
        values: "none, recursive",
        default: "none",
        meaning: "what appears where the tree has submodules: empty directories, or their trees",
    },
    Attribute {
        name: "lfs",
        values: "true, false",
        default: "false",
        meaning: "replace Git LFS pointers by their content",
    },
    Attribute {
        name: "checkout",
        values: "bytes, git",
        default: "bytes",
        meaning: "blobs as they are, or as git checkout on Linux writes them (eol, ident, working-tree-encoding; no filter)",
    },
    Attribute {
        name: "symlinks",
        values: "keep, reject-escaping",
        default: "keep",
        meaning: "links are data; optionally refuse trees whose links leave the volume",
    },
    Attribute {
        name: "pullPolicy",
        values: "Always, IfNotPresent",
        default: "Always",
        meaning: "for a moving revision: ask the remote where it stands, or take this credential's last answer",
    },
    Attribute {
        name: "refresh",
        values: "never (a duration of at least 10s: not yet)",
        default: "never",
        meaning: "follow the revision while mounted",
    },
    Attribute {
        name: "writable",
        values: "private, shared, copy",
        default: "inline: private; PersistentVolume: shared",
        meaning: "for a volume mounted read-write: a layer of its own, one for all its targets on the node, or a plain copy",
    },
    Attribute {
        name: "uid",
        values: "number",
        default: "0",
        meaning: "owner of the files; of a read-only volume, only if it is an image",
    },
];

/// Attributes added by the kubelet and the provisioner; they are not validated.
const FOREIGN_PREFIXES: [&str; 2] = ["csi.storage.k8s.io/", "kubernetes.io/"];

/// Maximum size of a volume's attributes, all keys and values together, in bytes: CSI's own rule for a map ("Size
/// Limits"). Keys under the Kubernetes prefixes do not count.
pub const ATTRIBUTES_BYTES: usize = 4096;

/// Where the tree appears if `directory` is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultDirectory {
    /// Under the repository's base name, as in a `gitRepo` volume.
    BaseName,
    /// As the root of the volume.
    Root,
}

/// Why attributes do not describe a volume.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// The attributes exceed [`ATTRIBUTES_BYTES`].
    #[error("the keys and values together have {length} bytes; at most {ATTRIBUTES_BYTES} are allowed")]
    TooLong {
        /// In bytes.
        length: usize,
    },
    /// A required key is missing.
    #[error("{key} is missing")]
    Missing {
        /// Its name.
        key: &'static str,
    },
    /// The key does not exist.
    #[error("there is no key {key:?}{}", nearest.map(|name| format!("; did you mean {name}?")).unwrap_or_default())]
    UnknownKey {
        /// As written.
        key: String,
        /// The most similar one.
        nearest: Option<&'static str>,
    },
    /// The key belongs in the secret.
    #[error("there is no key {key:?}; a credential belongs in the volume's secret, as the key {name}")]
    SecretKey {
        /// As written.
        key: String,
        /// The key of the secret.
        name: &'static str,
    },
    /// The key does not allow this value.
    #[error("{key} does not take {value:?}; write one of: {expected}")]
    Value {
        /// Its name.
        key: &'static str,
        /// As written.
        value: String,
        /// The allowed values.
        expected: &'static str,
    },
    /// The value is reserved for a later version.
    #[error("{key}: {value} does not work yet in this version; leave it out")]
    NotYet {
        /// Its name.
        key: &'static str,
        /// As written.
        value: String,
    },
    /// `gitDir: keep` of a part of the tree.
    #[error("gitDir: keep needs the whole tree; leave out subdirectory, or gitDir")]
    PartOfRepository,
    /// Two options that this version cannot combine.
    #[error("{one} and {other} do not work together in this version; leave one of them out")]
    Together {
        /// A key and its value.
        one: &'static str,
        /// The other key and its value.
        other: &'static str,
    },
    /// The repository's URL has no usable name for the directory.
    #[error("{url} has no last part that could name a directory; write one as directory")]
    NoBaseName {
        /// Without password.
        url: String,
    },
    /// The repository's URL is invalid.
    #[error("repository")]
    Repository(#[source] UrlError),
    /// The revision is invalid.
    #[error("revision")]
    Revision(#[source] RevisionError),
    /// A path is invalid.
    #[error("{key}")]
    Path {
        /// The key.
        key: &'static str,
        /// The cause.
        #[source]
        source: PathError,
    },
}

impl SpecError {
    /// The kind of this failure.
    pub fn kind(&self) -> Kind {
        Kind::InvalidRequest
    }
}

impl VolumeSpec {
    /// The keys that select what the volume shows, as text: a repeated publish compares these. When to ask the remote
    /// (`pullPolicy`) is not included, nor how much history to fetch, unless `.git` shows it.
    pub fn content(&self) -> BTreeMap<String, String> {
        let writable = self.writable.map_or_else(String::new, |writable| writable.to_string());
        let depth = (self.git_dir == GitDir::Keep).then(|| ("depth".to_owned(), self.depth.to_string()));
        // Records of earlier versions do not have it.
        let is_converted = self.tree.checkout != Checkout::Bytes;
        let checkout = is_converted.then(|| ("checkout".to_owned(), self.tree.checkout.to_string()));
        let content = [
            ("repository", self.repository.canonical()),
            ("revision", self.revision.to_string()),
            ("directory", self.tree.directory.to_string()),
            ("subdirectory", self.tree.subdirectory.to_string()),
            ("gitDir", self.git_dir.to_string()),
            ("submodules", self.tree.submodules.to_string()),
            ("lfs", self.tree.lfs.to_string()),
            ("symlinks", self.tree.symlinks.to_string()),
            ("refresh", self.refresh.to_string()),
            ("writable", writable),
            ("uid", self.uid.to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value));
        content.into_iter().chain(depth).chain(checkout).collect()
    }

    /// Reads a volume's attributes. Keys under `csi.storage.k8s.io/` and `kubernetes.io/` are ignored; every other key
    /// must be one of [`KEYS`]. An empty value means the same as a missing one.
    pub fn from_attributes(
        attributes: &BTreeMap<String, String>,
        default_directory: DefaultDirectory,
    ) -> Result<Self, SpecError> {
        check_length(attributes)?;
        refuse_unknown_keys(attributes)?;
        let given = |key: &str| attributes.get(key).filter(|value| !value.is_empty());
        let repository = given("repository").ok_or(SpecError::Missing { key: "repository" })?;
        let mut spec = Self::new(RepositoryUrl::parse(repository).map_err(SpecError::Repository)?);
        for (key, value) in attributes.iter().filter(|(_, value)| !value.is_empty()) {
            spec.set(key, value)?;
        }
        if default_directory == DefaultDirectory::BaseName && given("directory").is_none() {
            spec.tree.directory = base_directory(&spec.repository)?;
        }
        spec.check()?;
        spec.refuse_what_does_not_work_yet()?;
        Ok(spec)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), SpecError> {
        match key {
            "revision" => self.revision = Revision::parse(value).map_err(SpecError::Revision)?,
            "directory" => self.tree.directory = path("directory", value)?,
            "subdirectory" => self.tree.subdirectory = path("subdirectory", value)?,
            "depth" => {
                self.depth = decimal(value).filter(|depth| *depth < MAX_DEPTH).ok_or_else(|| refused("depth", value))?
            }
            "gitDir" => self.git_dir = word("gitDir", value)?,
            "submodules" => self.tree.submodules = word("submodules", value)?,
            "lfs" => self.tree.lfs = boolean(value).ok_or_else(|| refused("lfs", value))?,
            "checkout" => self.tree.checkout = word("checkout", value)?,
            "symlinks" => self.tree.symlinks = word("symlinks", value)?,
            "pullPolicy" => self.pull_policy = word("pullPolicy", value)?,
            "refresh" => self.refresh = Refresh::parse(value).map_err(|_| refused("refresh", value))?,
            "writable" => self.writable = Some(word("writable", value)?),
            "uid" => self.uid = decimal(value).filter(|uid| *uid != u32::MAX).ok_or_else(|| refused("uid", value))?,
            _ => {}
        }
        Ok(())
    }

    /// Rejects options that this version does not support, rather than ignore them.
    fn refuse_what_does_not_work_yet(&self) -> Result<(), SpecError> {
        let refused = [("refresh", (self.refresh != Refresh::NEVER).then(|| self.refresh.to_string()))];
        for (key, value) in refused {
            if let Some(value) = value {
                return Err(SpecError::NotYet { key, value });
            }
        }
        Ok(())
    }
}

/// libgit2 takes the depth as an `int`, whose largest value means "unshallow".
const MAX_DEPTH: u32 = i32::MAX as u32;

fn is_foreign(key: &str) -> bool {
    FOREIGN_PREFIXES.iter().any(|prefix| key.starts_with(prefix))
}

/// Checked before anything is computed from them.
fn check_length(attributes: &BTreeMap<String, String>) -> Result<(), SpecError> {
    let own = attributes.iter().filter(|(key, _)| !is_foreign(key));
    let length = own.map(|(key, value)| key.len() + value.len()).sum();
    if length > ATTRIBUTES_BYTES { Err(SpecError::TooLong { length }) } else { Ok(()) }
}

fn refuse_unknown_keys(attributes: &BTreeMap<String, String>) -> Result<(), SpecError> {
    let is_known = |key: &str| KEYS.iter().any(|known| known.name == key);
    let Some(key) = attributes.keys().find(|key| !is_known(key) && !is_foreign(key)) else { return Ok(()) };
    let nearest = suggestion(key);
    Err(match foreign::secret_key(key) {
        Some(name) if nearest.is_none() => SpecError::SecretKey { key: shortened(key), name },
        _ => SpecError::UnknownKey { key: shortened(key), nearest },
    })
}

/// The key of a volume that was probably meant by `key`: another tool's name for it, or a typo.
pub fn suggestion(key: &str) -> Option<&'static str> {
    foreign::attribute(key).or_else(|| nearest(key, KEYS.iter().map(|known| known.name)))
}

fn base_directory(repository: &RepositoryUrl) -> Result<RelativePath, SpecError> {
    RelativePath::parse(repository.base_name())
        .ok()
        .filter(|directory| !directory.is_root())
        .ok_or_else(|| SpecError::NoBaseName { url: repository.to_string() })
}

fn path(key: &'static str, value: &str) -> Result<RelativePath, SpecError> {
    RelativePath::parse(value).map_err(|source| SpecError::Path { key, source })
}

fn word<T: Choice>(key: &'static str, value: &str) -> Result<T, SpecError> {
    T::from_word(value).ok_or_else(|| refused(key, value))
}

fn boolean(value: &str) -> Option<bool> {
    match value {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

fn refused(key: &'static str, value: &str) -> SpecError {
    let expected = KEYS.iter().find(|known| known.name == key).map_or("", |known| known.values);
    SpecError::Value { key, value: shortened(value), expected }
}

/// The beginning, enough to recognise it.
fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests;
