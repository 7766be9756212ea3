//! Hosts that are reached without the proxy.

use std::fmt;
use std::net::IpAddr;

use crate::spec::RepositoryUrl;
use crate::spec::decimal;
use crate::spec::serde_as_text;

/// A host, a domain, an address or a network, perhaps with a port; or `*` for every host.
///
/// `example.com`, `.example.com` and `*.example.com` are the same: the host and everything below it, as for curl. An
/// address or network is compared with addresses in URLs; names are not looked up for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bypass {
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    All,
    /// In lower case, without a leading dot.
    Domain(String),
    Network {
        address: IpAddr,
        bits: u8,
    },
}

/// The text names no hosts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not an entry of noProxy; write *, a name such as example.com, an address, or a network such as 10.0.0.0/8, \
     and a port if only that one is meant"
)]
pub struct BypassError {
    /// As written.
    text: String,
}

impl Bypass {
    /// Reads an entry.
    pub fn parse(text: &str) -> Result<Self, BypassError> {
        let refused = || BypassError { text: text.chars().take(64).collect() };
        if let Some(hosts) = Hosts::parse(text) {
            return Ok(Self { hosts, port: None });
        }
        let (hosts, port) = text.rsplit_once(':').ok_or_else(refused)?;
        let port = decimal(port).filter(|port| *port != 0).ok_or_else(refused)?;
        Ok(Self { hosts: Hosts::parse(hosts).ok_or_else(refused)?, port: Some(port) })
    }

    /// Whether it names the host of `url`.
    pub(super) fn covers(&self, url: &RepositoryUrl) -> bool {
        let is_port = self.port.is_none() || self.port == url.port();
        is_port && url.host().is_some_and(|host| self.hosts.cover(host, url.address()))
    }
}

impl Hosts {
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::All);
        }
        let bare =
            |text: &str| text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(text).to_owned();
        if let Ok(address) = bare(text).parse::<IpAddr>() {
            return Some(Self::Network { address, bits: width(address) });
        }
        if let Some((address, bits)) = text.split_once('/') {
            let address = bare(address).parse().ok()?;
            return Some(Self::Network { address, bits: decimal(bits).filter(|bits| *bits <= width(address))? });
        }
        let domain = text.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(text);
        let domain = domain.strip_prefix('.').unwrap_or(domain);
        let domain = domain.strip_suffix('.').unwrap_or(domain);
        let is_allowed = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        let is_name = domain.chars().all(is_allowed) && domain.split('.').all(|label| !label.is_empty());
        is_name.then(|| Self::Domain(domain.to_ascii_lowercase()))
    }

    fn cover(&self, host: &str, literal: Option<IpAddr>) -> bool {
        match self {
            Self::All => true,
            Self::Domain(domain) => {
                host.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            Self::Network { address, bits } => literal.is_some_and(|literal| {
                let (ours, theirs) = (number(*address), number(literal));
                let rest = u32::from(width(*address) - *bits);
                width(*address) == width(literal) && (ours ^ theirs).checked_shr(rest).unwrap_or(0) == 0
            }),
        }
    }
}

/// Bits of an address.
fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

impl fmt::Display for Bypass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.hosts {
            Hosts::All => f.write_str("*")?,
            Hosts::Domain(domain) => f.write_str(domain)?,
            Hosts::Network { address, bits } => {
                match address {
                    IpAddr::V4(address) => write!(f, "{address}")?,
                    IpAddr::V6(address) => write!(f, "[{address}]")?,
                }
                if *bits != width(*address) {
                    write!(f, "/{bits}")?;
                }
            }
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

serde_as_text!(Bypass);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_entry_covers_its_hosts() {
        for (entry, url, covered) in [
            ("*", "https://anything.example/x", true),
            ("example.com", "https://example.com/x", true),
            ("example.com", "https://git.example.com/x", true),
            (".example.com", "https://git.example.com/x", true),
            (".example.com", "https://example.com/x", true),
            ("*.example.com", "https://a.git.example.com/x", true),
            ("Example.COM.", "https://git.example.com:8443/x", true),
            ("example.com", "https://notexample.com/x", false),
            ("example.com", "https://example.com.evil.org/x", false),
            ("example.com:8443", "https://git.example.com:8443/x", true),
            ("example.com:443", "https://git.example.com/x", true),
            ("example.com:8443", "https://git.example.com/x", false),
            ("*:8080", "http://host:8080/x", true),
            ("10.0.0.0/8", "https://10.1.2.3/x", true),
            ("10.0.0.0/8", "https://11.1.2.3/x", false),
            ("10.0.0.0/8:8443", "https://10.1.2.3:8443/x", true),
            ("10.1.2.3", "https://10.1.2.3/x", true),
            ("10.1.2.3", "https://10.1.2.30/x", false),
            ("10.0.0.0/8", "https://ten.example/x", false),
            ("0.0.0.0/0", "https://192.0.2.1/x", true),
            ("0.0.0.0/0", "https://[::1]/x", false),
            ("::/0", "https://[2001:db8::1]/x", true),
            ("[2001:db8::]/32", "https://[2001:db8:1::1]/x", true),
            ("2001:db8::1", "https://[2001:DB8:0::1]/x", true),
            ("[::1]:8080", "http://[::1]:8080/x", true),
            ("[::1]:8080", "http://[::1]/x", false),
            ("localhost", "http://localhost:8080/x", true),
        ] {
            let url = RepositoryUrl::parse(url).unwrap();
            assert_eq!(Bypass::parse(entry).unwrap().covers(&url), covered, "{entry} {url}");
        }
    }

    #[test]
    fn what_names_no_host_is_refused() {
        for text in [
            "",
            ".",
            "a..b",
            "https://example.com",
            "10.0.0.0/33",
            "::/129",
            "10.0.0/8",
            "a b",
            "example.com:",
            "example.com:0",
            "bücher.example",
            "*.*.example.com",
            "user@host",
        ] {
            assert!(Bypass::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_entry_reads_back_as_itself(text in "[*.a-c0-9:/\\[\\]]{0,12}|[0-9]{1,3}\\.0\\.0\\.[0-9]/[0-9]{1,2}(:[0-9]{1,4})?") {
            if let Ok(entry) = Bypass::parse(&text) {
                prop_assert_eq!(Bypass::parse(&entry.to_string()), Ok(entry));
            }
        }
    }
}
