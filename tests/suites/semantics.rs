//! docs/semantics.md: every promise, fault and threat names its tests, and every test that it names is run.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use gitrepo_tests::volumes::entries;

/// How many promises there are.
const PROMISES: u32 = 13;

/// How many faults and threats there are.
const FAULTS: u32 = 15;
const THREATS: u32 = 27;

/// The parts of a shared store.
const PARTS: [&str; 17] = [
    "access", "audit", "cli", "crashes", "deletion", "eviction", "healing", "input", "memory", "node", "offline",
    "prefetch", "pull", "shares", "store", "targets", "verifier",
];

/// The heading of what follows the promises.
const TABLES: &str = "\n# Faults and threats\n";

/// The tests that each promise names, by its number.
type Promises = BTreeMap<u32, Vec<String>>;

#[test]
fn every_promise_names_tests_that_are_run() {
    let promises = promises(&fs::read_to_string(root().join("docs/semantics.md")).unwrap());
    assert_eq!(promises.keys().copied().collect::<Vec<_>>(), (1..=PROMISES).collect::<Vec<_>>());
    let tests = Tests::find();
    for (promise, named) in promises {
        assert!(!named.is_empty(), "promise {promise} names no test");
        let missing: Vec<_> = named.into_iter().filter(|test| !tests.has(test)).collect();
        assert!(missing.is_empty(), "promise {promise} names tests that are not run: {missing:#?}");
    }
}

#[test]
fn every_fault_and_threat_names_tests_that_are_run() {
    let document = fs::read_to_string(root().join("docs/semantics.md")).unwrap();
    let rows = rows(&document);
    let faults = (1..=FAULTS).map(|number| format!("R{number}"));
    let threats = (1..=THREATS).map(|number| format!("S{number}"));
    let expected: BTreeSet<String> = faults.chain(threats).chain(PARTS.map(str::to_owned)).collect();
    assert_eq!(rows.keys().cloned().collect::<BTreeSet<_>>(), expected);
    let tests = Tests::find();
    let named: BTreeSet<&String> = rows.values().flatten().collect();
    let promised = promises(&document);
    for test in named.into_iter().chain(promised.values().flatten()) {
        if let Some(row) = row_of(test) {
            assert!(rows[&row].contains(test), "{test} is not in {row}, after which it is named");
        }
    }
    for (row, named) in rows {
        assert!(!named.is_empty(), "{row} names no test");
        let missing: Vec<_> = named.into_iter().filter(|test| !tests.has(test)).collect();
        assert!(missing.is_empty(), "{row} names tests that are not run: {missing:#?}");
    }
}

#[test]
fn a_row_of_a_table_is_read_with_its_tests() {
    let document =
        "Text.\n\n# Faults and threats\n\n| case | | tests |\n|---|---|---|\n| R1 | a `kill` | `a::b`, `c::d` |\n";
    assert_eq!(rows(document), BTreeMap::from([("R1".to_owned(), vec!["a::b".to_owned(), "c::d".to_owned()])]));
    assert_eq!(promises(&format!("# T\n\n## 1. One\n\nTests: `e::f`\n{document}"))[&1], ["e::f"]);
}

#[test]
fn a_test_that_is_not_run_does_not_exist() {
    let tests = Tests::find();
    assert!(tests.has("semantics::a_test_that_is_not_run_does_not_exist"));
    assert!(tests.has("publish::publishing_ten_times_makes_one_mount"), "run by a macro");
    assert!(tests.has("digest::known_answer"), "a unit test");
    for test in ["semantics::has", "semantics::nowhere", "nowhere::has", "mounter::mount_until_killed", ""] {
        assert!(!tests.has(test), "{test}");
    }
    // A word of a suite's list, and the end of a test's name.
    for test in ["publish::contract", "semantics::does_not_exist", "drivers::secrets"] {
        assert!(!tests.has(test), "{test}");
    }
}

/// A test that is named outside a `Tests:` paragraph would not be checked.
#[test]
fn every_named_test_is_in_a_list() {
    let document =
        "## 1. One\n\nText `of::nobody`.\n\nTests: `a::b`,\n`c::d`; on a node the scenes `e`\n\nTests: `f::g`\n";
    assert_eq!(promises(&format!("# T\n\n{document}"))[&1], ["a::b", "c::d", "f::g"]);
    let document = fs::read_to_string(root().join("docs/semantics.md")).unwrap();
    let listed = promises(&document).into_values().flatten().count();
    let (text, _) = document.split_once(TABLES).unwrap();
    let named = quoted(text).filter(|name| is_test(name)).count();
    assert_eq!(listed, named, "a paragraph of tests does not begin with `Tests: `");
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Reads `## <number>. <title>` and, below it, ``Tests: `area::name`, …`` up to the next empty line.
fn promises(document: &str) -> Promises {
    let text = document.split_once(TABLES).map_or(document, |(text, _)| text);
    let sections = text.split("\n## ").skip(1).map(|section| {
        let (number, _) = section.split_once(". ").expect("a promise has a number");
        let paragraphs = section.split("\n\n").map(str::trim).filter(|paragraph| paragraph.starts_with("Tests: "));
        let tests = paragraphs.flat_map(quoted).filter(|name| is_test(name)).collect();
        (number.parse().expect("a promise has a number"), tests)
    });
    sections.collect()
}

/// Reads ``| row | words | `area::name`, … |`` of the tables: the tests of each row.
fn rows(document: &str) -> BTreeMap<String, Vec<String>> {
    let tables = document.split_once(TABLES).map_or("", |(_, tables)| tables);
    let mut rows = BTreeMap::new();
    for line in tables.lines().filter(|line| line.starts_with('|')) {
        let [_, row, _, tests, _] = line.split('|').map(str::trim).collect::<Vec<_>>()[..] else { panic!("{line}") };
        let tests: Vec<_> = quoted(tests).filter(|name| is_test(name)).collect();
        // The heads of the tables and the lines below them.
        if !matches!(row, "case" | "part") && !row.starts_with('-') {
            assert!(rows.insert(row.to_owned(), tests).is_none(), "{row} is there twice");
        }
    }
    rows
}

fn quoted(text: &str) -> impl Iterator<Item = String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned)
}

/// The row after which a test is named: `R4` of `area::r4_name`.
fn row_of(test: &str) -> Option<String> {
    let (number, _) = test.rsplit("::").next()?.split_once('_')?;
    let digits = number.strip_prefix(['r', 's'])?;
    digits.parse::<u32>().is_ok().then(|| number.to_uppercase())
}

/// Whether this is the name of a test, rather than of a scene, a command or a key.
fn is_test(name: &str) -> bool {
    name.contains("::")
}

/// The tests that are run.
struct Tests {
    suites: BTreeSet<String>,
}

impl Tests {
    /// Asks this program itself, so that tests that are not compiled or are ignored are not listed.
    fn find() -> Self {
        let list = |more: &[&str]| -> BTreeSet<String> {
            let mut command = Command::new(env::current_exe().unwrap());
            let output = command.args(["--list", "--format", "terse"]).args(more).output().unwrap();
            assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
            let lines = String::from_utf8(output.stdout).unwrap();
            lines.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
        };
        Self { suites: &list(&[]) - &list(&["--ignored"]) }
    }

    /// Whether `area::name` is a test of that suite, or a unit test of that module of the core.
    fn has(&self, test: &str) -> bool {
        let Some((area, name)) = test.split_once("::") else { return false };
        let of_area = |path: &&String| path.split("::").next() == Some(area);
        let is_suites = self.suites.iter().filter(of_area).any(|path| path.rsplit("::").next() == Some(name));
        is_suites || sources(&root().join("gitrepo-core/src").join(area)).iter().any(|source| has_test(source, name))
    }
}

fn has_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    lines.windows(2).any(|pair| pair[0] == "#[test]" && pair[1].starts_with(&format!("fn {name}(")))
}

/// `<path>.rs`, then everything below `<path>/`.
fn sources(path: &Path) -> Vec<String> {
    let mut sources: Vec<String> = fs::read_to_string(path.with_extension("rs")).into_iter().collect();
    let mut places = vec![path.to_owned()];
    while let Some(place) = places.pop() {
        for path in entries(&place) {
            if path.is_dir() {
                places.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push(fs::read_to_string(path).unwrap());
            }
        }
    }
    sources
}
