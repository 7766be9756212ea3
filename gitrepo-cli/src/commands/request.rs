//! Turns arguments into a request to core, with the vocabulary and rules of a pod's volume.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use gitrepo_core::cancel::Cancel;
use gitrepo_core::spec::DefaultDirectory;
use gitrepo_core::spec::UrlError;
use gitrepo_core::spec::VolumeSpec;
use gitrepo_core::spec::duration;
use gitrepo_core::watch::Watch;

use crate::arguments::Source;
use crate::arguments::Tree;
use crate::error::CommandError;
use crate::interrupt;
use crate::progress;

/// Returns the volume that the arguments describe. `more` are the keys that only some commands have.
pub(crate) fn spec(source: &Source, tree: &Tree, more: &[(&str, &Option<String>)]) -> Result<VolumeSpec, CommandError> {
    let lfs = tree.lfs.then(|| "true".to_owned());
    let flags = [
        ("revision", &tree.revision),
        ("subdirectory", &tree.subdirectory),
        ("checkout", &tree.checkout),
        ("symlinks", &tree.symlinks),
        ("gitDir", &tree.git_dir),
        ("depth", &tree.depth),
        ("submodules", &tree.submodules),
        ("lfs", &lfs),
    ];
    let mut attributes = attributes(&source.repository, flags.iter().chain(more));
    for setting in &tree.settings {
        let Some((key, value)) = setting.split_once('=') else {
            return Err(CommandError::Usage { what: format!("--set takes KEY=VALUE, not {setting:?}") });
        };
        if value.is_empty() && attributes.contains_key(key) {
            continue;
        }
        if attributes.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(CommandError::Usage { what: format!("{key} is given twice") });
        }
    }
    Ok(VolumeSpec::from_attributes(&attributes, DefaultDirectory::Root)?)
}

/// Returns the volume for a command that needs only the repository and the revision.
pub(crate) fn lookup(repository: &str, revision: &Option<String>) -> Result<VolumeSpec, CommandError> {
    let attributes = attributes(repository, [("revision", revision)].iter());
    Ok(VolumeSpec::from_attributes(&attributes, DefaultDirectory::Root)?)
}

fn attributes<'a>(
    repository: &str,
    flags: impl Iterator<Item = &'a (&'a str, &'a Option<String>)>,
) -> BTreeMap<String, String> {
    let given = flags.filter_map(|(key, value)| Some((*key, value.as_ref()?)));
    let given = given.filter(|(_, value)| !value.is_empty()).map(|(key, value)| (key.to_owned(), value.clone()));
    std::iter::once(("repository".to_owned(), repository.to_owned())).chain(given).collect()
}

/// Returns a watch that signals and `--timeout` cancel, with a progress bar if stderr is a terminal.
pub(crate) fn watch(source: &Source, json: bool) -> Result<Watch, CommandError> {
    watch_within(source.timeout.as_deref(), json)
}

/// Like [`watch`], for a command without a source.
pub(crate) fn watch_within(timeout: Option<&str>, json: bool) -> Result<Watch, CommandError> {
    let cancel = interrupt::cancellation();
    Ok(Watch::new(within(cancel, timeout)?, progress::to_terminal(json)))
}

/// Returns the error for a URL that is not a repository's.
pub(crate) fn invalid_url(error: UrlError) -> CommandError {
    CommandError::Usage { what: error.to_string() }
}

fn within(cancel: Cancel, timeout: Option<&str>) -> Result<Cancel, CommandError> {
    let Some(text) = timeout.filter(|text| !text.is_empty()) else { return Ok(cancel) };
    parse_timeout(text).map(|limit| cancel.within(limit))
}

/// Reads the value of `--timeout`.
pub(crate) fn parse_timeout(text: &str) -> Result<Duration, CommandError> {
    duration::parse(text).map_err(|error| CommandError::Usage { what: format!("--timeout: {error}") })
}

/// Reads a group's number.
pub(crate) fn group(text: &Option<String>) -> Result<Option<u32>, CommandError> {
    let Some(text) = text.as_ref().filter(|text| !text.is_empty()) else { return Ok(None) };
    let what = || format!("--group takes the number of a group, not {text:?}");
    // The last number means "no group" to the kernel.
    let group = text.parse().ok().filter(|group| *group != u32::MAX);
    group.map(Some).ok_or_else(|| CommandError::Usage { what: what() })
}

/// Returns the absolute path of a target.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, CommandError> {
    let resolved = std::path::absolute(path).and_then(|path| gitrepo_frontend::path::resolve(&path));
    resolved.map_err(|source| CommandError::Directory { path: path.to_owned(), source })
}

/// Fails if the process is not root. For commands that mount, so that they fail early and with a clear message.
pub(crate) fn require_root(command: &'static str) -> Result<(), CommandError> {
    if nix::unistd::geteuid().is_root() { Ok(()) } else { Err(CommandError::NeedsRoot { command }) }
}
