//! Which store a FlexVolume's `hostTarget` means.
//!
//! Manifests of an older driver name a directory on the host there. A pod's author does not choose where root writes, so
//! the text selects among the directories that the configuration lists, and means nothing beyond that.

use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use super::Config;
use crate::error::Kind;

/// What a `hostTarget` selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostTarget {
    /// In which store the volume is kept.
    pub store: SelectedStore,
    /// What followed the selected directory. It has no meaning, which a log should say; empty if there was nothing.
    pub ignored: PathBuf,
}

/// One of the stores that the configuration allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SelectedStore {
    /// The configuration's `store`.
    Main,
    /// That of this directory, one of `hostTargetRoots`; see [`Store::open_beside`](crate::store::Store::open_beside).
    Beside(PathBuf),
}

/// The text selects nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("hostTarget {text:?} {reason}; allowed are {} and what is below them", allowed.join(", "))]
pub struct HostTargetError {
    text: String,
    reason: &'static str,
    allowed: Vec<String>,
}

impl HostTargetError {
    /// The kind of this failure.
    pub fn kind(&self) -> Kind {
        Kind::InvalidRequest
    }
}

impl HostTarget {
    /// The directory among `hostTargetRoots` and `store` that is the longest beginning of `text`, component by component:
    /// `/data/images2` is not below `/data/images`.
    ///
    /// # Errors
    ///
    /// When there is none, or `text` is no absolute path without `..`.
    pub fn select(config: &Config, text: &str) -> Result<Self, HostTargetError> {
        let path = Path::new(text);
        let beside = config.host_target_roots.iter().filter(|root| **root != config.store);
        // The store comes last, for `max_by_key` takes the last of equals.
        let roots = beside.chain([&config.store]);
        let refused = |reason| {
            let allowed = roots.clone().map(|root| root.display().to_string()).collect();
            HostTargetError { text: text.to_owned(), reason, allowed }
        };
        if !path.is_absolute() {
            return Err(refused("is no absolute path"));
        }
        if text.contains('\0') || path.components().any(|part| part == Component::ParentDir) {
            return Err(refused("has a NUL or a `..` in it"));
        }
        let root = roots
            .clone()
            .filter(|root| path.starts_with(root))
            .max_by_key(|root| root.components().count())
            .ok_or_else(|| refused("is in none of the configured directories"))?;
        let ignored = path.strip_prefix(root).unwrap_or(Path::new("")).to_owned();
        let store = if *root == config.store { SelectedStore::Main } else { SelectedStore::Beside(root.clone()) };
        Ok(Self { store, ignored })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let host_target_roots = ["/data/images", "/data/images/fast", "/var/tmp/images/"].map(PathBuf::from).to_vec();
        Config { host_target_roots, ..Config::for_drivers() }
    }

    fn select(text: &str) -> Result<HostTarget, HostTargetError> {
        HostTarget::select(&config(), text)
    }

    #[test]
    fn the_longest_listed_directory_is_selected_and_the_rest_is_told() {
        let beside = |root: &str| SelectedStore::Beside(root.into());
        for (text, store, ignored) in [
            ("/data/images", beside("/data/images"), ""),
            ("/data/images/", beside("/data/images"), ""),
            ("//data/./images//my/repo", beside("/data/images"), "my/repo"),
            ("/data/images/faster", beside("/data/images"), "faster"),
            ("/data/images/fast", beside("/data/images/fast"), ""),
            ("/data/images/fast/x", beside("/data/images/fast"), "x"),
            ("/var/tmp/images/..x", beside("/var/tmp/images"), "..x"),
            ("/var/lib/gitrepo", SelectedStore::Main, ""),
            ("/var/lib/gitrepo/snapshots", SelectedStore::Main, "snapshots"),
        ] {
            assert_eq!(select(text), Ok(HostTarget { store, ignored: ignored.into() }), "{text}");
        }
    }

    #[test]
    fn the_store_is_the_store_also_where_it_is_listed_twice() {
        let config = Config { host_target_roots: vec!["/var/lib/gitrepo".into()], ..Config::for_drivers() };
        let selected = HostTarget::select(&config, "/var/lib/gitrepo").unwrap();
        assert_eq!(selected.store, SelectedStore::Main);
    }

    #[test]
    fn anything_else_is_refused_with_what_is_allowed() {
        for text in [
            "",
            "/",
            "/data",
            "/data/images2",
            "/data/image",
            "/etc",
            "data/images",
            "./data/images",
            "/data/images/..",
            "/data/images/../../etc",
            "/etc/../data/images",
            "/data/images/\0x",
            "~/x",
        ] {
            let error = select(text).unwrap_err();
            assert_eq!(error.kind(), Kind::InvalidRequest, "{text:?}");
            let message = error.to_string();
            assert!(message.contains("/data/images, /data/images/fast, ") && !message.contains('\0'), "{message:?}");
        }
    }
}
