//! Volumes of a commit that the node already has. The other ways have nothing like it: they fetch again.

use std::path::PathBuf;

use gitrepo_tests::bench::workload::Workload;

use crate::bench::Bench;
use crate::contender::Contender;
use crate::contender::Mount;

/// A hit takes little time, so it is measured more often.
const OFTEN: usize = 4;

enum By {
    Commit,
    /// The branch of the workload, whose last answer is known.
    Branch,
    /// A branch that was not asked for before: answers are shared for a second, and this one must be the remote's.
    NewBranch,
}

struct Kind {
    key: &'static str,
    title: &'static str,
    by: By,
    more: &'static [&'static str],
    stale: bool,
}

const KINDS: [Kind; 4] = [
    Kind { key: "hit-commit", title: "hit by commit id", by: By::Commit, more: &[], stale: false },
    Kind {
        key: "hit-branch",
        title: "hit by branch, last answer kept",
        by: By::Branch,
        more: &["--pull-policy", "IfNotPresent"],
        stale: false,
    },
    Kind { key: "hit-asked", title: "hit by branch, remote asked", by: By::NewBranch, more: &[], stale: false },
    Kind { key: "hit-stale", title: "hit by commit id, proof stale", by: By::Commit, more: &[], stale: true },
];

pub(crate) fn run(bench: &mut Bench) {
    for workload in [Workload::SMALL, Workload::LARGE, Workload::REFS] {
        hits_of(bench, workload);
    }
}

fn hits_of(bench: &mut Bench, workload: Workload) {
    let name = workload.name;
    let (repository, workload, url) = bench.serve(workload);
    let (branch, commit) = (workload.branch(), repository.resolve("main"));
    let what = workload.describe();
    let mut places: Vec<(Contender, PathBuf)> = Vec::new();
    for contender in Contender::OURS {
        let place = contender.place(bench, &format!("hits-{name}"));
        bench.run(&contender.get(bench, &url, &branch, &place));
        places.push((contender, place));
    }
    let places: Vec<_> = places.iter().map(|(contender, place)| (*contender, place.as_path())).collect();
    // How many refs there are matters only to a remote that is asked for one.
    let kinds = KINDS.into_iter().filter(|kind| workload.refs == 0 || matches!(kind.by, By::NewBranch));
    for Kind { key, title, by, more, stale } in kinds {
        let mut turns = Bench::case(&format!("{key}-{name}"), &format!("{title}, {what}"), &[]);
        for (round, (contender, place)) in Bench::turns(bench.rounds * OFTEN, &places) {
            let new = format!("asked/{contender:?}/{round}");
            let revision = match by {
                By::Commit => &commit,
                By::Branch => &branch,
                By::NewBranch => {
                    repository.set_branch(&new, "main");
                    &new
                }
            };
            let mount = Mount { url: &url, revision, place, name: "hit", more, stale };
            if turns.add(contender.name(), round, bench.measure(round, vec![contender.mount(bench, &mount)])) {
                bench.run(&contender.unmount(bench, place, "hit"));
            }
        }
        bench.finish(turns);
    }
    for (contender, place) in places {
        bench.run(&contender.hide(bench, place));
        bench.remove(place);
    }
}
