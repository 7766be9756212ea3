//! A repository, step by step to the first failing one.

use std::net::SocketAddr;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gitrepo_core::cancel::Cancel;
use gitrepo_core::clone::CloneRequest;
use gitrepo_core::clone::clone;
use gitrepo_core::credentials::Credentials;
use gitrepo_core::error::Kind;
use gitrepo_core::error::chain;
use gitrepo_core::gateway::Gateway;
use gitrepo_core::gateway::GatewayError;
use gitrepo_core::policy::Config;
use gitrepo_core::policy::PinnedHost;
use gitrepo_core::policy::Policy;
use gitrepo_core::policy::PolicyError;
use gitrepo_core::remote::RemoteError;
use gitrepo_core::spec::Scheme;
use gitrepo_core::spec::VolumeSpec;
use gitrepo_core::store::remove_tree;
use gitrepo_core::volume::VolumeRequest;
use gitrepo_core::volume::Volumes;
use gitrepo_core::watch::Watch;
use gitrepo_core::worker::WorkerError;
use gitrepo_frontend::secret_directory;
use nix::unistd::geteuid;

use super::check::Check;
use super::check::within;
use crate::arguments::Doctor;
use crate::commands::request;

/// How long one address may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// How much longer than its deadline a step may take that watches it, to end its worker.
const GRACE: Duration = Duration::from_secs(10);

/// The repository to check.
pub(super) struct Remote<'a> {
    pub(super) repository: &'a str,
    pub(super) arguments: &'a Doctor,
    pub(super) config: &'a Config,
    /// Of a store that can be used.
    pub(super) volumes: Option<Arc<Volumes>>,
    pub(super) cancel: &'a Cancel,
    pub(super) limit: Duration,
}

/// The steps of a conversation, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Connection,
    Transport,
    Login,
    Repository,
    Revision,
}

impl Step {
    const ALL: [Self; 5] = [Self::Connection, Self::Transport, Self::Login, Self::Repository, Self::Revision];

    fn name(self, scheme: Scheme) -> &'static str {
        match self {
            Self::Connection => "session",
            Self::Transport if scheme == Scheme::Ssh => "host key",
            Self::Transport => "TLS",
            Self::Login => "login",
            Self::Repository => "repository",
            Self::Revision => "revision",
        }
    }

    /// Whether a conversation over this scheme has the step.
    fn is_in(self, scheme: Scheme) -> bool {
        match self {
            Self::Transport => matches!(scheme, Scheme::Https | Scheme::Ssh),
            Self::Login => matches!(scheme, Scheme::Https | Scheme::Http | Scheme::Ssh),
            _ => true,
        }
    }
}

/// Says whether the commits of the repository must be signed, and by whose keys.
fn signatures(policy: &Policy, spec: &VolumeSpec) -> Result<Option<Check>, Check> {
    let fixing = "correct the files that the configuration's signatures name";
    let required = policy.required_signature(&spec.repository);
    let required = required.map_err(|error| Check::fail("signature", error.kind(), chain(&error), fixing))?;
    let rule = policy.signature_rule(&spec.repository).map(|rule| rule.matches.to_string()).unwrap_or_default();
    Ok(required.map(|required| Check::ok("signature", format!("the rule for {rule} requires {required}"))))
}

impl Remote<'_> {
    /// Runs the steps until one fails.
    pub(super) fn check(&self) -> Vec<Check> {
        let mut checks = Vec::new();
        if let Err(failed) = self.steps(&mut checks) {
            checks.push(failed);
        }
        checks
    }

    fn steps(&self, checks: &mut Vec<Check>) -> Result<(), Check> {
        let fixing = "correct the argument";
        let spec = request::lookup(self.repository, &self.arguments.revision);
        let spec = spec.map_err(|error| Check::fail("URL", error.kind(), chain(&error), fixing))?;
        let credentials = secret_directory::read(self.arguments.secret_dir());
        let credentials =
            credentials.map_err(|error| Check::fail("secret", error.kind(), chain(&error), "correct --secret-dir"))?;
        let policy = Policy::new(self.config.clone());
        policy.check(&spec.repository).map_err(|error| {
            Check::fail("policy", error.kind(), chain(&error), "change the configuration, or use another URL")
        })?;
        checks.push(Check::ok("policy", format!("the configuration allows {}", spec.repository)));
        checks.extend(signatures(&policy, &spec)?);
        self.reach(&policy, &spec, checks)?;
        let commit = self.talk(&spec, &credentials, checks)?;
        checks.push(self.fetch(spec, credentials, commit)?);
        Ok(())
    }

    /// Resolves the name, checks the address, and connects.
    fn reach(&self, policy: &Policy, spec: &VolumeSpec, checks: &mut Vec<Check>) -> Result<(), Check> {
        let pinned = match policy.pin(&spec.repository, &self.cancel.within(self.limit)) {
            Ok(None) => return Ok(()),
            Ok(Some(pinned)) => pinned,
            Err(error @ (PolicyError::AddressDenied { .. } | PolicyError::HostDenied { .. })) => {
                checks.push(Check::ok("name", "it has an address"));
                let advice = "change allowLoopback, allowLinkLocal or deniedHosts, or use another host";
                return Err(Check::fail("address", error.kind(), chain(&error), advice));
            }
            Err(error) => {
                let advice = "compare with `getent hosts`; check /etc/resolv.conf and the network";
                return Err(Check::fail("name", error.kind(), chain(&error), advice));
            }
        };
        let addresses: Vec<_> = pinned.addresses.iter().map(|address| address.ip().to_string()).collect();
        checks.push(Check::ok("name", format!("{} is {}", pinned.name, addresses.join(", "))));
        checks.push(Check::ok("address", "the configuration allows it"));
        let limit = self.limit;
        checks.push(within("TCP", limit, move || connect(&pinned, limit))?);
        match checks.last() {
            Some(Check { kind: Some(_), .. }) => checks.pop().map_or(Ok(()), Err),
            _ => Ok(()),
        }
    }

    /// Asks the remote for the revision.
    fn talk(&self, spec: &VolumeSpec, credentials: &Credentials, checks: &mut Vec<Check>) -> Result<String, Check> {
        let gateway = Gateway::confined(self.config.clone());
        let watch = Watch::until(self.cancel.within(self.limit));
        let scheme = spec.repository.scheme();
        let steps = || Step::ALL.into_iter().filter(|step| step.is_in(scheme));
        let (url, revision, credentials) = (spec.repository.clone(), spec.revision.clone(), credentials.clone());
        let resolve = move || gateway.resolve(&url, &revision, &credentials, &watch);
        match within("session", self.limit + GRACE, resolve)? {
            Ok(resolved) => {
                let commit = resolved.commit.to_string();
                for step in steps() {
                    let detail = match step {
                        Step::Revision => format!("{} is {commit}", spec.revision),
                        _ => "good".to_owned(),
                    };
                    checks.push(Check::ok(step.name(scheme), detail));
                }
                Ok(commit)
            }
            Err(error) => {
                let (failed, advice) = cause(&error);
                let earlier = steps().filter(|step| *step < failed);
                checks.extend(earlier.map(|step| Check::ok(step.name(scheme), "good")));
                Err(Check::fail(failed.name(scheme), error.kind(), chain(&error), advice))
            }
        }
    }

    /// Fetches the tree: into the store if it can be used, otherwise into a temporary directory.
    fn fetch(&self, spec: VolumeSpec, credentials: Credentials, commit: String) -> Result<Check, Check> {
        let watch = Watch::until(self.cancel.within(self.limit));
        let volumes = self.volumes.clone().filter(|_| geteuid().is_root());
        let config = self.config.clone();
        let fetch = move || match volumes {
            Some(volumes) => prefetch(&volumes, spec, &credentials, &commit, &watch),
            None => fetch_aside(config, &spec, &credentials, &commit, &watch),
        };
        within("fetch", self.limit + GRACE, fetch)?
    }
}

fn prefetch(
    volumes: &Volumes,
    spec: VolumeSpec,
    credentials: &Credentials,
    commit: &str,
    watch: &Watch,
) -> Result<Check, Check> {
    let lease = volumes.prefetch(&VolumeRequest::new("doctor", "/", spec), credentials, watch);
    lease.map_err(|error| not_fetched(error.kind(), chain(&error)))?;
    Ok(Check::ok("fetch", format!("the tree of {commit} is in the store")))
}

fn fetch_aside(
    config: Config,
    spec: &VolumeSpec,
    credentials: &Credentials,
    commit: &str,
    watch: &Watch,
) -> Result<Check, Check> {
    let made = Scratch::make();
    let place = made.map_err(|error| not_fetched(Kind::Unavailable, format!("no temporary directory: {error}")))?;
    let cloned = clone(&Gateway::confined(config), &CloneRequest::new(spec, credentials, &place.0.join("tree")), watch);
    cloned.map_err(|error| not_fetched(error.kind(), chain(&error)))?;
    Ok(Check::ok("fetch", format!("the tree of {commit} was fetched into a temporary directory")))
}

fn not_fetched(kind: Kind, what: String) -> Check {
    Check::fail("fetch", kind, what, "see the log with -vv; --timeout allows more time")
}

/// A temporary directory of this program.
struct Scratch(PathBuf);

impl Scratch {
    fn make() -> nix::Result<Self> {
        nix::unistd::mkdtemp(&std::env::temp_dir().join("gitrepo-doctor-XXXXXX")).map(Self)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.0) {
            tracing::warn!(error = %chain(&error), "a temporary directory is left");
        }
    }
}

/// Connects to the addresses until one accepts. Behind a proxy, they are the proxy's.
fn connect(pinned: &PinnedHost, limit: Duration) -> Check {
    let mut refusals = Vec::new();
    for address in &pinned.addresses {
        match TcpStream::connect_timeout(address, CONNECT.min(limit)) {
            Ok(_) => return connected(address, &refusals),
            Err(error) => refusals.push(format!("{address}: {error}")),
        }
    }
    let advice = "check the port, the firewall, the network policy and the proxy";
    Check::fail("TCP", Kind::Unavailable, refusals.join("; "), advice)
}

fn connected(address: &SocketAddr, refusals: &[String]) -> Check {
    let detail = format!("{address} accepts connections");
    match refusals {
        [] => Check::ok("TCP", detail),
        refusals => Check::warn(
            "TCP",
            format!("{detail}, others do not: {}", refusals.join("; ")),
            "each fetch tries them first",
        ),
    }
}

/// Which step failed, and what to do about it.
fn cause(error: &GatewayError) -> (Step, &'static str) {
    let remote = match error {
        GatewayError::KnownHosts { .. } | GatewayError::KnownHostsLine { .. } => {
            return (Step::Transport, "correct the file of hostKeys.file");
        }
        GatewayError::Worker(WorkerError::Remote(remote)) => remote,
        _ => return (Step::Connection, "see the log with -vv"),
    };
    match remote {
        RemoteError::HostKey(_) => {
            (Step::Transport, "put the host's key into known_hosts of the secret, or hostKeys.file")
        }
        RemoteError::Certificate { .. } | RemoteError::Authorities { .. } => {
            (Step::Transport, "put the authority's certificate into ca.crt of the secret, or into caFile")
        }
        RemoteError::ClientCertificate { .. } => (Step::Transport, "correct tls.crt and tls.key of the secret"),
        RemoteError::CredentialMissing { .. } => (Step::Login, "give the credential with --secret-dir"),
        RemoteError::CredentialRefused { .. } | RemoteError::UnusableKey { .. } => {
            (Step::Login, "correct the credential, or see whether it has expired")
        }
        RemoteError::Forbidden { .. } => (Step::Login, "give the credential's user access to the repository"),
        RemoteError::CredentialOverHttp { .. } => (Step::Login, "use https, or allow credentialsOverHttp"),
        RemoteError::ProxyLogin { .. } => (Step::Connection, "correct proxy.credentialsFile"),
        RemoteError::RepositoryNotFound { .. } | RemoteError::Redirected { .. } => {
            (Step::Repository, "correct the URL, or give the credential access to the repository")
        }
        RemoteError::WebPage { .. } | RemoteError::Unsupported { .. } | RemoteError::Protocol { .. } => {
            (Step::Repository, "is it the URL for git, as the forge shows it?")
        }
        RemoteError::RevisionNotFound { .. }
        | RemoteError::EmptyRepository { .. }
        | RemoteError::NoDefaultBranch { .. }
        | RemoteError::NotACommit { .. }
        | RemoteError::CommitUnreachable { .. }
        | RemoteError::CommitNotFound { .. } => {
            (Step::Revision, "name a branch, a tag or a full commit id with --revision")
        }
        _ => (Step::Connection, "check the network, the proxy and the server; --timeout allows more time"),
    }
}
