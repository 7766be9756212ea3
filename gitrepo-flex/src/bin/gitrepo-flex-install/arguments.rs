//! The command line of `install`, `uninstall` and `healthy`. Every option is also an environment variable, so that a
//! DaemonSet's patch can change one value without touching the arguments.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::Parser;
use clap::Subcommand;
use gitrepo_frontend::log::LogFormat;
use gitrepo_frontend::log::LogLevel;

use crate::names::Name;

/// Installs the FlexVolume driver for git repositories: the program gitrepo-flex in the directory of this program.
#[derive(Debug, Parser)]
#[command(name = "gitrepo-flex-install", version, arg_required_else_help = true)]
pub(crate) struct Arguments {
    /// The command to run.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Copy the driver to the kubelet's plugin directory, and write its configuration. Files that are already right are
    /// not written again.
    Install(Install),
    /// Remove the driver and its configuration. Fails while the driver has volumes on this node.
    Uninstall(Uninstall),
    /// Exit with 0 while `install`, with the same options, would change nothing.
    Healthy(Healthy),
}

/// Selects the driver.
#[derive(Debug, Args)]
pub(crate) struct DriverLocation {
    /// The kubelet's --volume-plugin-dir
    #[arg(
        long,
        value_name = "DIR",
        env = "GITREPO_FLEX_PLUGIN_DIR",
        default_value = "/usr/libexec/kubernetes/kubelet-plugins/volume/exec"
    )]
    pub(crate) plugin_dir: PathBuf,
    /// First part of the driver's name in manifests, VENDOR/DRIVER
    #[arg(long, value_name = "NAME", env = "GITREPO_FLEX_VENDOR", default_value = "piersharding", value_parser = Name::parse)]
    pub(crate) vendor: Name,
    /// Second part of the driver's name
    #[arg(long, value_name = "NAME", env = "GITREPO_FLEX_DRIVER", default_value = "gitrepo", value_parser = Name::parse)]
    pub(crate) driver: Name,
}

/// The driver's settings.
#[derive(Debug, Clone, Args)]
pub(crate) struct Settings {
    /// Configuration to install, a JSON file as in docs/configuration.md
    #[arg(long, value_name = "FILE", env = "GITREPO_FLEX_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// The driver's log level [default: debug if the environment has DEBUG=true, else log.level of the configuration]
    #[arg(long, value_name = "LEVEL", env = "GITREPO_FLEX_LOG_LEVEL")]
    pub(crate) log_level: Option<LogLevel>,
    /// The driver's log format [default: log.format of the configuration]
    #[arg(long, value_name = "FORMAT", env = "GITREPO_FLEX_LOG_FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
}

/// How to create the driver's directory.
#[derive(Debug, Args)]
pub(crate) struct Making {
    /// Create the plugin directory if it is missing
    #[arg(long, env = "GITREPO_FLEX_CREATE", value_parser = clap::builder::BoolishValueParser::new())]
    pub(crate) create: bool,
    /// Remove the git, jq and settings of the bash driver's installer from this directory, usually the one above the
    /// plugin directory
    #[arg(long, value_name = "DIR", env = "GITREPO_FLEX_PREDECESSOR_DIR")]
    pub(crate) predecessor_dir: Option<PathBuf>,
}

/// `install`.
#[derive(Debug, Args)]
pub(crate) struct Install {
    #[command(flatten)]
    pub(crate) place: DriverLocation,
    #[command(flatten)]
    pub(crate) settings: Settings,
    #[command(flatten)]
    pub(crate) making: Making,
    /// Keep running, and reinstall the driver whenever its files differ. SIGTERM ends this; the driver stays installed
    #[arg(long, env = "GITREPO_FLEX_STAY", value_parser = clap::builder::BoolishValueParser::new())]
    pub(crate) stay: bool,
    /// With --stay: how often to check
    #[arg(long, value_name = "DURATION", env = "GITREPO_FLEX_INTERVAL", default_value = "5s", value_parser = duration)]
    pub(crate) interval: Duration,
    /// With --stay: how often to sweep the store, if it and the kubelet's directory are visible here
    #[arg(long, value_name = "DURATION", env = "GITREPO_FLEX_SWEEP_INTERVAL", default_value = "10m", value_parser = duration)]
    pub(crate) sweep_interval: Duration,
    #[command(flatten)]
    pub(crate) kubelet: Kubelet,
}

/// The kubelet's directory.
#[derive(Debug, Args)]
pub(crate) struct Kubelet {
    /// The kubelet's --root-dir, without symbolic links
    #[arg(
        id = "kubelet_dir",
        long = "kubelet-dir",
        value_name = "DIR",
        env = "GITREPO_FLEX_KUBELET_DIR",
        default_value = "/var/lib/kubelet"
    )]
    pub(crate) directory: PathBuf,
}

impl Kubelet {
    /// Returns the directory of all pods.
    pub(crate) fn pods(&self) -> PathBuf {
        self.directory.join("pods")
    }
}

/// `uninstall`.
#[derive(Debug, Args)]
pub(crate) struct Uninstall {
    #[command(flatten)]
    pub(crate) place: DriverLocation,
    #[command(flatten)]
    pub(crate) settings: Settings,
    #[command(flatten)]
    pub(crate) kubelet: Kubelet,
    /// Uninstall even while volumes are mounted. The kubelet cannot unmount them afterwards
    #[arg(long, env = "GITREPO_FLEX_FORCE", value_parser = clap::builder::BoolishValueParser::new())]
    pub(crate) force: bool,
    /// Keep running afterwards until SIGTERM, as a DaemonSet's process must
    #[arg(long, env = "GITREPO_FLEX_STAY", value_parser = clap::builder::BoolishValueParser::new())]
    pub(crate) stay: bool,
}

/// `healthy`.
#[derive(Debug, Args)]
pub(crate) struct Healthy {
    #[command(flatten)]
    pub(crate) place: DriverLocation,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

fn duration(text: &str) -> Result<Duration, String> {
    gitrepo_core::spec::duration::parse(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
