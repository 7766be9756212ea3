//! Arguments → what core is asked: the same vocabulary, under the same rules, as in a pod's volume.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use gitrepo_core::cancel::Cancel;
use gitrepo_core::snapshot::Watch;
use gitrepo_core::spec::DefaultDirectory;
use gitrepo_core::spec::VolumeSpec;
use gitrepo_core::spec::duration;

use crate::arguments::Source;
use crate::arguments::Tree;
use crate::error::CommandError;
use crate::interrupt;
use crate::progress;

/// The volume that the arguments describe. `more` are keys that only some commands have.
pub(crate) fn spec(source: &Source, tree: &Tree, more: &[(&str, &Option<String>)]) -> Result<VolumeSpec, CommandError> {
    let flags = [("revision", &tree.revision), ("subdirectory", &tree.subdirectory), ("symlinks", &tree.symlinks)];
    let mut attributes = attributes(source, flags.iter().chain(more));
    for setting in &tree.settings {
        let Some((key, value)) = setting.split_once('=') else {
            return Err(CommandError::Usage { what: format!("--set takes KEY=VALUE, not {setting:?}") });
        };
        if attributes.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(CommandError::Usage { what: format!("{key} is given twice") });
        }
    }
    Ok(VolumeSpec::from_attributes(&attributes, DefaultDirectory::Root)?)
}

/// A volume of which only the repository and the revision matter.
pub(crate) fn lookup(source: &Source, revision: &Option<String>) -> Result<VolumeSpec, CommandError> {
    let attributes = attributes(source, [("revision", revision)].iter());
    Ok(VolumeSpec::from_attributes(&attributes, DefaultDirectory::Root)?)
}

fn attributes<'a>(
    source: &Source,
    flags: impl Iterator<Item = &'a (&'a str, &'a Option<String>)>,
) -> BTreeMap<String, String> {
    let given = flags.filter_map(|(key, value)| Some(((*key).to_owned(), (*value).clone()?)));
    std::iter::once(("repository".to_owned(), source.repository.clone())).chain(given).collect()
}

/// Giving up (signals, `--timeout`) and progress (a bar, where somebody sees it).
pub(crate) fn watch(source: &Source, json: bool) -> Result<Watch, CommandError> {
    let cancel = interrupt::cancellation();
    Ok(Watch { cancel: within(cancel, source.timeout.as_deref())?, progress: progress::to_terminal(json) })
}

fn within(cancel: Cancel, timeout: Option<&str>) -> Result<Cancel, CommandError> {
    let Some(text) = timeout else { return Ok(cancel) };
    match duration::parse(text) {
        Ok(limit) => Ok(cancel.within(limit)),
        Err(error) => Err(CommandError::Usage { what: format!("--timeout: {error}") }),
    }
}

/// The absolute path of a target that may not exist yet, its parent's symlinks resolved: core takes no others.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, CommandError> {
    let failed = |source| CommandError::Directory { path: path.to_owned(), source };
    match path.canonicalize() {
        Ok(path) => Ok(path),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let absolute = std::path::absolute(path).map_err(failed)?;
            match (absolute.parent(), absolute.file_name()) {
                (Some(parent), Some(name)) => Ok(parent.canonicalize().map_err(failed)?.join(name)),
                _ => Err(failed(error)),
            }
        }
        Err(error) => Err(failed(error)),
    }
}

/// Fails early, with a message that says why, for commands that mount.
pub(crate) fn require_root(command: &'static str) -> Result<(), CommandError> {
    if nix::unistd::geteuid().is_root() { Ok(()) } else { Err(CommandError::NeedsRoot { command }) }
}
