//! `cargo bench -p gitrepo-tests --bench csi`: gitrepo-csi publishes and unpublishes one cached commit 10,000 times, on a
//! fresh ext4, as root. Fails if its memory, descriptors, mounts or files grow. An argument sets the number of pairs:
//! `cargo bench -p gitrepo-tests --bench csi -- 1000`.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, reason = "a benchmark is run by hand")]

use std::time::Duration;

use gitrepo_tests::fixtures;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::kubelet::csi::Footprint;
use gitrepo_tests::kubelet::csi::Node;
use gitrepo_tests::kubelet::csi::Volume;
use gitrepo_tests::kubelet::csi::percentile;

const PAIRS: usize = 10_000;

fn main() {
    let pairs = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(PAIRS);
    let Some(node) = Node::new(1 << 30) else { return };
    let rest = node.footprint();
    let (repository, commit) = fixtures::small();
    let server = HttpServer::start(&repository);
    let attributes = [("repository", &*server.url(&repository)), ("revision", &commit)];
    let volume = Volume::inline("v", &attributes).read_only();
    let soak = node.soak(&volume, pairs);
    println!("{pairs} pairs of one cached commit, read-only, over the driver's socket\n");
    report("NodePublishVolume", &soak.publishes);
    report("NodeUnpublishVolume", &soak.unpublishes);
    println!();
    for (when, taken) in [("at rest", rest), ("after a tenth", soak.warm), ("at the end", soak.end)] {
        tell(when, taken);
    }
    soak.assert_no_growth();
}

fn report(call: &str, took: &[Duration]) {
    let milliseconds = |percent| percentile(took, percent).as_secs_f64() * 1e3;
    println!("{call:<20} median {:>8.2} ms   p99 {:>8.2} ms", milliseconds(50), milliseconds(99));
}

fn tell(when: &str, taken: Footprint) {
    let Footprint { resident_kib, descriptors, mounts, files, .. } = taken;
    let resident = resident_kib / 1024;
    println!("{when:<14} {resident:>4} MiB resident, {descriptors} descriptors, {mounts} mounts, {files} files");
}
