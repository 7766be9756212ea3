//! Reads the configuration: the node's file, or the one beside the executable.

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

/// The node's file, for all frontends.
const OF_THE_NODE: &str = "/etc/gitrepo/config.json";

/// The driver's file, beside its executable. Because of the leading dot, a change does not make the kubelet probe the
/// driver.
pub const OF_THE_DRIVER: &str = ".config.json";

/// How much of the file is read, in bytes: far more than any real file has.
const LIMIT: u64 = 1 << 20;

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// Others than root may write to the file, and so decide what root does on this node.
    #[error("the configuration {} is refused: {reason}", path.display())]
    Untrusted {
        /// The file.
        path: PathBuf,
        /// Why it is not trusted.
        reason: &'static str,
    },
    /// The file's content is invalid.
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

/// Returns the node's configuration, or else the driver's in `directory`, or else the defaults for drivers.
pub fn read(directory: Option<&Path>) -> Result<Configuration, ConfigurationError> {
    match find(&places(directory))? {
        Some((path, text)) => Ok(Configuration::parse(&text, &path, Config::for_drivers())?),
        None => Ok(Configuration::default()),
    }
}

/// Returns the configuration. If it is refused, returns the error, and configurations that name all stores that may
/// exist: for calls that must not fail because of a bad configuration.
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
        // Search the default store as well: the volume may be in it.
        Err((error, text)) => (vec![guess(&text), Configuration::default()], Some(error)),
    }
}

fn places(directory: Option<&Path>) -> Vec<PathBuf> {
    let beside = directory.map(|directory| directory.join(OF_THE_DRIVER));
    [Some(PathBuf::from(OF_THE_NODE)), beside].into_iter().flatten().collect()
}

/// Returns the first file that exists, with its text.
fn find(places: &[PathBuf]) -> Result<Option<(PathBuf, String)>, ConfigurationError> {
    for path in places {
        let failed = |source| ConfigurationError::Read { path: path.clone(), source };
        // Opening a pipe in its place must not block a mount for ever.
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

/// Returns the reason if an open file cannot be trusted as root's.
fn check(file: &File) -> io::Result<Option<&'static str>> {
    let metadata = file.metadata()?;
    let us = nix::unistd::geteuid().as_raw();
    Ok(if !metadata.is_file() {
        Some("it is not a file")
    } else if metadata.uid() != 0 && metadata.uid() != us {
        Some("it belongs to a user other than root")
    } else if metadata.mode() & 0o022 != 0 {
        Some("users other than root may write to it; change its mode to 0644")
    } else {
        None
    })
}

/// Returns the defaults, with the stores of a broken configuration, as far as these can be read.
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
    fn the_first_existing_file_is_used() {
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
    fn the_stores_of_a_broken_configuration_are_guessed() {
        let configuration =
            guess(r#"{"store": "/srv/store", "hostTargetRoots": ["/srv/images", 5, "relative"], "no": "such"}"#);
        assert_eq!(configuration.core.store, Path::new("/srv/store"));
        assert!(configuration.frontend.host_target_roots.contains(&"/srv/images".into()));
        for text in ["", "{", "[]", "null", r#"{"store": 5, "hostTargetRoots": {}}"#] {
            assert_eq!(guess(text), Configuration::default(), "{text}");
        }
    }
}
