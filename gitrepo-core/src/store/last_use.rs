//! When something in the store was last used: eviction removes the longest unused first.
//!
//! Times within this boot come from the clock that never jumps. Those of earlier boots come from the wall clock, by the
//! file's modification time: if that jumped, something is evicted too early and fetched again.

use std::fs;
use std::io;
use std::io::Write;
use std::path::Path;
use std::time::Duration;
use std::time::SystemTime;

use super::clock::Moment;
use super::durable;

const FILE: &str = "used";
const FILE_LIMIT: u64 = 4096;

/// The time of the last use. Earlier is smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LastUse {
    /// In an earlier boot, or never recorded.
    Earlier(SystemTime),
    /// In this boot, as the time since it began.
    ThisBoot(Duration),
}

impl LastUse {
    /// Returns how long ago that was.
    pub(super) fn idle(self, now: &Moment) -> Duration {
        match self {
            Self::ThisBoot(uptime) => now.uptime_in(now).unwrap_or_default().saturating_sub(uptime),
            Self::Earlier(time) => time.elapsed().unwrap_or_default(),
        }
    }
}

/// Records that `directory` is used now. The file is written in place, so that this works on a full disk once the file
/// exists. If it cannot be written, the directory counts as unused for longer than it was.
pub(super) fn mark(directory: &Path) {
    if let Err(error) = write(directory) {
        tracing::debug!(path = %directory.display(), %error, "cannot record the time of this use");
    }
}

fn write(directory: &Path) -> io::Result<()> {
    let now = Moment::now().map_err(io::Error::other)?;
    let text = serde_json::to_vec(&now)?;
    let mut file = durable::open_in_place(&directory.join(FILE))?;
    file.write_all(&text)?;
    file.set_len(u64::try_from(text.len()).unwrap_or_default())
}

/// Returns when `directory` was last used.
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
    use std::fs::File;

    use super::*;
    use crate::store::BootId;

    #[test]
    fn r11_a_use_in_this_boot_is_later_than_any_in_an_earlier_boot() {
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
        // A clock ten years ahead is meaningless.
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
