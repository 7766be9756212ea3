//! When something in the store was last used: what goes first when room is made.
//!
//! A moment of this boot is told by the clock that never jumps. Of earlier boots only the wall clock knows, by the time of
//! the file: if that has jumped, something goes sooner than it had to, and is fetched again.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;
use std::time::SystemTime;

use super::clock::Moment;
use super::durable;

const FILE: &str = "used";
const FILE_LIMIT: u64 = 4096;

/// The earlier, the less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LastUse {
    /// In an earlier boot, or never noted down.
    Earlier(SystemTime),
    /// So long after this boot.
    ThisBoot(Duration),
}

/// Notes down that what is in `directory` is used now. The file is written in place, so that a full disk has room for it
/// once it is there. Where it cannot be written, what is there is taken for older than it is.
pub(super) fn mark(directory: &Path) {
    if let Err(error) = write(directory) {
        tracing::debug!(path = %directory.display(), %error, "cannot note down that it is used");
    }
}

fn write(directory: &Path) -> io::Result<()> {
    let now = Moment::now().map_err(io::Error::other)?;
    let text = serde_json::to_vec(&now)?;
    let mut options = File::options();
    options.write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let mut file = options.open(directory.join(FILE))?;
    file.write_all(&text)?;
    file.set_len(u64::try_from(text.len()).unwrap_or_default())
}

/// When what is in `directory` was last used.
pub(super) fn of(directory: &Path, now: &Moment) -> LastUse {
    let path = directory.join(FILE);
    let moment = durable::read(&path, FILE_LIMIT).ok().and_then(|text| serde_json::from_slice::<Moment>(&text).ok());
    if let Some(uptime) = moment.and_then(|moment| moment.uptime_in(now)) {
        return LastUse::ThisBoot(uptime);
    }
    let modified = |path: &Path| fs::symlink_metadata(path).and_then(|metadata| metadata.modified()).ok();
    LastUse::Earlier(modified(&path).or_else(|| modified(directory)).unwrap_or(SystemTime::UNIX_EPOCH))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::BootId;

    #[test]
    fn r11_what_was_used_in_this_boot_is_newer_than_whatever_an_earlier_one_says() {
        let place = tempfile::tempdir().unwrap();
        let [never, old, older, first, second] = ["never", "old", "older", "first", "second"].map(|name| {
            let directory = place.path().join(name);
            fs::create_dir(&directory).unwrap();
            directory
        });
        let boot = BootId::current().unwrap().to_string();
        let now = SystemTime::now();
        for (directory, age) in [(&old, 100), (&older, 200)] {
            mark(directory);
            let path = directory.join(FILE);
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, text.replace(&boot, &BootId::other().to_string())).unwrap();
            File::options().write(true).open(&path).unwrap().set_modified(now - Duration::from_secs(age)).unwrap();
        }
        // A clock that is ahead by ten years says nothing.
        let ahead = now + Duration::from_secs(10 * 365 * 24 * 3600);
        mark(&first);
        mark(&second);
        File::options().write(true).open(first.join(FILE)).unwrap().set_modified(ahead).unwrap();
        File::open(&never).unwrap().set_modified(now - Duration::from_secs(300)).unwrap();
        let moment = Moment::now().unwrap();
        let mut all = [&second, &old, &first, &older, &never];
        all.sort_by_key(|directory| of(directory, &moment));
        assert_eq!(all, [&never, &older, &old, &first, &second]);
        fs::write(first.join(FILE), "{").unwrap();
        assert!(matches!(of(&first, &moment), LastUse::Earlier(_)), "torn");
        mark(&first);
        assert!(of(&first, &Moment::now().unwrap()) > of(&second, &moment));
    }
}
