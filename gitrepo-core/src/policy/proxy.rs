//! An HTTP proxy.

use std::fmt;

use crate::spec::Host;
use crate::spec::decimal;
use crate::spec::serde_as_text;

/// A proxy for `https` and `http` repositories. Prints as `http://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    host: Host,
    port: u16,
}

/// The text is not a valid proxy. Not quoted, since it may contain a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a proxy is written http://host:port, without user, password and path")]
pub struct ProxyError;

impl Proxy {
    /// Reads `http://host:port`, with an optional slash at the end.
    pub fn parse(text: &str) -> Result<Self, ProxyError> {
        let authority = text.strip_prefix("http://").map(|rest| rest.strip_suffix('/').unwrap_or(rest));
        let (host, port) = authority.and_then(|authority| authority.rsplit_once(':')).ok_or(ProxyError)?;
        let port = decimal(port).filter(|port| *port != 0).ok_or(ProxyError)?;
        Ok(Self { host: Host::parse(host).map_err(|_| ProxyError)?, port })
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
        write!(f, "http://{}:{}", self.host, self.port)
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
            ("http://[::1]:8080", "http://[::1]:8080"),
        ] {
            assert_eq!(Proxy::parse(text).unwrap().to_string(), shown);
        }
        let bad =
            "proxy:80 https://proxy:80 http://proxy http://u:p@proxy:80 http://proxy:0 http://proxy:80/x http://:80";
        for bad in bad.split_whitespace().chain([""]) {
            assert_eq!(Proxy::parse(bad), Err(ProxyError), "{bad}");
        }
    }
}
