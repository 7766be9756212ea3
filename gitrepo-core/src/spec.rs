//! The request: validated newtypes for the volume's vocabulary.
//!
//! A value of one of these types is safe to use. Past this module there is no raw text from a pod spec, no path that
//! escapes its root, and no URL that git reads differently from us.

mod attributes;
mod choice;
mod commit;
mod decimal;
pub mod duration;
pub(crate) mod foreign;
mod host;
mod label;
pub(crate) mod names;
pub mod nearest;
mod path;
pub mod quantity;
mod revision;
mod tree;
pub(crate) mod url;
mod volume;
pub(crate) mod wildcard;
mod working_repository;

pub use attributes::ATTRIBUTES_BYTES;
pub use attributes::Attribute;
pub use attributes::DefaultDirectory;
pub use attributes::KEYS;
pub use attributes::SpecError;
pub use attributes::suggestion;
pub use choice::Checkout;
pub use choice::Choice;
pub use choice::GitDir;
pub use choice::PullPolicy;
pub use choice::Submodules;
pub use choice::Symlinks;
pub use choice::Writable;
pub use commit::CommitId;
pub use commit::CommitIdError;
pub use host::HostError;
pub use label::Label;
pub use label::LabelError;
pub use path::PathError;
pub use path::RelativePath;
pub use revision::Revision;
pub use revision::RevisionError;
pub use tree::TreeOptions;
pub use url::RepositoryUrl;
pub use url::Scheme;
pub use url::UrlError;
pub use volume::Refresh;
pub use volume::VolumeSpec;
pub use working_repository::WorkingRepository;

pub(crate) use decimal::decimal;
pub(crate) use host::Host;
pub(crate) use revision::looks_abbreviated;

/// Serialises a type as the text it prints, and reads it back through its parser.
macro_rules! serde_as_text {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use serde_as_text;
