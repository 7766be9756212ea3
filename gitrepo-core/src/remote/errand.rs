//! What a session with a remote is for.

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

/// Whom to speak to, as whom, where to put what comes, and within what bounds.
///
/// It crosses to the worker as a line of JSON, secrets included: write it nowhere else.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Errand {
    /// The repository.
    pub url: RepositoryUrl,
    /// What may be shown to its host, and to no other.
    #[serde(serialize_with = "disclose", deserialize_with = "take")]
    pub credentials: Credentials,
    /// Which SSH host keys are believed.
    pub host_keys: HostKeys,
    /// Certificate authorities, a PEM bundle on disk; `None` for the system's. The secret's `ca.crt` is part of
    /// `credentials`.
    #[serde(serialize_with = "write_path", deserialize_with = "read_path")]
    pub ca_file: Option<PathBuf>,
    /// `http://host:port` of an HTTP proxy.
    pub proxy: Option<String>,
    /// Basic and bearer credentials may go over plain `http`.
    pub credentials_over_http: bool,
    /// An empty directory that the session owns: it writes [`REPOSITORY`] and the tree into it, and nothing elsewhere. Absolute. `None` when only resolving.
    #[serde(serialize_with = "write_path", deserialize_with = "read_path")]
    pub staging: Option<PathBuf>,
    /// An existing bare repository of the same URL, read-only: what it has need not be sent again. A worker with a uid of
    /// its own must be able to read it, so its files are for everybody, below a directory that is not.
    #[serde(serialize_with = "write_path", deserialize_with = "read_path")]
    pub base: Option<PathBuf>,
    /// Bounds. `limits.timeout` is that of the whole session.
    pub limits: Limits,
}

impl Errand {
    /// To resolve revisions of a repository, without a credential.
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

    /// The bare repository to fetch into. It is made, with `base` as its alternate, when connecting; `None` when only
    /// resolving.
    pub fn repository(&self) -> Option<PathBuf> {
        self.staging.as_ref().map(|staging| staging.join(REPOSITORY))
    }
}

/// The one place where secrets are written out.
fn disclose<S: Serializer>(credentials: &Credentials, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(credentials.secret_keys().iter().map(|(key, secret)| (key, secret.expose())))
}

fn take<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Credentials, D::Error> {
    let secrets = BTreeMap::<String, Taken>::deserialize(deserializer)?;
    let secrets = secrets.into_iter().map(|(key, secret)| (key, secret.0)).collect();
    Credentials::from_secret_keys(secrets).map_err(D::Error::custom)
}

/// A secret that was written out.
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
