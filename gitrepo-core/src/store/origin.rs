//! The program that published a volume, and that alone may collect it.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::Serialize;

/// A program that publishes volumes, under a name of its own choice. Only this program collects the volumes that its
/// users abandon.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "Fields", into = "Fields")]
pub struct Origin {
    name: Cow<'static, str>,
    propagates: bool,
}

impl Origin {
    /// Creates the origin of a driver that a kubelet calls. Its mounts propagate to all mount namespaces, so after a
    /// restart the driver sees them from a new one.
    pub const fn driver(name: &'static str) -> Self {
        Self { name: Cow::Borrowed(name), propagates: true }
    }

    /// Creates the origin of a program whose mounts stay in its own mount namespace. Another namespace cannot tell
    /// whether they are still there.
    pub const fn program(name: &'static str) -> Self {
        Self { name: Cow::Borrowed(name), propagates: false }
    }

    /// Returns the program's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the program's mounts are visible in every mount namespace.
    pub fn propagates(&self) -> bool {
        self.propagates
    }
}

impl PartialEq for Origin {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Origin {}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// An origin's fields in a record.
#[derive(Serialize, Deserialize)]
struct Fields {
    origin: Cow<'static, str>,
    /// Earlier versions did not write it. Their origins were two drivers, and the command line, `cli`.
    #[serde(default)]
    propagates: Option<bool>,
}

impl From<Fields> for Origin {
    fn from(fields: Fields) -> Self {
        Self { propagates: fields.propagates.unwrap_or(fields.origin != "cli"), name: fields.origin }
    }
}

impl From<Origin> for Fields {
    fn from(origin: Origin) -> Self {
        Self { origin: origin.name, propagates: Some(origin.propagates) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_an_earlier_version_contains_only_the_name_of_the_origin() {
        for (json, origin) in [
            (r#"{"origin":"csi"}"#, Origin::driver("csi")),
            (r#"{"origin":"cli"}"#, Origin::program("cli")),
            (r#"{"origin":"mine","propagates":false}"#, Origin::program("mine")),
        ] {
            let read: Origin = serde_json::from_str(json).unwrap();
            assert_eq!((read.name(), read.propagates()), (origin.name(), origin.propagates()));
            let again: Origin = serde_json::from_str(&serde_json::to_string(&read).unwrap()).unwrap();
            assert_eq!((&again, again.propagates()), (&read, read.propagates()));
        }
    }
}
