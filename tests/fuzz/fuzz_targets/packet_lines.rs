//! Packet lines, the frames of git's protocol: each is as long as its header says. The properties are those of
//! `gitrepo_core::testing::fuzz::packets`, which `tests/suites/parsers.rs` checks on stable Rust with every `cargo test`.
//!
//! ```sh
//! cd tests/fuzz && cargo +nightly fuzz run packet_lines -- -max_len=4096 -max_total_time=60
//! ```

#![no_main]

use gitrepo_core::testing::fuzz;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzz::packets(bytes));
