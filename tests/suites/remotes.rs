//! What every `Remote` promises, run over the fake and over each implementation with real servers. Another
//! implementation is one more `implementation!` at the end of this file.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;

use gitrepo_core::cancel::Cancel;
use gitrepo_core::credentials::Checking;
use gitrepo_core::credentials::Credentials;
use gitrepo_core::credentials::HostKeys;
use gitrepo_core::credentials::Secret;
use gitrepo_core::progress::Progress;
use gitrepo_core::progress::Step;
use gitrepo_core::remote::ConnectRequest;
use gitrepo_core::remote::Connection;
use gitrepo_core::remote::Errand;
use gitrepo_core::remote::FetchReport;
use gitrepo_core::remote::FetchRequest;
use gitrepo_core::remote::Git;
use gitrepo_core::remote::REPOSITORY;
use gitrepo_core::remote::Remote;
use gitrepo_core::remote::RemoteError;
use gitrepo_core::remote::Resolved;
use gitrepo_core::spec::RepositoryUrl;
use gitrepo_core::spec::Revision;
use gitrepo_core::testing::FakeRemote;
use gitrepo_core::testing::FakeRepository;
use gitrepo_core::testing::remote::Verb;
use gitrepo_core::watch::Watch;
use gitrepo_tests::daemon::GitDaemon;
use gitrepo_tests::git;
use gitrepo_tests::http;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::http::HttpServerBuilder;
use gitrepo_tests::odd;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::require;
use gitrepo_tests::ssh::ClientKey;
use gitrepo_tests::ssh::SshServer;
use gitrepo_tests::ssh::SshServerBuilder;
use gitrepo_tests::web::WebServer;
use tempfile::TempDir;

mod contract;

const TOKEN: &str = "canary-right-token";
const WRONG_TOKEN: &str = "canary-wrong-token";

/// A remote, and a server with a repository of three commits on main.
struct Bench {
    remote: Arc<dyn Remote>,
    server: Server,
    repository: Repository,
    /// The ids, oldest first.
    commits: [String; 3],
    place: TempDir,
}

/// Each accepts one credential, but for those that let everybody in.
enum Server {
    Fake {
        remote: FakeRemote,
        base: &'static str,
    },
    Http(HttpServer),
    Ssh {
        server: SshServer,
        key: Box<ClientKey>,
        stranger: Box<ClientKey>,
    },
    Web(WebServer),
    /// For everybody.
    Dulwich(WebServer),
    /// For everybody.
    Daemon(GitDaemon),
    /// For everybody.
    Files,
}

/// A credential in the eyes of a server.
#[derive(Clone, Copy)]
enum Credential {
    Right,
    Wrong,
    Missing,
}

/// Calls that are held, until this is dropped.
enum Held {
    Fake(gitrepo_core::testing::Gate),
    Http(http::Gate),
}

/// What is odd about a repository, apart from its server.
#[derive(Clone, Copy)]
enum Nature {
    Plain,
    /// Its history ends at the oldest of the three commits, which has a parent.
    Shallow,
    /// It has 60,000 refs more.
    Crowded,
    /// The server gives out only what its refs point to.
    Closed,
}

impl Bench {
    fn new(remote: impl Remote + 'static, server: impl FnOnce(&Repository) -> Server) -> Self {
        Self::of(Nature::Plain, remote, server)
    }

    fn of(nature: Nature, remote: impl Remote + 'static, server: impl FnOnce(&Repository) -> Server) -> Self {
        let repository = Repository::new("app");
        if let Nature::Shallow = nature {
            repository.commit("main", &Files::new().file("README.md", "0\n"));
        }
        let commits = [1, 2, 3].map(|number| {
            repository.commit("main", &Files::new().file("README.md", format!("{number}\n")).file("a/b/c", "deep\n"))
        });
        match nature {
            Nature::Plain => {}
            Nature::Shallow => repository.cut_history(3),
            Nature::Crowded => repository.add_refs(60_000, &commits[2]),
            Nature::Closed => repository.refuse_commits_by_id(),
        }
        let server = server(&repository);
        let bench = Self { remote: Arc::new(remote), server, repository, commits, place: TempDir::new().unwrap() };
        bench.serve(&bench.repository);
        bench
    }

    fn fake(base: &'static str) -> Self {
        let remote = FakeRemote::new();
        remote.require("token", TOKEN);
        remote.present_host_key("ssh-ed25519", b"\0\0\0\x0bssh-ed25519\0\0\0\x200123456789abcdef0123456789abcdef");
        Self::new(remote.clone(), |_| Server::Fake { remote, base })
    }

    fn over_http(remote: impl Remote + 'static, nature: Nature, protocol: u8) -> Self {
        Self::over_http_as(remote, nature, HttpServer::builder().protocol(protocol))
    }

    fn over_odd_http(remote: impl Remote + 'static) -> Self {
        Self::over_http_as(remote, Nature::Plain, odd::all_in_turn())
    }

    fn over_http_as(remote: impl Remote + 'static, nature: Nature, server: HttpServerBuilder) -> Self {
        let server = server.accept(http::Credential::Bearer(TOKEN)).start();
        Self::of(nature, remote, |_| Server::Http(server))
    }

    fn over_ssh(remote: impl Remote + 'static, nature: Nature) -> Option<Self> {
        Self::over_ssh_as(remote, nature, |server| server)
    }

    fn over_old_ssh(remote: impl Remote + 'static, nature: Nature) -> Option<Self> {
        Self::over_ssh_as(remote, nature, SshServerBuilder::refuse_protocol)
    }

    /// `None` without an SSH server.
    fn over_ssh_as(
        remote: impl Remote + 'static,
        nature: Nature,
        change: impl FnOnce(SshServerBuilder) -> SshServerBuilder,
    ) -> Option<Self> {
        require::tool("sshd").then(|| {
            let (key, stranger) = (ClientKey::new(), ClientKey::new());
            let server = change(SshServer::builder().authorize(&key)).start();
            let server = Server::Ssh { server, key: Box::new(key), stranger: Box::new(stranger) };
            Self::of(nature, remote, |_| server)
        })
    }

    fn over_daemon(remote: impl Remote + 'static, nature: Nature) -> Self {
        Self::of(nature, remote, |_| Server::Daemon(GitDaemon::start()))
    }

    /// `None` if the server is not installed.
    fn over_web(remote: impl Remote + 'static, server: impl FnOnce(&str) -> Option<WebServer>) -> Option<Self> {
        server(TOKEN).map(|server| Self::new(remote, |_| Server::Web(server)))
    }

    fn over_dulwich(remote: impl Remote + 'static) -> Option<Self> {
        WebServer::dulwich().map(|server| Self::new(remote, |_| Server::Dulwich(server)))
    }

    fn of_files(remote: impl Remote + 'static) -> Self {
        Self::new(remote, |_| Server::Files)
    }

    /// Serves one more repository.
    fn serve(&self, repository: &Repository) {
        match &self.server {
            Server::Fake { remote, .. } => {
                let url = RepositoryUrl::parse(&self.url(repository)).unwrap();
                remote.serve(&url, &FakeRepository::open(&repository.path()));
            }
            Server::Http(server) => server.add(repository),
            Server::Ssh { .. } | Server::Web(_) | Server::Dulwich(_) | Server::Daemon(_) | Server::Files => {}
        }
    }

    fn url(&self, repository: &Repository) -> String {
        match &self.server {
            Server::Fake { base, .. } => format!("{base}{}", repository.name()),
            Server::Http(server) => server.url(repository),
            Server::Ssh { server, .. } => server.url(repository),
            Server::Web(server) | Server::Dulwich(server) => server.url(repository),
            Server::Daemon(server) => server.url(repository),
            Server::Files => format!("file://{}", repository.path().display()),
        }
    }

    /// The connections so far.
    fn connections(&self) -> u64 {
        match &self.server {
            Server::Fake { remote, .. } => remote.count(Verb::Connect) as u64,
            Server::Http(server) => server.connections(),
            Server::Ssh { server, .. } => server.connections(),
            Server::Web(server) | Server::Dulwich(server) => server.connections(),
            Server::Daemon(server) => server.connections(),
            Server::Files => panic!("files have none"),
        }
    }

    /// Holds what a client sends for `verb`.
    fn hold(&self, verb: Verb) -> Held {
        match &self.server {
            Server::Fake { remote, .. } => Held::Fake(remote.hold(verb)),
            Server::Http(server) => Held::Http(server.hold(move |request| match verb {
                Verb::Fetch => request.is_upload_pack(),
                _ => request.is_info_refs(),
            })),
            _ => panic!("nothing is held there"),
        }
    }

    /// The secret key of a credential.
    fn secret(&self, credential: Credential) -> Option<(&'static str, String)> {
        match (credential, &self.server) {
            (Credential::Missing, _) | (_, Server::Dulwich(_) | Server::Daemon(_) | Server::Files) => None,
            (Credential::Right, Server::Ssh { key, .. }) => Some(("ssh-privatekey", key.private.clone())),
            (Credential::Wrong, Server::Ssh { stranger, .. }) => Some(("ssh-privatekey", stranger.private.clone())),
            (Credential::Right, _) => Some(("token", TOKEN.to_owned())),
            (Credential::Wrong, _) => Some(("token", WRONG_TOKEN.to_owned())),
        }
    }

    fn credentials(&self, credential: Credential) -> Credentials {
        let secret = self.secret(credential).map(|(key, value)| (key.to_owned(), Secret::new(value)));
        Credentials::from_secret_keys(BTreeMap::from_iter(secret)).unwrap()
    }

    /// An errand that only resolves.
    fn errand(&self) -> Errand {
        with(Errand::new(RepositoryUrl::parse(&self.url(&self.repository)).unwrap()), |errand| {
            errand.credentials = self.credentials(Credential::Right);
            errand.credentials_over_http = true;
            errand.host_keys = HostKeys::new(Checking::AcceptNew);
        })
    }

    /// An errand that fetches into a directory of this name.
    fn fetching(&self, into: &str) -> Errand {
        with(self.errand(), |errand| errand.staging = Some(self.place.path().join(into)))
    }

    /// As [`fetching`](Self::fetching), on top of what was fetched into `base`.
    fn fetching_on(&self, base: &str, into: &str) -> Errand {
        with(self.fetching(into), |errand| errand.base = Some(self.fetched(base)))
    }

    /// The repository that was fetched into a directory of this name.
    fn fetched(&self, into: &str) -> PathBuf {
        self.place.path().join(into).join(REPOSITORY)
    }

    fn converse<T>(&self, errand: Errand, ask: impl FnMut(&mut dyn Connection) -> T) -> T {
        self.converse_until(errand, &Cancel::new(), ask).0
    }

    /// A conversation until `cancel`, and the progress that it reported.
    fn converse_until<T>(
        &self,
        errand: Errand,
        cancel: &Cancel,
        mut ask: impl FnMut(&mut dyn Connection) -> T,
    ) -> (T, Vec<Step>) {
        let steps = Arc::new(Steps::default());
        let request = ConnectRequest::new(errand, Watch::new(cancel.clone(), steps.clone()));
        let mut answer = None;
        self.remote.converse(&request, &mut |connection| answer = Some(ask(connection)));
        let steps = steps.0.lock().unwrap().clone();
        (answer.expect("a conversation"), steps)
    }

    fn resolve(&self, errand: Errand, revision: &str) -> Result<Resolved, RemoteError> {
        self.converse(errand, |connection| resolve(connection, revision))
    }

    fn fetch(&self, errand: Errand, revision: &str, depth: u32) -> Result<FetchReport, RemoteError> {
        self.converse(errand, |connection| fetch(connection, revision, depth))
    }
}

/// A changed errand.
fn with(mut errand: Errand, change: impl FnOnce(&mut Errand)) -> Errand {
    change(&mut errand);
    errand
}

fn resolve(connection: &mut dyn Connection, revision: &str) -> Result<Resolved, RemoteError> {
    connection.resolve(&Revision::parse(revision).unwrap())
}

fn fetch(connection: &mut dyn Connection, revision: &str, depth: u32) -> Result<FetchReport, RemoteError> {
    let resolved = resolve(connection, revision)?;
    connection.fetch(&FetchRequest::new(resolved, depth))
}

/// How many commits of the history of `commit` are in a repository, whose objects must all be there.
fn history(repository: &Path, commit: &str) -> usize {
    git::output(git::command(repository).args(["rev-list", "--objects", commit]));
    git::line(git::command(repository).args(["rev-list", "--count", commit])).parse().unwrap()
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
            what_was_resolved_is_fetched_although_its_branch_has_moved
            the_same_again_receives_nothing
            a_commit_of_the_history_is_fetched_by_its_id
            a_commit_that_does_not_exist_is_not_found
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
