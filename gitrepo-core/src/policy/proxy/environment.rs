//! The proxies of a person's environment, as curl reads them.

use super::Bypass;
use super::Proxy;
use super::ProxyAccess;
use super::ProxyError;
use super::ProxyLogin;
use crate::credentials::Secret;
use crate::spec::RepositoryUrl;
use crate::spec::Scheme;
use crate::spec::url::percent;

/// The port of a proxy that has none: curl's.
const PORT: &str = ":1080";

/// Where to look for a proxy. `HTTP_PROXY` is not read: for a CGI program, the client sets it.
const HTTPS: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
const HTTP: [&str; 3] = ["http_proxy", "all_proxy", "ALL_PROXY"];
const NO_PROXY: [&str; 2] = ["no_proxy", "NO_PROXY"];

/// The proxies of `https_proxy`, `http_proxy`, `all_proxy` and `no_proxy`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnvironmentProxies {
    https: Option<ProxyAccess>,
    http: Option<ProxyAccess>,
    no_proxy: Vec<Bypass>,
}

/// A variable names no proxy. Does not quote it, since it may contain a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the environment variable {variable} is refused: it is written [http://|socks5://][user:password@]host[:port]")]
pub struct EnvironmentError {
    /// Its name.
    pub variable: &'static str,
}

impl EnvironmentProxies {
    /// Reads the variables. An empty one means the same as a missing one; an entry of `no_proxy` that names no host is
    /// skipped, as curl does.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, EnvironmentError> {
        let first = |names: &[&'static str]| {
            names.iter().find_map(|name| Some((*name, variable(name).filter(|value| !value.is_empty())?)))
        };
        let proxy = |names| match first(names) {
            Some((variable, value)) => parse(&value).map(Some).map_err(|ProxyError| EnvironmentError { variable }),
            None => Ok(None),
        };
        let exceptions = first(&NO_PROXY).map(|(_, value)| value).unwrap_or_default();
        let exceptions = exceptions.split([',', ' ', '\t']).filter_map(|entry| Bypass::parse(entry).ok());
        Ok(Self { https: proxy(&HTTPS)?, http: proxy(&HTTP)?, no_proxy: exceptions.collect() })
    }

    /// The proxy for a repository.
    pub(crate) fn of(&self, url: &RepositoryUrl) -> Option<&ProxyAccess> {
        let proxy = match url.scheme() {
            Scheme::Https => self.https.as_ref(),
            Scheme::Http => self.http.as_ref(),
            Scheme::Ssh | Scheme::Git | Scheme::File => None,
        };
        proxy.filter(|_| !self.no_proxy.iter().any(|bypass| bypass.covers(url)))
    }
}

fn parse(text: &str) -> Result<ProxyAccess, ProxyError> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (login, host) = match rest.rsplit_once('@') {
        Some((login, host)) => (Some(self::login(login).ok_or(ProxyError)?), host),
        None => (None, rest),
    };
    let end_of_address = host.rfind(']').unwrap_or(0);
    let port = if host[end_of_address..].contains(':') { "" } else { PORT };
    Ok(ProxyAccess::new(Proxy::parse(&format!("{scheme}://{host}{port}"))?, login))
}

fn login(text: &str) -> Option<ProxyLogin> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let decoded = |text| percent::decode(text).map(Secret::new);
    ProxyLogin::checked(decoded(user)?, decoded(password)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<EnvironmentProxies, EnvironmentError> {
        EnvironmentProxies::read(|name| {
            variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn of(variables: &[(&str, &str)], url: &str) -> Option<String> {
        let proxies = read(variables).unwrap();
        proxies.of(&RepositoryUrl::parse(url).unwrap()).map(|access| access.proxy.to_string())
    }

    #[test]
    fn each_scheme_has_its_variables() {
        let (https, http) = ("https://git.example.com/x", "http://git.example.com/x");
        let proxy = |name: &str| Some(format!("http://{name}:3128"));
        assert_eq!(of(&[("https_proxy", "http://a:3128")], https), proxy("a"));
        assert_eq!(of(&[("HTTPS_PROXY", "b:3128"), ("https_proxy", "")], https), proxy("b"));
        assert_eq!(of(&[("https_proxy", "a:3128"), ("HTTPS_PROXY", "b:3128")], https), proxy("a"));
        assert_eq!(of(&[("all_proxy", "c:3128/")], https), proxy("c"));
        assert_eq!(of(&[("ALL_PROXY", "c:3128")], http), proxy("c"));
        assert_eq!(of(&[("http_proxy", "d:3128")], http), proxy("d"));
        assert_eq!(of(&[("HTTP_PROXY", "d:3128"), ("https_proxy", "a:1")], http), None);
        assert_eq!(of(&[("all_proxy", "socks5h://[::1]")], https).as_deref(), Some("socks5://[::1]:1080"));
        assert_eq!(of(&[("all_proxy", "c:3128")], "ssh://git@git.example.com/x"), None);
        for (exceptions, proxied) in [
            ("other.example", true),
            ("*", false),
            ("a b,example.com", false),
            (" , ,example.com ,", false),
            ("?", true),
        ] {
            let variables = [("https_proxy", "a:3128"), ("NO_PROXY", exceptions)];
            assert_eq!(of(&variables, https).is_some(), proxied, "{exceptions}");
        }
    }

    #[test]
    fn a_login_in_the_url_is_decoded_and_kept_secret() {
        let proxies = read(&[("https_proxy", "http://al%40ice:can%3Aary@proxy:3128")]).unwrap();
        let access = proxies.of(&RepositoryUrl::parse("https://git.example.com/x").unwrap()).unwrap().clone();
        let login = access.login.as_ref().unwrap();
        assert_eq!((login.user().expose(), login.password().expose()), ("al@ice", "can:ary"));
        assert!(!format!("{access:?}").contains("ary"), "{access:?}");
    }

    #[test]
    fn a_variable_that_names_no_proxy_is_named_and_not_quoted() {
        for value in [
            "https://canary:3128",
            "socks4://canary",
            "http://canary:x@",
            "canary:99999",
            "http://u:canary%ff@p:1",
            "http://u%3A:canary@p:1",
            "http://u:canary%00@p:1",
        ] {
            let error = read(&[("HTTPS_PROXY", value)]).unwrap_err();
            assert_eq!(error.variable, "HTTPS_PROXY");
            assert!(!error.to_string().contains("canary"), "{error}");
        }
    }
}
