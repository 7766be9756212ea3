//! What a benchmark has measured.

use serde::Serialize;

use super::machine::Machine;
use super::spread::Spread;

/// A run of a benchmark.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Results {
    /// Where it ran.
    pub machine: Machine,
    /// How often each contender ran, at most.
    pub rounds: usize,
    /// In the order of the report.
    pub cases: Vec<Case>,
}

/// One thing that contenders do in turns.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Case {
    /// A short name: `miss-small`.
    pub key: String,
    /// What the contenders do.
    pub title: String,
    /// Names of the contenders that ours are compared with, the first of them in all tables.
    pub rivals: Vec<String>,
    /// In the order of the report.
    pub series: Vec<Series>,
}

/// What one contender took.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Series {
    /// The contender's name.
    pub contender: String,
    /// Whether it is this project.
    pub ours: bool,
    /// One for each round.
    pub samples: Vec<Sample>,
    /// The most memory of all its processes together, in bytes, without files: from a round of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub together: Option<u64>,
    /// Why there are no samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<String>,
}

/// What one contender took in one round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// Seconds until the command returned.
    pub wall: f64,
    /// Seconds until it had returned and all was on disk.
    pub durable: f64,
    /// Processor seconds of its processes.
    pub cpu: f64,
    /// Processor seconds of the server, git's and its own.
    pub server_cpu: f64,
    /// The most memory of one of its processes, in bytes.
    pub memory: u64,
    /// Bytes of HTTP that the server sent.
    pub wire: u64,
    /// Bytes of disk taken, negative when freed.
    pub disk: i64,
    /// Files, directories and links made, negative when removed.
    pub inodes: i64,
}

impl Results {
    /// The case of a key, if it was measured.
    pub fn case(&self, key: &str) -> Option<&Case> {
        self.cases.iter().find(|case| case.key == key)
    }

    /// What a contender took in a case, if it was measured.
    pub fn series(&self, key: &str, contender: &str) -> Option<&Series> {
        self.case(key)?.of(contender)
    }
}

impl Case {
    /// What a contender took.
    pub fn of(&self, contender: &str) -> Option<&Series> {
        self.series.iter().find(|series| series.contender == contender && !series.samples.is_empty())
    }

    /// How many times faster `series` is than the contender `rival`, round by round.
    pub fn ratio(&self, rival: &str, series: &Series) -> Option<Spread> {
        Spread::of_ratios(self.of(rival)?.numbers(|sample| sample.wall), series.numbers(|sample| sample.wall))
    }
}

impl Series {
    /// One number of each sample.
    pub fn numbers(&self, number: impl Fn(&Sample) -> f64) -> impl Iterator<Item = f64> {
        self.samples.iter().map(number)
    }

    /// The spread of one number.
    pub fn spread(&self, number: impl Fn(&Sample) -> f64) -> Option<Spread> {
        Spread::of(self.numbers(number))
    }
}
