//! "Kinds of volumes" in `docs/volumes.md`: what users copy from there works as it is printed.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

use gitrepo_tests::git;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::kubelet::Driver;
use gitrepo_tests::kubelet::Manifest;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::kubelet::csi;
use gitrepo_tests::kubelet::flex;
use gitrepo_tests::lfs::ATTRIBUTES;
use gitrepo_tests::lfs::Lfs;
use gitrepo_tests::manifests;
use gitrepo_tests::manifests::Object;
use gitrepo_tests::manifests::workspace;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::shell::Shell;
use gitrepo_tests::submodules::Contents;
use gitrepo_tests::submodules::Submodule;
use gitrepo_tests::submodules::contents;
use gitrepo_tests::submodules::with_submodules;
use gitrepo_tests::working_repository::assert_clean;
use gitrepo_tests::working_repository::let_in;
use nix::mount::MntFlags;
use serde_json::Value;
use serde_json::json;

/// Where the documented repositories are.
const FORGE: &str = "https://git.example.com/";

/// Keys whose values make no other kind of volume.
const NO_KINDS: [&str; 1] = ["pullPolicy"];

/// A kind as it is printed.
struct Kind {
    title: String,
    manifest: Vec<Object>,
    script: String,
}

impl Kind {
    fn all(url: &str) -> Vec<Self> {
        let text = fs::read_to_string(workspace().join("docs/volumes.md")).unwrap().replace(FORGE, url);
        let (_, section) = text.split_once("\n## Kinds of volumes\n").expect("the section");
        let (section, _) = section.split_once("\n## ").expect("another section");
        section.split("\n### ").skip(1).map(Self::of).collect()
    }

    fn of(text: &str) -> Self {
        let title = text.lines().next().unwrap().to_owned();
        let manifest = manifests::parse(block(text, "yaml")).unwrap_or_else(|error| panic!("{title}: {error}"));
        Self { title, manifest, script: block(text, "sh").to_owned() }
    }

    fn object(&self, kind: &str) -> &Object {
        self.manifest.iter().find(|object| object.kind() == kind).unwrap_or_else(|| panic!("{}: no {kind}", self.title))
    }

    /// A pod of the manifest.
    fn pod(&self, name: &str) -> Pod {
        let pod = self.object("Pod");
        match pod.field("/spec/securityContext/fsGroup").and_then(Value::as_u64) {
            Some(group) => Pod::new(name).with_fs_group(group.try_into().unwrap()),
            None => Pod::new(name),
        }
    }

    /// The volume of that pod, as the kubelet finds it.
    fn volume<D: Driver>(&self) -> D::Volume {
        let volume = self.object("Pod").field("/spec/volumes/0").unwrap();
        let Some(claim) = volume.get("persistentVolumeClaim") else {
            let inline = D::inline(volume["name"].as_str().unwrap(), &pairs(&attributes(&volume["csi"])));
            return if volume["csi"]["readOnly"] == true { inline.read_only() } else { inline };
        };
        let (wanted, there) = (self.object("PersistentVolumeClaim"), self.object("PersistentVolume"));
        assert_eq!(claim["claimName"], wanted.name());
        assert_eq!(there.field("/spec/claimRef/name").unwrap(), wanted.name());
        assert_eq!(wanted.field("/spec/volumeName").unwrap(), there.name());
        D::persistent(there.name(), &pairs(&attributes(there.field("/spec/csi").unwrap())))
    }

    fn is_shared(&self) -> bool {
        self.manifest.iter().any(|object| object.kind() == "PersistentVolume")
    }
}

/// The first block of a language.
fn block<'a>(text: &'a str, language: &str) -> &'a str {
    let (_, rest) = text.split_once(&format!("```{language}\n")).unwrap_or_else(|| panic!("no {language} in {text}"));
    rest.split_once("```").unwrap().0
}

fn attributes(csi: &Value) -> BTreeMap<String, String> {
    assert_eq!(csi["driver"], "csi.gitrepo.internal");
    let attributes = csi["volumeAttributes"].as_object().unwrap().iter();
    attributes.map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned())).collect()
}

fn pairs(attributes: &BTreeMap<String, String>) -> Vec<(&str, &str)> {
    attributes.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
}

/// The repositories of the documented URLs, and their server.
fn serve() -> ([Repository; 3], HttpServer) {
    let [site, app, models] = ["site", "app", "models"].map(Repository::new);
    let files =
        Files::new().file("README.md", "A site\n").file("docs/index.md", "# Index\n").symlink("link", "README.md");
    let files =
        files.file(".gitattributes", "*.bat text eol=crlf\n").file("run.bat", "exit\n").executable("run", "#!\n");
    let commit = site.commit("main", &files);
    let theme = Submodule { path: "theme", url: "../site.git", commit: &commit };
    app.commit("main", &with_submodules(Files::new().file("main.c", "int main;\n"), &[theme]));
    let lfs = Lfs::new();
    models.commit("main", &lfs.file(Files::new().file(".gitattributes", ATTRIBUTES), "model.bin", b"weights"));
    let named = [("team/site.git", &site), ("team/app.git", &app), ("team/models.git", &models)];
    let server =
        named.iter().fold(HttpServer::builder(), |server, (path, repository)| server.serve_at(path, repository));
    ([site, app, models], lfs.start(server))
}

/// A tree, and who owns what.
fn shown(root: &Path) -> (Contents, Vec<(u32, u32)>) {
    let contents = contents(root);
    let owner = |path: &PathBuf| {
        let found = root.join(path).symlink_metadata().unwrap();
        (found.uid(), found.gid())
    };
    let owners = std::iter::once(&PathBuf::new()).chain(contents.keys()).map(owner).collect();
    (contents, owners)
}

#[test]
fn every_kind_works_as_printed_in_a_cluster_and_at_a_shell() {
    every_kind_works::<csi::Node>();
}

#[test]
fn every_kind_works_as_a_flexvolume() {
    every_kind_works::<flex::Node>();
}

fn every_kind_works<D: Driver>() {
    let (_repositories, server) = serve();
    let Some(node) = D::start(1 << 30, &json!({})) else { return };
    let Some(shell) = Shell::new(256 << 20) else { return };
    for kind in Kind::all(&server.url_at("")) {
        let (pod, volume) = (kind.pod("one"), kind.volume::<D>());
        let set_up = |pod| {
            node.set_up(pod, &volume).unwrap_or_else(|failed| panic!("{}: {failed}", kind.title));
            node.target(pod, &volume)
        };
        let target = set_up(&pod);
        let script = kind.script.replace("/srv/", &format!("{}/", shell.home().join("pods").display()));
        git::output(&mut shell.script(&script));
        let mounted: Vec<_> = script.split_whitespace().filter(|word| word.starts_with('/')).map(Path::new).collect();
        assert_eq!(shown(&target), shown(mounted[0]), "{}", kind.title);
        assert_eq!(target.join(".git").exists(), mounted[0].join(".git").exists(), "{}", kind.title);
        if target.join(".git").exists() {
            for tree in [&target, mounted[0]] {
                let_in(tree);
                assert_clean(tree);
            }
        }
        let other = kind.pod("two");
        let beside = set_up(&other);
        for place in [&target, mounted[0]] {
            let written = fs::write(place.join("written"), "").map_err(|error| error.kind());
            let wanted = if volume.is_read_only() { Err(io::ErrorKind::ReadOnlyFilesystem) } else { Ok(()) };
            assert_eq!(written, wanted, "{}: {}", kind.title, place.display());
        }
        assert_eq!(beside.join("written").exists(), kind.is_shared(), "{}", kind.title);
        if let Some(too) = mounted.get(1..).and_then(<[_]>::last) {
            assert!(too.join("written").exists(), "{}", kind.title);
            nix::mount::umount2(*too, MntFlags::empty()).unwrap();
        }
        shell.unmount(mounted[0]).assert_success();
        [pod, other].iter().for_each(|pod| node.tear_down(pod, &volume));
    }
    node.assert_nothing_set_up();
}

/// The values that the table of keys lists for each key that has a choice, without the default.
fn choices() -> Vec<(String, String)> {
    let text = fs::read_to_string(workspace().join("docs/volumes.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = rows.map(|row| row.split('|').map(|cell| cell.trim_matches([' ', '`']).to_owned()).collect::<Vec<_>>());
    let is_word = |value: &&str| value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let of_row = |row: Vec<String>| {
        let values: Vec<&str> = row.get(1).map(|cell| cell.split(", ").collect()).unwrap_or_default();
        let default = row.get(2).cloned().unwrap_or_default();
        let is_choice = values.len() > 1 && values.iter().all(is_word) && !NO_KINDS.contains(&row[0].as_str());
        let others = values.into_iter().filter(|value| is_choice && **value != default);
        others.map(|value| (row[0].clone(), value.to_owned())).collect::<Vec<_>>()
    };
    cells.flat_map(of_row).collect()
}

#[test]
fn every_choice_has_a_kind() {
    let kinds = Kind::all(FORGE);
    let printed = kinds.iter().flat_map(|kind| kind.manifest.iter()).filter_map(|object| match object.kind() {
        "PersistentVolume" => object.field("/spec/csi"),
        _ => object.field("/spec/volumes/0/csi"),
    });
    let printed: Vec<_> = printed.map(attributes).collect();
    let choices = choices();
    assert!(choices.len() >= 7, "{choices:?}");
    for (key, value) in choices {
        let has = |attributes: &BTreeMap<String, String>| attributes.get(&key).is_some_and(|found| *found == value);
        assert!(printed.iter().any(has), "no kind has {key}: {value}");
    }
}
