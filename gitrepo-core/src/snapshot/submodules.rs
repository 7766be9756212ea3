//! Where the submodules of a commit come from: its `.gitmodules`, read in the worker.
//!
//! Only `path` and `url` count, and only where the tree has a submodule. A file that an honest repository never has is
//! refused: it was written for a program that reads it otherwise (CVE-2018-11235, CVE-2018-17456, CVE-2024-32002,
//! CVE-2025-48384).

pub(super) mod config;

use std::collections::HashMap;
use std::collections::HashSet;
use std::rc::Rc;

use super::SnapshotError;
use super::blob;
use super::listing::Listing;
use crate::content::Segments;
use crate::object::EntryMode;
use crate::spec::CommitId;
use crate::spec::RepositoryUrl;
use crate::spec::names;
use config::Variable;

/// The file's name, in the root of the commit.
pub(super) const FILE: &[u8] = b".gitmodules";

/// Most submodules of one volume, those of submodules included.
pub(crate) const MOST: usize = 1000;

/// Most bytes of a `.gitmodules`.
const LONGEST: u64 = 1 << 20;

/// A section of the file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Section {
    path: Option<Vec<u8>>,
    url: Option<Vec<u8>>,
}

impl Section {
    /// Takes what a variable says. Most say nothing that counts.
    fn set(&mut self, Variable { name, value, .. }: &Variable) -> Result<(), &'static str> {
        let field = match name.as_str() {
            "path" => &mut self.path,
            "url" => &mut self.url,
            "update" if value.as_ref().is_some_and(|value| value.starts_with(b"!")) => {
                return Err("its update is a command, which is never run");
            }
            _ => return Ok(()),
        };
        let value = value.as_ref().ok_or("its path or url has no value")?;
        // Programs differ in which of two they use.
        match field {
            Some(other) if other != value => Err("it has two paths, or two urls"),
            Some(_) => Ok(()),
            None => {
                *field = Some(value.clone());
                Ok(())
            }
        }
    }
}

/// Returns the URL of each submodule in the listing, by its index there, as written.
pub(super) fn urls(
    listing: &Listing,
    segments: &Segments,
    commit: CommitId,
) -> Result<HashMap<usize, String>, SnapshotError> {
    let entries = listing.entries.iter().enumerate();
    let found: Vec<_> = entries.filter(|(_, entry)| entry.mode == EntryMode::Submodule).map(|(at, _)| at).collect();
    if found.is_empty() {
        return Ok(HashMap::new());
    }
    if found.len() > MOST {
        return Err(SnapshotError::addition_too_large(commit, "submodules", MOST as u64, "this version"));
    }
    let text = read(listing, segments, commit)?;
    let by_path = by_path(&text).map_err(|Refused { submodule, reason }| refused(commit, &submodule, reason))?;
    check_case(listing, &found, commit)?;
    let url = |at: usize| {
        // `.gitmodules` counts from the root of the commit, whatever part of it is wanted.
        let path = listing.path_in_commit(&listing.entries[at]);
        let Some(url) = by_path.get(&path) else {
            let reason = "the commit has no entry for it in .gitmodules; git submodule add makes one".to_owned();
            return Err(refused(commit, &path, reason));
        };
        check_url(url.as_deref()).map(|url| (at, url)).map_err(|reason| refused(commit, &path, reason.to_owned()))
    };
    found.into_iter().map(url).collect()
}

/// Reads the commit's `.gitmodules`; empty if there is none.
fn read(listing: &Listing, segments: &Segments, commit: CommitId) -> Result<Vec<u8>, SnapshotError> {
    let Some(id) = listing.gitmodules else { return Ok(Vec::new()) };
    let found = blob::locate(segments, &[id], commit)?;
    let Some(extent) = found.into_iter().next().flatten() else { return Err(blob::missing(commit, id)) };
    if extent.length > LONGEST {
        return Err(SnapshotError::addition_too_large(commit, "bytes of .gitmodules", LONGEST, "this version"));
    }
    blob::read(segments, id, extent, commit)
}

/// Why a file is refused, and which section of it.
#[derive(Debug, PartialEq, Eq)]
struct Refused {
    submodule: Vec<u8>,
    reason: String,
}

/// The URL of each path in the file.
fn by_path(text: &[u8]) -> Result<HashMap<Vec<u8>, Option<Vec<u8>>>, Refused> {
    let refuse = |name: &[u8], reason: &str| Refused { submodule: name.to_owned(), reason: reason.to_owned() };
    let variables =
        config::read(text).map_err(|error| refuse(FILE, &format!("line {} has {}", error.line, error.reason)))?;
    let mut sections: HashMap<&[u8], Section> = HashMap::new();
    for block in blocks(&variables) {
        let Some(name) = block[0].section.strip_prefix(b"submodule.") else { continue };
        check_name(name).map_err(|reason| refuse(name, reason))?;
        let section = sections.entry(name).or_default();
        block.iter().try_for_each(|variable| section.set(variable)).map_err(|reason| refuse(name, reason))?;
    }
    let mut by_path = HashMap::new();
    let mut folded = HashSet::new();
    for (name, Section { path, url }) in sections {
        let Some(path) = path else { continue };
        check_path(&path).map_err(|reason| refuse(name, &reason))?;
        if !folded.insert(path.to_ascii_lowercase()) {
            return Err(refuse(name, "another submodule has the same path, or one that differs in case alone"));
        }
        by_path.insert(path, url);
    }
    Ok(by_path)
}

/// Returns the variables below each header of a section. A name may be long, but its header is in the file for each block:
/// looking at it once for each costs no more than reading the file.
fn blocks(variables: &[Variable]) -> impl Iterator<Item = &[Variable]> {
    variables.chunk_by(|one, next| Rc::ptr_eq(&one.section, &next.section))
}

/// The rule of git's `check_submodule_name`: a name is a path below `.git/modules`.
fn check_name(name: &[u8]) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("its name is empty");
    }
    match name.split(|byte| matches!(byte, b'/' | b'\\')).any(|part| part == b"..") {
        true => Err("its name has .. in it"),
        false => Ok(()),
    }
}

fn check_path(path: &[u8]) -> Result<(), String> {
    if path.is_empty() {
        return Err("its path is empty".to_owned());
    }
    if path.starts_with(b"/") {
        return Err("its path is absolute".to_owned());
    }
    if path.starts_with(b"-") {
        return Err("its path begins with -, which a command could take for an option".to_owned());
    }
    if path.iter().any(u8::is_ascii_control) {
        return Err("its path has a control character".to_owned());
    }
    let mut components = path.split(|&byte| byte == b'/');
    components.try_for_each(|name| names::check(name, false)).map_err(|error| format!("its path has {error}"))
}

/// What the parent can read as a URL, or refuse.
fn check_url(url: Option<&[u8]>) -> Result<String, &'static str> {
    let url = url.ok_or("it has no url")?;
    let url = std::str::from_utf8(url).map_err(|_| "its url is not UTF-8")?;
    if url.is_empty() {
        return Err("its url is empty");
    }
    if url.starts_with('-') {
        return Err("its url begins with -, which a command could take for an option");
    }
    if url.len() > RepositoryUrl::MAX_LENGTH || url.contains(char::is_control) {
        return Err("its url is too long, or has a control character");
    }
    Ok(url.to_owned())
}

/// On a filesystem that folds case, the content of a submodule `A/b` would go through a link `a` (CVE-2024-32002). A
/// volume may be copied to one.
fn check_case(listing: &Listing, submodules: &[usize], commit: CommitId) -> Result<(), SnapshotError> {
    let mut ours = HashSet::new();
    let mut above = HashSet::new();
    for &at in submodules {
        let path = listing.path(&listing.entries[at]).to_ascii_lowercase();
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(slash, _)| slash);
        above.extend(slashes.map(|slash| path[..slash].to_vec()));
        if !ours.insert(path) {
            let path = listing.path(&listing.entries[at]);
            return Err(refused(commit, &path, "another one has a path that differs in case alone".to_owned()));
        }
    }
    for link in listing.entries.iter().filter(|entry| entry.mode == EntryMode::Symlink) {
        let path = listing.path(link).to_ascii_lowercase();
        if ours.contains(&path) || above.contains(&path) {
            let reason = "the tree has a link whose path differs from a part of this one in case alone".to_owned();
            return Err(refused(commit, &path, reason));
        }
    }
    Ok(())
}

/// Most bytes of a name that an error shows.
const SHOWN: usize = 256;

fn refused(commit: CommitId, submodule: &[u8], reason: String) -> SnapshotError {
    let (shown, rest) = submodule.split_at(SHOWN.min(submodule.len()));
    let mut submodule = String::from_utf8_lossy(shown).escape_debug().to_string();
    if !rest.is_empty() {
        submodule.push('…');
    }
    SnapshotError::Submodule { commit, submodule, reason }
}

#[cfg(test)]
mod tests;
