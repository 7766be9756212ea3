//! Credentials for a server that asks for them.
//!
//! Nothing is sent before the server asks, so neither a public repository nor plain http ever sees a secret. Redirects
//! are not followed, so no other server can ask.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

use super::Server;
use super::head::Head;
use crate::credentials::Credentials;
use crate::credentials::HostCredential;
use crate::remote::RemoteError;
use crate::spec::RepositoryUrl;
use crate::spec::Scheme;

/// The credentials for one server.
pub(super) struct Authentication {
    url: RepositoryUrl,
    credentials: Credentials,
    over_http: bool,
    /// The value of the `Authorization` header, once the server has asked.
    header: Option<Zeroizing<String>>,
}

impl Authentication {
    pub(super) fn new(server: &Server) -> Self {
        Self {
            url: server.url.clone(),
            credentials: server.credentials.clone(),
            over_http: server.credentials_over_http,
            header: None,
        }
    }

    /// The header for every request from now on.
    pub(super) fn header(&self) -> Option<&str> {
        self.header.as_ref().map(|value| value.as_str())
    }

    /// The server asks for authentication. Each credential is sent once.
    pub(super) fn challenged(&mut self, head: &Head) -> Result<(), RemoteError> {
        let url = || self.url.to_string();
        let credential = self.credential();
        if self.header.is_some() {
            let offered = if credential.token.is_some() { "token" } else { "username, password" };
            return Err(RemoteError::CredentialRefused { url: url(), offered: offered.to_owned(), source: None });
        }
        let takes_passwords = offers_basic(head);
        let header = match (credential.token, credential.password) {
            (Some(token), _) => Zeroizing::new(format!("Bearer {}", token.expose())),
            (None, Some(password)) if takes_passwords => {
                let user = credential.username.or(self.url.user()).unwrap_or_default();
                let login = Zeroizing::new(format!("{user}:{}", password.expose()));
                let encoded = Zeroizing::new(BASE64_STANDARD.encode(login.as_bytes()));
                Zeroizing::new(format!("Basic {}", *encoded))
            }
            _ => {
                let wanted = if takes_passwords { "username and password, or token" } else { "token" };
                return Err(RemoteError::CredentialMissing { url: url(), wanted: wanted.to_owned() });
            }
        };
        if self.url.scheme() == Scheme::Http && !self.over_http {
            return Err(RemoteError::CredentialOverHttp { url: url() });
        }
        self.header = Some(header);
        Ok(())
    }

    fn credential(&self) -> HostCredential<'_> {
        let host = self.url.host().unwrap_or_default();
        self.credentials.for_host(host, host)
    }
}

/// Whether one of the challenges is `Basic`: each header may contain several, separated by commas (RFC 9110, section
/// 11.6.1).
fn offers_basic(head: &Head) -> bool {
    head.all("www-authenticate")
        .flat_map(|field| field.split(|byte| *byte == b','))
        .filter_map(|challenge| challenge.trim_ascii().split(u8::is_ascii_whitespace).next())
        .any(|scheme| scheme.eq_ignore_ascii_case(b"basic"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::credentials::Secret;

    const HTTPS: &str = "https://git.example.com/a";
    const HTTP: &str = "http://git.example.com/a";
    const TOKEN: &[(&str, &str)] = &[("token", "t")];
    const PASSWORD: &[(&str, &str)] = &[("username", "u"), ("password", "p")];
    const BASIC: &str = "Basic realm=\"x\"";

    fn server(url: &str, keys: &[(&str, &str)]) -> Server {
        let secret: BTreeMap<_, _> =
            keys.iter().map(|(key, value)| ((*key).to_owned(), Secret::new((*value).to_owned()))).collect();
        Server {
            url: RepositoryUrl::parse(url).unwrap(),
            credentials: Credentials::from_secret_keys(secret).unwrap(),
            credentials_over_http: false,
            proxy: None,
            authorities: Vec::new(),
            stall: Duration::from_secs(1),
        }
    }

    fn unauthorized(challenges: &[&str]) -> Head {
        let fields: String = challenges.iter().map(|challenge| format!("WWW-Authenticate: {challenge}\r\n")).collect();
        Head::read(&mut format!("HTTP/1.1 401 No\r\n{fields}\r\n").as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn each_credential_is_shown_when_it_is_asked_for_and_once() {
        for (keys, header, offered) in [(TOKEN, "Bearer t", "token"), (PASSWORD, "Basic dTpw", "username, password")] {
            let mut authentication = Authentication::new(&server(HTTPS, keys));
            assert_eq!(authentication.header(), None);
            authentication.challenged(&unauthorized(&[BASIC])).unwrap();
            assert_eq!(authentication.header(), Some(header));
            match authentication.challenged(&unauthorized(&[BASIC])) {
                Err(RemoteError::CredentialRefused { offered: names, .. }) => assert_eq!(names, offered),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_password_goes_to_servers_that_take_passwords_and_a_token_to_all() {
        for (challenges, takes_passwords) in [
            (&["basic"][..], true),
            (&["Negotiate", "NTLM", BASIC], true),
            (&["Bearer realm=\"a\", Basic realm=\"b\""], true),
            (&["Bearer realm=\"basic\""], false),
            (&[], false),
        ] {
            let challenge = unauthorized(challenges);
            assert!(Authentication::new(&server(HTTPS, TOKEN)).challenged(&challenge).is_ok(), "{challenges:?}");
            let wanted = match Authentication::new(&server(HTTPS, PASSWORD)).challenged(&challenge) {
                Ok(()) => None,
                Err(RemoteError::CredentialMissing { wanted, .. }) => Some(wanted),
                Err(other) => panic!("{other}"),
            };
            assert_eq!(wanted.as_deref(), (!takes_passwords).then_some("token"), "{challenges:?}");
        }
    }

    #[test]
    fn without_a_credential_for_this_host_the_error_names_the_keys_to_add() {
        for keys in [&[][..], &[("other.example.com.token", "t")]] {
            match Authentication::new(&server(HTTPS, keys)).challenged(&unauthorized(&[BASIC])) {
                Err(RemoteError::CredentialMissing { wanted, .. }) => {
                    assert_eq!(wanted, "username and password, or token");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn nothing_is_shown_over_plain_http_unless_allowed() {
        for keys in [TOKEN, PASSWORD] {
            let mut server = server(HTTP, keys);
            let refused = Authentication::new(&server).challenged(&unauthorized(&[BASIC]));
            assert!(matches!(refused, Err(RemoteError::CredentialOverHttp { .. })));
            server.credentials_over_http = true;
            assert!(Authentication::new(&server).challenged(&unauthorized(&[BASIC])).is_ok());
        }
    }
}
