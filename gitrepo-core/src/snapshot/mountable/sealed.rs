//! The seal of an image: the files that its snapshot consists of.
//!
//! Nobody changes them through a mount. But a disk, an administrator or a restored backup may, and the kernel would show
//! whatever is in them then. Each publish looks at all of them: there are few, and none is read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::io::BufReader;
use std::io::Write;
use std::path::Path;

use serde::Deserialize;
use serde::Serialize;

use super::IMAGE;
use super::devices;
use super::links;
use crate::content::Identity;
use crate::snapshot::seal;
use crate::snapshot::seal::Verdict;

#[derive(Serialize, Deserialize)]
struct Seal {
    /// The snapshot's directory. If a backup brought a snapshot back, its files are others, and the seal says nothing.
    directory: String,
    /// The image, its devices and its links, by their names.
    files: BTreeMap<String, Identity>,
}

/// Writes the seal of a finished snapshot.
pub(crate) fn write(snapshot: &Path, to: &mut dyn Write) -> io::Result<()> {
    let links = Some(snapshot.join(links::NAME)).filter(|links| links.symlink_metadata().is_ok());
    let paths = devices(snapshot).into_iter().chain([snapshot.join(IMAGE)]).chain(links);
    let identity = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok((name, Identity::of(path)?))
    };
    let files = paths.map(|path| identity(&path)).collect::<io::Result<_>>()?;
    let seal = Seal { directory: seal::identity(snapshot)?, files };
    serde_json::to_writer(to, &seal).map_err(io::Error::from)
}

/// Compares all files of a snapshot with its seal.
pub(crate) fn check(seal: &Path, snapshot: &Path) -> io::Result<Verdict> {
    let Ok(seal) = serde_json::from_reader::<_, Seal>(BufReader::new(File::open(seal)?)) else {
        return Ok(Verdict::Unknown);
    };
    if seal.directory != seal::identity(snapshot)? {
        return Ok(Verdict::Unknown);
    }
    for (name, identity) in &seal.files {
        if let Some(difference) = identity.difference(&snapshot.join(name))? {
            return Ok(Verdict::Changed(format!("its part {name:?} {difference}")));
        }
    }
    Ok(Verdict::Same(None))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;
    use std::time::Duration;
    use std::time::SystemTime;

    use super::*;

    /// A sealed snapshot of an image with two devices.
    fn snapshot() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let place = tempfile::tempdir().unwrap();
        let snapshot = place.path().join("snapshot");
        fs::create_dir(&snapshot).unwrap();
        // Times of files may have no more than a few milliseconds of precision.
        let earlier = SystemTime::now() - Duration::from_secs(60);
        for name in [IMAGE, "0", "1"] {
            fs::write(snapshot.join(name), name.repeat(512)).unwrap();
            File::options().write(true).open(snapshot.join(name)).unwrap().set_modified(earlier).unwrap();
        }
        let seal = snapshot.join("seal");
        write(&snapshot, &mut File::create(&seal).unwrap()).unwrap();
        (place, snapshot, seal)
    }

    #[test]
    fn only_the_image_and_its_devices_matter() {
        let (_place, snapshot, seal) = snapshot();
        fs::write(snapshot.join("meta.json"), "{}").unwrap();
        fs::remove_file(snapshot.join("meta.json")).unwrap();
        assert_eq!(check(&seal, &snapshot).unwrap(), Verdict::Same(None));
        for name in [IMAGE, "0", "1"] {
            let (_place, snapshot, seal) = self::snapshot();
            fs::write(snapshot.join(name), name.repeat(512)).unwrap();
            let Verdict::Changed(reason) = check(&seal, &snapshot).unwrap() else { panic!("{name}") };
            assert_eq!(reason, format!("its part {name:?} was written to"));
        }
    }

    #[test]
    fn a_snapshot_from_a_backup_and_a_torn_seal_are_not_judged() {
        let (place, snapshot, seal) = snapshot();
        let copy = place.path().join("copy");
        fs::create_dir(&copy).unwrap();
        for name in [IMAGE, "0", "1"] {
            fs::copy(snapshot.join(name), copy.join(name)).unwrap();
        }
        assert_eq!(check(&seal, &copy).unwrap(), Verdict::Unknown);
        let whole = fs::read(&seal).unwrap();
        for length in [0, 1, whole.len() - 1] {
            fs::write(&seal, &whole[..length]).unwrap();
            assert_eq!(check(&seal, &snapshot).unwrap(), Verdict::Unknown, "{length}");
        }
    }
}
