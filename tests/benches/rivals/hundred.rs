//! A hundred volumes at once, on a node that has nothing of the repository: of one commit, and of a hundred.

use gitrepo_tests::bench::goals::SHALLOW;
use gitrepo_tests::bench::workload::Workload;

use crate::bench::Bench;
use crate::contender::Contender;
use crate::contender::Mount;

const VOLUMES: usize = 100;
/// It takes long.
const ROUNDS: usize = 2;

pub(crate) fn run(bench: &mut Bench) {
    let (_repository, workload, url) = bench.serve(Workload::SMALL);
    for (key, title, different) in [
        ("hundred-same", "100 volumes at once, one commit", false),
        ("hundred-different", "100 volumes at once, 100 commits", true),
    ] {
        let mut turns = Bench::case(key, &format!("{title}, {}", workload.describe()), &[SHALLOW]);
        let contenders = [Contender::Shallow, Contender::Image, Contender::Directory];
        for (round, contender) in Bench::turns(bench.rounds.min(ROUNDS), &contenders) {
            let place = contender.place(bench, &format!("{key}-{round}"));
            let names: Vec<String> = (0..VOLUMES).map(|number| format!("volume-{number}")).collect();
            let commands = names.iter().enumerate().map(|(number, name)| {
                let branch = if different { format!("at/{number}") } else { "main".to_owned() };
                match contender.format() {
                    None => contender.get(bench, &url, &branch, &place.join(name)),
                    Some(_) => {
                        let mount =
                            Mount { url: &url, revision: &branch, place: &place, name, more: &[], stale: false };
                        contender.mount(bench, &mount)
                    }
                }
            });
            let commands = commands.collect();
            let taken = turns.add(contender.name(), round, bench.measure(round, commands));
            if contender.format().is_some() && taken {
                names.iter().for_each(|name| bench.run(&contender.unmount(bench, &place, name)));
            }
            bench.remove(&place);
        }
        bench.finish(turns);
    }
}
