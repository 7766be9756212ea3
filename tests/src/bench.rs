//! Benchmarks: the repositories that they use, what they measure, and how they report it.

pub mod goals;
pub mod in_use;
pub mod machine;
pub mod plot;
mod random;
pub mod results;
pub mod spread;
pub mod tables;
pub mod usage;
pub mod workload;
