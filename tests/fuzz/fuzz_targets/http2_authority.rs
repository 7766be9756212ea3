//! The rewriter of a gRPC client's bytes, in front of the HTTP/2 library: on any input it does not panic, buffers no
//! more output than its limit, and gives the same result whether the bytes come at once or one by one.
//!
//! ```sh
//! cd tests/fuzz && cargo +nightly fuzz run http2_authority -- -max_len=4096 -max_total_time=60
//! ```
//!
//! Good seeds are the recordings in `gitrepo-csi/src/authority/recorded/`, without their first 24 bytes. Add an input
//! that fails to `gitrepo-csi/src/authority/rewriter/tests.rs`, which runs the same checks on stable Rust.

#![no_main]

use gitrepo_csi::authority::Rewriter;
use gitrepo_csi::authority::Violation;
use libfuzzer_sys::fuzz_target;

/// The whole output for the preface and `frames`, fed in pieces, and the violation that ended it.
fn rewritten(frames: &[u8], piece: usize) -> (Vec<u8>, Option<Violation>) {
    let input = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", frames].concat();
    let mut rewriter = Rewriter::default();
    let mut all = Vec::new();
    for mut part in input.chunks(piece) {
        while !part.is_empty() {
            let mut output = Vec::new();
            let taken = match rewriter.advance(part, &mut output) {
                Ok(taken) => taken,
                Err(violation) => return ([all, output].concat(), Some(violation)),
            };
            assert!(taken > 0 && output.len() < 128 * 1024, "{taken} {}", output.len());
            part = &part[taken..];
            all.extend(output);
        }
    }
    (all, None)
}

fuzz_target!(|frames: &[u8]| {
    assert_eq!(rewritten(frames, usize::MAX), rewritten(frames, 1));
});
