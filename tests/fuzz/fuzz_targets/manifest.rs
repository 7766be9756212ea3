//! The list of a tree that a worker writes, whoever has taken it over. The properties are those of
//! `gitrepo_core::testing::fuzz::manifest`, which `tests/suites/parsers.rs` checks on stable Rust with every `cargo test`.
//!
//! ```sh
//! cd tests/fuzz && cargo +nightly fuzz run manifest -- -max_len=4096 -max_total_time=60
//! ```

#![no_main]

use gitrepo_core::testing::fuzz;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzz::manifest(bytes));
