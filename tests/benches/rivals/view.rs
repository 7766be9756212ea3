//! The same content for a pod with another group: a view of the store's content, or a walk over a clone.

use gitrepo_tests::bench::workload::Workload;

use crate::bench::Bench;
use crate::bench::text;
use crate::contender::Contender;
use crate::contender::Mount;

/// What kubelet does to volumes of other kinds for `fsGroup`.
const WALK: &str = "chgrp -R, chmod -R";
const FIRST_GROUP: usize = 10_000;

pub(crate) fn run(bench: &mut Bench) {
    let (_repository, workload, url) = bench.serve(Workload::LARGE);
    let mut turns = Bench::case("view", &format!("another group, {}", workload.describe()), &[WALK]);
    let contenders = [Contender::Shallow, Contender::Image, Contender::Directory];
    let places = contenders.map(|contender| {
        let place = contender.place(bench, "view");
        bench.run(&contender.get(bench, &url, "main", &place));
        (contender, place)
    });
    let turns_of: Vec<_> = places.iter().map(|(contender, place)| (*contender, place.as_path())).collect();
    let mut unavailable = Vec::new();
    for (round, (contender, place)) in Bench::turns(bench.rounds, &turns_of) {
        let group = (FIRST_GROUP + round).to_string();
        if contender == Contender::Shallow {
            let script = "chgrp -R \"$2\" \"$1\" && chmod -R g+rX \"$1\"";
            let walk = ["sh", "-c", script, "sh", text(&contender.tree(place)), &group].map(str::to_owned).into();
            turns.add(WALK, round, bench.measure(round, vec![walk]));
        } else if !unavailable.contains(&contender) {
            let more = ["--group", &group];
            let mount = Mount { url: &url, revision: "main", place, name: "view", more: &more, stale: false };
            if turns.add(contender.name(), round, bench.measure(round, vec![contender.mount(bench, &mount)])) {
                bench.run(&contender.unmount(bench, place, "view"));
            } else {
                unavailable.push(contender);
            }
        }
    }
    for (contender, place) in turns_of {
        bench.run(&contender.hide(bench, place));
        bench.remove(place);
    }
    bench.finish(turns);
}
