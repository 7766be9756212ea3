//! However a session ends, its worker leaves nothing behind.

use std::fs;
use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use gitrepo_core::cancel::Cancel;
use gitrepo_core::error::Kind;
use gitrepo_core::spec::Revision;
use gitrepo_core::watch::Watch;
use gitrepo_core::worker::Session;
use gitrepo_core::worker::Worker;
use gitrepo_core::worker::WorkerError;
use gitrepo_tests::require;

use super::Rooms;
use super::confined;
use super::job;
use super::program;

fn attempt(what: &str) -> Revision {
    Revision::parse(&format!("refs/attempts/{what}")).unwrap()
}

fn start(rooms: &Rooms, cancel: Cancel) -> Result<Session, WorkerError> {
    let mut job = job("http://localhost:1/site.git");
    job.watch = Watch::until(cancel);
    confined(&rooms.locks()).start(job)
}

fn session(rooms: &Rooms, cancel: Cancel) -> Session {
    start(rooms, cancel).unwrap()
}

/// Waits until no worker holds a uid: the monitor keeps its lock until the worker is gone.
fn wait_for_locks(locks: &Path) {
    for lock in fs::read_dir(locks).unwrap() {
        File::open(lock.unwrap().path()).unwrap().lock().unwrap();
    }
}

/// Returns the descendants of `parent`.
pub(super) fn workers_of(parent: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    for child in children.split_whitespace().map(|child| child.parse().unwrap()) {
        found.push(child);
        found.extend(workers_of(child));
    }
    found
}

/// Starts a process that holds a session open until its standard input ends. Also returns the processes of its worker.
fn parent_and_workers(rooms: &Rooms) -> (Child, Vec<u32>) {
    let mut parent = Command::new(program())
        .arg("hold")
        .arg(rooms.locks())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(parent.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let workers = workers_of(parent.id());
    assert_eq!(workers.len(), 2, "the monitor and the worker");
    (parent, workers)
}

#[test]
fn a_worker_is_the_first_to_be_killed_when_memory_runs_out() {
    if !require::root("to give workers uids, whose locks tell when they end") {
        return;
    }
    let rooms = Rooms::new();
    let (mut parent, workers) = parent_and_workers(&rooms);
    for worker in workers {
        assert_eq!(fs::read_to_string(format!("/proc/{worker}/oom_score_adj")).unwrap(), "1000\n");
    }
    drop(parent.stdin.take());
    parent.wait().unwrap();
    wait_for_locks(&rooms.locks());
}

#[test]
fn r1_a_killed_parent_leaves_no_worker() {
    if !require::root("to give workers uids, whose locks tell when they end") {
        return;
    }
    let rooms = Rooms::new();
    for _ in 0..20 {
        let (mut parent, workers) = parent_and_workers(&rooms);
        parent.kill().unwrap();
        parent.wait().unwrap();
        wait_for_locks(&rooms.locks());
        for worker in workers {
            let status = fs::read_to_string(format!("/proc/{worker}/status")).unwrap_or_default();
            assert!(!status.contains("gitrepo") || status.contains("Z (zombie)"), "{status}");
        }
    }
}

#[test]
fn a_deadline_ends_a_worker_that_never_answers() {
    let rooms = Rooms::new();
    // On a busy machine it takes longer to start a worker.
    let deadlines = [300, 3_000, 30_000].map(Duration::from_millis);
    let started = deadlines.into_iter().find_map(|deadline| start(&rooms, Cancel::new().within(deadline)).ok());
    let mut session = started.expect("a worker starts within half a minute");
    let error = session.resolve(&attempt("silence")).unwrap_err();
    assert_eq!(error.kind(), Kind::Timeout, "{error}");
    wait_for_locks(&rooms.locks());
    assert!(matches!(session.resolve(&Revision::Head), Err(WorkerError::Remote(_) | WorkerError::Died { .. })));
}

#[test]
fn a_panic_is_reported_with_its_location_and_without_its_message() {
    let rooms = Rooms::new();
    let error = session(&rooms, Cancel::new()).resolve(&attempt("panic")).unwrap_err();
    let text = gitrepo_core::error::chain(&error);
    assert_eq!(error.kind(), Kind::Internal);
    assert!(text.contains("panicked at") && text.contains(".rs:") && !text.contains("as told"), "{text}");
}

#[test]
fn s15_a_worker_that_needs_too_much_memory_fails_its_own_job() {
    let rooms = Rooms::new();
    let error = session(&rooms, Cancel::new()).resolve(&attempt("gluttony")).unwrap_err();
    assert_eq!(error.kind(), Kind::ResourceExhausted, "{error}");
    assert!(error.to_string().contains("worker.memory"), "{error}");
}

#[test]
fn an_abort_is_distinguished_from_a_clean_end() {
    let rooms = Rooms::new();
    let error = session(&rooms, Cancel::new()).resolve(&attempt("abort")).unwrap_err();
    assert!(matches!(error, WorkerError::Died { .. }), "{error}");
}
