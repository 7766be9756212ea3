//! The contract.

use std::path::Path;
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use gitrepo_core::cancel::Cancel;
use gitrepo_core::cancel::Interrupted;
use gitrepo_core::credentials::Checking;
use gitrepo_core::credentials::HostKeyError;
use gitrepo_core::credentials::HostKeys;
use gitrepo_core::error::Kind;
use gitrepo_core::error::chain;
use gitrepo_core::progress::Step;
use gitrepo_core::remote::Errand;
use gitrepo_core::remote::FetchRequest;
use gitrepo_core::remote::RemoteError;
use gitrepo_core::spec::RelativePath;
use gitrepo_core::spec::RepositoryUrl;
use gitrepo_core::testing;
use gitrepo_core::testing::remote::Verb;
use gitrepo_tests::canaries::Canaries;
use gitrepo_tests::fixtures;
use gitrepo_tests::git;
use gitrepo_tests::repository::Files;

use super::Bench;
use super::Credential;
use super::Held;
use super::fetch;
use super::history;
use super::resolve;
use super::with;

/// How long a remote may take to notice on a busy machine that it is given up.
const DEAF: Duration = Duration::from_secs(30);

pub(super) fn every_revision_resolves_to_its_commit(bench: &Bench) {
    let [first, second, commit] = &bench.commits;
    let repository = &bench.repository;
    repository.set_branch("both", second);
    repository.tag("both", first);
    repository.tag("light", first);
    let tag = repository.annotated_tag("annotated", second, "a tag");
    repository.annotated_tag("nested", &tag, "a tag of a tag");
    repository.set_reference("refs/changes/1/head", first);
    for (revision, commit, reference) in [
        ("HEAD", commit, "refs/heads/main"),
        ("main", commit, "refs/heads/main"),
        ("refs/heads/main", commit, "refs/heads/main"),
        ("both", second, "refs/heads/both"),
        ("refs/tags/both", first, "refs/tags/both"),
        ("light", first, "refs/tags/light"),
        ("annotated", second, "refs/tags/annotated"),
        ("nested", second, "refs/tags/nested"),
        ("refs/changes/1/head", first, "refs/changes/1/head"),
    ] {
        let resolved = bench.resolve(bench.errand(), revision).unwrap();
        let expected = (commit.clone(), Some(reference.to_owned()));
        assert_eq!((resolved.commit.to_string(), resolved.reference), expected, "{revision}");
    }
    let resolved = bench.resolve(bench.errand(), first).unwrap();
    assert_eq!((resolved.commit.to_string(), resolved.reference), (first.clone(), None));
}

pub(super) fn a_name_that_does_not_exist_is_not_found_and_the_nearest_is_named(bench: &Bench) {
    for (revision, expected) in
        [("mainn", Some("main")), ("refs/heads/mian", Some("refs/heads/main")), ("nothing-like-it-at-all", None)]
    {
        match bench.resolve(bench.errand(), revision) {
            Err(RemoteError::RevisionNotFound { nearest, .. }) => assert_eq!(nearest.as_deref(), expected),
            other => panic!("{revision}: {other:?}"),
        }
    }
}

pub(super) fn an_empty_repository_says_so(bench: &Bench) {
    let empty = fixtures::empty();
    bench.serve(&empty);
    let error = bench.resolve(errand_of(bench, &bench.url(&empty)), "HEAD").unwrap_err();
    assert!(matches!(error, RemoteError::EmptyRepository { .. }), "{}", chain(&error));
}

pub(super) fn a_repository_that_does_not_exist_is_not_found(bench: &Bench) {
    let url = bench.url(&bench.repository).replace("app.git", "gone.git");
    let error = bench.resolve(errand_of(bench, &url), "HEAD").unwrap_err();
    assert!(matches!(error, RemoteError::RepositoryNotFound { .. }), "{}", chain(&error));
}

pub(super) fn what_is_not_a_commit_is_refused(bench: &Bench) {
    let tree = bench.repository.resolve("main^{tree}");
    bench.repository.set_reference("refs/tags/tree", &tree);
    bench.repository.annotated_tag("tag-of-tree", &tree, "a tag");
    for name in ["tree", "tag-of-tree"] {
        match bench.fetch(bench.fetching(name), name, 1) {
            Err(RemoteError::NotACommit { object, .. }) => assert_eq!(object, "tree"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

pub(super) fn the_commit_and_its_whole_tree_are_fetched_and_nothing_else_is_there(bench: &Bench) {
    let commit = &bench.commits[2];
    let report = bench.fetch(bench.fetching("into"), "main", 1).unwrap();
    assert_eq!(report.commit.to_string(), *commit);
    assert!(report.received_objects >= 5 && report.received_bytes > 100, "{report:?}");
    let fetched = bench.fetched("into");
    let refs = git::line(git::command(&fetched).args(["for-each-ref", "--format=%(objectname) %(refname)"]));
    assert_eq!(refs, format!("{commit} refs/commits/{commit}"));
    history(&fetched, commit);
    let mut names: Vec<_> = entries(&fetched).iter().map(|path| path.file_name().unwrap().to_owned()).collect();
    names.retain(|name| name != "shallow");
    assert_eq!(names, ["HEAD", "config", "objects", "refs", "segments"], "neither hooks nor anything of the host");
}

pub(super) fn a_directory_is_fetched_alone_if_the_server_can_leave_out_the_rest(bench: &Bench) {
    for (allowed, into) in [(true, "narrow"), (false, "wide")] {
        bench.repository.configure("uploadpack.allowFilter", &allowed.to_string());
        bench.serve(&bench.repository);
        let report = bench.converse(bench.fetching(into), |connection| {
            let mut request = FetchRequest::new(resolve(connection, "main")?, 1);
            request.narrow = Some(RelativePath::parse("a/b").unwrap());
            connection.fetch(&request)
        });
        let (report, commit, fetched) = (report.unwrap(), &bench.commits[2], bench.fetched(into));
        assert_eq!((report.commit.to_string(), report.narrow), (commit.clone(), bench.narrows(allowed)));
        let blobs = tempfile::tempdir().unwrap();
        testing::export_blobs(&fetched, blobs.path());
        let reading = |arguments: &[&str]| {
            let mut command = git::command(&fetched);
            command.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", blobs.path().join("objects")).args(arguments);
            command
        };
        let below = git::line(&mut reading(&["rev-parse", &format!("{commit}:a/b")]));
        git::output(&mut reading(&["rev-list", "--objects", &below]));
        let beside = reading(&["cat-file", "-e", &format!("{commit}:README.md")]).output().unwrap();
        assert_eq!(beside.status.success(), !report.narrow);
        match report.narrow {
            // The commit, two trees above, the tree and its file.
            true => assert_eq!((report.received_objects, entries(&fetched.join("refs")).len()), (5, 0)),
            false => assert_eq!(history(&fetched, commit), 1),
        }
    }
}

pub(super) fn what_was_resolved_is_fetched_although_its_branch_has_moved(bench: &Bench) {
    let resolved = bench.resolve(bench.errand(), "main").unwrap();
    let moved = bench.repository.commit("main", &Files::new().file("README.md", "moved\n"));
    let report =
        bench.converse(bench.fetching("later"), |connection| connection.fetch(&FetchRequest::new(resolved.clone(), 1)));
    assert_eq!(report.unwrap().commit, resolved.commit);
    history(&bench.fetched("later"), &resolved.commit.to_string());

    let report = bench.converse(bench.fetching("meanwhile"), |connection| {
        let resolved = resolve(connection, "main")?;
        bench.repository.commit("main", &Files::new().file("README.md", "moved again\n"));
        connection.fetch(&FetchRequest::new(resolved, 1))
    });
    assert_eq!(report.unwrap().commit.to_string(), moved);
    history(&bench.fetched("meanwhile"), &moved);
}

pub(super) fn what_the_base_has_is_not_sent_again(bench: &Bench) {
    let all = bench.fetch(bench.fetching("base"), "main", 1).unwrap();
    let before = listing(&bench.fetched("base"));
    let same = bench.fetch(bench.fetching_on("base", "same"), "main", 1).unwrap();
    assert_eq!((same.received_objects, same.commit), (0, all.commit));

    let new = bench.repository.commit("main", &Files::new().file("README.md", "new\n"));
    let report = bench.fetch(bench.fetching_on("base", "new"), "main", 1).unwrap();
    assert_eq!(report.commit.to_string(), new);
    assert_eq!(report.received_objects, 3, "a commit, its root and a file");
    history(&bench.fetched("new"), &new);
    assert_eq!(listing(&bench.fetched("base")), before);
}

pub(super) fn the_same_again_receives_nothing(bench: &Bench) {
    let reports = bench.converse(bench.fetching("into"), |connection| {
        [1, 2].map(|_| fetch(connection, "main", 1).unwrap().received_objects)
    });
    assert!(reports[0] > 0 && reports[1] == 0, "{reports:?}");
}

pub(super) fn a_commit_of_the_history_is_fetched_by_its_id(bench: &Bench) {
    let report = bench.fetch(bench.fetching("into"), &bench.commits[0], 1).unwrap();
    assert_eq!(report.commit.to_string(), bench.commits[0]);
    assert_eq!(history(&bench.fetched("into"), &bench.commits[0]), 1);
}

pub(super) fn a_commit_that_does_not_exist_is_not_found(bench: &Bench) {
    let nowhere = "1".repeat(40);
    let error = bench.fetch(bench.fetching("into"), &nowhere, 1).unwrap_err();
    // A server that does not give out commits by id does not tell whether there is one.
    let is_not_found = matches!(error, RemoteError::CommitNotFound { .. } | RemoteError::CommitUnreachable { .. });
    assert!(is_not_found, "{}", chain(&error));
    match bench.resolve(bench.errand(), &nowhere).unwrap_err() {
        RemoteError::CommitNotFound { commit, .. } | RemoteError::CommitNotProven { commit, .. } => {
            assert_eq!(commit.to_string(), nowhere);
        }
        error => panic!("{}", chain(&error)),
    }
}

pub(super) fn s23_an_object_that_is_no_commit_is_named(bench: &Bench) {
    match bench.resolve(bench.errand(), &bench.repository.resolve("main^{tree}")) {
        Err(RemoteError::NotACommit { object, .. }) => assert_eq!(object, "tree"),
        // A server may give out commits alone by their ids.
        Err(RemoteError::CommitNotFound { .. } | RemoteError::CommitNotProven { .. }) => {}
        other => panic!("{other:?}"),
    }
}

pub(super) fn s23_a_commit_that_a_ref_stands_at_is_proven_and_fetched_over_one_session(bench: &Bench) {
    let commit = &bench.commits[2];
    for into in ["first", "second"] {
        let report = bench.converse(bench.fetching(into), |connection| {
            let resolved = resolve(connection, commit)?;
            assert_eq!((resolved.commit.to_string(), &resolved.reference), (commit.clone(), &None));
            connection.fetch(&FetchRequest::new(resolved, 1))
        });
        assert!(report.unwrap().received_objects >= 5, "nothing was kept of the proof");
        history(&bench.fetched(into), commit);
        // What is here already is not offered: the server must give the commit out again.
        bench.resolve(with(bench.fetching("third"), |errand| errand.base = Some(bench.fetched(into))), commit).unwrap();
        bench.repository.refuse_commits_by_id();
        bench.serve(&bench.repository);
    }
}

pub(super) fn s23_a_commit_of_the_history_is_proven_only_by_a_server_that_gives_it_out(bench: &Bench) {
    let [first, _, last] = &bench.commits;
    bench.fetch(bench.fetching("base"), "main", 0).unwrap();
    for gives in [true, false] {
        match gives {
            true => bench.repository.serve_commits_by_id(),
            false => bench.repository.refuse_commits_by_id(),
        }
        bench.serve(&bench.repository);
        let on_base = || with(bench.fetching("into"), |errand| errand.base = Some(bench.fetched("base")));
        bench.resolve(on_base(), last).unwrap();
        match bench.resolve(on_base(), first) {
            Ok(resolved) => assert_eq!(resolved.commit.to_string(), *first),
            // What the base has does not count.
            Err(error) => assert!(matches!(error, RemoteError::CommitNotProven { .. }), "{gives}: {}", chain(&error)),
        }
    }
}

pub(super) fn a_limit_of_bytes_ends_the_fetch(bench: &Bench) {
    let mut errand = bench.fetching("into");
    errand.limits.fetch_bytes = 10;
    let error = bench.fetch(errand, "main", 1).unwrap_err();
    assert!(matches!(error, RemoteError::TooLarge { limit: 10, .. }), "{}", chain(&error));
}

pub(super) fn an_errand_without_staging_only_resolves(bench: &Bench) {
    let error = bench.fetch(bench.errand(), "main", 1).unwrap_err();
    assert!(matches!(error, RemoteError::Local { .. }), "{}", chain(&error));
}

pub(super) fn a_directory_that_is_taken_is_not_fetched_into(bench: &Bench) {
    bench.fetch(bench.fetching("into"), "main", 1).unwrap();
    let error = bench.fetch(bench.fetching("into"), "main", 1).unwrap_err();
    let fetched = bench.fetched("into");
    assert!(matches!(&error, RemoteError::Local { path, .. } if *path == fetched), "{}", chain(&error));
}

pub(super) fn what_was_given_up_or_is_late_is_not_begun(bench: &Bench) {
    let cancelled = Cancel::new();
    cancelled.cancel();
    let before = bench.begun();
    for (cancel, expected) in
        [(cancelled, Interrupted::Cancelled), (Cancel::new().within(Duration::ZERO), Interrupted::DeadlineExceeded)]
    {
        let (error, _) = bench.converse_until(bench.errand(), &cancel, |connection| resolve(connection, "main"));
        assert_interrupted(error.unwrap_err(), expected);
    }
    bench.settle();
    assert_eq!(bench.begun(), before, "the server was asked");

    let late = Cancel::new();
    let mut by_then = None;
    let (error, _) = bench.converse_until(bench.fetching("late"), &late, |connection| {
        let found = resolve(connection, "main")?;
        by_then = Some(bench.begun());
        late.cancel();
        connection.fetch(&FetchRequest::new(found, 1))
    });
    assert_interrupted(error.unwrap_err(), Interrupted::Cancelled);
    bench.settle();
    assert_eq!(Some(bench.begun()), by_then, "the server was asked for a pack");
    assert!(!bench.fetched("late").exists(), "there is a repository");
}

pub(super) fn progress_is_reported(bench: &Bench) {
    let (report, steps) =
        bench.converse_until(bench.fetching("into"), &Cancel::new(), |connection| fetch(connection, "main", 1));
    let report = report.unwrap();
    assert_eq!(steps.first(), Some(&Step::Resolving));
    let Some(Step::Fetching { bytes, objects, total_objects }) = steps.last() else { panic!("{steps:?}") };
    assert_eq!((*bytes, *objects), (report.received_bytes, report.received_objects));
    assert_eq!(objects, total_objects);
}

pub(super) fn resolve_and_fetch_share_a_connection(bench: &Bench) {
    let before = bench.connections();
    bench.fetch(bench.fetching("into"), "main", 1).unwrap();
    assert_eq!(bench.connections() - before, 1);
}

pub(super) fn the_depth_bounds_the_history(bench: &Bench) {
    for (depth, commits) in [(1, 1), (2, 2), (3, 3), (0, 3), (9, 3)] {
        let into = format!("depth-{depth}");
        bench.fetch(bench.fetching(&into), "main", depth).unwrap();
        assert_eq!(history(&bench.fetched(&into), &bench.commits[2]), commits, "depth {depth}");
    }
}

pub(super) fn a_deeper_fetch_adds_to_the_base(bench: &Bench) {
    bench.fetch(bench.fetching("base"), "main", 1).unwrap();
    for (depth, commits) in [(2, 2), (0, 3)] {
        let into = format!("deeper-{depth}");
        bench.fetch(bench.fetching_on("base", &into), "main", depth).unwrap();
        assert_eq!(history(&bench.fetched(&into), &bench.commits[2]), commits, "depth {depth}");
    }
    assert_eq!(history(&bench.fetched("base"), &bench.commits[2]), 1);
}

pub(super) fn a_credential_that_is_missing_or_wrong_is_told_apart_and_never_shown(bench: &Bench) {
    let as_credential = |credential| with(bench.errand(), |errand| errand.credentials = bench.credentials(credential));
    let error = bench.resolve(as_credential(Credential::Missing), "main").unwrap_err();
    assert!(matches!(error, RemoteError::CredentialMissing { .. }), "{}", chain(&error));
    let error = bench.resolve(as_credential(Credential::Wrong), "main").unwrap_err();
    assert!(matches!(error, RemoteError::CredentialRefused { .. }), "{}", chain(&error));
    assert_eq!(error.kind(), Kind::Unauthenticated);
    let (_, secret) = bench.secret(Credential::Wrong).unwrap();
    let lines: Vec<&str> = secret.lines().filter(|line| !line.starts_with("-----")).collect();
    Canaries::new(&lines).assert_absent("the error", format!("{} {error:?}", chain(&error)).as_bytes());
    bench.resolve(as_credential(Credential::Right), "main").unwrap();
}

pub(super) fn a_commit_that_is_not_given_out_by_its_id_is_found_in_the_history(bench: &Bench) {
    bench.repository.refuse_commits_by_id();
    bench.serve(&bench.repository);
    let report = bench.fetch(bench.fetching("into"), &bench.commits[0], 1).unwrap();
    assert_eq!(report.commit.to_string(), bench.commits[0]);
    history(&bench.fetched("into"), &bench.commits[0]);
    let tree = bench.repository.resolve("main^{tree}");
    let unreachable = bench.repository.commit_tree(&tree);
    // A server of protocol version 2 gives out any commit that it has.
    match bench.fetch(bench.fetching("unreachable"), &unreachable, 1) {
        Ok(report) => assert_eq!(report.commit.to_string(), unreachable),
        Err(error) => assert!(matches!(error, RemoteError::CommitUnreachable { .. }), "{}", chain(&error)),
    }
}

pub(super) fn what_is_given_up_meanwhile_ends(bench: &Bench) {
    for verb in [Verb::Resolve, Verb::Fetch] {
        let cancel = Cancel::new();
        let error = fetch_from_held(bench, verb, &cancel, |held| {
            held.wait();
            cancel.cancel();
        });
        assert_interrupted(error, Interrupted::Cancelled);
    }
}

pub(super) fn what_takes_too_long_ends(bench: &Bench) {
    for verb in [Verb::Resolve, Verb::Fetch] {
        let cancel = Cancel::new().within(Duration::from_secs(1));
        // On a busy machine the time may be over before the server is asked.
        let error = fetch_from_held(bench, verb, &cancel, |_| {});
        assert_interrupted(error, Interrupted::DeadlineExceeded);
    }
}

/// Fetches from a server that does not answer `verb` before the fetch has ended. Returns the error.
fn fetch_from_held(bench: &Bench, verb: Verb, cancel: &Cancel, meanwhile: impl FnOnce(&Held) + Send) -> RemoteError {
    let held = bench.hold(verb);
    let (ended, end) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let holder = scope.spawn(move || {
            meanwhile(&held);
            // Nothing is sent: the other side is dropped.
            let outcome = end.recv_timeout(DEAF);
            drop(held);
            outcome
        });
        let errand = bench.fetching(&format!("{verb:?}"));
        let (outcome, _) = bench.converse_until(errand, cancel, |connection| fetch(connection, "main", 1));
        drop(ended);
        assert_eq!(holder.join().unwrap(), Err(RecvTimeoutError::Disconnected), "{verb:?} waited for the server");
        outcome.unwrap_err()
    })
}

pub(super) fn a_new_host_key_is_told_and_required_from_then_on(bench: &Bench) {
    let told = |errand: Errand| {
        bench.converse(errand, |connection| {
            resolve(connection, "main")?;
            Ok::<_, RemoteError>(connection.accepted_host_key())
        })
    };
    let line = told(bench.errand()).unwrap().expect("the host was unknown");
    let knowing = |text: &str| {
        let known = HostKeys::new(Checking::Strict).with_file(text.to_owned()).unwrap();
        with(bench.errand(), |errand| errand.host_keys = known)
    };
    assert_eq!(told(knowing(&line)).unwrap(), None);
    let unknown = told(knowing("")).unwrap_err();
    assert!(matches!(unknown, RemoteError::HostKey(HostKeyError::Unknown { .. })), "{}", chain(&unknown));
    let (name, _) = line.split_once(' ').unwrap();
    let other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
    let changed = told(knowing(&format!("{name} {other}\n"))).unwrap_err();
    assert!(matches!(changed, RemoteError::HostKey(HostKeyError::Changed { .. })), "{}", chain(&changed));
}

fn assert_interrupted(error: RemoteError, expected: Interrupted) {
    assert!(matches!(error, RemoteError::Interrupted { source, .. } if source == expected), "{}", chain(&error));
}

/// An errand of the bench for another URL.
fn errand_of(bench: &Bench, url: &str) -> Errand {
    with(bench.errand(), |errand| errand.url = RepositoryUrl::parse(url).unwrap())
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let mut paths = gitrepo_tests::volumes::entries(directory);
    paths.sort_unstable();
    paths
}

/// Every file below `directory`, with its content.
fn listing(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = gitrepo_tests::volumes::files_below(directory);
    files.sort_unstable();
    files.into_iter().map(|file| (file.clone(), std::fs::read(file).unwrap())).collect()
}
