//! Hits and misses of one namespace, alone and while another one attacks the driver.

use std::time::Instant;

use gitrepo_tests::bench::goals::DIRECTORY;
use gitrepo_tests::bench::goals::IMAGE;
use gitrepo_tests::bench::results::Sample;
use gitrepo_tests::bench::workload::Workload;
use gitrepo_tests::hostile::attack;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::http::HttpServerBuilder;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::kubelet::csi::Node;
use gitrepo_tests::kubelet::csi::Volume;
use serde_json::json;

use crate::bench::Bench;
use crate::bench::Turns;

const FILESYSTEM: u64 = 4 << 30;

/// A hit takes little time, so it is measured more often.
const OFTEN: usize = 4;

pub(crate) fn run(bench: &mut Bench) {
    let (repository, workload, _) = bench.serve(Workload::SMALL);
    let rounds = bench.rounds;
    let serving = |server: HttpServerBuilder, number| server.serve_at(&path(number), &repository);
    let server = (0..2 * (rounds + 1)).fold(HttpServer::builder(), serving).start();
    let commit = repository.resolve("main");
    let volume = |number: usize| {
        let url = server.url_at(&path(number));
        Volume::inline("v", &[("repository", &url), ("revision", &commit)]).read_only()
    };

    let attacked = "while another namespace has 20 hostile volumes";
    let [mut hits, mut attacked_hits, mut misses, mut attacked_misses] = [
        ("neighbour-hit", "hit through gitrepo-csi, alone".to_owned()),
        ("neighbour-hit-attacked", format!("hit through gitrepo-csi, {attacked}")),
        ("neighbour-miss", format!("miss through gitrepo-csi, alone, {}", workload.describe())),
        ("neighbour-miss-attacked", format!("miss through gitrepo-csi, {attacked}, {}", workload.describe())),
    ]
    .map(|(key, title)| Bench::case(key, &title, &[]));
    for (contender, format) in [(IMAGE, "image"), (DIRECTORY, "directory")] {
        let mut configuration = attack::configuration();
        configuration["snapshotFormat"] = json!(format);
        configuration["cache"]["accessTtl"] = json!("1h");
        let Some(node) = Node::configured(FILESYSTEM, &configuration) else { return };
        let measure = |hits: &mut Turns, misses: &mut Turns, first: usize| {
            for round in 0..=rounds {
                misses.add(contender, round, visit(&node, &volume(first + round)));
            }
            for round in 0..=rounds * OFTEN {
                hits.add(contender, round, visit(&node, &volume(first)));
            }
        };
        measure(&mut hits, &mut misses, 0);
        attack::during(&node, &repository, || measure(&mut attacked_hits, &mut attacked_misses, rounds + 1));
    }
    for turns in [hits, attacked_hits, misses, attacked_misses] {
        bench.finish(turns);
    }
}

fn path(number: usize) -> String {
    format!("{number}.git")
}

/// Publishes a volume, and unpublishes it.
fn visit(node: &Node, volume: &Volume) -> Result<(Sample, Option<u64>), String> {
    let (kubelet, pod) = (node.kubelet(), Pod::new("neighbour").in_namespace("other"));
    let target = kubelet.target(&pod, volume);
    std::fs::create_dir_all(target.parent().unwrap()).map_err(|error| error.to_string())?;
    let request = volume.request(&pod, target.to_str().unwrap());
    let begun = Instant::now();
    let published = kubelet.call_publish(request);
    let wall = begun.elapsed().as_secs_f64();
    published.map_err(|failed| failed.message)?;
    let unpublished = kubelet.call_unpublish(&volume.id(&pod), target.to_str().unwrap());
    unpublished.map_err(|failed| failed.message)?;
    Ok((Sample { wall, ..Sample::default() }, None))
}
