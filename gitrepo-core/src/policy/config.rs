//! The admin's settings: core's fields of a JSON file. The file may also contain fields of a frontend.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::EnvironmentProxies;
use super::HostPattern;
use super::Limits;
use super::ProxyConfig;
use super::SignatureRule;
use super::UrlPattern;
use crate::credentials::Checking;
use crate::error::Kind;
use crate::spec::DefaultDirectory;
use crate::spec::Label;
use crate::spec::Scheme;
use crate::spec::SpecError;
use crate::spec::VolumeSpec;
use crate::spec::decimal;
use crate::spec::duration;
use crate::spec::quantity;
use crate::spec::serde_as_text;

mod file;

/// All of core's settings. The defaults are those of the drivers.
///
/// Deserializing reads core's fields and ignores others; [`Config::parse`] rejects them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct Config {
    /// The directory of repositories, snapshots and records.
    pub store: PathBuf,
    /// Schemes that a repository's URL may have.
    pub allowed_schemes: Vec<Scheme>,
    /// Hosts that may be connected to.
    pub allowed_hosts: Vec<HostPattern>,
    /// Hosts and addresses that may not be connected to. Takes precedence over everything that allows them.
    pub denied_hosts: Vec<HostPattern>,
    /// Whether a host may resolve to this machine.
    pub allow_loopback: bool,
    /// Whether a host may resolve to a link-local address or a cloud's metadata service.
    pub allow_link_local: bool,
    /// Whether passwords and tokens may go over plain `http`.
    pub credentials_over_http: bool,
    /// Credentials stored on the node.
    pub node_credentials: Vec<NodeCredential>,
    /// The repositories whose commits must be signed.
    pub signatures: Vec<SignatureRule>,
    /// What the driver brings into the store and keeps.
    pub prefetch: Vec<PrefetchEntry>,
    /// The limits of one volume.
    pub limits: Limits,
    /// What is kept, and for how long.
    pub cache: CacheConfig,
    /// Which SSH host keys are trusted.
    pub host_keys: HostKeysConfig,
    /// A proxy for `https` and `http`.
    pub proxy: ProxyConfig,
    /// The proxies of a person's environment, used if [`Config::proxy`] names none. Not in the file.
    #[serde(skip)]
    pub environment_proxies: EnvironmentProxies,
    /// Certificate authorities that replace the system's, a PEM bundle.
    pub ca_file: Option<PathBuf>,
    /// What happens to new volumes while the remote is unreachable.
    pub offline: Offline,
    /// How snapshots are kept.
    pub snapshot_format: SnapshotChoice,
    /// The SELinux label of what volumes show, which all containers must be allowed to use; `null` for none.
    pub se_linux_context: Option<Label>,
    /// Whether the node has SELinux, without which nothing is labelled; `None` to find out. Not in the file.
    #[serde(skip)]
    pub se_linux: Option<bool>,
    /// The confined workers.
    pub worker: WorkerConfig,
}

/// A credential on the node, and who may use it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeCredential {
    /// The repositories that it is for.
    #[serde(rename = "match")]
    pub matches: UrlPattern,
    /// A directory with one file per secret key.
    pub secret_dir: PathBuf,
    /// Namespaces whose pods may use it; `*` stands for all. Must be given, so that nobody allows all by omission.
    pub namespaces: Vec<String>,
}

impl NodeCredential {
    /// Whether pods of this namespace may use it.
    pub fn is_for(&self, namespace: &str) -> bool {
        !namespace.is_empty() && self.namespaces.iter().any(|name| name == "*" || name == namespace)
    }
}

/// A tree that every node brings into its store and keeps: the keys of a volume that decide what it shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PrefetchEntry(BTreeMap<String, String>);

impl PrefetchEntry {
    /// Returns the volume that shows this tree, with the defaults of the CSI driver's inline volumes.
    ///
    /// # Errors
    ///
    /// If a key or a value is not one of a volume.
    pub fn spec(&self) -> Result<VolumeSpec, SpecError> {
        VolumeSpec::from_attributes(&self.0, DefaultDirectory::BaseName)
    }
}

/// What is kept on the node, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CacheConfig {
    /// Bytes that snapshots and repositories may take. Above, unused ones are removed, the longest unused first.
    #[serde(with = "quantity")]
    pub max_bytes: u64,
    /// How long an unused snapshot or repository is kept.
    #[serde(with = "duration")]
    pub max_age: Duration,
    /// Bytes of the filesystem that must stay free.
    #[serde(with = "quantity")]
    pub reserve_bytes: u64,
    /// How long a proof that a credential may read a commit is valid.
    #[serde(with = "duration")]
    pub access_ttl: Duration,
    /// Bytes per second at which a driver reads the store in the background to find damage; 0 for never.
    #[serde(with = "quantity")]
    pub scrub_rate: u64,
}

/// Which SSH host keys are trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HostKeysConfig {
    /// How to treat a server without a known key.
    pub checking: Checking,
    /// A file in the format of `known_hosts`; consulted after the volume's secret.
    pub file: Option<PathBuf>,
}

/// What happens to new volumes while the remote is unreachable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Offline {
    /// They fail, unless a fresh proof and the store suffice.
    #[default]
    Refuse,
    /// A snapshot in the store is served to a credential that was once proven to have access to it, and not refused since.
    /// A moving revision stands where the remote last told this credential.
    Stale,
}

/// How snapshots are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnapshotChoice {
    /// As images if the node can mount them, otherwise as directories.
    #[default]
    Auto,
    /// As directories of files.
    Directory,
    /// As EROFS images, for read-only volumes. Writable volumes have directories.
    Image,
}

/// The confined workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WorkerConfig {
    /// User ids: one for all processes that verify, and one for each that speaks to a remote. So their number also limits
    /// how many workers run at once.
    pub uids: UidRange,
    /// Memory limit of each process of a worker, in bytes.
    #[serde(with = "quantity")]
    pub memory: u64,
}

/// User ids from `first` to `last`, inclusive; written `65521-65531`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UidRange {
    first: u32,
    last: u32,
}

/// The text is not a range of user ids.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a range of user ids is written first-last, without 0 (root) and 4294967295 (nobody at all)")]
pub struct UidRangeError;

/// Why a configuration is rejected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// The path.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// Not JSON, an unknown field, or a value of the wrong type; the source names the field, the line and the column.
    #[error("the configuration {} is refused", path.display())]
    Parse {
        /// The path.
        path: PathBuf,
        /// The problem and its position.
        #[source]
        source: serde_json::Error,
    },
    /// The value is invalid.
    #[error("the configuration {} is refused: {field} {reason}", path.display())]
    Invalid {
        /// The path.
        path: PathBuf,
        /// Its path.
        field: &'static str,
        /// The problem.
        reason: &'static str,
    },
    /// An entry of `prefetch` is no volume.
    #[error("the configuration {} is refused: an entry of prefetch is invalid", path.display())]
    Prefetch {
        /// The path.
        path: PathBuf,
        /// The problem.
        #[source]
        source: SpecError,
    },
}

impl ConfigError {
    /// The kind of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => Kind::InvalidRequest,
            Self::Read { source, .. } => crate::error::io_kind(source),
            Self::Parse { .. } | Self::Invalid { .. } | Self::Prefetch { .. } => Kind::InvalidRequest,
        }
    }
}

impl Config {
    /// The configuration of a driver, which acts for pods.
    pub fn for_drivers() -> Self {
        Self {
            store: "/var/lib/gitrepo".into(),
            allowed_schemes: vec![Scheme::Https, Scheme::Ssh, Scheme::Http],
            allowed_hosts: vec![HostPattern::any()],
            denied_hosts: Vec::new(),
            allow_loopback: false,
            allow_link_local: false,
            credentials_over_http: false,
            node_credentials: Vec::new(),
            signatures: Vec::new(),
            prefetch: Vec::new(),
            limits: Limits::default(),
            cache: CacheConfig::default(),
            host_keys: HostKeysConfig::default(),
            proxy: ProxyConfig::default(),
            environment_proxies: EnvironmentProxies::default(),
            ca_file: None,
            offline: Offline::Refuse,
            snapshot_format: SnapshotChoice::Auto,
            se_linux_context: Some(Label::of_containers()),
            se_linux: None,
            worker: WorkerConfig::default(),
        }
    }

    /// The configuration of a user, who acts with their own rights: also allows `git`, `file` and the loopback.
    pub fn for_person() -> Self {
        let mut config = Self::for_drivers();
        config.allowed_schemes.extend([Scheme::Git, Scheme::File]);
        config.allow_loopback = true;
        config
    }

    /// Reads the text of a configuration file. Missing fields keep their values from `defaults`; `path` is for errors.
    pub fn parse(text: &str, path: &Path, defaults: Self) -> Result<Self, ConfigError> {
        #[derive(Serialize, Deserialize)]
        struct Nothing {}

        Self::parse_with(text, path, defaults, Nothing {}).map(|(config, Nothing {})| config)
    }

    /// Like [`Config::parse`], for a file that also has the fields of `others`, read in the same way. Their names must
    /// differ from core's.
    pub fn parse_with<T>(text: &str, path: &Path, defaults: Self, others: T) -> Result<(Self, T), ConfigError>
    where
        T: Serialize + DeserializeOwned,
    {
        let parsed = file::parse(text, defaults, others);
        let (config, others) = parsed.map_err(|source| ConfigError::Parse { path: path.to_owned(), source })?;
        config.check(path)?;
        Ok((config, others))
    }

    /// Checks what types cannot express. Never silently ignores a setting.
    fn check(&self, path: &Path) -> Result<(), ConfigError> {
        let invalid = |field, reason| Err(ConfigError::Invalid { path: path.to_owned(), field, reason });
        if !self.store.is_absolute() {
            return invalid("store", "must be an absolute path");
        }
        if self.host_keys.checking == Checking::AcceptNew && self.host_keys.file.is_none() {
            return invalid("hostKeys.checking", "accept-new needs hostKeys.file, to keep the accepted keys in");
        }
        if let Some(field) = self.limits.field_without_room() {
            return invalid(field, "is 0, which lets nothing through");
        }
        if self.worker.memory < WorkerConfig::LEAST_MEMORY {
            return invalid("worker.memory", "is less than 64Mi, with which no worker can start");
        }
        if !self.node_credentials.iter().all(|credential| credential.secret_dir.is_absolute()) {
            return invalid("nodeCredentials.secretDir", "must be an absolute path");
        }
        if self.signatures.iter().any(|rule| rule.files().next().is_none()) {
            return invalid("signatures", "has a rule without keys: allowedSigners or openpgpKeys must be given");
        }
        if !self.signatures.iter().flat_map(SignatureRule::files).all(|path| path.is_absolute()) {
            return invalid("signatures", "must name files of keys by absolute paths");
        }
        if let Some(error) = self.prefetch.iter().find_map(|entry| entry.spec().err()) {
            return Err(ConfigError::Prefetch { path: path.to_owned(), source: error });
        }
        Ok(())
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::for_drivers()
    }
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            max_bytes: 50 << 30,
            max_age: Duration::from_secs(30 * 24 * 60 * 60),
            reserve_bytes: 1 << 30,
            access_ttl: Duration::from_secs(5 * 60),
            scrub_rate: 4 << 20,
        }
    }
}

impl WorkerConfig {
    /// The minimum for a memory limit, in bytes.
    const LEAST_MEMORY: u64 = 64 << 20;
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self { uids: UidRange { first: 65_521, last: 65_531 }, memory: 1 << 30 }
    }
}

impl UidRange {
    /// Reads `first-last`. No range may include root.
    pub fn parse(text: &str) -> Result<Self, UidRangeError> {
        let (first, last) = text.split_once('-').ok_or(UidRangeError)?;
        match (decimal(first), decimal(last)) {
            (Some(first), Some(last)) if 0 < first && first <= last && last < u32::MAX => Ok(Self { first, last }),
            _ => Err(UidRangeError),
        }
    }

    /// All user ids, in order.
    pub fn uids(self) -> std::ops::RangeInclusive<u32> {
        self.first..=self.last
    }

    /// The user id of all processes that verify what is fetched: the last one.
    pub fn of_verifiers(self) -> u32 {
        self.last
    }

    /// The user ids of the processes that speak to remotes, one for each: the others, or the only one.
    pub fn of_receivers(self) -> std::ops::RangeInclusive<u32> {
        self.first..=self.last.saturating_sub(1).max(self.first)
    }
}

impl fmt::Display for UidRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

serde_as_text!(UidRange);

#[cfg(test)]
mod tests;
