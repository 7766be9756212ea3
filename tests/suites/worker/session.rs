//! A session turns a repository into a tree, in a child process and in a thread.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gitrepo_core::cancel::Cancel;
use gitrepo_core::credentials::Checking;
use gitrepo_core::credentials::Credentials;
use gitrepo_core::credentials::HostKeys;
use gitrepo_core::credentials::Secret;
use gitrepo_core::error::Kind;
use gitrepo_core::error::chain;
use gitrepo_core::policy::Config;
use gitrepo_core::policy::Limits;
use gitrepo_core::policy::PinnedHost;
use gitrepo_core::policy::UidRange;
use gitrepo_core::remote::FetchRequest;
use gitrepo_core::remote::Git;
use gitrepo_core::remote::REPOSITORY;
use gitrepo_core::remote::RemoteError;
use gitrepo_core::snapshot::Directory;
use gitrepo_core::snapshot::TreeRequest;
use gitrepo_core::spec::Revision;
use gitrepo_core::spec::TreeOptions;
use gitrepo_core::watch::Watch;
use gitrepo_core::worker::Confined;
use gitrepo_core::worker::InProcess;
use gitrepo_core::worker::Job;
use gitrepo_core::worker::TREE;
use gitrepo_core::worker::Worker;
use gitrepo_core::worker::WorkerError;
use gitrepo_tests::authority::Authority;
use gitrepo_tests::fixtures;
use gitrepo_tests::hostile;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::repository::Files;
use gitrepo_tests::require;
use gitrepo_tests::ssh::ClientKey;
use gitrepo_tests::ssh::SshServer;

use super::Rooms;
use super::confined;
use super::job;
use super::program;
use super::with;

/// Resolves and fetches the default branch, and writes its tree.
fn fetch_and_write(worker: &dyn Worker, job: Job) -> String {
    let mut session = worker.start(job).unwrap();
    let resolved = session.resolve(&Revision::Head).unwrap();
    let commit = resolved.commit;
    session.fetch(&FetchRequest::new(resolved, 1)).unwrap();
    let request = TreeRequest::new(&TreeOptions::default(), commit, &Directory, &Limits::default());
    session.write_tree(&request).unwrap();
    session.finish().unwrap();
    commit.to_string()
}

fn find(directory: &Path, name: &str) -> Option<PathBuf> {
    std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).find_map(|path| match path.file_name() {
        Some(found) if found == name => Some(path),
        _ if path.is_dir() => find(&path, name),
        _ => None,
    })
}

#[test]
fn a_confined_session_fetches_and_writes_a_tree_as_its_own_user() {
    let (repository, commit) = fixtures::small();
    let server = HttpServer::start(&repository);
    let rooms = Rooms::new();
    let job = with(job(&server.url(&repository)), |errand| errand.staging = Some(rooms.staging()));
    assert_eq!(fetch_and_write(&confined(&rooms.locks()), job), commit);
    let tree = rooms.staging().join(TREE);
    assert!(find(&tree, "manifest").is_some(), "the tree is there");
    if require::root("to give the worker a uid") {
        assert!((65_521..=65_531).contains(&std::fs::metadata(tree).unwrap().uid()));
    }
}

#[test]
fn s14_the_pinned_address_is_used_whatever_host_the_url_names() {
    if !require::root("to have a relay") {
        return;
    }
    let (repository, commit) = fixtures::small();
    let server = HttpServer::start(&repository);
    for (written, name) in [
        ("git.example.com", "git.example.com"),
        ("10.9.8.7", "10.9.8.7"),
        ("127.0.0.9", "127.0.0.9"),
        ("[2001:db8::1]", "2001:db8::1"),
    ] {
        let rooms = Rooms::new();
        let url = server.url(&repository).replace("127.0.0.1", written);
        let pinned = vec![([127, 0, 0, 1], server.port()).into()];
        let host = Some(PinnedHost { name: name.to_owned(), port: server.port(), addresses: pinned });
        let mut job = with(job(&url), |errand| errand.staging = Some(rooms.staging()));
        job.host = host;
        assert_eq!(fetch_and_write(&confined(&rooms.locks()), job), commit, "{url}");
    }
}

#[test]
fn a_session_builds_on_the_base_and_does_not_change_it() {
    let (repository, _) = fixtures::small();
    let server = HttpServer::start(&repository);
    let (first, second) = (Rooms::new(), Rooms::new());
    let url = server.url(&repository);
    fetch_and_write(&confined(&first.locks()), with(job(&url), |errand| errand.staging = Some(first.staging())));
    let base = first.staging().join(REPOSITORY);
    let before = listing(&base);

    let commit = repository.commit("main", &Files::new().file("new", "content"));
    let job = with(job(&url), |errand| {
        errand.staging = Some(second.staging());
        (errand.base, errand.shows_base) = (Some(base.clone()), true);
    });
    assert_eq!(fetch_and_write(&confined(&second.locks()), job), commit);
    assert_eq!(listing(&base), before);
}

#[test]
fn a_commit_that_the_server_announces_but_does_not_serve_is_not_found() {
    let (repository, commit) = fixtures::small();
    let server = HttpServer::builder().serve(&repository).answer(hostile::announces_without_serving(&commit)).start();
    let rooms = Rooms::new();
    let job = with(job(&server.url(&repository)), |errand| errand.staging = Some(rooms.staging()));
    let mut session = confined(&rooms.locks()).start(job).unwrap();
    let resolved = session.resolve(&Revision::Head).unwrap();
    let error = session.fetch(&FetchRequest::new(resolved, 1)).unwrap_err();
    assert!(matches!(error, WorkerError::Remote(RemoteError::CommitNotFound { .. })), "{}", chain(&error));
    assert_eq!(error.kind(), Kind::NotFound);
}

#[test]
fn r3_a_session_ends_before_the_disk_is_full() {
    let (repository, _) = fixtures::small();
    let server = HttpServer::start(&repository);
    let rooms = Rooms::new();
    let mut job = with(job(&server.url(&repository)), |errand| errand.staging = Some(rooms.staging()));
    job.reserve_bytes = u64::MAX;
    let mut session = confined(&rooms.locks()).start(job).unwrap();
    let resolved = session.resolve(&Revision::Head).expect("resolving writes nothing");
    let error = session.fetch(&FetchRequest::new(resolved, 1)).unwrap_err();
    assert!(matches!(error, WorkerError::OutOfSpace(_)), "{error}");
    assert_eq!(error.kind(), Kind::ResourceExhausted);
}

#[test]
fn more_workers_than_uids_wait_for_each_other() {
    if !require::root("to give workers uids") {
        return;
    }
    let rooms = Rooms::new();
    let mut config = Config::for_person().worker;
    config.uids = UidRange::parse("64901-64901").unwrap();
    let worker = Confined::new(&config).with_program(program()).with_uid_locks(rooms.locks());
    let first = worker.start(job("http://localhost:1/site.git")).unwrap();
    let mut hurried = job("http://localhost:1/site.git");
    hurried.watch = Watch::until(Cancel::new().within(Duration::from_millis(50)));
    assert!(matches!(worker.start(hurried), Err(WorkerError::NoFreeWorker { count: 1 })));
    first.finish().unwrap();
    worker.start(job("http://localhost:1/site.git")).unwrap().finish().unwrap();
}

/// Lists every path below `directory`, with size and time.
fn listing(directory: &Path) -> Vec<(PathBuf, u64, i64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let status = entry.metadata().unwrap();
        if status.is_dir() {
            found.extend(listing(&entry.path()));
        }
        found.push((entry.path(), status.len(), status.mtime_nsec()));
    }
    found.sort();
    found
}

#[test]
fn a_confined_session_speaks_tls_with_a_server_of_a_given_authority() {
    let (repository, commit) = fixtures::small();
    let authority = Authority::new();
    let server = HttpServer::builder().serve(&repository).tls(authority.issue_for_loopback()).start();
    let rooms = Rooms::new();
    let url = server.url(&repository);
    let mut stranger = confined(&rooms.locks()).start(job(&url)).unwrap();
    let error = stranger.resolve(&Revision::Head).unwrap_err();
    assert!(matches!(error, WorkerError::Remote(RemoteError::Certificate { .. })), "{}", chain(&error));
    drop(stranger);

    // Readable only by root, as an admin may set it.
    std::fs::set_permissions(authority.ca_file(), Permissions::from_mode(0o600)).unwrap();
    let ca_file = Some(authority.ca_file().to_owned());
    let job = with(job(&url), |errand| {
        errand.ca_file = ca_file;
        errand.staging = Some(rooms.staging());
    });
    assert_eq!(fetch_and_write(&confined(&rooms.locks()), job), commit);
}

#[test]
fn a_confined_session_speaks_ssh_with_every_kind_of_key() {
    if !require::tool("sshd") {
        return;
    }
    let (repository, commit) = fixtures::small();
    for (algorithm, format, key) in ClientKey::all_kinds() {
        let server = SshServer::start(&key);
        let mut secret = BTreeMap::from([("ssh-privatekey".to_owned(), Secret::new(key.private.clone()))]);
        secret
            .extend(key.passphrase.map(|passphrase| ("ssh-passphrase".to_owned(), Secret::new(passphrase.to_owned()))));
        let rooms = Rooms::new();
        let job = with(job(&server.url(&repository)), |errand| {
            errand.staging = Some(rooms.staging());
            errand.credentials = Credentials::from_secret_keys(secret).unwrap();
            errand.host_keys = HostKeys::new(Checking::AcceptNew);
        });
        assert_eq!(fetch_and_write(&confined(&rooms.locks()), job), commit, "{algorithm:?} {format:?}");
    }
}

#[test]
fn a_new_host_key_is_reported_to_the_caller() {
    if !require::tool("sshd") {
        return;
    }
    let (repository, _) = fixtures::small();
    let key = ClientKey::new();
    let server = SshServer::start(&key);
    let secret = BTreeMap::from([("ssh-privatekey".to_owned(), Secret::new(key.private))]);
    let rooms = Rooms::new();
    let job = with(job(&server.url(&repository)), |errand| {
        errand.credentials = Credentials::from_secret_keys(secret).unwrap();
        errand.host_keys = HostKeys::new(Checking::AcceptNew);
    });
    let mut session = confined(&rooms.locks()).start(job).unwrap();
    session.resolve(&Revision::Head).unwrap();
    let [line] = session.accepted_host_keys() else { panic!("{:?}", session.accepted_host_keys()) };
    assert!(server.known_hosts().contains(line.trim()), "{line}");
}

#[test]
fn an_in_process_session_fetches_and_writes_a_tree() {
    let (repository, commit) = fixtures::small();
    let server = HttpServer::start(&repository);
    let rooms = Rooms::new();
    let worker = InProcess::new(Arc::new(Git::default()));
    let job = with(job(&server.url(&repository)), |errand| errand.staging = Some(rooms.staging()));
    assert_eq!(fetch_and_write(&worker, job), commit);
    assert!(find(&rooms.staging().join(TREE), "manifest").is_some());
}

#[test]
fn a_file_repository_is_read_at_its_url() {
    let (repository, commit) = fixtures::small();
    let rooms = Rooms::new();
    let job =
        with(job(&format!("file://{}", repository.path().display())), |errand| errand.staging = Some(rooms.staging()));
    assert_eq!(fetch_and_write(&confined(&rooms.locks()), job), commit);
}
