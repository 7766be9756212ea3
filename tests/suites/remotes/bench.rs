//! A remote beside a server of each kind, and how a test calls it.

use gitrepo_core::cancel::Cancel;
use gitrepo_core::credentials::Checking;
use gitrepo_core::credentials::Credentials;
use gitrepo_core::credentials::HostKeys;
use gitrepo_core::credentials::Secret;
use gitrepo_core::progress::Step;
use gitrepo_core::remote::ConnectRequest;
use gitrepo_core::remote::Connection;
use gitrepo_core::remote::Errand;
use gitrepo_core::remote::FetchReport;
use gitrepo_core::remote::REPOSITORY;
use gitrepo_core::remote::Remote;
use gitrepo_core::remote::RemoteError;
use gitrepo_core::remote::Resolved;
use gitrepo_core::spec::RepositoryUrl;
use gitrepo_core::testing::FakeRemote;
use gitrepo_core::testing::FakeRepository;
use gitrepo_core::testing::remote::Verb;
use gitrepo_core::watch::Watch;
use gitrepo_tests::daemon::GitDaemon;
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
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;

use super::Steps;
use super::fetch;
use super::resolve;
use super::with;

const TOKEN: &str = "canary-right-token";
const WRONG_TOKEN: &str = "canary-wrong-token";

/// A remote, and a server with a repository of three commits on main.
pub(super) struct Bench {
    pub(super) remote: Arc<dyn Remote>,
    pub(super) server: Server,
    pub(super) repository: Repository,
    /// The ids, oldest first.
    pub(super) commits: [String; 3],
    /// Whether the server can leave out what it is told to, if its repository allows that.
    filters: bool,
    pub(super) place: TempDir,
}

/// Each accepts one credential, but for those that let everybody in.
pub(super) enum Server {
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
pub(super) enum Credential {
    Right,
    Wrong,
    Missing,
}

/// Calls that are held, until this is dropped.
pub(super) enum Held {
    Fake(gitrepo_core::testing::Gate),
    Http(http::Gate),
}

/// What is odd about a repository, apart from its server.
#[derive(Clone, Copy)]
pub(super) enum Nature {
    Plain,
    /// Its history ends at the oldest of the three commits, which has a parent.
    Shallow,
    /// It has 60,000 refs more.
    Crowded,
    /// The server gives out only what its refs point to.
    Closed,
}

impl Bench {
    pub(super) fn new(remote: impl Remote + 'static, server: impl FnOnce(&Repository) -> Server) -> Self {
        Self::of(Nature::Plain, remote, server)
    }

    pub(super) fn of(
        nature: Nature,
        remote: impl Remote + 'static,
        server: impl FnOnce(&Repository) -> Server,
    ) -> Self {
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
        let filters = !matches!(server, Server::Fake { .. } | Server::Dulwich(_));
        let place = TempDir::new().unwrap();
        let bench = Self { remote: Arc::new(remote), server, repository, commits, filters, place };
        bench.serve(&bench.repository);
        bench
    }

    pub(super) fn fake(base: &'static str) -> Self {
        let remote = FakeRemote::new();
        remote.require("token", TOKEN);
        remote.present_host_key("ssh-ed25519", b"\0\0\0\x0bssh-ed25519\0\0\0\x200123456789abcdef0123456789abcdef");
        Self::new(remote.clone(), |_| Server::Fake { remote, base })
    }

    pub(super) fn over_http(remote: impl Remote + 'static, nature: Nature, protocol: u8) -> Self {
        let bench = Self::over_http_as(remote, nature, HttpServer::builder().protocol(protocol));
        Self { filters: protocol == 2, ..bench }
    }

    pub(super) fn over_odd_http(remote: impl Remote + 'static) -> Self {
        Self::over_http_as(remote, Nature::Plain, odd::all_in_turn())
    }

    pub(super) fn over_http_as(remote: impl Remote + 'static, nature: Nature, server: HttpServerBuilder) -> Self {
        let server = server.accept(http::Credential::Bearer(TOKEN)).start();
        Self::of(nature, remote, |_| Server::Http(server))
    }

    pub(super) fn over_ssh(remote: impl Remote + 'static, nature: Nature) -> Option<Self> {
        Self::over_ssh_as(remote, nature, |server| server)
    }

    pub(super) fn over_old_ssh(remote: impl Remote + 'static, nature: Nature) -> Option<Self> {
        let bench = Self::over_ssh_as(remote, nature, SshServerBuilder::refuse_protocol)?;
        Some(Self { filters: false, ..bench })
    }

    /// `None` without an SSH server.
    pub(super) fn over_ssh_as(
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

    pub(super) fn over_daemon(remote: impl Remote + 'static, nature: Nature) -> Self {
        Self::of(nature, remote, |_| Server::Daemon(GitDaemon::start()))
    }

    /// `None` if the server is not installed.
    pub(super) fn over_web(
        remote: impl Remote + 'static,
        server: impl FnOnce(&str) -> Option<WebServer>,
    ) -> Option<Self> {
        server(TOKEN).map(|server| Self::new(remote, |_| Server::Web(server)))
    }

    pub(super) fn over_dulwich(remote: impl Remote + 'static) -> Option<Self> {
        WebServer::dulwich().map(|server| Self::new(remote, |_| Server::Dulwich(server)))
    }

    pub(super) fn of_files(remote: impl Remote + 'static) -> Self {
        Self::new(remote, |_| Server::Files)
    }

    /// Whether a narrow fetch brings no more than it must, if the repository allows the server to leave out the rest.
    pub(super) fn narrows(&self, allowed: bool) -> bool {
        self.filters && (allowed || matches!(self.server, Server::Files))
    }

    /// Serves one more repository.
    pub(super) fn serve(&self, repository: &Repository) {
        match &self.server {
            Server::Fake { remote, .. } => {
                let url = RepositoryUrl::parse(&self.url(repository)).unwrap();
                remote.serve(&url, &FakeRepository::open(&repository.path()));
            }
            Server::Http(server) => server.add(repository),
            Server::Ssh { .. } | Server::Web(_) | Server::Dulwich(_) | Server::Daemon(_) | Server::Files => {}
        }
    }

    pub(super) fn url(&self, repository: &Repository) -> String {
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
    pub(super) fn connections(&self) -> u64 {
        match &self.server {
            Server::Fake { remote, .. } => remote.count(Verb::Connect) as u64,
            Server::Http(server) => server.connections(),
            Server::Ssh { server, .. } => server.connections(),
            Server::Web(server) | Server::Dulwich(server) => server.connections(),
            Server::Daemon(server) => server.connections(),
            Server::Files => panic!("files have none"),
        }
    }

    /// What clients have begun so far, as far as the server can tell: connections and requests.
    pub(super) fn begun(&self) -> (u64, usize) {
        match &self.server {
            Server::Fake { remote, .. } => {
                (self.connections(), remote.count(Verb::Resolve) + remote.count(Verb::Fetch))
            }
            Server::Http(server) => (self.connections(), server.requests().len()),
            Server::Ssh { .. } | Server::Web(_) | Server::Dulwich(_) | Server::Daemon(_) => (self.connections(), 0),
            Server::Files => (0, 0),
        }
    }

    /// Waits until the server has seen everything that clients did before they hung up.
    pub(super) fn settle(&self) {
        match &self.server {
            Server::Http(server) => server.settle(),
            Server::Ssh { server, .. } => server.settle(),
            Server::Web(server) | Server::Dulwich(server) => server.settle(),
            Server::Daemon(server) => server.settle(),
            Server::Fake { .. } | Server::Files => {}
        }
    }

    /// Holds what a client sends for `verb`.
    pub(super) fn hold(&self, verb: Verb) -> Held {
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
    pub(super) fn secret(&self, credential: Credential) -> Option<(&'static str, String)> {
        match (credential, &self.server) {
            (Credential::Missing, _) | (_, Server::Dulwich(_) | Server::Daemon(_) | Server::Files) => None,
            (Credential::Right, Server::Ssh { key, .. }) => Some(("ssh-privatekey", key.private.clone())),
            (Credential::Wrong, Server::Ssh { stranger, .. }) => Some(("ssh-privatekey", stranger.private.clone())),
            (Credential::Right, _) => Some(("token", TOKEN.to_owned())),
            (Credential::Wrong, _) => Some(("token", WRONG_TOKEN.to_owned())),
        }
    }

    pub(super) fn credentials(&self, credential: Credential) -> Credentials {
        let secret = self.secret(credential).map(|(key, value)| (key.to_owned(), Secret::new(value)));
        Credentials::from_secret_keys(BTreeMap::from_iter(secret)).unwrap()
    }

    /// An errand that only resolves.
    pub(super) fn errand(&self) -> Errand {
        with(Errand::new(RepositoryUrl::parse(&self.url(&self.repository)).unwrap()), |errand| {
            errand.credentials = self.credentials(Credential::Right);
            errand.credentials_over_http = true;
            errand.host_keys = HostKeys::new(Checking::AcceptNew);
        })
    }

    /// An errand that fetches into a directory of this name.
    pub(super) fn fetching(&self, into: &str) -> Errand {
        with(self.errand(), |errand| errand.staging = Some(self.place.path().join(into)))
    }

    /// As [`fetching`](Self::fetching), on top of what was fetched into `base`.
    pub(super) fn fetching_on(&self, base: &str, into: &str) -> Errand {
        with(self.fetching(into), |errand| errand.base = Some(self.fetched(base)))
    }

    /// The repository that was fetched into a directory of this name.
    pub(super) fn fetched(&self, into: &str) -> PathBuf {
        self.place.path().join(into).join(REPOSITORY)
    }

    pub(super) fn converse<T>(&self, errand: Errand, ask: impl FnMut(&mut dyn Connection) -> T) -> T {
        self.converse_until(errand, &Cancel::new(), ask).0
    }

    /// A conversation until `cancel`, and the progress that it reported.
    pub(super) fn converse_until<T>(
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

    pub(super) fn resolve(&self, errand: Errand, revision: &str) -> Result<Resolved, RemoteError> {
        self.converse(errand, |connection| resolve(connection, revision))
    }

    pub(super) fn fetch(&self, errand: Errand, revision: &str, depth: u32) -> Result<FetchReport, RemoteError> {
        self.converse(errand, |connection| fetch(connection, revision, depth))
    }
}
