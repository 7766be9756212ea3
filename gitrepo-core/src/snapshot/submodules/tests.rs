use super::super::Part;
use super::super::SnapshotFormat;
use super::super::TreeRequest;
use super::super::fixture::FILE as PLAIN;
use super::super::fixture::Fixture;
use super::super::fixture::SUBMODULE;
use super::super::fixture::SYMLINK;
use super::super::fixture::TREE;
use super::super::fixture::list;
use super::super::fixture::path;
use super::*;
use crate::policy::Limits;
use crate::spec::Submodules;
use crate::spec::TreeOptions;
use crate::watch::Watch;

fn request(commit: CommitId) -> TreeRequest {
    let tree = TreeOptions { submodules: Submodules::Recursive, ..TreeOptions::default() };
    TreeRequest::new(&tree, commit, &Part, &Limits::default())
}

/// The manifest of a commit, or why it is refused.
fn manifest(fixture: &Fixture, request: &TreeRequest) -> Result<String, SnapshotError> {
    let staging = tempfile::tempdir().unwrap();
    list(fixture.path(), request, staging.path(), &Watch::default())?;
    Ok(std::fs::read_to_string(staging.path().join("manifest")).unwrap())
}

/// The reason why a commit with this `.gitmodules` and a submodule `sub` is refused.
fn refusal(text: &str) -> String {
    let fixture = Fixture::new();
    let entries: &[(u32, &[u8], _)] = &[(PLAIN, FILE, fixture.blob(text)), (SUBMODULE, b"sub", fixture.blob("any id"))];
    match manifest(&fixture, &request(fixture.commit_of(entries))) {
        Err(SnapshotError::Submodule { submodule, reason, .. }) => format!("{submodule}: {reason}"),
        other => panic!("{text:?}: {other:?}"),
    }
}

#[test]
fn a_damaged_gitmodules_is_not_obeyed() {
    let fixture = Fixture::new();
    let text = "[submodule \"sub\"]\n\tpath = sub\n\turl = https://git.example.com/a\n";
    let commit = fixture.commit_of(&[(PLAIN, FILE, fixture.blob(text)), (SUBMODULE, b"sub", fixture.blob("any id"))]);
    manifest(&fixture, &request(commit)).unwrap();
    fixture.damage(text);
    let found = manifest(&fixture, &request(commit));
    assert!(matches!(found, Err(SnapshotError::Incomplete { .. })), "{found:?}");
}

#[test]
fn submodules_are_listed_with_their_urls_as_written() {
    let fixture = Fixture::new();
    let any = fixture.blob("any id");
    let text = "[submodule \"a name\"]\n\tpath = dir/sub # here\n\turl = \"../x y.git\"\r\n\tupdate = none\n\tbranch = b\n\
        [submodule \"gone\"]\n\tpath = gone\n\turl = /home/me/gone\n[core]\n\thooksPath = /x\n";
    let inner = fixture.tree(&[(SUBMODULE, b"sub", any)]);
    let commit = fixture.commit_of(&[(PLAIN, FILE, fixture.blob(text)), (TREE, b"dir", inner)]);
    let record = |path: &str| format!("160000 commit {any} ../x y.git\t{path}\0");
    let whole = manifest(&fixture, &request(commit)).unwrap();
    assert!(whole.ends_with(&record("dir/sub")), "{whole:?}");
    // The file is above the subdirectory.
    let tree = TreeOptions { subdirectory: path("dir"), ..request(commit).tree };
    let part = manifest(&fixture, &TreeRequest { tree, ..request(commit) }).unwrap();
    assert!(part.ends_with(&record("sub")), "{part:?}");
    // Without submodules, nobody reads the file.
    let plain =
        TreeRequest { tree: TreeOptions::default(), format: super::super::Image.name().to_owned(), ..request(commit) };
    assert!(manifest(&fixture, &plain).unwrap().contains(" -\tdir/sub"));
}

#[test]
fn a_commit_without_submodules_may_have_any_gitmodules() {
    let fixture = Fixture::new();
    let commit = fixture.commit_of(&[(PLAIN, FILE, fixture.blob("[[["))]);
    manifest(&fixture, &request(commit)).unwrap();
}

#[test]
fn s3_what_an_honest_gitmodules_never_has_is_refused_by_name() {
    let with = |lines: &str| format!("[submodule \"sub\"]\n{lines}");
    let good = "path = sub\nurl = https://host/sub\n";
    for (text, reason) in [
        (String::new(), "sub: the commit has no entry"),
        (with("path = other\nurl = https://host/x"), "sub: the commit has no entry"),
        (with("path = sub/\nurl = https://host/x"), "sub: its path has an empty name"),
        (with("path = sub"), "sub: it has no url"),
        (with("path = sub\nurl"), "sub: its path or url has no value"),
        (with("path = sub\nurl ="), "sub: its url is empty"),
        (with("path = sub\nurl = -uecho"), "sub: its url begins with -"),
        (with("path = sub\nurl = \"https://host/a\\nb\""), "control character"),
        (with("path = \"sub\r\"\nurl = https://host/x"), "sub: its path has a control character"),
        (with("path = ../sub\nurl = https://host/x"), "means another directory"),
        (with("path = a/../../sub\nurl = https://host/x"), "means another directory"),
        (with("path = /sub\nurl = https://host/x"), "its path is absolute"),
        (with("path = -sub\nurl = https://host/x"), "its path begins with -"),
        (with("path = .git/hooks\nurl = https://host/x"), "git's own directory"),
        (with("path = .GIT/modules/x\nurl = https://host/x"), "git's own directory"),
        (with("path = a/git~1\nurl = https://host/x"), "git's own directory on NTFS"),
        (with(&format!("{good}update = !touch /x")), "its update is a command"),
        (with(&format!("{good}path = other")), "it has two paths"),
        (with(&format!("{good}url = https://evil.example/x")), "it has two paths, or two urls"),
        (format!("[submodule \"../x\"]\n{good}"), "../x: its name has .. in it"),
        (format!("[submodule \"a\\\\..\\\\b\"]\n{good}"), "its name has .. in it"),
        (format!("[submodule \"\"]\n{good}"), "its name is empty"),
        (format!("[submodule \"a\"]\n{good}[submodule \"b\"]\n{good}"), "another submodule has the same path"),
        (format!("[submodule \"a\"]\n{good}[submodule \"b\"]\npath = SUB\n"), "differs in case alone"),
        (format!("[submodule \"a\"]\n{good}["), ".gitmodules: line 4 has"),
    ] {
        let found = refusal(&text);
        assert!(found.contains(reason), "{text:?}: {found}");
    }
}

#[test]
fn s15_a_long_name_is_refused_with_its_beginning() {
    let (long, longer) = ("\u{1}".repeat(4000), "n".repeat(1 << 19));
    let text = |name: &str| format!("[submodule \"{name}\"]\npath = -x\n");
    let refused = refusal(&text(&long));
    assert!(refused.contains("…: its path begins with -") && refused.len() < 2000, "{}", refused.len());
    let refused = refusal(&text(&longer));
    assert!(refused.contains("name is too long") && refused.len() < 200, "{}", refused.len());
    // What is no name of a submodule is as long.
    let refused = refusal(&format!("[submodule \"sub\"]\npath = {longer}/..\nurl = https://host/sub\n"));
    assert!(refused.len() < 2000, "{}", refused.len());
}

#[test]
fn s15_the_name_of_a_section_is_looked_at_once_for_each_header() {
    let name = "n".repeat(config::LONGEST_SECTION - "submodule.".len());
    let header = format!("[submodule \"{name}\"]\n");
    let text = format!("{header}{}{header}path = sub\n", "a\n".repeat(1 << 19));
    let variables = config::read(text.as_bytes()).unwrap();
    let counts: Vec<_> = blocks(&variables).map(<[_]>::len).collect();
    assert_eq!(counts, [1 << 19, 1]);
    // They are one section all the same.
    let found = by_path(format!("{header}path = sub\n{header}url = u\n").as_bytes()).unwrap();
    assert_eq!(found, HashMap::from([(b"sub".to_vec(), Some(b"u".to_vec()))]));
}

#[test]
fn s3_a_link_that_a_filesystem_without_case_takes_for_the_submodules_place_is_refused() {
    let fixture = Fixture::new();
    let any = fixture.blob("any id");
    let text = "[submodule \"x\"]\n\tpath = A/modules/x\n\turl = https://host/x\n";
    let inner = fixture.tree(&[(TREE, b"modules", fixture.tree(&[(SUBMODULE, b"x", any)]))]);
    let commit = fixture.commit_of(&[
        (PLAIN, FILE, fixture.blob(text)),
        (TREE, b"A", inner),
        (SYMLINK, b"a", fixture.blob(".git")),
    ]);
    let error = manifest(&fixture, &request(commit)).unwrap_err();
    assert!(matches!(&error, SnapshotError::Submodule { reason, .. } if reason.contains("case alone")), "{error}");
}

#[test]
fn s15_too_many_submodules_and_too_large_a_file_are_refused() {
    let fixture = Fixture::new();
    let any = fixture.blob("any id");
    let names: Vec<_> = (0..=MOST).map(|at| format!("s{at:04}")).collect();
    let entries: Vec<_> = names.iter().map(|name| (SUBMODULE, name.as_bytes(), any)).collect();
    let many = fixture.commit_of(&entries);
    let file = fixture.blob(vec![b'\n'; 1 + (1 << 20)]);
    let large = fixture.commit_of(&[(PLAIN, FILE, file), (SUBMODULE, b"sub", any)]);
    for (commit, expected) in [(many, "submodules"), (large, "bytes of .gitmodules")] {
        let error = manifest(&fixture, &request(commit)).unwrap_err();
        assert!(matches!(&error, SnapshotError::TooLarge { what, .. } if what == expected), "{error}");
    }
}
