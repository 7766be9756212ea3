//! The host of a URL, in the one spelling that every layer below agrees on.
//!
//! If two parsers read a name differently, a check can pass for one host while the connection goes to another. So every
//! ambiguous form is refused: addresses in decimal, octal or hexadecimal, percent signs, a trailing dot, non-ASCII
//! names.

use std::fmt;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

/// A host name in lower case, or an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Host {
    /// Without brackets.
    text: String,
    address: Option<IpAddr>,
}

/// Why a text is not a valid host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The host is empty.
    #[error("the host is missing")]
    Empty,
    /// A name with characters outside ASCII.
    #[error("the host is not ASCII; write it in punycode (xn--…)")]
    NotAscii,
    /// A percent sign: an encoded character or the zone of an address.
    #[error("the host has a percent sign; write it without encoding and without a zone")]
    Percent,
    /// A character not allowed in host names.
    #[error("the host has the character {0:?}")]
    Character(char),
    /// A part is empty, too long, or has a hyphen at either end.
    #[error("the host has a part that is empty, too long, or begins or ends with a hyphen")]
    Label,
    /// Longer than DNS allows.
    #[error("the host is longer than 253 characters")]
    TooLong,
    /// Ends in a number but is not four decimal ones.
    #[error("the host is an IPv4 address in an ambiguous spelling; write four decimal numbers without leading zeros")]
    AmbiguousAddress,
    /// The text in brackets is not an address.
    #[error("what stands between [ and ] is not an IPv6 address")]
    NotIpv6,
}

impl Host {
    /// Reads a host as written in a URL, an IPv6 address in brackets.
    pub(crate) fn parse(text: &str) -> Result<Self, HostError> {
        if text.is_empty() {
            return Err(HostError::Empty);
        }
        if !text.is_ascii() {
            return Err(HostError::NotAscii);
        }
        if text.contains('%') {
            return Err(HostError::Percent);
        }
        if let Some(bracketed) = text.strip_prefix('[') {
            let address = bracketed.strip_suffix(']').and_then(|inner| inner.parse().ok()).ok_or(HostError::NotIpv6)?;
            return Ok(Self { text: hexadecimal(address), address: Some(IpAddr::V6(address)) });
        }
        let name = text.to_ascii_lowercase();
        check_name(&name)?;
        if !ends_in_number(&name) {
            return Ok(Self { text: name, address: None });
        }
        let address: Ipv4Addr = name.parse().map_err(|_| HostError::AmbiguousAddress)?;
        Ok(Self { text: name, address: Some(IpAddr::V4(address)) })
    }

    /// In lower case; an IPv6 address without brackets.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The address, if the host is one.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Whether this is an IPv6 address.
    pub(crate) fn is_ipv6(&self) -> bool {
        matches!(self.address, Some(IpAddr::V6(_)))
    }
}

/// As in a URL: an IPv6 address in brackets.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_ipv6() { write!(f, "[{}]", self.text) } else { f.write_str(&self.text) }
    }
}

fn check_name(name: &str) -> Result<(), HostError> {
    if name.len() > 253 {
        return Err(HostError::TooLong);
    }
    let is_allowed = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    if let Some(letter) = name.chars().find(|letter| !is_allowed(*letter)) {
        return Err(HostError::Character(letter));
    }
    let is_sound = |label: &str| (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-');
    if name.split('.').all(is_sound) { Ok(()) } else { Err(HostError::Label) }
}

/// Whether some resolver would take the name for an IPv4 address: its last part is a decimal, octal or hexadecimal
/// number. The rule of the WHATWG URL standard.
fn ends_in_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let is_decimal = last.bytes().all(|byte| byte.is_ascii_digit());
    let is_hexadecimal =
        last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    is_decimal || is_hexadecimal
}

/// Avoids the dotted tail that the standard library prints for mapped addresses and libgit2 cannot read.
fn hexadecimal(address: Ipv6Addr) -> String {
    let short = address.to_string();
    if short.contains('.') { address.segments().map(|segment| format!("{segment:x}")).join(":") } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_spelling() {
        let table = [
            ("GitHub.COM", "github.com"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("my_registry", "my_registry"),
            ("127.0.0.1", "127.0.0.1"),
            ("[0:0::1]", "[::1]"),
            ("[2001:DB8::A]", "[2001:db8::a]"),
            ("[::ffff:127.0.0.1]", "[0:0:0:0:0:ffff:7f00:1]"),
        ];
        for (text, shown) in table {
            let host = Host::parse(text).unwrap();
            assert_eq!(host.to_string(), shown);
            assert_eq!(Host::parse(shown), Ok(host));
        }
    }

    #[test]
    fn s14_ambiguous_hosts_are_refused() {
        let ambiguous = "2130706433 0x7f.1 0x7f000001 127.1 0177.0.0.1 127.0.0.01 1.2.3.4.5 256.0.0.1 a.0x";
        for text in ambiguous.split_whitespace() {
            assert_eq!(Host::parse(text), Err(HostError::AmbiguousAddress), "{text}");
        }
        for text in
            ["", "a..b", "a.", ".a", "-a", "a-", "a.-b", "ä.example", "a%2eb", "a b", "a@b", "[::1", "[::1%eth0]", "[]"]
        {
            assert!(Host::parse(text).is_err(), "{text}");
        }
        assert!(Host::parse(&"a".repeat(64)).is_err());
        assert!(Host::parse(&["abc"; 64].join(".")).is_err());
    }
}
