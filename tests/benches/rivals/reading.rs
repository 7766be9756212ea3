//! All files of a volume are read, with nothing of them in memory and with everything.

use gitrepo_tests::bench::goals::SHALLOW;
use gitrepo_tests::bench::workload::Workload;

use crate::bench::Bench;
use crate::contender::Contender;

pub(crate) fn run(bench: &mut Bench) {
    for workload in [Workload::SMALL, Workload::LARGE] {
        read(bench, workload);
    }
}

fn read(bench: &mut Bench, workload: Workload) {
    let name = workload.name;
    let (_repository, workload, url) = bench.serve(workload);
    let what = workload.describe();
    let mut cold = Bench::case(&format!("read-cold-{name}"), &format!("read all files, cold, {what}"), &[SHALLOW]);
    let mut warm = Bench::case(&format!("read-warm-{name}"), &format!("read all files, warm, {what}"), &[SHALLOW]);
    let volumes = [Contender::Shallow, Contender::Image, Contender::Directory].map(|contender| {
        let place = contender.place(bench, &format!("read-{name}"));
        bench.run(&contender.get(bench, &url, "main", &place));
        (contender, place)
    });
    let contenders = [0, 1, 2];
    for (round, index) in Bench::turns(bench.rounds, &contenders) {
        let (contender, place) = &volumes[index];
        let read = bench.reader(&contender.tree(place));
        bench.cool(&read);
        cold.add(contender.name(), round, bench.measure(round, vec![read.clone()]));
        warm.add(contender.name(), round, bench.measure(round, vec![read]));
    }
    for (contender, place) in &volumes {
        bench.run(&contender.hide(bench, place));
        bench.remove(place);
    }
    bench.finish(cold);
    bench.finish(warm);
}
