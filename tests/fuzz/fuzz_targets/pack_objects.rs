//! The objects of a pack, with a sound beginning and trailer around them. The property is that of
//! `gitrepo_core::testing::fuzz::pack`, which `tests/suites/parsers.rs` checks on stable Rust with every `cargo test`.
//!
//! ```sh
//! cd tests/fuzz && cargo +nightly fuzz run pack_objects -- -max_len=4096 -max_total_time=60
//! ```

#![no_main]

use gitrepo_core::testing::fuzz;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzz::pack(bytes));
