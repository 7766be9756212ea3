//! The scrub: verifies the whole store in the background, slowly, and takes what is damaged out of service.
//!
//! A publish compares what identifies the files of a snapshot, and reads none of them. Only the scrub finds what a disk
//! changed on its own. It reads one repository with its snapshots after the other, in the order of their hashes, and
//! remembers the last one: a restart of its process does not begin anew.

use std::collections::BTreeSet;
use std::fs;
use std::num::NonZeroU64;
use std::thread;

use serde::Deserialize;
use serde::Serialize;

use crate::sys::io_priority;
use crate::watch::Watch;

use super::Store;
use super::durable;
use super::durable::Durability;
use super::error::StoreError;
use super::error::optional;
use super::lock::LockName;
use super::lock::Mode;
use super::verify::Damage;
use super::verify::How;
use super::verify::Part;
use super::verify::Repair;
use super::verify::Verification;

/// The last repository that was verified; there is no file between two passes.
const CURSOR_FILE: &str = "scrubbed.json";
const CURSOR_LIMIT: u64 = 1024 * 1024;

#[derive(Serialize, Deserialize)]
struct Cursor {
    /// A hash; `None` for the snapshots of unknown repositories, which come first.
    last: Option<String>,
    /// Repositories that looked damaged while a fetch held their lock. They come again at the end.
    #[serde(default)]
    put_off: BTreeSet<String>,
}

impl Store {
    /// Verifies the next repository and its snapshots, reading at most `rate` bytes per second on average. What is
    /// damaged is logged and taken out of service. What is good is protected by the filesystem, if that can, and if
    /// `kept_free` bytes stay free. Returns `None` at the end of the store, or while another process scrubs it; the call
    /// after that begins anew.
    ///
    /// # Errors
    ///
    /// If the store cannot be read, or the watch ends the scrub: then the next call verifies the same repository again.
    pub fn scrub_next(
        &self,
        rate: NonZeroU64,
        kept_free: u64,
        watch: &Watch,
    ) -> Result<Option<Verification>, StoreError> {
        // The caller's thread keeps its priority.
        let idle = || {
            if let Err(errno) = io_priority::be_idle() {
                tracing::debug!(%errno, "the scrub cannot leave the disk to others");
            }
            self.scrub_one(rate, kept_free, watch)
        };
        thread::scope(|scope| scope.spawn(idle).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn scrub_one(&self, rate: NonZeroU64, kept_free: u64, watch: &Watch) -> Result<Option<Verification>, StoreError> {
        let Some(_lock) = self.layout.locks.try_acquire(&LockName::Scrub, Mode::Exclusive)? else { return Ok(None) };
        let file = self.root().join(CURSOR_FILE);
        // A cursor that cannot be read costs no more than a pass from the beginning.
        let cursor: Option<Cursor> = durable::read_json(&file, CURSOR_LIMIT).ok().flatten();
        let mut all = self.kept()?;
        let is_next = |hash: &&Option<String>| cursor.as_ref().is_none_or(|cursor| **hash > cursor.last);
        let next = all.keys().find(is_next).cloned();
        let (last, mut put_off) = cursor.map(|cursor| (cursor.last, cursor.put_off)).unwrap_or_default();
        let is_again = next.is_none();
        let next =
            next.or_else(|| std::iter::from_fn(|| put_off.pop_first()).map(Some).find(|hash| all.contains_key(hash)));
        let Some((hash, kept)) = next.and_then(|hash| all.remove_entry(&hash)) else {
            optional(fs::remove_file(&file).map_err(StoreError::io("remove", &file)))?;
            return Ok(None);
        };
        let mut verification = Verification::default();
        let how = How { repair: Repair::Quarantine, rate: Some(rate), protect: Some(kept_free), watch };
        let verified = self.verify_kept(hash.as_deref(), &kept, how, &mut verification);
        // Snapshots are logged when they are marked, and by the caller what stays in service.
        let is_discarded = |damage: &&Damage| damage.quarantined && matches!(damage.part, Part::Repository(_));
        verification.damages.iter().filter(is_discarded).for_each(log);
        if !matches!(verified, Err(StoreError::GivenUp { .. })) {
            let last = if is_again { last } else { hash.clone() };
            // Another fetch may hold its lock again: then the next pass finds it.
            put_off.extend(hash.filter(|_| verification.is_put_off && !is_again));
            durable::replace_json(&file, &Cursor { last, put_off }, Durability::Volatile)?;
        }
        verified.map(|()| Some(verification))
    }
}

fn log(Damage { repository, reason, .. }: &Damage) {
    tracing::error!(
        repository,
        reason,
        "what fetches brought was damaged on this node; the next fetch brings everything anew"
    );
}

#[cfg(test)]
mod tests;
