//! What `make bench` is made of: its repositories are what they claim, and its reports say what was measured.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::process::Output;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use gitrepo_tests::bench::goals;
use gitrepo_tests::bench::goals::DIRECTORY;
use gitrepo_tests::bench::goals::IMAGE;
use gitrepo_tests::bench::goals::SHALLOW;
use gitrepo_tests::bench::machine::Machine;
use gitrepo_tests::bench::plot;
use gitrepo_tests::bench::results::Case;
use gitrepo_tests::bench::results::Results;
use gitrepo_tests::bench::results::Sample;
use gitrepo_tests::bench::results::Series;
use gitrepo_tests::bench::spread::Spread;
use gitrepo_tests::bench::tables;
use gitrepo_tests::bench::workload::Workload;
use gitrepo_tests::bench::workload::source::Source;
use gitrepo_tests::git;
use gitrepo_tests::manifests::workspace;
use gitrepo_tests::repository::Files;
use tempfile::TempDir;

const TINY: Workload = Workload { name: "tiny", seed: 1, files: 60, bytes: 400_000, commits: 3, branches: 2, refs: 0 };

fn stream(workload: &Workload) -> Vec<u8> {
    let mut stream = Vec::new();
    workload.write_stream(&mut stream).unwrap();
    stream
}

#[test]
fn a_seed_gives_the_same_repository_on_every_machine() {
    assert_eq!(stream(&TINY), stream(&TINY));
    assert_ne!(stream(&TINY), stream(&Workload { seed: 2, ..TINY }));
    let repository = TINY.generate();
    assert_eq!(repository.resolve("main"), "d9d4b0fbac7e302ab6f08200fbc7c725320d4841");
    assert_eq!(repository.resolve("at/0"), repository.resolve("main"));
    assert_eq!(repository.resolve("at/1"), repository.resolve("main~1"));
    let count = |words: [&str; 3]| git::line(&mut repository.git(words)).lines().count();
    assert_eq!(count(["rev-list", "main", "--"]), 3);
    assert_eq!(count(["ls-tree", "-r", "main"]), 60);
    assert_eq!(count(["diff", "--name-only", "main~1..main"]), 1);
}

#[test]
fn a_kept_repository_is_copied_for_each_user() {
    let cache = TempDir::new().unwrap();
    let workload = Workload { refs: 100, ..TINY };
    let first = workload.repository(cache.path());
    let kept: Vec<_> = fs::read_dir(cache.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(kept, [workload.to_string().as_str()], "nothing but the repository is left");
    first.commit("main", &Files::new().file("changed", "by its user\n"));
    let second = workload.repository(cache.path());
    assert_eq!(second.resolve("main"), TINY.generate().resolve("main"));
    assert_eq!(second.resolve(&workload.branch()), second.resolve("main"));
    assert_eq!(git::line(&mut second.git(["for-each-ref", "--format=x"])).lines().count(), 103);
}

#[test]
fn the_files_are_like_those_of_a_program() {
    let source = Source::new(7, 3000, 21_000_000);
    let mut sizes = Vec::new();
    let (mut plain, mut packed) = (0, 0);
    for file in 0..3000 {
        let content = source.content(file, 0);
        if file % 30 == 0 {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(&content).unwrap();
            packed += encoder.finish().unwrap().len();
            plain += content.len();
        }
        sizes.push(content.len());
        let depth = source.path(file).matches('/').count();
        assert!((3..=4).contains(&depth), "{}", source.path(file));
    }
    let ratio = plain as f64 / packed as f64;
    assert!((2.5..4.0).contains(&ratio), "compresses to one in {ratio}");
    let total: usize = sizes.iter().sum();
    assert!((20_900_000..21_100_000).contains(&total), "{total} bytes");
    sizes.sort_unstable();
    assert!(sizes[1500] * 3 < 2 * total / 3000, "most files are small: half of them below {}", sizes[1500]);
    assert!(sizes[2999] > 20 * total / 3000, "some are large: {}", sizes[2999]);
}

#[test]
fn the_repositories_have_names_of_their_own() {
    let all = [Workload::SMALL, Workload::LARGE, Workload::REFS, Workload::HISTORY];
    let mut names: Vec<String> = all.iter().flat_map(|one| [one.to_string(), one.divided(30).to_string()]).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 8);
    assert_eq!(
        all.map(|one| one.describe()),
        ["3,000 files, 21 MB", "30,000 files, 304 MB", "50,000 refs", "10,000 commits"]
    );
}

#[test]
fn spreads_are_of_the_middle_and_ratios_of_the_same_round() {
    assert_eq!(Spread::of([]), None);
    assert_eq!(Spread::of([3.0, 1.0, 10.0]), Some(Spread { least: 1.0, median: 3.0, most: 10.0 }));
    assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]), Some(Spread { least: 1.0, median: 2.5, most: 4.0 }));
    // The machine was three times slower in the second round: the ratio is the same.
    let ratio = Spread::of_ratios([2.0, 6.0, 4.0], [1.0, 3.0, 1.0]);
    assert_eq!(ratio, Some(Spread { least: 2.0, median: 2.0, most: 4.0 }));
}

fn series(contender: &str, ours: bool, walls: &[f64]) -> Series {
    let samples = walls.iter().map(|wall| Sample {
        wall: *wall,
        durable: wall + 0.5,
        cpu: 0.25,
        server_cpu: 0.125,
        memory: 10 << 20,
        wire: 1500,
        disk: -2_000_000,
        inodes: -7,
    });
    Series { contender: contender.to_owned(), ours, samples: samples.collect(), together: None, unavailable: None }
}

fn results() -> Results {
    let unavailable = Series { unavailable: Some("no a|b".to_owned()), ..series(DIRECTORY, true, &[]) };
    let together = Series { together: Some(12 << 20), ..series(IMAGE, true, &[1.0, 0.5, 2.0]) };
    let miss = Case {
        key: "miss-small".to_owned(),
        title: "a <miss> & \"more\"".to_owned(),
        rivals: vec![SHALLOW.to_owned()],
        series: vec![series(SHALLOW, false, &[4.0, 1.0, 6.0]), together, unavailable],
    };
    let hit = Case {
        key: "hit-commit-small".to_owned(),
        title: "a hit".to_owned(),
        rivals: Vec::new(),
        series: vec![series(IMAGE, true, &[0.004])],
    };
    let machine = Machine {
        processor: "A processor".to_owned(),
        cores: 2,
        memory: 4 << 30,
        kernel: "6.12".to_owned(),
        filesystem: "ext4".to_owned(),
        git: "2.39".to_owned(),
        project: "0123".to_owned(),
        date: "2026-01-31".to_owned(),
    };
    Results { machine, rounds: 3, cases: vec![miss, hit] }
}

#[test]
fn the_summary_has_medians_and_ratios() {
    let expected = "\
A processor, 2 cores, 4 GiB of memory, Linux 6.12, ext4, git 2.39; gitrepo 0123, 2026-01-31.

| what | another way | gitrepo, image | gitrepo, directory |
|---|---|---|---|
| a <miss> & \"more\" | `git clone --depth 1`: 4.00 s | 1.00 s, 3.0× | not available |
| a hit |  | 4.00 ms |  |
";
    assert_eq!(tables::summary(&results()), expected);
}

#[test]
fn the_details_have_a_row_for_each_contender() {
    let details = tables::details(&results());
    let row = "| gitrepo, image | 1000 (500–2000) | 3.0× (2.0×–4.0×) | 1500 | 0.25 | 0.12 | 10; together 12 | 1.5 kB | -2.0 MB | -7 |";
    assert!(details.lines().any(|line| line == row), "{details}");
    assert!(details.contains("| gitrepo, directory | not available: no a\\|b |"), "{details}");
    assert!(
        details.lines().any(
            |line| line == "| gitrepo, image | 4.00 (4.00–4.00) | 504 | 0.25 | 0.12 | 10 | 1.5 kB | -2.0 MB | -7 |"
        ),
        "no rival, no ratio: {details}"
    );
}

#[test]
fn goals_are_judged_by_medians() {
    let judged = goals::judge(&results());
    let of = |what: &str| judged.iter().find(|row| row.what == what).unwrap();
    assert_eq!((of("miss, small, image").met, &*of("miss, small, image").measured), (Some(true), "3.0× (2.0×–4.0×)"));
    assert_eq!(of("memory of a miss, small, image").met, Some(true));
    assert_eq!(of("hit, commit id, small, image").met, Some(true));
    assert_eq!(of("miss, small, directory").met, None, "it was not available");
    let mut slower = results();
    slower.cases[0].series[1] = series(IMAGE, true, &[2.0, 0.5, 2.0]);
    slower.cases[1].series[0] = series(IMAGE, true, &[0.006]);
    let judged = goals::judge(&slower);
    let missed = judged.iter().filter(|row| row.met == Some(false)).map(|row| row.what);
    assert_eq!(missed.collect::<Vec<_>>(), ["miss, small, image", "hit, commit id, small, image"]);
}

#[test]
fn the_plot_has_a_bar_for_each_median_and_escapes_text() {
    let svg = plot::svg(&results(), &["hit-commit-small", "not-measured", "miss-small"]);
    assert!(svg.contains(">a &lt;miss&gt; &amp; &quot;more&quot;</text>"), "{svg}");
    let bars: Vec<&str> = svg.lines().filter(|line| line.starts_with("<rect")).collect();
    assert_eq!(bars.len(), 3, "two of the miss, one of the hit: {svg}");
    let width = |bar: &str| bar.split("width=\"").nth(1).unwrap().split('"').next().unwrap().parse::<f64>().unwrap();
    assert!((width(bars[1]) / width(bars[2]) - 4.0).abs() < 0.1, "4 s and 1 s: {bars:?}");
    assert!(bars[1].contains("\"rival\"") && bars[2].contains("\"ours\""), "{bars:?}");
}

fn bench_docs(out: &Path, root: &Path) -> Output {
    let mut script = Command::new("sh");
    script.arg(workspace().join("tests/bench-docs.sh")).env("OUT", out).env("ROOT", root).output().unwrap()
}

#[test]
fn bench_docs_replaces_what_is_between_the_markers() {
    let (out, root) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    for name in ["summary.md", "bench.md", "bench.svg"] {
        fs::write(out.path().join(name), format!("new \\1 & {name}\n")).unwrap();
    }
    fs::create_dir(root.path().join("docs")).unwrap();
    let readme = root.path().join("README.md");
    fs::write(&readme, "before\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nafter\n").unwrap();
    for _ in 0..2 {
        assert!(bench_docs(out.path(), root.path()).status.success());
        let expected = "before\n<!-- bench:begin -->\n\nnew \\1 & summary.md\n\n<!-- bench:end -->\nafter\n";
        assert_eq!(fs::read_to_string(&readme).unwrap(), expected);
    }
    assert_eq!(fs::read_to_string(root.path().join("docs/bench.svg")).unwrap(), "new \\1 & bench.svg\n");
    for (damage, names) in [("before\n<!-- bench:begin -->\nold\n", "bench:end"), ("none\n", "bench:begin")] {
        fs::write(&readme, damage).unwrap();
        let refused = bench_docs(out.path(), root.path());
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains(names), "{said}");
        assert_eq!(fs::read_to_string(&readme).unwrap(), damage);
    }
    fs::remove_file(out.path().join("bench.svg")).unwrap();
    let refused = bench_docs(out.path(), root.path());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("run make bench first"));
}

#[test]
fn the_readme_has_the_markers_and_the_files_that_it_shows() {
    let readme = fs::read_to_string(workspace().join("README.md")).unwrap();
    let table = readme.split("<!-- bench:begin -->").nth(1).and_then(|rest| rest.split("<!-- bench:end -->").next());
    assert!(table.unwrap().contains(SHALLOW), "the README has the table");
    for name in ["docs/bench.svg", "docs/bench.md"] {
        assert!(readme.contains(&format!("({name})")) && workspace().join(name).exists(), "{name}");
    }
}
