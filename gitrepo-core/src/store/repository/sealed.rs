//! Finds segments of a repository that are no longer what was fetched.
//!
//! An image shows its part of a segment without reading it, so nothing else would notice. The parent writes down what
//! identifies each segment and its index when they come. Before a fetch builds on them, it compares. If it finds others
//! than it knows, as after a restored backup or a kill, their checksums decide. The name of a segment is the digest of
//! its index, which contains the id of each blob: so the name seals the content.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::OsStr;
use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use crate::content;
use crate::content::Identity;
use crate::store::durable;
use crate::store::durable::Durability;
use crate::store::error::StoreError;
use crate::store::error::optional;

use super::whole;

/// The file with what identifies the segments, in a repository.
const FILE: &str = "sealed.json";
const LIMIT: u64 = 1024 * 1024;

/// What identifies each segment and its index, by the name that they share.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
struct Sealed(BTreeMap<String, [Identity; 2]>);

/// Checks the segments of a locked repository. Fails with [`StoreError::Corrupt`] if one is not what was fetched, or is
/// gone.
pub(super) fn check(repository: &Path) -> Result<(), StoreError> {
    let known = read(repository)?;
    let mut found = Sealed::default();
    for (name, paths) in segments(repository)? {
        let identities = match known.0.get(&name) {
            Some(identities) if difference(identities, &paths)?.is_none() => identities.clone(),
            _ => {
                let [content, index] = &paths;
                whole::check_segment(content, index)?;
                identify(&paths)?
            }
        };
        found.0.insert(name, identities);
    }
    if let Some(gone) = known.0.keys().find(|name| !found.0.contains_key(*name)) {
        let path = repository.join(content::DIRECTORY).join(gone);
        return Err(StoreError::corrupt(&path.with_extension(content::CONTENT), "it is gone"));
    }
    if found == known { Ok(()) } else { write(repository, &found) }
}

/// Adds the segments that have just come to a locked repository.
pub(super) fn add_new(repository: &Path) -> Result<(), StoreError> {
    let mut sealed = read(repository)?;
    let before = sealed.0.len();
    for (name, paths) in segments(repository)? {
        if let Entry::Vacant(new) = sealed.0.entry(name) {
            new.insert(identify(&paths)?);
        }
    }
    if sealed.0.len() == before { Ok(()) } else { write(repository, &sealed) }
}

fn read(repository: &Path) -> Result<Sealed, StoreError> {
    match durable::read_json(&repository.join(FILE), LIMIT) {
        // The checksums decide.
        Err(StoreError::Corrupt { .. }) => Ok(Sealed::default()),
        sealed => Ok(sealed?.unwrap_or_default()),
    }
}

fn write(repository: &Path, sealed: &Sealed) -> Result<(), StoreError> {
    durable::replace_json(&repository.join(FILE), sealed, Durability::Volatile)
}

/// Returns the segments and their indexes. Neither is without the other in a locked repository.
fn segments(repository: &Path) -> Result<BTreeMap<String, [PathBuf; 2]>, StoreError> {
    let entries = optional(durable::entries(&repository.join(content::DIRECTORY)))?.unwrap_or_default();
    let segment = |index: PathBuf| {
        let name = index.file_stem()?.to_str()?.to_owned();
        let is_index = index.extension() == Some(OsStr::new(content::INDEX));
        is_index.then(|| (name, [index.with_extension(content::CONTENT), index]))
    };
    Ok(entries.into_iter().filter_map(segment).collect())
}

fn identify(paths: &[PathBuf; 2]) -> Result<[Identity; 2], StoreError> {
    let [content, index] = paths;
    let identify = |path: &Path| Identity::of(path).map_err(StoreError::io("examine", path));
    Ok([identify(content)?, identify(index)?])
}

fn difference(identities: &[Identity; 2], paths: &[PathBuf; 2]) -> Result<Option<&'static str>, StoreError> {
    for (identity, path) in identities.iter().zip(paths) {
        if let Some(difference) = identity.difference(path).map_err(StoreError::io("examine", path))? {
            return Ok(Some(difference));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::fs::File;
    use std::io::Write;
    use std::os::unix::fs::FileExt;
    use std::time::Duration;
    use std::time::SystemTime;

    use git2::ObjectType;
    use git2::Oid;

    use super::*;
    use crate::content::SegmentWriter;

    /// A repository with two segments of equal length, and their paths without an end.
    fn repository() -> (tempfile::TempDir, [PathBuf; 2]) {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join(content::DIRECTORY);
        fs::create_dir(&directory).unwrap();
        for blob in [b"one", b"two"] {
            let mut segment = SegmentWriter::create(&directory).unwrap();
            let offset = segment.begin().unwrap();
            segment.write_all(blob).unwrap();
            segment.finish([(Oid::hash_object(ObjectType::Blob, blob).unwrap(), offset, 3)].into_iter()).unwrap();
        }
        // Times of files may have no more than a few milliseconds of precision.
        let earlier = SystemTime::now() - Duration::from_secs(60);
        for path in segments(place.path()).unwrap().into_values().flatten() {
            File::options().write(true).open(path).unwrap().set_modified(earlier).unwrap();
        }
        let found = segments(place.path()).unwrap().into_values().map(|[content, _]| content.with_extension(""));
        let found = found.collect::<Vec<_>>().try_into().unwrap();
        add_new(place.path()).unwrap();
        (place, found)
    }

    fn end(path: &Path, end: &str) -> PathBuf {
        path.with_extension(end)
    }

    fn exchange(one: &Path, two: &Path) {
        let aside = one.with_extension("aside");
        fs::rename(one, &aside).unwrap();
        fs::rename(two, one).unwrap();
        fs::rename(aside, two).unwrap();
    }

    fn overwrite(path: &Path) {
        File::options().write(true).open(path).unwrap().write_all_at(b"x", 0).unwrap();
    }

    #[test]
    fn every_damage_of_a_segment_is_found() {
        type Damage = fn(&Path, &Path);
        let damages: [(&str, Damage); 8] = [
            ("names exchanged", |one, two| {
                exchange(&end(one, content::CONTENT), &end(two, content::CONTENT));
                exchange(&end(one, content::INDEX), &end(two, content::INDEX));
            }),
            ("contents exchanged", |one, two| exchange(&end(one, content::CONTENT), &end(two, content::CONTENT))),
            ("indexes exchanged", |one, two| exchange(&end(one, content::INDEX), &end(two, content::INDEX))),
            ("content overwritten", |one, _| overwrite(&end(one, content::CONTENT))),
            ("index overwritten", |one, _| overwrite(&end(one, content::INDEX))),
            ("content cut short", |one, _| {
                File::options().write(true).open(end(one, content::CONTENT)).unwrap().set_len(0).unwrap();
            }),
            ("content too long", |one, _| {
                File::options().append(true).open(end(one, content::CONTENT)).unwrap().write_all(&[0; 512]).unwrap();
            }),
            ("both gone", |one, _| {
                fs::remove_file(end(one, content::CONTENT)).unwrap();
                fs::remove_file(end(one, content::INDEX)).unwrap();
            }),
        ];
        for (what, damage) in damages {
            for forgotten in [false, true] {
                let (place, [one, two]) = repository();
                check(place.path()).unwrap();
                damage(&one, &two);
                if forgotten {
                    fs::remove_file(place.path().join(FILE)).unwrap();
                }
                let checked = check(place.path());
                // Without the list, nothing says that there was a segment.
                let may_pass = forgotten && what == "both gone";
                assert!(matches!(checked, Err(StoreError::Corrupt { .. })) || may_pass, "{what}: {checked:?}");
            }
        }
    }

    #[test]
    fn a_list_that_says_nothing_is_made_anew_after_the_checksums_match() {
        for text in ["", "{}", "[1]", "{\"segment-1\":[]}"] {
            let (place, _) = repository();
            let before = read(place.path()).unwrap();
            fs::write(place.path().join(FILE), text).unwrap();
            check(place.path()).unwrap();
            assert_eq!(read(place.path()).unwrap(), before, "{text:?}");
        }
    }

    #[test]
    fn segments_from_a_backup_are_accepted() {
        let (place, paths) = repository();
        for path in paths.iter().flat_map(|path| [end(path, content::CONTENT), end(path, content::INDEX)]) {
            let content = fs::read(&path).unwrap();
            fs::remove_file(&path).unwrap();
            fs::write(&path, content).unwrap();
        }
        let before = read(place.path()).unwrap();
        check(place.path()).unwrap();
        assert_ne!(read(place.path()).unwrap(), before);
    }

    #[test]
    fn a_known_segment_is_not_read_whatever_names_it_has() {
        let (place, [one, _]) = repository();
        // Only the checksum would find this.
        overwrite(&end(&one, content::CONTENT));
        fs::remove_file(place.path().join(FILE)).unwrap();
        add_new(place.path()).unwrap();
        fs::hard_link(end(&one, content::CONTENT), place.path().join("0")).unwrap();
        check(place.path()).unwrap();
        fs::remove_file(place.path().join("0")).unwrap();
        check(place.path()).unwrap();
    }
}
