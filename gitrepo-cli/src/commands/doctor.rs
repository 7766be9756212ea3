//! `gitrepo-cli doctor`: checks the node, and then a repository step by step.

mod check;
mod node;
mod propagation;
mod remote;
mod store;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use gitrepo_frontend::exit;
use serde::Serialize;

use crate::arguments::Doctor;
use crate::arguments::Global;
use crate::configuration;
use crate::error::CommandError;
use crate::interrupt;
use crate::render;

use super::request;

use check::Check;
use check::Status;

/// How long each step may take unless `--timeout` says otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Serialize)]
struct Report {
    checks: Vec<Check>,
}

/// Runs all checks. The exit status is that of the first failure.
pub(crate) fn run(global: &Global, arguments: &Doctor) -> Result<ExitCode, CommandError> {
    let cancel = interrupt::cancellation();
    let limit = match arguments.timeout.as_deref().filter(|text| !text.is_empty()) {
        Some(text) => request::parse_timeout(text)?,
        None => PATIENCE,
    };
    let config = configuration::read_with_store(global, &arguments.store)?;
    let mut checks = node::kernel();
    let (of_store, volumes) = store::check(&config, limit);
    checks.extend(of_store);
    let volumes = volumes.map(Arc::new);
    checks.extend(node::system(&config, &arguments.kubelet_dir, volumes.as_ref(), &cancel, limit));
    if let Some(repository) = &arguments.repository {
        let remote = remote::Remote { repository, arguments, config: &config, volumes, cancel: &cancel, limit };
        checks.extend(remote.check());
    }
    let failure = checks.iter().find_map(|check| check.kind);
    render::result(global.json, &Report { checks }, |report| {
        report.checks.iter().map(line).collect::<Vec<_>>().join("\n")
    })?;
    Ok(failure.map_or(ExitCode::SUCCESS, exit::status))
}

fn line(check: &Check) -> String {
    let status = match check.status {
        Status::Ok => "ok",
        Status::Warn => "warn",
        Status::Fail => "fail",
    };
    let advice = check.advice.as_ref().map(|advice| format!("\n      advice: {advice}")).unwrap_or_default();
    format!("{status:<4}  {}: {}{advice}", check.name, check.detail)
}
