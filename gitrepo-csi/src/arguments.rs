//! The command line, and the equivalent environment variables.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use clap::ValueEnum;
use gitrepo_frontend::log::LogFormat;
use gitrepo_frontend::log::LogLevel;

/// Git repositories as Kubernetes volumes: the CSI driver. docs/csi.md describes it and its options.
#[derive(Debug, Clone, Parser)]
#[command(name = "gitrepo-csi", version)]
pub struct Arguments {
    /// The socket to serve CSI on
    #[arg(long, value_name = "SOCKET", env = "GITREPO_ENDPOINT", default_value = "unix:///csi/csi.sock")]
    pub endpoint: String,
    /// This node's name in the cluster; required unless --mode is controller
    #[arg(long, value_name = "NAME", env = "GITREPO_NODE_ID")]
    pub node_id: Option<String>,
    /// Which services to offer besides the identity service
    #[arg(long, value_name = "MODE", env = "GITREPO_MODE", default_value = "node")]
    pub mode: Mode,
    /// The store's directory [default: store of the configuration, /var/lib/gitrepo]
    #[arg(long, value_name = "DIR", env = "GITREPO_STORE")]
    pub store: Option<PathBuf>,
    /// Configuration file; its schema and meaning are in docs/configuration.md
    #[arg(long, value_name = "FILE", env = "GITREPO_CONFIG")]
    pub config: Option<PathBuf>,
    /// The driver's name, as in the CSIDriver object
    #[arg(long, value_name = "NAME", env = "GITREPO_DRIVER_NAME", default_value = "csi.gitrepo.internal")]
    pub driver_name: String,
    /// The kubelet's directory, as the kubelet sees it; volumes are published below it and nowhere else
    #[arg(long, value_name = "DIR", env = "GITREPO_KUBELET_DIR", default_value = "/var/lib/kubelet")]
    pub kubelet_dir: PathBuf,
    /// Where the kubelet looks for plugins, to register without a sidecar [default: do not register]
    #[arg(long, value_name = "DIR", env = "GITREPO_KUBELET_REGISTRATION_DIR")]
    pub kubelet_registration_dir: Option<PathBuf>,
    /// How long publishes that are nearly done may take after SIGTERM; the driver exits at most 20 seconds later
    #[arg(long, value_name = "SECONDS", env = "GITREPO_FINISH_WITHIN", default_value_t = 10)]
    pub finish_within: u64,
    /// Where to serve /metrics, /healthz and /readyz
    #[arg(long, value_name = "ADDRESS", env = "GITREPO_HTTP", default_value = "127.0.0.1:9808")]
    pub http: SocketAddr,
    /// Log format [default: log.format of the configuration, json]
    #[arg(long, value_name = "FORMAT", env = "GITREPO_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Log level [default: log.level of the configuration, info]
    #[arg(long, value_name = "LEVEL", env = "GITREPO_LOG_LEVEL")]
    pub log_level: Option<LogLevel>,
}

/// Which services the driver offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// The node service.
    Node,
    /// The controller service.
    Controller,
    /// Both.
    All,
}

impl Mode {
    /// Whether the node service is offered.
    pub fn has_node(self) -> bool {
        self != Self::Controller
    }

    /// Whether the controller service is offered.
    pub fn has_controller(self) -> bool {
        self != Self::Node
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent_and_every_flag_has_its_variable() {
        Arguments::command().debug_assert();
        for argument in Arguments::command().get_arguments() {
            let flag = argument.get_long().unwrap();
            let variable = format!("GITREPO_{}", flag.replace('-', "_").to_uppercase());
            assert_eq!(argument.get_env().and_then(|env| env.to_str()), Some(variable.as_str()), "--{flag}");
        }
    }
}
