//! One directory of a large repository: some hundred files of 30,000.

use std::collections::BTreeMap;

use gitrepo_tests::bench::goals::SHALLOW;
use gitrepo_tests::bench::goals::SPARSE;
use gitrepo_tests::bench::workload::Workload;
use gitrepo_tests::git;
use gitrepo_tests::repository::Repository;

use crate::bench::Bench;
use crate::bench::Words;
use crate::bench::text;
use crate::contender::Contender;

/// Files of the directory that is chosen, as near as the repository has one.
const WANTED: usize = 100;

/// URL, branch, clone, directory.
const SCRIPT: &str = "git clone --quiet --depth 1 --filter=blob:none --sparse --branch \"$2\" \"$1\" \"$3\" && \
                      git -C \"$3\" sparse-checkout set \"$4\"";

/// Who gets the directory, and whether the server may leave out the rest.
#[derive(Clone, Copy)]
enum Way {
    Sparse,
    Shallow,
    Ours(Contender, bool),
}

impl Way {
    const ALL: [Self; 6] = [
        Self::Sparse,
        Self::Shallow,
        Self::Ours(Contender::Image, true),
        Self::Ours(Contender::Directory, true),
        Self::Ours(Contender::Image, false),
        Self::Ours(Contender::Directory, false),
    ];

    fn name(self) -> String {
        match self {
            Self::Sparse => SPARSE.to_owned(),
            Self::Shallow => SHALLOW.to_owned(),
            Self::Ours(contender, true) => contender.name().to_owned(),
            Self::Ours(contender, false) => format!("{}, server without filters", contender.name()),
        }
    }
}

pub(crate) fn run(bench: &mut Bench) {
    let (repository, workload, url) = bench.serve(Workload::LARGE);
    let (directory, files) = directory_of(&repository, WANTED);
    let title = format!("one directory with {files} files of {}", workload.describe());
    let mut turns = Bench::case("subdirectory", &title, &[SHALLOW, SPARSE]);
    for (round, way) in Bench::turns(bench.rounds, &Way::ALL) {
        repository
            .configure("uploadpack.allowFilter", if matches!(way, Way::Ours(_, false)) { "false" } else { "true" });
        let contender = match way {
            Way::Sparse | Way::Shallow => Contender::Shallow,
            Way::Ours(contender, _) => contender,
        };
        let place = contender.place(bench, &format!("subdirectory-{round}"));
        let get: Words = match way {
            Way::Shallow => contender.get(bench, &url, "main", &place),
            Way::Sparse => ["sh", "-c", SCRIPT, "sh", &url, "main", text(&contender.tree(&place)), &directory]
                .map(str::to_owned)
                .into(),
            Way::Ours(..) => {
                let mut get = contender.get(bench, &url, "main", &place);
                get.extend(["--subdirectory", &directory].map(str::to_owned));
                get
            }
        };
        if turns.add(&way.name(), round, bench.measure(round, vec![get])) && contender.format().is_some() {
            bench.run(&contender.hide(bench, &place));
        }
        bench.remove(&place);
    }
    bench.finish(turns);
}

/// The directory whose files are nearest to this number, and how many it has.
fn directory_of(repository: &Repository, wanted: usize) -> (String, usize) {
    let listed = git::text(git::output(&mut repository.git(["ls-tree", "-r", "--name-only", "main"])));
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for path in listed.lines() {
        for (end, _) in path.match_indices('/') {
            *counts.entry(&path[..end]).or_default() += 1;
        }
    }
    let (directory, files) = counts.into_iter().min_by_key(|(_, files)| files.abs_diff(wanted)).unwrap();
    (directory.to_owned(), files)
}
