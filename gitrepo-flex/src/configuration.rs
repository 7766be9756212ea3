//! The configuration: the node's, or the one beside the executable.

use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use gitrepo_core::error::Kind;
use gitrepo_core::policy::Config;
use gitrepo_core::policy::ConfigError;
use gitrepo_frontend::configuration::Configuration;
use nix::fcntl::OFlag;
use serde_json::Value;

/// The node's, for all frontends.
const OF_THE_NODE: &str = "/etc/gitrepo/config.json";

/// The driver's, beside its executable. The leading dot keeps the kubelet from probing the driver when it changes.
pub const OF_THE_DRIVER: &str = ".config.json";

/// Far beyond any real one, in bytes.
const LIMIT: u64 = 1 << 20;

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// Its file cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Whoever may write to it decides what root does on this node.
    #[error("the configuration {} is refused: {reason}", path.display())]
    Untrusted {
        /// Which.
        path: PathBuf,
        /// Which rule.
        reason: &'static str,
    },
    /// What it says.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl ConfigurationError {
    /// The kind of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Read { .. } => Kind::Internal,
            Self::Untrusted { .. } => Kind::FailedPrecondition,
            Self::Config(error) => error.kind(),
        }
    }
}

/// The node's configuration, else that of the driver in `directory`, else the defaults for drivers.
pub fn read(directory: Option<&Path>) -> Result<Configuration, ConfigurationError> {
    match find(&places(directory))? {
        Some((path, text)) => Ok(Configuration::parse(&text, &path, Config::for_drivers())?),
        None => Ok(Configuration::default()),
    }
}

/// For a call that must not fail over a configuration: the configuration, or where it is refused all that may name a
/// store, and why it is refused.
pub fn read_or_guess(directory: Option<&Path>) -> (Vec<Configuration>, Option<ConfigurationError>) {
    let found = match find(&places(directory)) {
        Ok(Some((path, text))) => {
            Configuration::parse(&text, &path, Config::for_drivers()).map_err(|error| (error.into(), text))
        }
        Ok(None) => Ok(Configuration::default()),
        Err(error) => Err((error, String::new())),
    };
    match found {
        Ok(config) => (vec![config], None),
        // The default store is looked through as well: who knows where the volume was made.
        Err((error, text)) => (vec![guess(&text), Configuration::default()], Some(error)),
    }
}

fn places(directory: Option<&Path>) -> Vec<PathBuf> {
    let beside = directory.map(|directory| directory.join(OF_THE_DRIVER));
    [Some(PathBuf::from(OF_THE_NODE)), beside].into_iter().flatten().collect()
}

/// The first of the files that is there, with its text.
fn find(places: &[PathBuf]) -> Result<Option<(PathBuf, String)>, ConfigurationError> {
    for path in places {
        let failed = |source| ConfigurationError::Read { path: path.clone(), source };
        // A pipe in its place must not hold up a mount for ever.
        let opened = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
        match opened {
            Ok(mut file) => {
                let untrusted = |reason| ConfigurationError::Untrusted { path: path.clone(), reason };
                check(&file).map_err(failed)?.map_or(Ok(()), |reason| Err(untrusted(reason)))?;
                let mut text = String::new();
                file.by_ref().take(LIMIT).read_to_string(&mut text).map_err(failed)?;
                return Ok(Some((path.clone(), text)));
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(None)
}

/// Why an open file is not root's word, if it is not.
fn check(file: &File) -> io::Result<Option<&'static str>> {
    let metadata = file.metadata()?;
    let us = nix::unistd::geteuid().as_raw();
    Ok(if !metadata.is_file() {
        Some("it is no file")
    } else if metadata.uid() != 0 && metadata.uid() != us {
        Some("it belongs to another user than root")
    } else if metadata.mode() & 0o022 != 0 {
        Some("others than root may write to it; change its mode to 0644")
    } else {
        None
    })
}

/// The defaults, with the stores that a broken configuration names, as far as they can be made out.
fn guess(text: &str) -> Configuration {
    let mut configuration = Configuration::default();
    let broken: Value = serde_json::from_str(text).unwrap_or_default();
    let path = |value: &Value| value.as_str().map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(store) = path(&broken["store"]) {
        configuration.core.store = store;
    }
    if let Some(roots) = broken["hostTargetRoots"].as_array() {
        configuration.frontend.host_target_roots.extend(roots.iter().filter_map(path));
    }
    configuration
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("config.json");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (place, path)
    }

    #[test]
    fn the_first_file_that_is_there_counts() {
        let (_first, first) = file("1", 0o644);
        let (_second, second) = file("2", 0o600);
        let missing = PathBuf::from("/nonexistent/config.json");
        let below_a_file = first.join("config.json");
        let text = |places: &[&PathBuf]| {
            let places: Vec<_> = places.iter().map(|path| (*path).clone()).collect();
            find(&places).unwrap().map(|(_, text)| text)
        };
        assert_eq!(text(&[&missing, &first, &second]).as_deref(), Some("1"));
        assert_eq!(text(&[&below_a_file, &second]).as_deref(), Some("2"));
        assert_eq!(text(&[&missing]), None);
    }

    #[test]
    fn a_file_that_others_may_write_to_is_refused() {
        for mode in [0o664, 0o646, 0o666] {
            let (_place, path) = file("{}", mode);
            assert!(matches!(find(&[path]), Err(ConfigurationError::Untrusted { .. })), "{mode:o}");
        }
        let place = tempfile::tempdir().unwrap();
        assert!(find(&[place.path().to_owned()]).is_err());
        let pipe = place.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(matches!(find(&[pipe]), Err(ConfigurationError::Untrusted { .. })));
        if nix::unistd::geteuid().is_root() {
            let (_place, path) = file("{}", 0o644);
            std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
            assert!(matches!(find(&[path]), Err(ConfigurationError::Untrusted { .. })));
        }
    }

    #[test]
    fn of_a_broken_configuration_the_stores_are_known() {
        let configuration =
            guess(r#"{"store": "/srv/store", "hostTargetRoots": ["/srv/images", 5, "relative"], "no": "such"}"#);
        assert_eq!(configuration.core.store, Path::new("/srv/store"));
        assert!(configuration.frontend.host_target_roots.contains(&"/srv/images".into()));
        for text in ["", "{", "[]", "null", r#"{"store": 5, "hostTargetRoots": {}}"#] {
            assert_eq!(guess(text), Configuration::default(), "{text}");
        }
    }
}
