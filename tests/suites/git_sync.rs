//! `docs/git-sync.md`: what users of git-sync read there exists.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use gitrepo_core::spec::DefaultDirectory;
use gitrepo_core::spec::KEYS;
use gitrepo_core::spec::Submodules;
use gitrepo_core::spec::VolumeSpec;

fn document() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/git-sync.md")).unwrap()
}

/// What is in code quotes in a text, without the value after a colon.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2).map(|words| words.split(": ").next().unwrap())
}

/// The flags of git-sync and, for each row of the table, what the other column has.
fn rows(document: &str) -> Vec<(Vec<&str>, &str)> {
    let rows = document.lines().filter(|line| line.starts_with("| `--"));
    rows.map(|line| {
        let (flags, here) = line.trim_matches(['|', ' ']).split_once(" | ").unwrap();
        (quoted(flags).collect(), here)
    })
    .collect()
}

#[test]
fn each_flag_is_in_one_row_and_each_key_of_a_volume_is_named_by_its_own_name() {
    let document = document();
    let rows = rows(&document);
    let mut flags: Vec<_> = rows.iter().flat_map(|(flags, _)| flags).collect();
    let count = flags.len();
    flags.sort_unstable();
    flags.dedup();
    assert!(count == flags.len() && count >= 40, "{flags:?}");
    // What begins a cell is the key to write.
    let keys: Vec<_> = rows.iter().filter(|(_, here)| here.starts_with('`')).collect();
    assert!(keys.len() >= 8);
    let is_known = |name: &str| {
        let secret = ["username", "password", "ssh-privatekey", "known_hosts"];
        let elsewhere = ["mountPath", "limits.timeout"];
        KEYS.iter().any(|key| key.name == name) || secret.contains(&name) || elsewhere.contains(&name)
    };
    for (flags, here) in keys {
        let name = quoted(here).next().unwrap();
        assert!(is_known(name), "{flags:?}: {name}");
    }
}

#[test]
fn the_volume_is_one_that_is_accepted() {
    let document = document();
    let attributes = document.split_once("volumeAttributes:\n").unwrap().1.split_once("      nodePublish").unwrap().0;
    let setting = |line: &str| line.trim().split_once(": ").map(|(key, value)| (key.to_owned(), value.to_owned()));
    let attributes: BTreeMap<_, _> = attributes.lines().filter_map(setting).collect();
    assert_eq!(attributes.len(), 4);
    let spec = VolumeSpec::from_attributes(&attributes, DefaultDirectory::BaseName).unwrap();
    assert_eq!(spec.tree.submodules, Submodules::Recursive, "the default of git-sync");
}
