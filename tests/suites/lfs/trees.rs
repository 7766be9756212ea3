//! Which files get their content, and which stay pointers.

use std::collections::BTreeMap;

use gitrepo_tests::http::HttpServer;
use gitrepo_tests::lfs::ATTRIBUTES;
use gitrepo_tests::lfs::Lfs;
use gitrepo_tests::lfs::batches;
use gitrepo_tests::lfs::downloads;
use gitrepo_tests::lfs::oid;
use gitrepo_tests::lfs::pointer;
use gitrepo_tests::person::Person;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::working_repository::assert_clean;
use gitrepo_tests::working_repository::assert_whole;
use serde_json::Value;

use super::FLAG;
use super::Scene;
use super::content;

#[test]
fn a_clone_has_the_content_of_its_pointers() {
    let scene = Scene::new();
    let cloned = scene.person.clone(&scene.url(), &[FLAG, "--json"]).assert_success();
    scene.assert_cloned();
    let [batch] = &batches(&scene.server)[..] else { panic!("more than one batch") };
    assert_eq!(batch.path, "/app.git/info/lfs/objects/batch");
    let question: Value = serde_json::from_slice(&batch.body).unwrap();
    assert_eq!((&question["operation"], &question["transfers"]), (&"download".into(), &serde_json::json!(["basic"])));
    assert_eq!(question["ref"]["name"], "refs/heads/main");
    assert_eq!(downloads(&scene.server).len(), 2);
    let told: Value = serde_json::from_str(&cloned.stdout).unwrap();
    assert!(told["receivedBytes"].as_u64().unwrap() > 305_000, "{told}");
}

#[test]
fn without_the_option_pointers_stay_pointers_and_nobody_is_asked() {
    let scene = Scene::new();
    scene.person.clone(&scene.url(), &[]).assert_success();
    let found = std::fs::read_to_string(scene.person.tree().join("a.bin")).unwrap();
    assert_eq!(found, pointer(&oid(&scene.a), scene.a.len()));
    assert_eq!((batches(&scene.server).len(), downloads(&scene.server).len()), (0, 0));
}

/// A clone with these arguments, by path.
fn cloned(files: &Files, lfs: &Lfs, arguments: &[&str]) -> BTreeMap<String, Vec<u8>> {
    let (repository, person) = (Repository::new("app"), Person::new());
    repository.commit("main", files);
    let server = lfs.start(HttpServer::builder().serve(&repository));
    person.clone(&server.url(&repository), arguments).assert_success();
    let found = gitrepo_tests::submodules::contents(&person.tree());
    let is_file = |mode: u32| mode & libc::S_IFMT == libc::S_IFREG;
    let files = found.into_iter().filter(|(_, (mode, _))| is_file(*mode));
    files.map(|(path, (_, content))| (path.display().to_string(), content)).collect()
}

#[test]
fn the_attributes_of_the_tree_select_the_files_that_are_replaced() {
    let lfs = Lfs::new();
    let (here, below) = (content(1, 1000), content(2, 1000));
    let (pointer_here, pointer_below) = (lfs.add(&here), lfs.add(&below));
    let extended = pointer_here.replace("\noid", "\next-0-x sha256:00\noid");
    let files = Files::new()
        .file(".gitattributes", "*.bin filter=lfs\n[attr]big filter=lfs -text\n*.dat big\noff.bin -filter\n")
        .file("dir/.gitattributes", "*.raw filter=lfs\nother.bin filter=other\n")
        .file("a.bin", &pointer_here)
        .executable("run.bin", &pointer_below)
        .file("macro.dat", &pointer_here)
        .file("dir/b.raw", &pointer_below)
        .file("old.bin", pointer_here.replace("git-lfs.github.com", "hawser.github.com"))
        .file("off.bin", &pointer_here)
        .file("dir/other.bin", &pointer_here)
        .file("b.raw", &pointer_below)
        .file("pointer.txt", &pointer_here)
        .file("plain.bin", "not a pointer\n")
        .file("empty.bin", "")
        .file("extended.bin", &extended)
        .file("large.bin", content(3, 2000))
        .symlink("link.bin", "a.bin");
    let found = cloned(&files, &lfs, &[FLAG]);
    let text = |text: &str| text.as_bytes().to_vec();
    for (path, expected) in [
        ("a.bin", here.clone()),
        ("run.bin", below.clone()),
        ("macro.dat", here.clone()),
        ("dir/b.raw", below),
        ("old.bin", here),
        ("off.bin", text(&pointer_here)),
        ("dir/other.bin", text(&pointer_here)),
        ("b.raw", text(&pointer_below)),
        ("pointer.txt", text(&pointer_here)),
        ("plain.bin", text("not a pointer\n")),
        ("empty.bin", Vec::new()),
        ("extended.bin", text(&extended)),
        ("large.bin", content(3, 2000)),
    ] {
        assert!(
            found[path] == expected,
            "{path}: {:?}",
            String::from_utf8_lossy(&found[path][..found[path].len().min(99)])
        );
    }
}

#[test]
fn only_the_objects_of_the_subdirectory_are_brought_by_the_attributes_above_it() {
    let scene = Scene::new();
    scene.person.clone(&scene.url(), &[FLAG, "--subdirectory=dir"]).assert_success();
    assert!(std::fs::read(scene.person.tree().join("b.bin")).unwrap() == scene.b);
    let [download] = &downloads(&scene.server)[..] else { panic!("another number of downloads") };
    assert!(download.path.ends_with(&oid(&scene.b)));
}

#[test]
fn what_git_would_convert_of_a_pointer_does_not_change_its_content() {
    let lfs = Lfs::new();
    let lines = b"one\ntwo $Id$\n".to_vec();
    let files = Files::new()
        .file(".gitattributes", "* text eol=crlf ident\n*.lfs filter=lfs\n")
        .file("a.lfs", lfs.add(&lines))
        .file("a.txt", "one\n");
    let found = cloned(&files, &lfs, &[FLAG, "--checkout=git"]);
    assert_eq!(found["a.lfs"], lines);
    assert_eq!(found["a.txt"], b"one\r\n");
}

#[test]
fn an_empty_object_is_made_of_nothing_and_one_object_of_many_files_comes_once() {
    let lfs = Lfs::new();
    let many = content(1, 1000);
    let names: Vec<_> = (0..20).map(|number| format!("{number}.bin")).collect();
    let files = Files::new().file(".gitattributes", ATTRIBUTES).file("empty.bin", pointer(&oid(b""), 0));
    let files = names.iter().fold(files, |files, name| lfs.file(files, name, &many));
    let (repository, person) = (Repository::new("app"), Person::new());
    repository.commit("main", &files);
    let server = lfs.start(HttpServer::builder().serve(&repository));
    person.clone(&server.url(&repository), &[FLAG]).assert_success();
    assert_eq!(std::fs::read(person.tree().join("empty.bin")).unwrap(), b"");
    assert!(names.iter().all(|name| std::fs::read(person.tree().join(name)).unwrap() == many));
    assert_eq!(downloads(&server).len(), 1);
}

#[test]
fn two_hundred_and_fifty_objects_are_asked_for_a_hundred_at_a_time() {
    let lfs = Lfs::new();
    let files = Files::new().file(".gitattributes", ATTRIBUTES);
    let files = (0..250).fold(files, |files, number| lfs.file(files, &format!("{number}.bin"), &content(number, 600)));
    let (repository, person) = (Repository::new("app"), Person::new());
    repository.commit("main", &files);
    let server = lfs.start(HttpServer::builder().serve(&repository).close_connections());
    person.clone(&server.url(&repository), &[FLAG]).assert_success();
    assert!(
        (0..250).all(|number| {
            std::fs::read(person.tree().join(format!("{number}.bin"))).unwrap() == content(number, 600)
        })
    );
    assert_eq!((batches(&server).len(), downloads(&server).len()), (3, 250));
    let most = batches(&server).into_iter().map(|batch| {
        let question: Value = serde_json::from_slice(&batch.body).unwrap();
        question["objects"].as_array().unwrap().len()
    });
    assert_eq!(most.max(), Some(100));
}

#[test]
fn a_submodule_has_its_objects_from_its_own_server() {
    let lfs = Lfs::new();
    let [super_project, sub] = ["super", "sub"].map(Repository::new);
    let (own, theirs) = (content(1, 1000), content(2, 1000));
    let attributes = || Files::new().file(".gitattributes", ATTRIBUTES);
    let commit = sub.commit("main", &lfs.file(attributes(), "s.bin", &theirs));
    let submodules = [gitrepo_tests::submodules::Submodule { path: "lib", url: "../sub.git", commit: &commit }];
    let files = gitrepo_tests::submodules::with_submodules(lfs.file(attributes(), "a.bin", &own), &submodules);
    super_project.commit("main", &files);
    let person = Person::new();
    let server = lfs.start(HttpServer::builder().serve(&super_project).serve(&sub));
    person.clone(&server.url(&super_project), &[FLAG, "--submodules=recursive"]).assert_success();
    assert!(std::fs::read(person.tree().join("a.bin")).unwrap() == own);
    assert!(std::fs::read(person.tree().join("lib/s.bin")).unwrap() == theirs);
    let asked: Vec<_> = batches(&server).into_iter().map(|batch| batch.path.clone()).collect();
    assert_eq!(asked, ["/super.git/info/lfs/objects/batch", "/sub.git/info/lfs/objects/batch"]);
}

/// The pointer's file is converted by neither option twice, and all is clean.
#[test]
fn pointers_and_converted_files_are_clean_beside_a_git_directory() {
    let (repository, lfs, person) = (Repository::new("app"), Lfs::new(), Person::new());
    let content = content(1, 50_000);
    let files = Files::new().file(".gitattributes", "*.bin filter=lfs eol=crlf\n*.bat eol=crlf\n");
    let files = files.file("run.bat", "one\ntwo\n").file("same.bat", "").file("plain.txt", "text\n");
    let commit = repository.commit("main", &lfs.file(files, "a.bin", &content));
    let server = lfs.start(HttpServer::builder().serve(&repository));
    person.clone(&server.url(&repository), &[FLAG, "--checkout=git", "--git-dir=keep"]).assert_success();
    let tree = person.tree();
    assert!(std::fs::read(tree.join("a.bin")).unwrap() == content, "a.bin is another file");
    assert_eq!(std::fs::read_to_string(tree.join("run.bat")).unwrap(), "one\r\ntwo\r\n");
    assert_clean(&tree);
    assert_whole(&tree, &repository, &commit, 1);
}

#[test]
fn a_local_repository_is_refused_and_told_why() {
    let scene = Scene::new();
    let url = format!("file://{}", scene.repository.path().display());
    let refused = scene.person.clone(&url, &[FLAG]).assert_code(65);
    assert!(refused.stderr.contains("Git LFS needs a repository at an https, http or ssh URL"), "{}", refused.stderr);
    scene.person.assert_nothing_left();
    // Without a pointer there is nothing to ask for.
    let plain = Repository::new("plain");
    plain.commit("main", &Files::new().file(".gitattributes", ATTRIBUTES).file("a.bin", "x"));
    scene.person.clone(&format!("file://{}", plain.path().display()), &[FLAG]).assert_success();
}
