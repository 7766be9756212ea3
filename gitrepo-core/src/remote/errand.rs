//! The purpose of a session with a remote.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use serde::de::Error;

use crate::credentials::Credentials;
use crate::credentials::HostKeys;
use crate::credentials::Secret;
use crate::policy::Limits;
use crate::remote::REPOSITORY;
use crate::spec::RepositoryUrl;

/// Which repository to talk to, with which credentials, where to write, and within which limits.
///
/// It is sent to the worker as a line of JSON, secrets included: write it nowhere else.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Errand {
    /// The repository.
    pub url: RepositoryUrl,
    /// The credentials for its host, and for no other.
    #[serde(serialize_with = "disclose", deserialize_with = "take")]
    pub credentials: Credentials,
    /// Which SSH host keys are trusted.
    pub host_keys: HostKeys,
    /// Certificate authorities, a PEM bundle on disk; `None` for the system's. The secret's `ca.crt` is in
    /// `credentials` instead.
    #[serde(serialize_with = "write_path", deserialize_with = "read_path")]
    pub ca_file: Option<PathBuf>,
    /// `http://host:port` of an HTTP proxy.
    pub proxy: Option<String>,
    /// Whether basic and bearer credentials may go over plain `http`.
    pub credentials_over_http: bool,
    /// An empty directory owned by the session, which writes only there: [`REPOSITORY`] and the tree. Absolute. `None`
    /// when only resolving.
    #[serde(serialize_with = "write_path", deserialize_with = "read_path")]
    pub staging: Option<PathBuf>,
    /// An existing bare repository of the same URL, read-only: its objects need not be sent again. A worker with a uid
    /// of its own must be able to read it, so its files are world-readable, below a directory that is not.
    #[serde(serialize_with = "write_path", deserialize_with = "read_path")]
    pub base: Option<PathBuf>,
    /// Limits. `limits.timeout` applies to the whole session.
    pub limits: Limits,
}

impl Errand {
    /// An errand that resolves revisions of a repository, without a credential.
    pub fn new(url: RepositoryUrl) -> Self {
        Self {
            url,
            credentials: Credentials::none(),
            host_keys: HostKeys::default(),
            ca_file: None,
            proxy: None,
            credentials_over_http: false,
            staging: None,
            base: None,
            limits: Limits::default(),
        }
    }

    /// The bare repository to fetch into, created on connecting with `base` as its alternate; `None` when only
    /// resolving.
    pub fn repository(&self) -> Option<PathBuf> {
        self.staging.as_ref().map(|staging| staging.join(REPOSITORY))
    }
}

/// The only place that writes secrets out.
fn disclose<S: Serializer>(credentials: &Credentials, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(credentials.secret_keys().iter().map(|(key, secret)| (key, secret.expose())))
}

fn take<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Credentials, D::Error> {
    let secrets = BTreeMap::<String, Taken>::deserialize(deserializer)?;
    let secrets = secrets.into_iter().map(|(key, secret)| (key, secret.0)).collect();
    Credentials::from_secret_keys(secrets).map_err(D::Error::custom)
}

/// A secret read back.
struct Taken(Secret);

impl<'de> Deserialize<'de> for Taken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Secret::new(String::deserialize(deserializer)?)))
    }
}

/// A path need not be UTF-8.
fn write_path<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    path.as_ref().map(OsStr::new).serialize(serializer)
}

fn read_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    Ok(Option::<OsString>::deserialize(deserializer)?.map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn what_crosses_to_the_worker_comes_back_the_same() {
        let secrets = BTreeMap::from([("token".to_owned(), Secret::new("canary".to_owned()))]);
        let base = PathBuf::from(OsString::from_vec(b"/not-utf8-\xff".to_vec()));
        let errand = Errand {
            credentials: Credentials::from_secret_keys(secrets).unwrap(),
            base: Some(base.clone()),
            staging: Some("/staging".into()),
            ..Errand::new(RepositoryUrl::parse("https://git.example.com/a.git").unwrap())
        };
        let line = serde_json::to_vec(&errand).unwrap();
        let read: Errand = serde_json::from_slice(&line).unwrap();
        assert_eq!(read.credentials.secret_keys()["token"].expose(), "canary");
        assert_eq!((read.base, read.ca_file), (Some(base), None));
        assert_eq!(read.url, errand.url);
        assert_eq!(read.staging.map(|staging| staging.join(REPOSITORY)), errand.repository());
    }
}
