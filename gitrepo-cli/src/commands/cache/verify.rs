//! `gitrepo-cli cache verify`.

use std::process::ExitCode;

use gitrepo_core::error::Kind;
use gitrepo_core::spec::RepositoryUrl;
use gitrepo_core::store::Damage;
use gitrepo_core::store::Part;
use gitrepo_core::store::Repair;
use gitrepo_core::store::Verification;
use gitrepo_frontend::exit;
use serde::Serialize;

use crate::arguments::Global;
use crate::arguments::cache::Verify;
use crate::commands::request;
use crate::configuration;
use crate::error::CommandError;
use crate::render;
use crate::table;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Verified {
    repositories: usize,
    snapshots: usize,
    bytes: u64,
    damaged: Vec<Damaged>,
    /// What could not be read or repaired.
    failures: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Damaged {
    part: &'static str,
    /// The repository's hash, or the snapshot's id.
    id: String,
    repository: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<String>,
    reason: String,
    volumes: usize,
    quarantined: bool,
}

/// Verifies a store.
pub(crate) fn run(global: &Global, arguments: &Verify) -> Result<ExitCode, CommandError> {
    let watch = request::watch_within(arguments.timeout.as_deref(), global.json)?;
    let wanted = arguments.repository.as_deref().map(RepositoryUrl::parse).transpose().map_err(request::invalid_url)?;
    let volumes = configuration::existing_volumes(global, &arguments.store)?;
    let repair = if arguments.repair { Repair::Quarantine } else { Repair::No };
    let is_wanted = |url: Option<&str>| match &wanted {
        None => true,
        Some(wanted) => {
            url.and_then(|url| RepositoryUrl::parse(url).ok()).is_some_and(|url| url.canonical() == wanted.canonical())
        }
    };
    let verification = volumes.store().verify(is_wanted, repair, &watch)?;
    drop(watch);
    let status = status(&verification);
    let verified = Verified {
        repositories: verification.repositories,
        snapshots: verification.snapshots,
        bytes: verification.bytes,
        damaged: verification.damages.into_iter().map(damaged).collect(),
        failures: verification.failures,
    };
    render::result(global.json, &verified, text)?;
    Ok(status)
}

/// Damage that is out of service and that no volume shows is no failure any more.
fn status(verification: &Verification) -> ExitCode {
    let is_harmless = |damage: &Damage| damage.quarantined && damage.volumes == 0;
    if !verification.damages.iter().all(is_harmless) {
        exit::status(Kind::Corrupt)
    } else if !verification.failures.is_empty() {
        exit::status(Kind::Unavailable)
    } else {
        ExitCode::SUCCESS
    }
}

fn damaged(damage: Damage) -> Damaged {
    let (part, id) = match damage.part {
        Part::Repository(hash) => ("repository", hash),
        Part::Snapshot(id) => ("snapshot", id.to_string()),
    };
    Damaged {
        part,
        id,
        repository: damage.repository,
        commit: damage.commit.map(|commit| commit.to_string()),
        reason: damage.reason,
        volumes: damage.volumes,
        quarantined: damage.quarantined,
    }
}

fn text(verified: &Verified) -> String {
    let Verified { repositories, snapshots, bytes, .. } = verified;
    let bytes = table::bytes(*bytes);
    let mut lines = vec![format!("{repositories} repositories and {snapshots} snapshots verified, {bytes} read")];
    lines.extend(verified.damaged.iter().map(line));
    lines.extend(verified.failures.iter().cloned());
    if verified.damaged.iter().any(|damaged| !damaged.quarantined) {
        lines.push("run the command with --repair to take the damaged parts out of service".to_owned());
    }
    lines.join("\n")
}

fn line(damaged: &Damaged) -> String {
    let Damaged { part, id, reason, volumes, .. } = damaged;
    let of = damaged.repository.as_ref().map(|url| format!(" of {url}")).unwrap_or_default();
    let at = damaged.commit.as_ref().map(|commit| format!("@{}", table::short(commit))).unwrap_or_default();
    let shown = if *volumes > 0 { format!("; {volumes} volumes show it") } else { String::new() };
    let state = if damaged.quarantined { "; quarantined" } else { "" };
    format!("damaged: {part} {}{of}{at}: {reason}{shown}{state}", table::short(id))
}
