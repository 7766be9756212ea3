//! Patterns of host names and addresses.

use std::fmt;
use std::net::IpAddr;

use crate::spec::serde_as_text;
use crate::spec::wildcard;

/// A host name or address in which `*` matches any characters, including dots: `*.example.com`, `10.*`, `*`.
///
/// `*.example.com` does not match `example.com` itself. Case is ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern(String);

/// The text is not a host pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no pattern of hosts; write a name in ASCII, or an address without port, with * as wildcard")]
pub struct PatternError {
    /// As written.
    pub text: String,
}

impl HostPattern {
    /// Reads a pattern. An IPv6 address may have brackets, and any spelling.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let bare = text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(Self(address.to_string()));
        }
        let is_allowed = |letter: char| letter.is_ascii_alphanumeric() || "*-_.:".contains(letter);
        if bare.is_empty() || bare.ends_with('.') || !bare.chars().all(is_allowed) {
            return Err(PatternError { text: text.to_owned() });
        }
        Ok(Self(bare.to_ascii_lowercase()))
    }

    /// Matches everything.
    pub fn any() -> Self {
        Self("*".to_owned())
    }

    /// Whether it matches a host name in lower case.
    pub fn covers_name(&self, name: &str) -> bool {
        wildcard::matches(self.0.as_bytes(), name.as_bytes())
    }

    /// Whether it matches an address.
    pub fn covers_address(&self, address: IpAddr) -> bool {
        self.covers_name(&address.to_string())
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_as_text!(HostPattern);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_run_of_characters() {
        for (pattern, name, covered) in [
            ("*", "anything.example", true),
            ("*.example.com", "git.example.com", true),
            ("*.Example.COM", "a.b.example.com", true),
            ("git.*.com", "git.example.com", true),
            ("10.*", "10.1.2.3", true),
            ("a*b*c", "aXbXbXc", true),
            ("[2001:DB8:0::1]", "2001:db8::1", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "git.example.com.evil.example", false),
            ("example.com", "notexample.com", false),
            ("a*b*c", "aXbX", false),
            ("10.*", "110.1.2.3", false),
        ] {
            assert_eq!(HostPattern::parse(pattern).unwrap().covers_name(name), covered, "{pattern} {name}");
        }
    }

    #[test]
    fn what_can_never_cover_a_host_is_no_pattern() {
        for text in ["", "https://example.com", "example.com/x", "bücher.example", "example.com.", "a b", "user@host"]
        {
            assert!(HostPattern::parse(text).is_err(), "{text}");
        }
    }
}
