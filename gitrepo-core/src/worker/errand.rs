//! The message that carries an errand to the worker.

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
use crate::policy::Proxy;
use crate::policy::ProxyAccess;
use crate::policy::ProxyLogin;
use crate::remote::Errand;
use crate::spec::RepositoryUrl;

/// An errand as a message, secrets included. Private, so that nobody else can write an [`Errand`] out.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct SentErrand(#[serde(with = "Fields")] pub(super) Errand);

/// The fields of an [`Errand`].
#[derive(Serialize, Deserialize)]
#[serde(remote = "Errand", rename_all = "camelCase")]
struct Fields {
    url: RepositoryUrl,
    #[serde(serialize_with = "disclose", deserialize_with = "take")]
    credentials: Credentials,
    host_keys: HostKeys,
    #[serde(serialize_with = "write_path", deserialize_with = "read_path")]
    ca_file: Option<PathBuf>,
    #[serde(serialize_with = "disclose_proxy", deserialize_with = "take_proxy")]
    proxy: Option<ProxyAccess>,
    credentials_over_http: bool,
    #[serde(serialize_with = "write_path", deserialize_with = "read_path")]
    staging: Option<PathBuf>,
    #[serde(serialize_with = "write_path", deserialize_with = "read_path")]
    base: Option<PathBuf>,
    shows_base: bool,
    shows_kept: bool,
    limits: Limits,
}

/// A proxy and its login as a message.
#[derive(Serialize, Deserialize)]
struct SentProxy<T> {
    url: Proxy,
    login: Option<(T, T)>,
}

/// With [`disclose_proxy`], the only place that writes secrets out.
fn disclose<S: Serializer>(credentials: &Credentials, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(credentials.secret_keys().iter().map(|(key, secret)| (key, secret.expose())))
}

fn take<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Credentials, D::Error> {
    let secrets = BTreeMap::<String, Taken>::deserialize(deserializer)?;
    let secrets = secrets.into_iter().map(|(key, secret)| (key, secret.0)).collect();
    Credentials::from_secret_keys(secrets).map_err(D::Error::custom)
}

fn disclose_proxy<S: Serializer>(access: &Option<ProxyAccess>, serializer: S) -> Result<S::Ok, S::Error> {
    let sent = access.as_ref().map(|access| SentProxy {
        url: access.proxy.clone(),
        login: access.login.as_ref().map(|login| (login.user().expose(), login.password().expose())),
    });
    sent.serialize(serializer)
}

fn take_proxy<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ProxyAccess>, D::Error> {
    let sent = Option::<SentProxy<Taken>>::deserialize(deserializer)?;
    Ok(sent.map(|sent| {
        let login = sent.login.map(|(user, password)| ProxyLogin::new(user.0, password.0));
        ProxyAccess::new(sent.url, login)
    }))
}

/// A secret read back.
struct Taken(Secret);

impl<'de> Deserialize<'de> for Taken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Secret::new(String::deserialize(deserializer)?)))
    }
}

/// Writes a path, which need not be UTF-8.
fn write_path<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    path.as_ref().map(OsStr::new).serialize(serializer)
}

fn read_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    Ok(Option::<OsString>::deserialize(deserializer)?.map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use std::marker::PhantomData;
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn an_errand_is_read_back_as_it_was_sent() {
        let secrets = BTreeMap::from([("token".to_owned(), Secret::new("canary".to_owned()))]);
        let base = PathBuf::from(OsString::from_vec(b"/not-utf8-\xff".to_vec()));
        let errand = Errand {
            credentials: Credentials::from_secret_keys(secrets).unwrap(),
            base: Some(base.clone()),
            proxy: Some(ProxyAccess::new(
                Proxy::parse("socks5://proxy:1080").unwrap(),
                Some(ProxyLogin::new(Secret::new("alice".to_owned()), Secret::new("canary".to_owned()))),
            )),
            staging: Some("/staging".into()),
            ..Errand::new(RepositoryUrl::parse("https://git.example.com/a.git").unwrap())
        };
        let line = serde_json::to_vec(&SentErrand(errand.clone())).unwrap();
        let SentErrand(read) = serde_json::from_slice(&line).unwrap();
        assert_eq!(read.credentials.secret_keys()["token"].expose(), "canary");
        assert_eq!((read.base, read.ca_file), (Some(base), None));
        assert_eq!((read.url, read.proxy), (errand.url, errand.proxy));
        assert_eq!(read.staging, errand.staging);
    }

    /// `SERIALISES` is the inherent constant if `T` implements `Serialize`, and otherwise that of the trait.
    struct Probe<T>(PhantomData<T>);

    trait Otherwise {
        const SERIALISES: bool = false;
    }

    impl<T> Otherwise for Probe<T> {}

    impl<T: Serialize> Probe<T> {
        const SERIALISES: bool = true;
    }

    #[test]
    fn s13_only_the_private_form_of_an_errand_can_be_written_out() {
        let serialise = [
            Probe::<Errand>::SERIALISES,
            Probe::<Credentials>::SERIALISES,
            Probe::<ProxyLogin>::SERIALISES,
            Probe::<Secret>::SERIALISES,
        ];
        assert_eq!((serialise, Probe::<SentErrand>::SERIALISES), ([false; 4], true));
    }
}
