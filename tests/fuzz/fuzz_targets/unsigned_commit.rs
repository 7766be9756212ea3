//! A commit with a signature of OpenPGP or SSH, or nearly. The property is that of
//! `gitrepo_core::testing::fuzz::unsigned_commit`, which `tests/suites/parsers.rs` checks on stable Rust with every `cargo
//! test`.
//!
//! ```sh
//! cd tests/fuzz && cargo +nightly fuzz run unsigned_commit -- -max_len=4096 -max_total_time=60
//! ```

#![no_main]

use gitrepo_core::testing::fuzz;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzz::unsigned_commit(bytes));
