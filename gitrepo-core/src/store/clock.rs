//! Time that correctness may depend on: seconds since boot, and the boot id.
//!
//! The wall clock jumps, so no decision depends on it.

use std::fmt;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use nix::time::ClockId;
use nix::time::clock_gettime;
use serde::Deserialize;
use serde::Serialize;

use super::error::StoreError;

/// Identifies one boot of the kernel. Mounts, processes and uptimes do not outlive it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(String);

impl BootId {
    /// Returns the boot of the running kernel. Read once, since no process outlives it.
    pub fn current() -> Result<Self, StoreError> {
        static CURRENT: OnceLock<BootId> = OnceLock::new();
        if let Some(current) = CURRENT.get() {
            return Ok(current.clone());
        }
        let path = Path::new("/proc/sys/kernel/random/boot_id");
        let text = std::fs::read_to_string(path).map_err(StoreError::io("read", path))?;
        Ok(CURRENT.get_or_init(|| Self(text.trim().to_owned())).clone())
    }

    /// Returns a prefix that tells boots apart in a file name.
    pub(crate) fn prefix(&self) -> &str {
        self.0.split('-').next().unwrap_or_default()
    }

    /// For tests: a different boot.
    #[cfg(test)]
    pub(crate) fn other() -> Self {
        Self("00000000-0000-0000-0000-000000000000".to_owned())
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A moment as time since boot; meaningless after a reboot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Moment {
    boot_id: BootId,
    uptime: Duration,
}

impl Moment {
    /// Returns the present moment. Time spent suspended counts.
    pub(crate) fn now() -> Result<Self, StoreError> {
        let uptime =
            clock_gettime(ClockId::CLOCK_BOOTTIME).map_err(StoreError::io("read", Path::new("CLOCK_BOOTTIME")))?;
        Ok(Self { boot_id: BootId::current()?, uptime: Duration::from(uptime) })
    }

    /// Returns the time since boot, if `now` is in the same boot.
    pub(crate) fn uptime_in(&self, now: &Self) -> Option<Duration> {
        (self.boot_id == now.boot_id).then_some(self.uptime)
    }

    /// Returns the age at `now`; `None` if the moment is from before a reboot, or later than `now`.
    pub(crate) fn age(&self, now: &Self) -> Option<Duration> {
        (self.boot_id == now.boot_id).then(|| now.uptime.checked_sub(self.uptime)).flatten()
    }
}

/// A wall clock time in files: whole seconds since 1970. For people to read; no decision depends on it.
pub(crate) mod wall_clock {
    use std::time::Duration;
    use std::time::SystemTime;
    use std::time::UNIX_EPOCH;

    use serde::Deserialize;
    use serde::Deserializer;
    use serde::Serializer;

    pub(crate) fn serialize<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
        let seconds = u64::deserialize(deserializer)?;
        Ok(UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_is_unknown_across_a_reboot_and_for_the_future() {
        let now = Moment::now().unwrap();
        let earlier = Moment { uptime: now.uptime.saturating_sub(Duration::from_millis(1)), ..now.clone() };
        assert_eq!(earlier.age(&now), Some(Duration::from_millis(1)));
        assert_eq!(now.age(&earlier), None);
        let before_reboot = Moment { boot_id: BootId::other(), ..earlier };
        assert_eq!(before_reboot.age(&now), None);
    }
}
