//! Credentials for other repositories than the volume's own: those of its submodules.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use super::Credentials;
use super::secret_keys;
use crate::spec::RepositoryUrl;

/// Why a source has no usable credentials for a repository.
pub type SourceError = Box<dyn Error + Send + Sync>;

/// Finds the credentials for a repository, such as those that the node keeps.
pub trait CredentialSource: Send + Sync {
    /// Returns the credentials for this repository; none if there are none. The same however often one value is asked:
    /// what proves access is recorded.
    ///
    /// # Errors
    ///
    /// If they cannot be read. No secret is in the error.
    fn credentials(&self, url: &RepositoryUrl) -> Result<Credentials, SourceError>;
}

/// A source, which a message of `Debug` does not show.
#[derive(Clone)]
pub(super) struct Elsewhere(Arc<dyn CredentialSource>);

impl fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Elsewhere")
    }
}

impl Credentials {
    /// Has a source find the credentials of submodules. None of these keys is then sent to one of them.
    #[must_use]
    pub fn with_source(self, source: Arc<dyn CredentialSource>) -> Self {
        Self { elsewhere: Some(Elsewhere(source)), ..self }
    }

    /// Whether a source finds the credentials of submodules.
    pub(crate) fn has_source(&self) -> bool {
        self.elsewhere.is_some()
    }

    /// Returns the credentials for a submodule of a volume whose own repository is `own`, at whatever depth.
    ///
    /// A key with a host prefix is for that host. A key without one is for submodules on the host of `own`, at the same
    /// port or at the default port of a scheme: who wrote the list of submodules may also have chosen another port.
    ///
    /// # Errors
    ///
    /// If a source has credentials for it, and they cannot be used.
    pub fn for_submodule(&self, own: &RepositoryUrl, url: &RepositoryUrl) -> Result<Self, SourceError> {
        if let Some(Elsewhere(source)) = &self.elsewhere {
            return source.credentials(url);
        }
        let host = url.host().map(str::to_ascii_lowercase);
        let is_own = own.host().map(str::to_ascii_lowercase) == host
            && (own.port() == url.port() || url.port() == url.scheme().default_port());
        let is_for_it = |name: &str| match secret_keys::host_of(name) {
            None => is_own,
            prefix => prefix == host,
        };
        let given = self.given.iter().filter(|(name, _)| is_for_it(name));
        let given: BTreeMap<_, _> = given.map(|(name, value)| (name.clone(), value.clone())).collect();
        // They were accepted together with the other keys.
        Ok(Self::from_secret_keys(given)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Secret;
    use super::*;

    fn credentials() -> Credentials {
        let keys = ["token", "ca.crt", "other.example.com.token", "third.example.com.token"];
        let value = |name: &str| match name {
            "ca.crt" => super::super::tests::CERTIFICATE.to_owned(),
            name => format!("canary-{name}"),
        };
        let secrets = keys.map(|name| (name.to_owned(), Secret::new(value(name))));
        Credentials::from_secret_keys(secrets.into()).unwrap()
    }

    fn url(text: &str) -> RepositoryUrl {
        RepositoryUrl::parse(text).unwrap()
    }

    fn names(credentials: &Credentials) -> Vec<&str> {
        credentials.secret_keys().keys().map(String::as_str).collect()
    }

    #[test]
    fn s13_keys_of_the_superproject_stay_on_its_host() {
        let own = url("https://git.example.com/super");
        for (submodule, expected) in [
            ("https://git.example.com/sub", &["ca.crt", "token"][..]),
            ("https://GIT.example.com:443/sub", &["ca.crt", "token"]),
            ("ssh://git@git.example.com/sub", &["ca.crt", "token"]),
            ("https://git.example.com:8443/sub", &[]),
            ("ssh://git@git.example.com:2222/sub", &[]),
            ("https://other.example.com/sub", &["other.example.com.token"]),
            ("https://other.example.com:8443/sub", &["other.example.com.token"]),
            ("https://example.com/sub", &[]),
            ("https://git.example.com.evil.example/sub", &[]),
            ("https://evil.example/git.example.com", &[]),
        ] {
            let found = credentials().for_submodule(&own, &url(submodule)).unwrap();
            assert_eq!(names(&found), expected, "{submodule}");
        }
        let own = url("https://git.example.com:8443/super");
        let found = credentials().for_submodule(&own, &url("https://git.example.com:8443/sub")).unwrap();
        assert_eq!(names(&found), ["ca.crt", "token"]);
    }

    struct Node;

    impl CredentialSource for Node {
        fn credentials(&self, url: &RepositoryUrl) -> Result<Credentials, SourceError> {
            match url.host() {
                Some("broken.example.com") => Err("the directory is gone".into()),
                _ => Ok(Credentials::none()),
            }
        }
    }

    #[test]
    fn s13_with_a_source_no_key_goes_to_a_submodule_that_the_source_does_not_give() {
        let (own, credentials) = (url("https://git.example.com/super"), credentials().with_source(Arc::new(Node)));
        let found = |submodule: &str| credentials.for_submodule(&own, &url(submodule));
        assert!(found("https://git.example.com/sub").unwrap().is_empty());
        assert!(found("https://broken.example.com/sub").is_err());
        assert!(!format!("{credentials:?}").contains("canary"));
    }
}
