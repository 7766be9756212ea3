//! The modules of the core: CONTRIBUTING.md shows them in layers, and no module uses one beside or above it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// Each module, and the modules that it uses.
type Uses = BTreeMap<String, BTreeSet<String>>;

/// Fakes for tests, which may use everything.
const FAKES: &str = "testing";

#[test]
fn modules_use_only_what_is_below_them() {
    let layers = layers(&fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap());
    let uses = uses(&root().join("gitrepo-core/src"));
    assert!(uses.len() > 15 && uses["volume"].contains("lease"), "the modules were not read: {uses:?}");
    assert_eq!(faults(&layers, &uses), <[String; 0]>::default());
}

#[test]
fn circles_upward_uses_and_unlisted_modules_are_found() {
    let layers = [vec!["volume".to_owned()], vec!["store".to_owned(), "mount".to_owned()], vec!["spec".to_owned()]];
    let uses = |pairs: &[(&str, &str)]| {
        let mut uses: Uses = ["volume", "store", "mount", "spec"].map(|name| (name.to_owned(), BTreeSet::new())).into();
        for (user, used) in pairs {
            uses.entry((*user).to_owned()).or_default().insert((*used).to_owned());
        }
        uses
    };
    assert_eq!(faults(&layers, &uses(&[("volume", "store"), ("store", "spec")])).len(), 0);
    for (pairs, found) in [
        (&[("volume", "store"), ("store", "volume")][..], "store uses volume"),
        (&[("store", "mount")], "store uses mount"),
        (&[("spec", "store")], "spec uses store"),
        (&[("volume", "utils")], "volume uses utils"),
        (&[("utils", "spec")], "utils uses spec"),
    ] {
        let faults = faults(&layers, &uses(pairs));
        assert_eq!(faults.len(), 1, "{pairs:?}: {faults:?}");
        assert!(faults[0].starts_with(found), "{pairs:?}: {faults:?}");
    }
    let fewer: Uses = [("volume".to_owned(), BTreeSet::new())].into();
    assert_eq!(faults(&layers, &fewer).len(), 3, "modules that do not exist");
    let tested = "use crate::store::Store;\n#[cfg(test)]\nmod tests {\n    use crate::testing::Fake;\n}\n";
    assert_eq!(used_in(tested), ["store".to_owned()].into());
}

/// The uses and modules that contradict the layers.
fn faults(layers: &[Vec<String>], uses: &Uses) -> Vec<String> {
    let layer = |module: &str| layers.iter().position(|layer| layer.iter().any(|name| name == module));
    let mut faults = Vec::new();
    for (user, used) in uses.iter().flat_map(|(user, all)| all.iter().map(move |used| (user, used))) {
        match (layer(user), layer(used)) {
            (Some(above), Some(below)) if above < below => {}
            _ => faults.push(format!("{user} uses {used}, which CONTRIBUTING.md does not show below it")),
        }
    }
    let gone = layers.iter().flatten().filter(|name| !uses.contains_key(*name));
    faults.extend(gone.map(|name| format!("{name} is in CONTRIBUTING.md but is not a module")));
    faults
}

/// The lines of the block after "in layers"; each lists the modules of one layer.
fn layers(document: &str) -> Vec<Vec<String>> {
    let (_, after) = document.split_once("in layers").expect("CONTRIBUTING.md shows the modules in layers");
    let block = after.split("```").nth(1).expect("a block with the layers");
    block.lines().skip(1).map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

fn uses(source: &Path) -> Uses {
    let mut uses = Uses::new();
    let mut files = vec![source.to_owned()];
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(path.read_dir().unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let inside = path.strip_prefix(source).unwrap();
        let module = inside.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs");
        let is_test = inside.ends_with("tests.rs") || inside.ends_with("fixture.rs");
        if !is_test
            && inside.extension().is_some_and(|extension| extension == "rs")
            && module != "lib"
            && module != FAKES
        {
            let mut used = used_in(&fs::read_to_string(&path).unwrap());
            used.remove(module);
            uses.entry(module.to_owned()).or_default().append(&mut used);
        }
    }
    uses
}

/// The modules that a file uses, without its unit tests.
fn used_in(source: &str) -> BTreeSet<String> {
    let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let names = code.split("crate::").skip(1).map(|rest| {
        rest.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').next().unwrap_or_default()
    });
    names.filter(|name| name.starts_with(|letter: char| letter.is_ascii_lowercase())).map(str::to_owned).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}
