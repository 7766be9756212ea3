//! `gitrepo-cli cache rm`.

use std::collections::BTreeSet;
use std::process::ExitCode;

use gitrepo_core::error::Kind;
use gitrepo_core::spec::CommitId;
use gitrepo_core::spec::RepositoryUrl;
use gitrepo_core::store::Inventory;
use gitrepo_frontend::exit;
use serde::Serialize;

use crate::arguments::Global;
use crate::arguments::cache::Remove;
use crate::commands::request;
use crate::configuration;
use crate::error::CommandError;
use crate::render;

/// Fewest digits of an abbreviated commit id, as git's default.
const FEWEST_DIGITS: usize = 7;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Removed {
    snapshots: u64,
    repositories: u64,
    bytes: u64,
    /// Snapshots that stay, because they are in use.
    snapshots_in_use: u64,
    /// The repository stays, because a fetch is running.
    is_fetching: bool,
}

/// Removes a repository or a commit.
pub(crate) fn run(global: &Global, arguments: &Remove) -> Result<ExitCode, CommandError> {
    let (url, digits) = split(&arguments.what)?;
    let url = RepositoryUrl::parse(url).map_err(request::invalid_url)?;
    let volumes = configuration::existing_volumes(global, &arguments.store)?;
    let nothing = || CommandError::NotCached { what: arguments.what.clone(), store: volumes.store().root().to_owned() };
    let commit = match digits {
        Some(digits) => Some(find(&volumes.store().inventory()?, &url, digits)?.ok_or_else(nothing)?),
        None => None,
    };
    let removal = volumes.remove(&url, commit.as_ref())?;
    if removal.found_nothing() {
        return Err(nothing());
    }
    let removed = Removed {
        snapshots: removal.freed.snapshots,
        repositories: removal.freed.repositories,
        bytes: removal.freed.bytes,
        snapshots_in_use: removal.snapshots_in_use,
        is_fetching: removal.is_fetching,
    };
    render::result(global.json, &removed, text)?;
    let in_use = removal.is_in_use();
    Ok(if in_use { exit::status(Kind::FailedPrecondition) } else { ExitCode::SUCCESS })
}

/// Splits `REPOSITORY[@COMMIT]`. What follows the last `@` is a host if it has a colon or a slash.
fn split(what: &str) -> Result<(&str, Option<&str>), CommandError> {
    match what.rsplit_once('@') {
        Some((url, end)) if !end.contains([':', '/']) => {
            let is_commit =
                (FEWEST_DIGITS..=40).contains(&end.len()) && end.bytes().all(|byte| byte.is_ascii_hexdigit());
            if !is_commit {
                let what = format!(
                    "after @ comes a commit id, or at least its first {FEWEST_DIGITS} digits, not {end:?}; `gitrepo-cli \
                     cache ls` lists the commits"
                );
                return Err(CommandError::Usage { what });
            }
            Ok((url, Some(end)))
        }
        _ => Ok((what, None)),
    }
}

/// Finds the commit of a repository whose id begins with these digits.
fn find(inventory: &Inventory, url: &RepositoryUrl, digits: &str) -> Result<Option<CommitId>, CommandError> {
    let digits = digits.to_ascii_lowercase();
    let metas = inventory.snapshots.iter().filter_map(|snapshot| snapshot.meta.as_ref());
    let of_url =
        metas.filter(|meta| RepositoryUrl::parse(&meta.repository).is_ok_and(|of| of.canonical() == url.canonical()));
    let found: BTreeSet<String> =
        of_url.map(|meta| meta.commit.to_string()).filter(|commit| commit.starts_with(&digits)).collect();
    match found.len() {
        0 => Ok(None),
        1 => Ok(found.first().and_then(|commit| CommitId::parse(commit).ok())),
        count => Err(CommandError::Usage { what: format!("{digits} begins {count} commits; give more digits") }),
    }
}

fn text(removed: &Removed) -> String {
    let Removed { snapshots, repositories, bytes, snapshots_in_use, .. } = removed;
    let mut lines = vec![format!("{snapshots} snapshots and {repositories} repositories removed ({bytes} bytes)")];
    if *snapshots_in_use > 0 {
        lines.push(format!("{snapshots_in_use} snapshots are in use and stay; `gitrepo-cli ls` lists the volumes"));
    }
    if removed.is_fetching {
        lines.push("a fetch from the repository is running: its content stays".to_owned());
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_told_from_a_host() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        for (what, url, digits) in [
            ("https://h/a", "https://h/a", None),
            ("git@h:a/b", "git@h:a/b", None),
            ("ssh://git@h/a", "ssh://git@h/a", None),
            ("https://h/a@0123456", "https://h/a", Some("0123456")),
            (&format!("git@h:a/b@{commit}"), "git@h:a/b", Some(commit)),
            (&format!("ssh://git@h/a@{commit}"), "ssh://git@h/a", Some(commit)),
        ] {
            assert_eq!(split(what).unwrap(), (url, digits), "{what}");
        }
        for wrong in ["https://h/a@main", "https://h/a@012345", "git@h:a@", "https://h/a@0123456x"] {
            assert!(split(wrong).is_err(), "{wrong}");
        }
    }
}
