//! The figures that the project wants to reach.

use super::results::Results;
use super::results::Sample;
use super::results::Series;
use super::spread::Spread;
use super::tables;

/// Our contender with EROFS images.
pub const IMAGE: &str = "gitrepo, image";
/// Our contender with plain files.
pub const DIRECTORY: &str = "gitrepo, directory";
/// The rival that everything is compared with.
pub const SHALLOW: &str = "git clone --depth 1";
/// A clone that leaves out what nobody looks at.
pub const SPARSE: &str = "git clone --depth 1 --filter=blob:none --sparse";
/// An old clone that follows the branch.
pub const FETCH: &str = "git fetch, reset --hard";

/// What is wanted of a contender in a case.
#[derive(Clone, Copy)]
enum Bound {
    /// So many times faster than a rival in the same case, round by round.
    Faster(&'static str, f64),
    /// Seconds.
    Within(f64),
    /// Of the median time of the same contender in another case.
    Times(&'static str, f64),
    /// Of the median disk space of the same contender in another case.
    Disk(&'static str, f64),
    /// Bytes of disk space.
    Space(f64),
    /// Bytes that the server sends.
    Received(f64),
    /// Bytes of memory of the largest process.
    Memory(f64),
}

struct Goal {
    what: &'static str,
    case: &'static str,
    contender: &'static str,
    bound: Bound,
}

const fn goal(what: &'static str, case: &'static str, contender: &'static str, bound: Bound) -> Goal {
    Goal { what, case, contender, bound }
}

const MEBIBYTE: f64 = 1_048_576.0;
const GOALS: [Goal; 39] = [
    goal("miss, small, image", "miss-small", IMAGE, Bound::Faster(SHALLOW, 3.0)),
    goal("miss, small, directory", "miss-small", DIRECTORY, Bound::Faster(SHALLOW, 2.0)),
    goal("miss, large, image", "miss-large", IMAGE, Bound::Faster(SHALLOW, 3.5)),
    goal("miss, large, directory", "miss-large", DIRECTORY, Bound::Faster(SHALLOW, 3.0)),
    goal("memory of a miss, small, image", "miss-small", IMAGE, Bound::Memory(40.0 * MEBIBYTE)),
    goal("memory of a miss, small, directory", "miss-small", DIRECTORY, Bound::Memory(40.0 * MEBIBYTE)),
    goal("memory of a miss, large, image", "miss-large", IMAGE, Bound::Memory(40.0 * MEBIBYTE)),
    goal("memory of a miss, large, directory", "miss-large", DIRECTORY, Bound::Memory(40.0 * MEBIBYTE)),
    goal("new commit against a fresh clone, image", "new-commit", IMAGE, Bound::Faster(SHALLOW, 20.0)),
    goal("new commit against a fresh clone, directory", "new-commit", DIRECTORY, Bound::Faster(SHALLOW, 20.0)),
    goal("new commit against fetch and reset, image", "new-commit", IMAGE, Bound::Faster(FETCH, 2.0)),
    goal("new commit against fetch and reset, directory", "new-commit", DIRECTORY, Bound::Faster(FETCH, 2.0)),
    goal("another group, image", "view", IMAGE, Bound::Within(0.030)),
    goal("100 files of 30,000, image", "subdirectory", IMAGE, Bound::Faster(SPARSE, 2.0)),
    goal("100 files of 30,000, directory", "subdirectory", DIRECTORY, Bound::Faster(SPARSE, 2.0)),
    goal("received for 100 files of 30,000, image", "subdirectory", IMAGE, Bound::Received(MEBIBYTE)),
    goal("received for 100 files of 30,000, directory", "subdirectory", DIRECTORY, Bound::Received(MEBIBYTE)),
    goal("hit, commit id, small, image", "hit-commit-small", IMAGE, Bound::Within(0.005)),
    goal("hit, commit id, small, directory", "hit-commit-small", DIRECTORY, Bound::Within(0.005)),
    goal("hit, commit id, large, image", "hit-commit-large", IMAGE, Bound::Within(0.005)),
    goal("hit, commit id, large, directory", "hit-commit-large", DIRECTORY, Bound::Within(0.005)),
    goal("hit, known branch, large, image", "hit-branch-large", IMAGE, Bound::Within(0.005)),
    goal("hit, known branch, large, directory", "hit-branch-large", DIRECTORY, Bound::Within(0.005)),
    goal("hit through the driver, image", "driver-hit", IMAGE, Bound::Within(0.005)),
    goal("hit through the driver, directory", "driver-hit", DIRECTORY, Bound::Within(0.005)),
    goal("100 at once against one miss, image", "driver-hundred", IMAGE, Bound::Times("driver-one", 1.5)),
    goal("100 at once against one miss, directory", "driver-hundred", DIRECTORY, Bound::Times("driver-one", 1.5)),
    goal("disk of 100 against one miss, image", "driver-hundred", IMAGE, Bound::Disk("driver-one", 1.05)),
    goal("disk of 100 against one miss, directory", "driver-hundred", DIRECTORY, Bound::Disk("driver-one", 1.05)),
    goal("hit of an attacked neighbour, image", "neighbour-hit-attacked", IMAGE, Bound::Within(0.010)),
    goal("hit of an attacked neighbour, directory", "neighbour-hit-attacked", DIRECTORY, Bound::Within(0.010)),
    goal("miss of an attacked neighbour, image", "neighbour-miss-attacked", IMAGE, Bound::Times("neighbour-miss", 2.0)),
    goal(
        "miss of an attacked neighbour, directory",
        "neighbour-miss-attacked",
        DIRECTORY,
        Bound::Times("neighbour-miss", 2.0),
    ),
    goal("100 workspaces at once", "workspaces", IMAGE, Bound::Within(0.5)),
    goal("disk of 100 workspaces", "workspaces", IMAGE, Bound::Space(100.0 * 65_536.0)),
    goal("100 workspaces with .git at once", "workspaces-git", IMAGE, Bound::Within(0.5)),
    goal("disk of 100 workspaces with .git", "workspaces-git", IMAGE, Bound::Space(100.0 * 65_536.0)),
    goal("git status of 100 workspaces, the median", "workspaces-status", IMAGE, Bound::Within(0.1)),
    goal("git status of 100 workspaces, the slowest", "workspaces-status-slowest", IMAGE, Bound::Within(0.1)),
];

/// A goal and what was measured.
#[derive(Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What the goal is about.
    pub what: &'static str,
    /// The bound.
    pub wanted: String,
    /// Empty if nothing was.
    pub measured: String,
    /// `None` if nothing was measured.
    pub met: Option<bool>,
}

/// Judges the cases that were tried, by medians.
pub fn judge(results: &Results) -> Vec<Judgement> {
    GOALS.iter().filter(|goal| results.case(goal.case).is_some()).map(|goal| goal.judge(results)).collect()
}

/// The keys of the cases that have goals.
pub fn cases() -> impl Iterator<Item = &'static str> {
    GOALS.iter().map(|goal| goal.case)
}

impl Goal {
    fn judge(&self, results: &Results) -> Judgement {
        let measured = results.series(self.case, self.contender).and_then(|series| self.measure(results, series));
        let met = measured.map(|spread| match self.bound {
            Bound::Faster(_, least) => spread.median >= least,
            Bound::Within(most)
            | Bound::Times(_, most)
            | Bound::Disk(_, most)
            | Bound::Space(most)
            | Bound::Received(most)
            | Bound::Memory(most) => spread.median <= most,
        });
        let text = |number: f64| match self.bound {
            Bound::Faster(..) => tables::times(number),
            Bound::Within(_) => tables::duration(number),
            Bound::Times(..) | Bound::Disk(..) => format!("{number:.2}×"),
            Bound::Space(_) | Bound::Received(_) => tables::bytes(number),
            Bound::Memory(_) => format!("{:.0} MiB", number / MEBIBYTE),
        };
        let wanted = match self.bound {
            Bound::Faster(_, least) => format!("≥ {}", text(least)),
            Bound::Within(most)
            | Bound::Times(_, most)
            | Bound::Disk(_, most)
            | Bound::Space(most)
            | Bound::Received(most)
            | Bound::Memory(most) => format!("≤ {}", text(most)),
        };
        let measured = measured.map_or(String::new(), |spread| tables::range(spread, text));
        Judgement { what: self.what, wanted, measured, met }
    }

    fn measure(&self, results: &Results, series: &Series) -> Option<Spread> {
        let against = |case: &str, number: fn(&Sample) -> f64| {
            let other = results.series(case, self.contender)?.spread(number)?;
            Some(series.spread(number)?.times(1.0 / other.median))
        };
        match self.bound {
            Bound::Faster(rival, _) => results.case(self.case)?.ratio(rival, series),
            Bound::Within(_) => series.spread(|sample| sample.wall),
            Bound::Times(case, _) => against(case, |sample| sample.wall),
            Bound::Disk(case, _) => against(case, |sample| sample.disk as f64),
            Bound::Space(_) => series.spread(|sample| sample.disk as f64),
            Bound::Received(_) => series.spread(|sample| sample.wire as f64),
            Bound::Memory(_) => series.spread(|sample| sample.memory as f64),
        }
    }
}
