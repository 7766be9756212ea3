//! A push changes one file of a large repository, of which the node has the commit before.

use std::fs;
use std::time::Duration;

use gitrepo_tests::bench::goals::FETCH;
use gitrepo_tests::bench::goals::SHALLOW;
use gitrepo_tests::bench::workload::Workload;
use gitrepo_tests::repository::Files;

use crate::bench::Bench;
use crate::bench::text;
use crate::contender::Contender;
use crate::contender::Mount;

/// The product may use an answer of the remote for so long without asking again, a little rounded up.
const SHARED_ANSWER: Duration = Duration::from_millis(1100);

pub(crate) fn run(bench: &mut Bench) {
    let (repository, workload, url) = bench.serve(Workload::LARGE);
    let title = format!("new commit, one changed file, {}", workload.describe());
    let mut turns = Bench::case("new-commit", &title, &[SHALLOW, FETCH]);
    let contenders = [None, Some(Contender::Shallow), Some(Contender::Image), Some(Contender::Directory)];
    let old = Contender::Clone.place(bench, "old");
    bench.run(&Contender::Clone.get(bench, &url, "main", &old));
    let clone = Contender::Clone.tree(&old);
    let stores = Contender::OURS.map(|contender| {
        let place = contender.place(bench, "commits");
        bench.run(&contender.get(bench, &url, "main", &place));
        (contender, place)
    });
    let mut content = String::new();
    let mut pushed = None;
    for (round, contender) in Bench::turns(bench.rounds, &contenders) {
        if pushed != Some(round) {
            content = format!("// The push before round {round}.\n");
            repository.commit("main", &Files::new().file("changed.rs", &content));
            pushed = Some(round);
        }
        match contender {
            None => {
                let script = "cd \"$1\" && git fetch --quiet origin main && git reset --quiet --hard FETCH_HEAD";
                let fetch = ["sh", "-c", script, "sh", text(&clone)].map(str::to_owned).into();
                turns.add(FETCH, round, bench.measure(round, vec![fetch]));
            }
            Some(Contender::Shallow) => {
                let place = Contender::Shallow.place(bench, &format!("commit-{round}"));
                let get = Contender::Shallow.get(bench, &url, "main", &place);
                turns.add(SHALLOW, round, bench.measure(round, vec![get]));
                bench.remove(&place);
            }
            Some(ours) => {
                std::thread::sleep(SHARED_ANSWER);
                let (_, place) = stores.iter().find(|(contender, _)| *contender == ours).unwrap();
                let mount = Mount { url: &url, revision: "main", place, name: "new", more: &[], stale: false };
                if turns.add(ours.name(), round, bench.measure(round, vec![ours.mount(bench, &mount)])) {
                    assert_eq!(fs::read_to_string(place.join("new/changed.rs")).unwrap(), content, "{}", ours.name());
                    bench.run(&ours.unmount(bench, place, "new"));
                }
            }
        }
    }
    for (contender, place) in &stores {
        bench.run(&contender.hide(bench, place));
        bench.remove(place);
    }
    bench.remove(&old);
    bench.finish(turns);
}
