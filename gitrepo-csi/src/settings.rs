//! The driver's settings: the configuration file, overridden by the flags and their environment variables.

use std::path::Path;
use std::path::PathBuf;

use gitrepo_core::error::Kind;
use gitrepo_core::policy::Config;
use gitrepo_core::policy::ConfigError;
use gitrepo_frontend::configuration::Configuration;
use gitrepo_frontend::log::LogConfig;

use crate::arguments::Arguments;
use crate::arguments::Mode;
use crate::server::Endpoint;
use crate::server::EndpointError;
use crate::target;

/// Longest name of a driver (CSI: 63 characters).
const LONGEST_NAME: usize = 63;

/// Longest name of a node. CSI allows 256 bytes since 1.5.
const LONGEST_NODE: usize = 256;

/// All settings, fixed before anything starts.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Core's part of the configuration, with the overrides of the flags.
    pub config: Config,
    /// The log settings, with the overrides of the flags.
    pub log: LogConfig,
    /// The CSI socket, as the driver sees it.
    pub endpoint: Endpoint,
    /// The CSI socket, as the kubelet sees it.
    pub kubelet_endpoint: PathBuf,
    /// The cluster's name for this node; empty in a controller.
    pub node_id: String,
}

/// Why the settings are refused.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The configuration file cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// `--endpoint` is invalid.
    #[error("--endpoint")]
    Endpoint(#[from] EndpointError),
    /// Another flag is invalid.
    #[error("{flag} {reason}")]
    Flag {
        /// The flag.
        flag: &'static str,
        /// Why it is invalid.
        reason: &'static str,
    },
}

impl SettingsError {
    /// The kind of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Config(error) => error.kind(),
            Self::Endpoint(_) | Self::Flag { .. } => Kind::InvalidRequest,
        }
    }
}

impl Settings {
    /// Reads the configuration file, if given, and checks everything.
    pub fn read(arguments: &Arguments) -> Result<Self, SettingsError> {
        let Configuration { core: mut config, frontend } = match &arguments.config {
            Some(file) => Configuration::read(file, Config::for_drivers())?,
            None => Configuration::default(),
        };
        if let Some(store) = &arguments.store {
            config.store.clone_from(store);
        }
        let log = LogConfig {
            level: arguments.log_level.unwrap_or(frontend.log.level),
            format: arguments.log_format.unwrap_or(frontend.log.format),
        };
        check_path("--store", &config.store)?;
        check_path("--kubelet-dir", &arguments.kubelet_dir)?;
        if let Some(directory) = &arguments.kubelet_registration_dir {
            check_path("--kubelet-registration-dir", directory)?;
            if !arguments.mode.has_node() {
                let reason = "registers a node service with the kubelet, which --mode controller does not have";
                return Err(SettingsError::Flag { flag: "--kubelet-registration-dir", reason });
            }
        }
        check_name(&arguments.driver_name)?;
        let endpoint: Endpoint = arguments.endpoint.parse()?;
        Ok(Self {
            kubelet_endpoint: as_the_kubelet_sees_it(endpoint.path(), arguments),
            node_id: node_id(arguments)?,
            endpoint,
            config,
            log,
        })
    }
}

fn check_path(flag: &'static str, path: &Path) -> Result<(), SettingsError> {
    if target::is_clean(path) && path.file_name().is_some() {
        return Ok(());
    }
    Err(SettingsError::Flag { flag, reason: "must be an absolute path without `..`" })
}

/// Checks that the name is a domain name, as CSI requires, in lower case, as Kubernetes requires of the CSIDriver
/// object.
fn check_name(name: &str) -> Result<(), SettingsError> {
    let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    let ends = name.bytes().next().zip(name.bytes().last());
    let is_name = name.len() <= LONGEST_NAME
        && name.bytes().all(inside)
        && ends.is_some_and(|(first, last)| first.is_ascii_lowercase() && last.is_ascii_lowercase());
    if is_name {
        return Ok(());
    }
    let reason =
        "must be a domain name of at most 63 lower-case letters, digits, `-` and `.`, with a letter at both ends";
    Err(SettingsError::Flag { flag: "--driver-name", reason })
}

fn node_id(arguments: &Arguments) -> Result<String, SettingsError> {
    let flag = "--node-id";
    match arguments.node_id.as_deref().unwrap_or_default() {
        "" if arguments.mode == Mode::Controller => Ok(String::new()),
        "" => Err(SettingsError::Flag {
            flag,
            reason: "is missing: give the node's name in the cluster (spec.nodeName of the driver's pod)",
        }),
        name if name.len() > LONGEST_NODE => Err(SettingsError::Flag { flag, reason: "is longer than 256 bytes" }),
        name => Ok(name.to_owned()),
    }
}

/// Returns the path of the socket as the kubelet sees it. A socket below the kubelet's directory has the same path for
/// both. Any other path exists only in the container, where the plugin's directory is mounted: by convention it is
/// `plugins/<driver>` on the node.
fn as_the_kubelet_sees_it(socket: &Path, arguments: &Arguments) -> PathBuf {
    if socket.starts_with(&arguments.kubelet_dir) {
        return socket.to_owned();
    }
    let name = socket.file_name().unwrap_or_default();
    arguments.kubelet_dir.join("plugins").join(&arguments.driver_name).join(name)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use gitrepo_frontend::log::LogFormat;
    use gitrepo_frontend::log::LogLevel;

    use super::*;

    fn read(flags: &[&str]) -> Result<Settings, SettingsError> {
        read_as("--node-id=node-1", flags)
    }

    fn read_as(node: &str, flags: &[&str]) -> Result<Settings, SettingsError> {
        Settings::read(&Arguments::try_parse_from(["gitrepo-csi", node].iter().chain(flags)).unwrap())
    }

    #[test]
    fn flags_override_the_file_and_the_file_overrides_the_defaults() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("config.json");
        std::fs::write(&file, r#"{"store": "/data/store", "log": {"level": "warn", "format": "text"}}"#).unwrap();
        let config = format!("--config={}", file.display());
        let settings = read(&[&config]).unwrap();
        assert_eq!(settings.config.store, Path::new("/data/store"));
        assert_eq!((settings.log.level, settings.log.format), (LogLevel::Warn, LogFormat::Text));
        let flags = [config.as_str(), "--store=/elsewhere", "--log-level=debug", "--log-format=json"];
        let settings = read(&flags).unwrap();
        assert_eq!(settings.config.store, Path::new("/elsewhere"));
        assert_eq!((settings.log.level, settings.log.format), (LogLevel::Debug, LogFormat::Json));
        assert_eq!(read(&[]).unwrap().config, Config::for_drivers());
    }

    #[test]
    fn the_kubelet_sees_the_socket_in_the_plugins_own_directory() {
        let seen = |flags: &[&str]| read(flags).unwrap().kubelet_endpoint;
        assert_eq!(seen(&[]), Path::new("/var/lib/kubelet/plugins/csi.gitrepo.internal/csi.sock"));
        let elsewhere = ["--kubelet-dir=/var/lib/k0s/kubelet", "--driver-name=git.example.org"];
        assert_eq!(seen(&elsewhere), Path::new("/var/lib/k0s/kubelet/plugins/git.example.org/csi.sock"));
        let same = ["--endpoint=unix:///var/lib/kubelet/plugins/x/s.sock"];
        assert_eq!(seen(&same), Path::new("/var/lib/kubelet/plugins/x/s.sock"));
    }

    #[test]
    fn invalid_settings_are_refused_and_name_their_flag() {
        for (flags, named) in [
            (&["--store=relative"][..], "--store"),
            (&["--kubelet-dir=/var/../lib"], "--kubelet-dir"),
            (&["--kubelet-dir=/"], "--kubelet-dir"),
            (&["--kubelet-registration-dir=x"], "--kubelet-registration-dir"),
            (&["--kubelet-registration-dir=/x", "--mode=controller"], "--kubelet-registration-dir"),
            (&["--driver-name=Csi.example.org"], "--driver-name"),
            (&["--driver-name=csi.example.org1"], "--driver-name"),
            (&["--driver-name="], "--driver-name"),
            (&["--endpoint=tcp://127.0.0.1:1"], "--endpoint"),
            (&["--config=/nowhere/config.json"], "/nowhere/config.json"),
        ] {
            let error = read(flags).unwrap_err();
            assert_eq!(error.kind(), Kind::InvalidRequest, "{flags:?}");
            assert!(error.to_string().contains(named), "{error}");
        }
        for mode in ["--mode=node", "--mode=all"] {
            assert!(read_as("--node-id=", &[mode]).unwrap_err().to_string().starts_with("--node-id"), "{mode}");
        }
        assert_eq!(read_as("--node-id=", &["--mode=controller"]).unwrap().node_id, "");
    }
}
