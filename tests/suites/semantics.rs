//! docs/semantics.md: every promise names its tests, and every test named there exists.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use gitrepo_tests::volumes::entries;

/// How many promises there are.
const PROMISES: u32 = 13;

/// A promise, by its number, to the tests that it names.
type Promises = BTreeMap<u32, Vec<String>>;

#[test]
fn every_promise_names_tests_that_exist() {
    let promises = promises(&fs::read_to_string(root().join("docs/semantics.md")).unwrap());
    assert_eq!(promises.keys().copied().collect::<Vec<_>>(), (1..=PROMISES).collect::<Vec<_>>());
    for (promise, tests) in promises {
        assert!(!tests.is_empty(), "promise {promise} names no test");
        let missing: Vec<_> = tests.into_iter().filter(|test| !exists(test)).collect();
        assert!(missing.is_empty(), "promise {promise} names tests that do not exist: {missing:#?}");
    }
}

#[test]
fn a_test_that_is_not_run_does_not_exist() {
    assert!(exists("semantics::a_test_that_is_not_run_does_not_exist"));
    assert!(exists("publish::publishing_ten_times_is_one_mount"), "run by a macro");
    assert!(exists("store::known_answer"), "a unit test");
    for test in ["semantics::exists", "semantics::nowhere", "nowhere::exists", "mounter::mount_until_killed", ""] {
        assert!(!exists(test), "{test}");
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Reads `## <number>. <title>` and, below it, ``Tests: `area::name`, …`` up to the next empty line.
fn promises(document: &str) -> Promises {
    let sections = document.split("\n## ").skip(1).map(|section| {
        let (number, _) = section.split_once(". ").expect("a promise has a number");
        let paragraphs = section.split("\n\n").map(str::trim);
        let tests = paragraphs.filter_map(|paragraph| paragraph.strip_prefix("Tests: ")).flat_map(quoted).collect();
        (number.parse().expect("a promise has a number"), tests)
    });
    sections.collect()
}

fn quoted(paragraph: &str) -> impl Iterator<Item = String> {
    paragraph.split('`').skip(1).step_by(2).map(str::to_owned)
}

/// Whether `area::name` is a test of that suite, or a unit test of that module of the core.
fn exists(test: &str) -> bool {
    let Some((area, name)) = test.split_once("::") else { return false };
    [root().join("tests/suites"), root().join("gitrepo-core/src")].iter().any(|place| {
        let sources = sources(&place.join(area));
        // What a macro runs is a function, and a word of the macro's list in the suite's first file.
        let is_listed = sources
            .first()
            .is_some_and(|first| first.split_whitespace().any(|word| word.trim_end_matches(';') == name));
        sources.iter().any(|source| has_test(source, name) || is_listed && source.contains(&format!("fn {name}(")))
    })
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
