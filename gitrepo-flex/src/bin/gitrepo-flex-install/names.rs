//! Names of vendors and drivers. Together they name a directory and, in manifests, the driver: `vendor/driver`.

use std::fmt;

/// A vendor's or a driver's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name(String);

impl Name {
    /// Accepts letters, digits, `-`, `_` and `.`, but no dot at the beginning. The kubelet separates the two names at
    /// `~` and ignores names with a leading dot; `/` would lead to another directory.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let fits = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
        if text.is_empty() || text.starts_with('.') || !text.chars().all(fits) {
            return Err("use letters, digits, '-', '_' and '.', and no dot at the beginning".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
