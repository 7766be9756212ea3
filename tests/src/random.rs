//! Random choices that can be repeated.

use std::io::Write;
use std::time::Duration;

/// Set this to the number that a failed run printed, to repeat its choices.
const SEED: &str = "GITREPO_TEST_SEED";

/// The seed of this run, which it prints.
pub fn seed() -> u64 {
    let now = || std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() & u128::from(u64::MAX);
    let given = std::env::var(SEED).ok().map(|seed| seed.parse().unwrap());
    let seed = given.unwrap_or_else(|| u64::try_from(now()).unwrap());
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    // Bypasses the test runner's capture: a run that is cut off has no other trace.
    writeln!(std::io::stderr(), "{SEED}={seed} {name}").expect("standard error is open");
    seed
}

/// The number in an environment variable, with which longer runs replace `default`.
pub fn from_environment(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number")))
}

/// Numbers that a seed determines: splitmix64.
pub struct Random(pub u64);

impl Random {
    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.number() % u64::try_from(bound).unwrap()).unwrap()
    }

    /// A time shorter than `longest`.
    pub fn within(&mut self, longest: Duration) -> Duration {
        Duration::from_nanos(self.number() % u64::try_from(longest.as_nanos()).unwrap().max(1))
    }
}
