//! Proxies for `https` and `http` repositories.

use std::fmt;

use crate::spec::Host;
use crate::spec::decimal;
use crate::spec::serde_as_text;

mod bypass;
mod config;
mod environment;
mod login;

pub use bypass::Bypass;
pub use bypass::BypassError;
pub use config::ProxyConfig;
pub use environment::EnvironmentError;
pub use environment::EnvironmentProxies;
pub use login::LoginError;
pub use login::ProxyLogin;

/// A proxy's address. Prints as `http://host:port` or `socks5://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    protocol: ProxyProtocol,
    host: Host,
    port: u16,
}

/// How to talk to a proxy. With either protocol the proxy looks up the names of the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// HTTP, with CONNECT for `https` repositories.
    Http,
    /// SOCKS version 5 (RFC 1928).
    Socks5,
}

/// A proxy, and the login that it wants.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyAccess {
    /// The address.
    pub proxy: Proxy,
    /// The user and password.
    pub login: Option<ProxyLogin>,
}

impl ProxyAccess {
    /// A proxy with this login.
    pub fn new(proxy: Proxy, login: Option<ProxyLogin>) -> Self {
        Self { proxy, login }
    }
}

/// The text is not a valid proxy. Not quoted, since it may contain a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a proxy is written http://host:port or socks5://host:port, without path; its user and password are in a file")]
pub struct ProxyError;

impl Proxy {
    /// Reads `http://host:port` or `socks5://host:port`, with an optional slash at the end. curl's `socks5h` is the same.
    pub fn parse(text: &str) -> Result<Self, ProxyError> {
        let (scheme, rest) = text.split_once("://").ok_or(ProxyError)?;
        let protocol = match scheme.to_ascii_lowercase().as_str() {
            "http" => ProxyProtocol::Http,
            "socks5" | "socks5h" => ProxyProtocol::Socks5,
            _ => return Err(ProxyError),
        };
        let (host, port) = rest.strip_suffix('/').unwrap_or(rest).rsplit_once(':').ok_or(ProxyError)?;
        let port = decimal(port).filter(|port| *port != 0).ok_or(ProxyError)?;
        Ok(Self { protocol, host: Host::parse(host).map_err(|_| ProxyError)?, port })
    }

    /// How to talk to it.
    pub fn protocol(&self) -> ProxyProtocol {
        self.protocol
    }

    /// The host in lower case, an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        self.host.as_str()
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.protocol {
            ProxyProtocol::Http => "http",
            ProxyProtocol::Socks5 => "socks5",
        };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

serde_as_text!(Proxy);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_a_host_and_a_port() {
        for (text, shown) in [
            ("http://proxy.example:3128", "http://proxy.example:3128"),
            ("http://Proxy:80/", "http://proxy:80"),
            ("HTTP://[::1]:8080", "http://[::1]:8080"),
            ("socks5://proxy:1080", "socks5://proxy:1080"),
            ("socks5h://proxy:1080/", "socks5://proxy:1080"),
        ] {
            assert_eq!(Proxy::parse(text).unwrap().to_string(), shown);
        }
        let bad = "proxy:80 https://proxy:80 http://proxy http://u:p@proxy:80 http://proxy:0 http://proxy:80/x http://:80 \
                   socks4://proxy:1080 socks5://u:p@proxy:1080";
        for bad in bad.split_whitespace().chain([""]) {
            assert_eq!(Proxy::parse(bad), Err(ProxyError), "{bad}");
        }
    }
}
