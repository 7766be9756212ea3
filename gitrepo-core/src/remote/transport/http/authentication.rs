//! Credentials for HTTP servers.
//!
//! A credential is sent with the first request: forges throttle clones without one. It goes to the repository's own
//! origin alone, and over plain http only if the configuration allows it.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

use crate::credentials::HostCredential;
use crate::credentials::Secret;
use crate::error::Cause;
use crate::remote::ConnectRequest;
use crate::remote::RemoteError;

/// The user beside a token where a server takes user and password, if the URL names none. Forges ignore it.
const TOKEN_USER: &str = "x-access-token";

/// What is sent.
#[derive(Debug, Clone, Copy)]
enum Shown<'a> {
    Nothing,
    /// As `Bearer`.
    Token(&'a Secret),
    /// As `Basic`.
    Login(&'a str, &'a Secret),
}

/// The credentials for one server.
pub(super) struct Authentication<'a> {
    request: &'a ConnectRequest,
    credential: HostCredential<'a>,
    shown: Shown<'a>,
}

impl<'a> Authentication<'a> {
    pub(super) fn new(request: &'a ConnectRequest) -> Self {
        let host = request.errand.url.host().unwrap_or_default();
        let credential = request.errand.credentials.for_host(host, host);
        let mut authentication = Self { request, credential, shown: Shown::Nothing };
        if super::is_private(request) {
            authentication.shown = authentication.first();
        }
        authentication
    }

    /// The header of the next request.
    pub(super) fn header(&self) -> Option<Zeroizing<String>> {
        match self.shown {
            Shown::Nothing => None,
            Shown::Token(token) => Some(Zeroizing::new(format!("Bearer {}", token.expose()))),
            Shown::Login(user, password) => {
                let login = Zeroizing::new(format!("{user}:{}", password.expose()));
                let encoded = Zeroizing::new(BASE64_STANDARD.encode(login.as_bytes()));
                Some(Zeroizing::new(format!("Basic {}", *encoded)))
            }
        }
    }

    /// The server asks for a credential, or rejects the one it was sent. Each is sent once.
    pub(super) fn challenged(&mut self, challenges: &[Vec<u8>]) -> Result<(), RemoteError> {
        let offered = schemes(challenges);
        let takes = |scheme: &str| offered.iter().any(|offered| offered.eq_ignore_ascii_case(scheme));
        let url = || self.request.errand.url.to_string();
        if let Shown::Token(token) = self.shown
            && takes("basic")
        {
            self.shown = Shown::Login(self.request.errand.url.user().unwrap_or(TOKEN_USER), token);
            return Ok(());
        }
        let said = (!offered.is_empty()).then(|| Cause::new(format_args!("the server takes {}", offered.join(", "))));
        Err(match self.shown {
            Shown::Nothing if !matches!(self.first(), Shown::Nothing) => RemoteError::CredentialOverHttp { url: url() },
            Shown::Nothing => {
                let wanted = match () {
                    () if takes("basic") => "username and password, or token".to_owned(),
                    () if takes("bearer") || offered.is_empty() => "token".to_owned(),
                    () => format!("{}: none that is supported", Cause::new(offered.join(", "))),
                };
                RemoteError::CredentialMissing { url: url(), wanted, source: None }
            }
            Shown::Token(_) | Shown::Login(..) => {
                let offered = if self.credential.token.is_some() { "token" } else { "username, password" };
                RemoteError::CredentialRefused { url: url(), offered: offered.to_owned(), source: said }
            }
        })
    }

    fn first(&self) -> Shown<'a> {
        match (self.credential.token, self.credential.password) {
            (Some(token), _) => Shown::Token(token),
            (None, Some(password)) => {
                Shown::Login(self.credential.username.or(self.request.errand.url.user()).unwrap_or_default(), password)
            }
            (None, None) => Shown::Nothing,
        }
    }
}

/// The schemes of all challenges. A field may have several, separated by commas, as are the parameters of each
/// (RFC 9110, section 11.6.1).
pub(super) fn schemes(challenges: &[Vec<u8>]) -> Vec<String> {
    let mut schemes = Vec::new();
    for field in challenges {
        let mut is_quoted = false;
        for part in field.split(|byte| {
            is_quoted ^= *byte == b'"';
            *byte == b',' && !is_quoted
        }) {
            let word = part.trim_ascii().split(u8::is_ascii_whitespace).next().unwrap_or_default();
            // A parameter has its value after an equals sign.
            if !word.is_empty() && !word.contains(&b'=') {
                schemes.push(String::from_utf8_lossy(word).into_owned());
            }
        }
    }
    schemes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::credentials::Credentials;
    use crate::remote::Errand;
    use crate::spec::RepositoryUrl;
    use crate::watch::Watch;

    const HTTPS: &str = "https://git.example.com/a";
    const HTTP: &str = "http://git.example.com/a";
    const TOKEN: &[(&str, &str)] = &[("token", "t")];
    const PASSWORD: &[(&str, &str)] = &[("username", "u"), ("password", "p")];

    fn request(url: &str, keys: &[(&str, &str)]) -> ConnectRequest {
        let secret: BTreeMap<_, _> =
            keys.iter().map(|(key, value)| ((*key).to_owned(), Secret::new((*value).to_owned()))).collect();
        let credentials = Credentials::from_secret_keys(secret).unwrap();
        let errand = Errand { credentials, ..Errand::new(RepositoryUrl::parse(url).unwrap()) };
        ConnectRequest::new(errand, Watch::default())
    }

    /// The headers that are sent while the server keeps answering with these challenges, and the error at the end.
    fn sent(url: &str, keys: &[(&str, &str)], challenges: &[&str]) -> (Vec<String>, RemoteError) {
        let request = request(url, keys);
        let mut authentication = Authentication::new(&request);
        let challenges: Vec<_> = challenges.iter().map(|field| field.as_bytes().to_vec()).collect();
        let mut sent = Vec::new();
        loop {
            sent.push(authentication.header().map(|header| header.to_string()).unwrap_or_default());
            if let Err(error) = authentication.challenged(&challenges) {
                return (sent, error);
            }
        }
    }

    #[test]
    fn each_credential_is_sent_once_in_each_way_that_the_server_takes() {
        let basic = |login: &str| format!("Basic {}", BASE64_STANDARD.encode(login));
        for (keys, challenges, expected) in [
            (TOKEN, &["Bearer"][..], vec!["Bearer t".to_owned()]),
            (TOKEN, &["Basic realm=\"x\""], vec!["Bearer t".to_owned(), basic("x-access-token:t")]),
            (PASSWORD, &["Negotiate", "NTLM", "Basic realm=\"x\""], vec![basic("u:p")]),
            (PASSWORD, &["Negotiate"], vec![basic("u:p")]),
        ] {
            let (headers, error) = sent(HTTPS, keys, challenges);
            assert_eq!(headers, expected, "{keys:?} {challenges:?}");
            match error {
                RemoteError::CredentialRefused { source, .. } => {
                    assert!(source.unwrap().to_string().contains(challenges[0].split(' ').next().unwrap()));
                }
                other => panic!("{other}"),
            }
        }
    }

    #[test]
    fn plain_http_sees_no_credential_and_no_credential_is_said_to_be_missing() {
        for keys in [TOKEN, PASSWORD] {
            let (headers, error) = sent(HTTP, keys, &["Basic"]);
            assert_eq!(headers, [""]);
            assert!(matches!(error, RemoteError::CredentialOverHttp { .. }), "{error}");
        }
        for (challenge, expected) in [
            ("Basic", "username and password, or token"),
            ("Bearer", "token"),
            ("", "token"),
            ("Negotiate, NTLM", "Negotiate, NTLM: none that is supported"),
        ] {
            match sent(HTTPS, &[], &[challenge]) {
                (_, RemoteError::CredentialMissing { wanted, .. }) => assert_eq!(wanted, expected),
                (_, other) => panic!("{other}"),
            }
        }
    }

    #[test]
    fn every_scheme_of_every_field_is_read() {
        let read = |fields: &[&str]| {
            let fields: Vec<_> = fields.iter().map(|field| field.as_bytes().to_vec()).collect();
            schemes(&fields).join(" ")
        };
        assert_eq!(read(&["Bearer realm=\"a\", Basic realm=\"b\""]), "Bearer Basic");
        assert_eq!(read(&["Digest qop=\"auth, Basic\", nonce=\"x\"", " NTLM "]), "Digest NTLM");
        assert_eq!(read(&["Negotiate", "", ",,", "basic charset=\"UTF-8\""]), "Negotiate basic");
    }
}
