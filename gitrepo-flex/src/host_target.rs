//! The option `hostTarget`: selects the store of a volume.
//!
//! Manifests of an older driver put a directory of the host there. A pod's author must not choose where root writes, so
//! the text only selects one of the directories that the configuration lists.

use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use gitrepo_core::error::Kind;
use gitrepo_core::gateway::Gateway;
use gitrepo_core::store::Store;
use gitrepo_core::volume::Volumes;
use gitrepo_frontend::configuration::Configuration;

use crate::error::CallError;

/// Opens the store that `text` selects, or the main one. Creates the store if it is missing.
pub(crate) fn volumes(configuration: Configuration, text: Option<&str>) -> Result<Volumes, CallError> {
    let selected = text.map(|text| HostTarget::select(&configuration, text)).transpose()?;
    let main = Store::open(&configuration.core.store)?;
    let store = match selected {
        None => main,
        Some(HostTarget { store, ignored }) => {
            if !ignored.as_os_str().is_empty() {
                tracing::info!(ignored = %ignored.display(), "hostTarget only selects a store");
            }
            match store {
                SelectedStore::Main => main,
                SelectedStore::Beside(directory) => Store::open_beside(&directory, &main)?,
            }
        }
    };
    Ok(Volumes::of(store, Gateway::confined(configuration.core)))
}

/// A parsed `hostTarget`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HostTarget {
    /// The store of the volume.
    store: SelectedStore,
    /// The rest of the path after the selected directory; may be empty. It is logged, and has no effect.
    ignored: PathBuf,
}

/// One of the stores that the configuration allows.
#[derive(Debug, Clone, PartialEq, Eq)]
enum SelectedStore {
    /// The configuration's `store`.
    Main,
    /// The store of this directory, one of `hostTargetRoots`.
    Beside(PathBuf),
}

/// A `hostTarget` that selects no store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("hostTarget {text:?} {reason}; allowed are {} and paths below them", allowed.join(", "))]
pub(crate) struct HostTargetError {
    text: String,
    reason: &'static str,
    allowed: Vec<String>,
}

impl HostTargetError {
    /// The kind of this failure.
    pub(crate) fn kind(&self) -> Kind {
        Kind::InvalidRequest
    }
}

impl HostTarget {
    /// Selects the longest directory among `hostTargetRoots` and `store` that is a prefix of `text`. It compares whole
    /// components: `/data/images2` is not below `/data/images`.
    ///
    /// # Errors
    ///
    /// If no directory matches, or `text` is not an absolute path, or contains `..`.
    fn select(configuration: &Configuration, text: &str) -> Result<Self, HostTargetError> {
        let (path, main) = (Path::new(text), &configuration.core.store);
        let beside = configuration.frontend.host_target_roots.iter().filter(|root| *root != main);
        // The store comes last, because `max_by_key` returns the last of equal elements.
        let roots = beside.chain([main]);
        let refused = |reason| {
            let allowed = roots.clone().map(|root| root.display().to_string()).collect();
            HostTargetError { text: text.to_owned(), reason, allowed }
        };
        if !path.is_absolute() {
            return Err(refused("is not an absolute path"));
        }
        if text.contains('\0') || path.components().any(|part| part == Component::ParentDir) {
            return Err(refused("contains a NUL or a `..`"));
        }
        let root = roots
            .clone()
            .filter(|root| path.starts_with(root))
            .max_by_key(|root| root.components().count())
            .ok_or_else(|| refused("is not in a configured directory"))?;
        let ignored = path.strip_prefix(root).unwrap_or(Path::new("")).to_owned();
        let store = if root == main { SelectedStore::Main } else { SelectedStore::Beside(root.clone()) };
        Ok(Self { store, ignored })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(roots: &[&str]) -> Configuration {
        let mut configuration = Configuration::default();
        configuration.frontend.host_target_roots = roots.iter().map(PathBuf::from).collect();
        configuration
    }

    fn select(text: &str) -> Result<HostTarget, HostTargetError> {
        HostTarget::select(&listing(&["/data/images", "/data/images/fast", "/var/tmp/images/"]), text)
    }

    #[test]
    fn the_longest_listed_directory_is_selected_and_the_rest_returned() {
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
    fn the_main_store_is_selected_even_if_it_is_also_a_root() {
        let selected = HostTarget::select(&listing(&["/var/lib/gitrepo"]), "/var/lib/gitrepo").unwrap();
        assert_eq!(selected.store, SelectedStore::Main);
    }

    #[test]
    fn other_paths_are_refused_and_the_error_lists_the_allowed_ones() {
        let words = "/ /data /data/images2 /data/image /etc data/images ./data/images /data/images/.. \
                     /data/images/../../etc /etc/../data/images ~/x";
        for text in words.split_whitespace().chain(["", "/data/images/\0x"]) {
            let error = select(text).unwrap_err();
            assert_eq!(error.kind(), Kind::InvalidRequest, "{text:?}");
            let message = error.to_string();
            assert!(message.contains("/data/images, /data/images/fast, ") && !message.contains('\0'), "{message:?}");
        }
    }
}
