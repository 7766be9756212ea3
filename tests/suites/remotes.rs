//! What every `Remote` promises, run over the fake and over each implementation with real servers. Another
//! implementation is one more `implementation!` at the end of this file.

use gitrepo_core::progress::Progress;
use gitrepo_core::progress::Step;
use gitrepo_core::remote::Connection;
use gitrepo_core::remote::Errand;
use gitrepo_core::remote::FetchReport;
use gitrepo_core::remote::FetchRequest;
use gitrepo_core::remote::Git;
use gitrepo_core::remote::RemoteError;
use gitrepo_core::remote::Resolved;
use gitrepo_core::spec::CommitId;
use gitrepo_core::spec::Revision;
use gitrepo_core::testing;
use gitrepo_tests::git;
use gitrepo_tests::web::WebServer;
use std::path::Path;
use std::sync::Mutex;

mod bench;
mod contract;

use bench::Bench;
use bench::Credential;
use bench::Held;
use bench::Nature;

/// A changed errand.
fn with(mut errand: Errand, change: impl FnOnce(&mut Errand)) -> Errand {
    change(&mut errand);
    errand
}

fn resolve(connection: &mut dyn Connection, revision: &str) -> Result<Resolved, RemoteError> {
    connection.resolve(&Revision::parse(revision).unwrap())
}

/// Fetches a revision. A commit id need not be resolved.
fn fetch(connection: &mut dyn Connection, revision: &str, depth: u32) -> Result<FetchReport, RemoteError> {
    let resolved = match CommitId::parse(revision) {
        Ok(commit) => Resolved::new(commit, None),
        Err(_) => resolve(connection, revision)?,
    };
    connection.fetch(&FetchRequest::new(resolved, depth))
}

/// How many commits of the history of `commit` are in a repository, whose objects must all be there.
fn history(repository: &Path, commit: &str) -> usize {
    let blobs = tempfile::tempdir().unwrap();
    testing::export_blobs(repository, blobs.path());
    let reading = |arguments: &[&str]| {
        let mut command = git::command(repository);
        command.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", blobs.path().join("objects")).args(arguments);
        command
    };
    git::output(&mut reading(&["rev-list", "--objects", commit]));
    git::line(&mut reading(&["rev-list", "--count", commit])).parse().unwrap()
}

impl Held {
    fn wait(&self) {
        match self {
            Self::Fake(gate) => gate.wait_for(1),
            Self::Http(gate) => gate.wait_for(1),
        }
    }
}

/// Keeps all steps.
#[derive(Default)]
struct Steps(Mutex<Vec<Step>>);

impl Progress for Steps {
    fn report(&self, step: &Step) {
        self.0.lock().unwrap().push(step.clone());
    }
}

/// Scenes as tests over one bench.
macro_rules! scenes {
    ($bench:expr; $($scene:ident)*) => {
        $(#[test]
        fn $scene() {
            let bench: Option<Bench> = $bench.into();
            if let Some(bench) = bench {
                contract::$scene(&bench);
            }
        })*
    };
}

/// For every server.
macro_rules! everywhere {
    ($bench:expr) => {
        scenes! { $bench;
            every_revision_resolves_to_its_commit
            a_name_that_does_not_exist_is_not_found_and_the_nearest_is_named
            an_empty_repository_says_so
            a_repository_that_does_not_exist_is_not_found
            what_is_not_a_commit_is_refused
            the_commit_and_its_whole_tree_are_fetched_and_nothing_else_is_there
            a_directory_is_fetched_alone_if_the_server_can_leave_out_the_rest
            what_was_resolved_is_fetched_although_its_branch_has_moved
            the_same_again_receives_nothing
            a_commit_of_the_history_is_fetched_by_its_id
            a_commit_that_does_not_exist_is_not_found
            s23_an_object_that_is_no_commit_is_named
            s23_a_commit_that_a_ref_stands_at_is_proven_and_fetched_over_one_session
            a_limit_of_bytes_ends_the_fetch
            an_errand_without_staging_only_resolves
            a_directory_that_is_taken_is_not_fetched_into
            what_was_given_up_or_is_late_is_not_begun
            progress_is_reported
        }
    };
}

/// For servers that send what is missing, and nothing else.
macro_rules! of_a_sparing_server {
    ($bench:expr) => {
        scenes! { $bench;
            what_the_base_has_is_not_sent_again
        }
    };
}

/// For servers that keep a connection.
macro_rules! on_a_kept_connection {
    ($bench:expr) => {
        scenes! { $bench;
            resolve_and_fetch_share_a_connection
        }
    };
}

/// For servers that are connected to.
macro_rules! over_a_network {
    ($bench:expr) => {
        scenes! { $bench;
            the_depth_bounds_the_history
            a_deeper_fetch_adds_to_the_base
            a_commit_that_is_not_given_out_by_its_id_is_found_in_the_history
            s23_a_commit_of_the_history_is_proven_only_by_a_server_that_gives_it_out
        }
    };
}

/// For servers that want a credential.
macro_rules! with_a_credential {
    ($bench:expr) => {
        scenes! { $bench;
            a_credential_that_is_missing_or_wrong_is_told_apart_and_never_shown
        }
    };
}

/// For servers that can be held.
macro_rules! while_held {
    ($bench:expr) => {
        scenes! { $bench;
            what_is_given_up_meanwhile_ends
            what_takes_too_long_ends
        }
    };
}

/// For servers with a host key.
macro_rules! with_a_host_key {
    ($bench:expr) => {
        scenes! { $bench;
            a_new_host_key_is_told_and_required_from_then_on
        }
    };
}

/// The tests of one kind of server for an implementation.
macro_rules! served {
    (over_http, $bench:expr) => {
        everywhere! { $bench }
        of_a_sparing_server! { $bench }
        over_a_network! { $bench }
        on_a_kept_connection! { $bench }
        with_a_credential! { $bench }
        while_held! { $bench }
    };
    (over_ssh, $bench:expr) => {
        everywhere! { $bench }
        of_a_sparing_server! { $bench }
        over_a_network! { $bench }
        on_a_kept_connection! { $bench }
        with_a_credential! { $bench }
        with_a_host_key! { $bench }
    };
    // It may close the connection at any time.
    (over_odd_http, $bench:expr) => {
        everywhere! { $bench }
        of_a_sparing_server! { $bench }
        with_a_credential! { $bench }
    };
    (over_web, $bench:expr) => {
        everywhere! { $bench }
        of_a_sparing_server! { $bench }
        over_a_network! { $bench }
        on_a_kept_connection! { $bench }
        with_a_credential! { $bench }
    };
    (for_everybody, $bench:expr) => {
        everywhere! { $bench }
        of_a_sparing_server! { $bench }
        over_a_network! { $bench }
        on_a_kept_connection! { $bench }
    };
    // It speaks HTTP/1.0, and sends some objects again.
    (over_dulwich, $bench:expr) => {
        everywhere! { $bench }
        over_a_network! { $bench }
    };
    (of_files, $bench:expr) => {
        everywhere! { $bench }
        of_a_sparing_server! { $bench }
    };
}

/// An implementation, and the servers that it reaches.
macro_rules! implementation {
    ($name:ident; $($server:ident: $kind:ident, $bench:expr;)*) => {
        mod $name {
            $(mod $server {
                use super::super::*;
                served! { $kind, $bench }
            })*
        }
    };
}

implementation! { ours;
    http: over_http, Bench::over_http(Git::default(), Nature::Plain, 2);
    http_1: over_http, Bench::over_http(Git::default(), Nature::Plain, 1);
    http_0: over_http, Bench::over_http(Git::default(), Nature::Plain, 0);
    closed_http: over_http, Bench::over_http(Git::default(), Nature::Closed, 2);
    closed_http_0: over_http, Bench::over_http(Git::default(), Nature::Closed, 0);
    shallow_http: over_http, Bench::over_http(Git::default(), Nature::Shallow, 2);
    shallow_http_0: over_http, Bench::over_http(Git::default(), Nature::Shallow, 0);
    crowded_http: over_http, Bench::over_http(Git::default(), Nature::Crowded, 2);
    crowded_http_0: over_http, Bench::over_http(Git::default(), Nature::Crowded, 0);
    odd_http: over_odd_http, Bench::over_odd_http(Git::default());
    nginx: over_web, Bench::over_web(Git::default(), WebServer::nginx);
    lighttpd: over_web, Bench::over_web(Git::default(), WebServer::lighttpd);
    dulwich: over_dulwich, Bench::over_dulwich(Git::default());
    ssh: over_ssh, Bench::over_ssh(Git::default(), Nature::Plain);
    ssh_0: over_ssh, Bench::over_old_ssh(Git::default(), Nature::Plain);
    shallow_ssh: over_ssh, Bench::over_ssh(Git::default(), Nature::Shallow);
    shallow_ssh_0: over_ssh, Bench::over_old_ssh(Git::default(), Nature::Shallow);
    daemon: for_everybody, Bench::over_daemon(Git::default(), Nature::Plain);
    shallow_daemon: for_everybody, Bench::over_daemon(Git::default(), Nature::Shallow);
    files: of_files, Bench::of_files(Git::default());
}

mod fake {
    use super::*;

    everywhere! { Bench::fake("https://git.example.com/") }
    of_a_sparing_server! { Bench::fake("https://git.example.com/") }
    over_a_network! { Bench::fake("https://git.example.com/") }
    on_a_kept_connection! { Bench::fake("https://git.example.com/") }
    with_a_credential! { Bench::fake("https://git.example.com/") }
    while_held! { Bench::fake("https://git.example.com/") }
    with_a_host_key! { Bench::fake("ssh://git@git.example.com/") }
}
