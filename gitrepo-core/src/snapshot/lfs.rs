//! `lfs: true`: the files of a tree that are pointers of Git LFS get the content that they name.
//!
//! As git decides it: the attribute `filter=lfs` of the tree's `.gitattributes` selects files, and those of them that are
//! pointers are replaced. Any other file stays as it is, and so does a pointer without the attribute.
//!
//! The content of an object is kept like that of any blob, in a segment of the repository, under git's id of it. So
//! images, directories, views, eviction and the scrub know nothing of it; only the index of `.git` names what the commit
//! has.

use std::collections::HashMap;
use std::collections::HashSet;
use std::path::Path;

use git2::Oid;

use super::SnapshotError;
use super::TreeRequest;
use super::Watch;
use super::checkout::Source;
use super::checkout::TreeRules;
use super::listing::Listing;
use super::located::Located;
use super::submodules::config;
use crate::content::Extent;
use crate::lfs::Known;
use crate::lfs::LONGEST_POINTER;
use crate::lfs::MOST;
use crate::lfs::Missing;
use crate::lfs::Object;
use crate::lfs::ObjectId;
use crate::lfs::PAGE;
use crate::lfs::Pointer;

/// The file that may name a server, in the root of the commit.
pub(super) const CONFIG: &[u8] = b".lfsconfig";

/// Most bytes of that file.
const LONGEST_CONFIG: u64 = 64 << 10;

/// What the limits here are limits of.
const SETTING: &str = "lfs: true";

/// Returns what the tree of `request` needs and its repository does not have.
///
/// # Errors
///
/// Those of listing a tree, and [`SnapshotError::TooLarge`] before anything is downloaded.
pub(crate) fn missing(repository: &Path, request: &TreeRequest, watch: &Watch) -> Result<Missing, SnapshotError> {
    let listing = Listing::of(repository, request, watch)?;
    let located = Located::find(repository, request, &listing)?;
    Objects::of(repository, &located, watch).map(|objects| objects.missing)
}

/// Makes the listing name the content of its pointers. Returns the numbers of the files that were pointers.
pub(super) fn replace(
    repository: &Path,
    request: &TreeRequest,
    listing: &mut Listing,
    watch: &Watch,
) -> Result<HashSet<usize>, SnapshotError> {
    let located = Located::find(repository, request, listing)?;
    let Objects { here, missing } = Objects::of(repository, &located, watch)?;
    drop(located);
    if let Some(object) = missing.objects.first() {
        let what = format!("the Git LFS object of {object} is missing");
        return Err(SnapshotError::Incomplete { commit: request.commit, source: crate::error::Cause::new(what) });
    }
    for (number, blob) in &here {
        listing.replace(*number, *blob);
    }
    Ok(here.into_iter().map(|(number, _)| number).collect())
}

/// The objects of a tree.
struct Objects {
    /// The files whose content is here, by their number in the listing, and git's id of that.
    here: Vec<(usize, Oid)>,
    missing: Missing,
}

impl Objects {
    fn of(repository: &Path, located: &Located<'_>, watch: &Watch) -> Result<Self, SnapshotError> {
        let (request, listing) = (located.request, located.listing);
        let unreadable = |error| SnapshotError::io("read the Git LFS objects of", b"the repository", error);
        let source = Source::new(repository, located, SETTING);
        let pointers = pointers(&source, listing, watch)?;
        let wanted: HashSet<(ObjectId, u64)> = pointers.iter().map(|(_, found)| (found.id, found.size)).collect();
        if wanted.len() > MOST {
            return Err(SnapshotError::addition_too_large(
                request.commit,
                "Git LFS objects",
                MOST as u64,
                "this version",
            ));
        }
        let limit = request.limits.tree_bytes;
        if pointers.iter().fold(0_u64, |sum, (_, found)| sum.saturating_add(found.size)) > limit {
            return Err(SnapshotError::addition_too_large(request.commit, "bytes", limit, "limits.treeBytes"));
        }
        let here = here(&source, &wanted, &Known::read(repository).map_err(unreadable)?)?;
        let mut missing = Missing::default();
        let mut noted = HashSet::new();
        let mut found = Vec::new();
        for (number, pointer) in pointers {
            match here.get(&pointer.id).filter(|(size, _)| *size == pointer.size) {
                Some((_, blob)) => found.push((number, *blob)),
                None if noted.insert((pointer.id, pointer.size)) => {
                    missing.bytes = missing.bytes.saturating_add(pointer.size);
                    if missing.objects.len() < PAGE {
                        let path = listing.path_in_commit(&listing.entries[number]);
                        missing.objects.push(Object::new(&pointer, &path));
                    }
                }
                None => {}
            }
        }
        if !missing.objects.is_empty() {
            missing.server = server(&source, listing)?;
        }
        Ok(Self { here: found, missing })
    }
}

/// The files with the attribute that are pointers, by their number in the listing.
fn pointers(source: &Source<'_>, listing: &Listing, watch: &Watch) -> Result<Vec<(usize, Pointer)>, SnapshotError> {
    let rules = TreeRules::read(source)?;
    if rules.is_empty() {
        return Ok(Vec::new());
    }
    let filtered = rules.filtered_by(b"lfs", source, watch)?;
    let ids: Vec<Oid> = filtered.iter().map(|number| listing.entries[*number].id).collect();
    let mut pointers = Vec::new();
    for ((number, id), extent) in filtered.into_iter().zip(&ids).zip(source.locate(&ids)?) {
        // What is missing is named when the whole tree is located.
        let Some(extent) = extent.filter(|extent| extent.length < LONGEST_POINTER) else { continue };
        source.check_wanted(watch)?;
        pointers.extend(Pointer::parse(&source.read(*id, extent)?).map(|pointer| (number, pointer)));
    }
    Ok(pointers)
}

/// The size and git's id of the wanted objects that are in the segments.
fn here(
    source: &Source<'_>,
    wanted: &HashSet<(ObjectId, u64)>,
    known: &Known,
) -> Result<HashMap<ObjectId, (u64, Oid)>, SnapshotError> {
    let named = |(id, size): &(ObjectId, u64)| known.blob(id, *size).map(|blob| (*id, *size, blob));
    let named: Vec<_> = wanted.iter().filter_map(named).collect();
    let blobs: Vec<Oid> = named.iter().map(|(.., blob)| *blob).collect();
    let located = source.locate(&blobs)?;
    let is_whole = |extent: &Option<Extent>, size: u64| extent.is_some_and(|extent| extent.length == size);
    let there = named.into_iter().zip(located).filter(|((_, size, _), extent)| is_whole(extent, *size));
    Ok(there.map(|((id, size, blob), _)| (id, (size, blob))).collect())
}

/// The server that the commit's `.lfsconfig` names: as for git-lfs, the last `lfs.url` counts.
fn server(source: &Source<'_>, listing: &Listing) -> Result<Option<String>, SnapshotError> {
    let Some(id) = listing.lfs_config else { return Ok(None) };
    let Some(extent) = source.locate(&[id])?.pop().flatten() else {
        return Err(source.incomplete(format_args!("object {id} is missing")));
    };
    if extent.length > LONGEST_CONFIG {
        return Err(SnapshotError::too_large(source.commit(), "bytes of .lfsconfig", LONGEST_CONFIG, SETTING));
    }
    named_in(&source.read(id, extent)?).map_err(|what| SnapshotError::Malformed {
        commit: source.commit(),
        source: crate::error::Cause::new(format_args!("its .lfsconfig {what}")),
    })
}

fn named_in(text: &[u8]) -> Result<Option<String>, String> {
    let variables = config::read(text).map_err(|error| format!("has in line {} {}", error.line, error.reason))?;
    let mut urls = variables.into_iter().filter(|variable| *variable.section == *b"lfs" && variable.name == "url");
    let Some(url) = urls.next_back() else { return Ok(None) };
    let url = url.value.and_then(|value| String::from_utf8(value).ok()).unwrap_or_default();
    match url.is_empty() || url.contains(char::is_control) {
        true => Err("has an lfs.url that is no text".to_owned()),
        false => Ok(Some(url)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_url_of_the_section_counts_and_nothing_else() {
        let named = |text: &str| named_in(text.as_bytes()).unwrap();
        for (text, expected) in [
            ("", None),
            ("[lfs]\n\tfetchexclude = *\n", None),
            ("[lfs]\n\turl = https://host/a\n", Some("https://host/a")),
            ("[LFS]\nURL = https://host/a\n[lfs]\nurl=https://host/b", Some("https://host/b")),
            ("[lfs \"https://host/\"]\n\turl = https://host/a\n", None),
            ("[remote \"origin\"]\n\turl = https://host/a\n", None),
            ("[core]\n\tsshCommand = touch /pwned\n[credential]\n\thelper = !sh\n", None),
        ] {
            assert_eq!(named(text).as_deref(), expected, "{text:?}");
        }
        for bad in ["[lfs", "[lfs]\n\turl\n", "[lfs]\n\turl = \n", "[lfs]\n\turl = \"a\\tb\"\n"] {
            assert!(named_in(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(named_in(b"[lfs]\n\turl = \xff\n").is_err());
    }
}
