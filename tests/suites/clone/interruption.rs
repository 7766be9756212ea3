//! A clone that is interrupted or killed: the destination is complete or does not exist.

use std::sync::mpsc;
use std::time::Duration;
use std::time::Instant;

use gitrepo_tests::fixtures;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::http::Request;
use gitrepo_tests::person::Person;
use gitrepo_tests::process;
use nix::sys::signal::Signal;

use super::assert_tree;

#[test]
fn interrupted_clone_leaves_nothing_and_says_that_it_was_interrupted() {
    let (repository, _) = fixtures::small();
    let server = HttpServer::start(&repository);
    let person = Person::new();
    let phases: [fn(&Request) -> bool; 2] = [Request::is_info_refs, Request::is_upload_pack];
    for phase in phases {
        for signal in [Signal::SIGINT, Signal::SIGTERM] {
            let gate = server.hold(phase);
            let running = person.spawn_clone(&server.url(&repository), &[]);
            gate.wait_for(1);
            running.signal(signal);
            let outcome = running.wait().assert_code(130);
            assert!(outcome.stderr.starts_with("error: "), "{}", outcome.stderr);
            person.assert_nothing_left();
        }
    }
}

#[test]
fn killed_clone_leaves_no_destination_and_no_worker_and_the_next_one_removes_the_rest() {
    let (repository, commit) = fixtures::small();
    let server = HttpServer::start(&repository);
    let person = Person::new();
    let gate = server.hold(Request::is_upload_pack);
    let running = person.spawn_clone(&server.url(&repository), &[]);
    gate.wait_for(1);
    let processes = process::with_descendants(running.id());
    assert!(processes.len() >= 2, "the program and its worker: {processes:?}");
    running.kill();
    assert!(!person.tree().exists());
    assert_eq!(person.belongings().len(), 1, "the partial clone");
    processes.into_iter().for_each(process::wait_for_end);
    gate.open();

    person.clone(&server.url(&repository), &[]).assert_success();
    assert_tree(&person.tree(), &repository, &commit);
    person.assert_tree_alone();
}

#[test]
fn running_clone_is_left_alone_by_another_to_the_same_destination() {
    let (repository, _) = fixtures::small();
    let server = HttpServer::start(&repository);
    let person = Person::new();
    let url = server.url(&repository);
    let gate = server.hold(Request::is_upload_pack);
    let slow = person.spawn_clone(&url, &[]);
    gate.wait_for(1);
    // A clone that fails early also looks for leftovers.
    person.run(&["clone", &server.url_at("missing.git"), "tree"]).assert_code(66);
    assert_eq!(person.belongings().len(), 1, "the first clone's files");
    gate.open();
    slow.wait().assert_success();
    person.assert_tree_alone();
}

#[test]
fn clone_killed_at_any_moment_is_complete_or_absent() {
    const KILLS: u32 = 40;
    let fixture = fixtures::everything();
    let server = HttpServer::start(&fixture.repository);
    let url = server.url(&fixture.repository);
    let person = Person::new();
    let begun = Instant::now();
    person.clone(&url, &[]).assert_success();
    let whole = begun.elapsed();
    person.discard_tree();

    let (_never, clock) = mpsc::channel::<()>();
    for kill in 0..KILLS {
        let running = person.spawn_clone(&url, &[]);
        // The clone is killed at this moment, a little later each time.
        let moment: Duration = whole * kill / KILLS;
        assert!(clock.recv_timeout(moment).is_err());
        running.kill();
        if person.tree().exists() {
            assert_tree(&person.tree(), &fixture.repository, &fixture.commit);
            person.discard_tree();
        }
    }
    person.clone(&url, &[]).assert_success();
    assert_tree(&person.tree(), &fixture.repository, &fixture.commit);
    person.assert_tree_alone();
}

#[test]
fn clone_gives_up_after_its_timeout() {
    let (repository, _) = fixtures::small();
    let server = HttpServer::start(&repository);
    let person = Person::new();
    let gate = server.hold(Request::is_upload_pack);
    let outcome = person.clone(&server.url(&repository), &["--timeout", "2s"]).assert_code(75);
    assert!(outcome.stderr.contains("--timeout"), "the message names the flag: {}", outcome.stderr);
    person.assert_nothing_left();
    drop(gate);
}
