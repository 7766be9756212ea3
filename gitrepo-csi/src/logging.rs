//! Logs to stderr, which the container runtime collects.

use std::io;

use gitrepo_frontend::audit;
use gitrepo_frontend::log::LogConfig;
use gitrepo_frontend::log::LogFormat;
use tracing::Level;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging. The level applies to our own crates, but not to the audit log. Libraries log only warnings and errors,
/// because some print the data that they handle at `trace`.
pub fn start(config: &LogConfig) {
    let level = Level::from(config.level);
    let others = level.min(Level::WARN);
    let ours = [("gitrepo_core", level), ("gitrepo_csi", level), (audit::TARGET, Level::INFO)];
    let filter = Targets::new().with_default(others).with_targets(ours);
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(false);
    let lines = match config.format {
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
        LogFormat::Text => lines.boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
}
