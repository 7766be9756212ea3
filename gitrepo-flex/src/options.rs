//! Turns the JSON argument of `mount` into a request to core.
//!
//! Keys under `kubernetes.io/` are the kubelet's (`pkg/volume/flexvolume/driver-call.go`). Every other key is a key of
//! the volume, or one of the two that FlexVolume adds. No error quotes a value that could be secret.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use gitrepo_core::credentials::CredentialError;
use gitrepo_core::credentials::Credentials;
use gitrepo_core::credentials::Secret;
use gitrepo_core::credentials::SecretKey;
use gitrepo_core::error::Kind;
use gitrepo_core::spec::ATTRIBUTES_BYTES;
use gitrepo_core::spec::DefaultDirectory;
use gitrepo_core::spec::KEYS;
use gitrepo_core::spec::SpecError;
use gitrepo_core::spec::VolumeSpec;
use gitrepo_core::spec::nearest::nearest;
use gitrepo_core::spec::suggestion;
use gitrepo_frontend::node_credentials;
use zeroize::Zeroizing;

mod json;

pub(crate) use json::JsonError;
use json::Texts;

/// Prefix of the kubelet's own keys.
const KUBELET: &str = "kubernetes.io/";

/// Prefix of the keys of the volume's secret.
const SECRET: &str = "kubernetes.io/secret/";

/// The bash driver's name for `repository`.
const REPO: &str = "repo";

/// The option that selects the store by a path of the host.
const HOST_TARGET: &str = "hostTarget";

/// How many characters of a key or value an error shows.
const KEY_LENGTH: usize = 64;

/// The options of a volume.
#[derive(Debug)]
pub(crate) struct Options {
    /// The pod.
    pub(crate) pod: Pod,
    /// Whether to mount the volume read-only.
    pub(crate) read_only: bool,
    /// The group of the files of a writable volume or an image (the pod's `fsGroup`).
    pub(crate) group: Option<u32>,
    /// The credentials to fetch with.
    pub(crate) credentials: Credentials,
    /// The path that selects the store; `None` for the main store.
    pub(crate) host_target: Option<String>,
    /// The requested volume.
    pub(crate) spec: VolumeSpec,
}

/// The pod and volume that the caller names. Its fields are empty if the caller is not a kubelet and names none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pod {
    /// The pod's namespace.
    pub(crate) namespace: String,
    /// The pod's name.
    pub(crate) name: String,
    /// The pod's service account.
    pub(crate) service_account: String,
    /// The pod's uid.
    pub(crate) uid: String,
    /// The name of the PersistentVolume, or the name of an inline volume in the pod. The kubelet does not say which of
    /// the two it is.
    pub(crate) volume: String,
}

impl Pod {
    /// Returns the namespace if the kubelet told it. The kubelet lets a user's options overwrite its own, and the API
    /// server refuses such options. The uid, which is part of the target, shows that a kubelet called.
    pub(crate) fn known_namespace(&self, target: &Path) -> Option<&str> {
        node_credentials::is_target_of(target, &self.uid).then_some(&*self.namespace)
    }
}

/// Why the options are refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OptionsError {
    /// The argument is not a JSON object of strings.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// `kubernetes.io/readwrite` is invalid.
    #[error("kubernetes.io/readwrite is neither ro nor rw")]
    ReadWrite,
    /// The pod's group is not a number.
    #[error("kubernetes.io/mounterArgs.FsGroup is not the number of a group")]
    Group,
    /// A value of the secret is not encoded as the kubelet encodes it.
    #[error("the secret's key {key:?} is not base64 of UTF-8 text")]
    SecretEncoding {
        /// The key.
        key: String,
    },
    /// The secret's keys are invalid.
    #[error("the volume's secret cannot be used")]
    Secret(#[from] CredentialError),
    /// An option is a key of the secret, which everybody could read there.
    #[error(
        "the option {key:?} would show a secret to everybody who can read the volume's definition; put it as {name} into \
         a Secret whose type is the driver's name, and name that in the volume's secretRef"
    )]
    SecretOption {
        /// The key.
        key: String,
        /// The key of the secret.
        name: &'static str,
    },
    /// There is no such option.
    #[error("there is no option {key:?}{}", nearest.map(|name| format!("; did you mean {name}?")).unwrap_or_default())]
    Unknown {
        /// As written.
        key: String,
        /// The most similar option.
        nearest: Option<&'static str>,
    },
    /// Both names of the repository are given.
    #[error("the options repo and repository mean the same: leave one out")]
    TwoRepositories,
    /// The driver cannot refresh a volume.
    #[error(
        "refresh: {value:?} does not work with a FlexVolume: the kubelet calls this driver to mount and to unmount, and \
         never in between. Leave it out, or use the CSI driver"
    )]
    Refresh {
        /// As written.
        value: String,
    },
    /// A value of the volume is invalid.
    #[error(transparent)]
    Spec(#[from] SpecError),
}

impl OptionsError {
    /// The kind of this failure.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Secret(error) => error.kind(),
            Self::Spec(error) => error.kind(),
            _ => Kind::InvalidRequest,
        }
    }
}

impl Options {
    /// Parses the argument.
    pub(crate) fn parse(argument: &[u8]) -> Result<Self, OptionsError> {
        let all = json::read(argument)?;
        let (kubelet, user) = all.into_iter().partition::<Texts, _>(|(key, _)| key.starts_with(KUBELET));
        let (secret, kubelet) = kubelet.into_iter().partition::<Texts, _>(|(key, _)| key.starts_with(SECRET));
        check_length(&user)?;
        let kubelet = |key: &str| value(&kubelet, KUBELET, key);
        let text = |key: &str| kubelet(key).unwrap_or_default().to_owned();
        let attributes = attributes(user)?;
        Ok(Self {
            pod: Pod {
                namespace: text("pod.namespace"),
                name: text("pod.name"),
                service_account: text("serviceAccount.name"),
                uid: text("pod.uid"),
                volume: text("pvOrVolumeName"),
            },
            read_only: read_only(kubelet("readwrite"))?,
            group: group(kubelet("mounterArgs.FsGroup"))?,
            credentials: credentials(secret)?,
            host_target: attributes.get(HOST_TARGET).cloned(),
            spec: spec(attributes)?,
        })
    }
}

/// Returns the value of the key that consists of `prefix` and `name`.
fn value<'a>(texts: &'a Texts, prefix: &str, name: &str) -> Option<&'a str> {
    let found = texts.iter().find(|(key, _)| key.strip_prefix(prefix) == Some(name));
    found.map(|(_, value)| value.as_str())
}

/// Parses the access mode, which the kubelet always sends. Without it the mount is read-only, as with the bash driver.
fn read_only(readwrite: Option<&str>) -> Result<bool, OptionsError> {
    match readwrite {
        Some("rw") => Ok(false),
        Some("ro") | None => Ok(true),
        Some(_) => Err(OptionsError::ReadWrite),
    }
}

/// Parses a group's number. The largest one is refused: the kernel reads it as "no change".
fn group(text: Option<&str>) -> Result<Option<u32>, OptionsError> {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let number = |text: &str| text.parse().ok().filter(|group| digits(text) && *group != u32::MAX);
    text.map(|text| number(text).ok_or(OptionsError::Group)).transpose()
}

fn credentials(secret: Texts) -> Result<Credentials, OptionsError> {
    let mut keys = BTreeMap::new();
    for (key, value) in secret {
        let key = key.strip_prefix(SECRET).unwrap_or(&key);
        let Some(value) = decoded(&value) else { return Err(OptionsError::SecretEncoding { key: beginning(key) }) };
        keys.insert(key.to_owned(), value);
    }
    Ok(Credentials::from_secret_keys(keys)?)
}

fn decoded(base64: &str) -> Option<Secret> {
    let bytes = BASE64_STANDARD.decode(base64).ok()?;
    match String::from_utf8(bytes) {
        Ok(text) => Some(Secret::new(text)),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            None
        }
    }
}

/// Checks the keys of the user's options, and renames `repo` to `repository`. An empty value means the same as a missing
/// one, as in the bash driver.
fn attributes(user: Texts) -> Result<BTreeMap<String, String>, OptionsError> {
    let mut attributes = BTreeMap::new();
    for (key, value) in user {
        check_key(&key)?;
        if value.is_empty() {
            continue;
        }
        let key = if *key == REPO { "repository" } else { &key };
        if attributes.insert(key.to_owned(), value.to_string()).is_some() {
            return Err(OptionsError::TwoRepositories);
        }
    }
    Ok(attributes)
}

/// Checks the size of the options before any other work. The limit is that of CSI for a volume's attributes.
fn check_length(user: &Texts) -> Result<(), SpecError> {
    let length = user.iter().map(|(key, value)| key.len() + value.len()).sum();
    if length > ATTRIBUTES_BYTES { Err(SpecError::TooLong { length }) } else { Ok(()) }
}

fn check_key(key: &str) -> Result<(), OptionsError> {
    let known = || KEYS.iter().map(|key| key.name).chain([REPO, HOST_TARGET]);
    if known().any(|known| known == key) {
        return Ok(());
    }
    let nearest = nearest(key, known()).or_else(|| suggestion(key));
    match SecretKey::meant_by(key) {
        Some(meant) if nearest.is_none() => Err(OptionsError::SecretOption { key: beginning(key), name: meant.name() }),
        _ => Err(OptionsError::Unknown { nearest, key: beginning(key) }),
    }
}

fn spec(mut attributes: BTreeMap<String, String>) -> Result<VolumeSpec, OptionsError> {
    attributes.remove(HOST_TARGET);
    match attributes.remove("refresh") {
        Some(value) if value != "never" => Err(OptionsError::Refresh { value: beginning(&value) }),
        _ => Ok(VolumeSpec::from_attributes(&attributes, DefaultDirectory::Root)?),
    }
}

/// Returns the beginning of a text, for an error.
fn beginning(text: &str) -> String {
    text.chars().take(KEY_LENGTH).collect()
}

#[cfg(test)]
mod tests;
