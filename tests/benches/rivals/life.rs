//! The life of a volume whose repository the node does not know: it is fetched and published, read, unpublished, and what
//! the node keeps is deleted.

use std::path::Path;

use gitrepo_tests::bench::goals::SHALLOW;
use gitrepo_tests::bench::usage;
use gitrepo_tests::bench::workload::Workload;

use crate::bench::Bench;
use crate::bench::Turns;
use crate::contender::Contender;

struct Stages {
    miss: Turns,
    first: Turns,
    hide: Turns,
    delete: Turns,
}

/// Measures all of it, or unless `whole` only how it begins: what follows depends on the tree alone.
pub(crate) fn run(bench: &mut Bench, workload: Workload, whole: bool) {
    let name = workload.name;
    let (_repository, workload, url) = bench.serve(workload);
    let what = workload.describe();
    let case = |stage: &str, title: &str, rival| {
        Bench::case(&format!("{stage}-{name}"), &format!("{title}, {what}"), &[rival])
    };
    let mut stages = Stages {
        miss: case("miss", "miss", SHALLOW),
        first: case("read-first", "first reading of all files", SHALLOW),
        hide: case("unpublish", "unpublish", Contender::InTree.name()),
        delete: case("delete", "delete what unpublishing keeps", SHALLOW),
    };
    let contenders = bench.contenders.clone();
    for (round, contender) in Bench::turns(bench.rounds, &contenders) {
        let place = contender.place(bench, &format!("{name}-{round}"));
        let files = whole.then_some(workload.files);
        live(bench, &mut stages, contender, round, (&url, &workload.branch()), &place, files);
    }
    let Stages { miss, first, hide, delete } = stages;
    for turns in [miss, first, hide, delete] {
        bench.finish(turns);
    }
}

fn live(
    bench: &Bench,
    stages: &mut Stages,
    contender: Contender,
    round: usize,
    (url, branch): (&str, &str),
    place: &Path,
    files: Option<usize>,
) {
    let name = contender.name();
    let get = contender.get(bench, url, branch, place);
    if !stages.miss.add(name, round, bench.measure(round, vec![get])) {
        return bench.remove(place);
    }
    let tree = contender.tree(place);
    let ours = contender.format().is_some();
    if round == 0 {
        let found = usage::read(&tree);
        assert!(files.is_none_or(|files| files == found), "{name} made {found} files");
    }
    let is_read = files.is_some() && (ours || contender == Contender::Shallow);
    if is_read {
        stages.first.add(name, round, bench.measure(round, vec![bench.reader(&tree)]));
    }
    let hide = contender.hide(bench, place);
    if files.is_some() && (ours || contender == Contender::InTree) {
        stages.hide.add(name, round, bench.measure(round, vec![hide]));
    } else if !is_read || ours {
        bench.run(&hide);
    }
    if is_read {
        let delete = contender.delete(bench, place);
        stages.delete.add(name, round, bench.measure(round, vec![delete]));
    }
    bench.remove(place);
}
