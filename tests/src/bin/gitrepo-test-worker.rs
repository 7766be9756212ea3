//! The drivers' worker with one change: for the revision `refs/attempts/…` it tries to escape and reports the outcomes,
//! or lies.
//!
//! Called with arguments, it is a parent:
//!
//! | arguments | |
//! |---|---|
//! | `hold <locks>` | starts a session, prints `ready`, and waits to be killed |
//! | `fetch <directory> <URL>` | fetches from the loopback into its `staging`; it also contains `locks` |
//! | `escape <directory>` | makes a worker try everything, and prints the outcomes as JSON |
//! | `attempt <directory>` | tries the harmless attempts itself, and prints the outcomes as JSON |
//!
//! Otherwise the directory contains `base/surroundings.json` and an empty `staging`.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::time::Instant;

use gitrepo_core::error::Cause;
use gitrepo_core::policy::Config;
use gitrepo_core::policy::PinnedHost;
use gitrepo_core::remote::ConnectRequest;
use gitrepo_core::remote::Connection;
use gitrepo_core::remote::Errand;
use gitrepo_core::remote::FetchReport;
use gitrepo_core::remote::FetchRequest;
use gitrepo_core::remote::Git;
use gitrepo_core::remote::ObjectsFetched;
use gitrepo_core::remote::ObjectsRequest;
use gitrepo_core::remote::Remote;
use gitrepo_core::remote::RemoteError;
use gitrepo_core::remote::Resolved;
use gitrepo_core::spec::CommitId;
use gitrepo_core::spec::RepositoryUrl;
use gitrepo_core::spec::Revision;
use gitrepo_core::watch::Watch;
use gitrepo_core::worker::Confined;
use gitrepo_core::worker::Job;
use gitrepo_core::worker::Worker;
use gitrepo_core::worker::run_if_worker_with;
use gitrepo_tests::attempts;
use gitrepo_tests::attempts::Outcomes;
use gitrepo_tests::attempts::Surroundings;
use gitrepo_tests::lies;

fn main() -> Result<(), Box<dyn Error>> {
    run_if_worker_with(|| Box::new(Taken(Git::default())));

    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next().map(PathBuf::from)) {
        (Some("hold"), Some(locks)) => hold(locks),
        (Some("fetch"), Some(directory)) => fetch(&directory, &arguments.next().unwrap_or_default()),
        (Some("escape"), Some(directory)) => escape(&directory),
        (Some("attempt"), Some(directory)) => print(&attempts::forbidden_and_harmless(&surroundings(&directory)?)),
        _ => Err("usage: gitrepo-test-worker hold|fetch|escape|attempt <directory>".into()),
    }
}

fn surroundings(directory: &Path) -> Result<Surroundings, Box<dyn Error>> {
    Ok(serde_json::from_slice(&fs::read(directory.join("base/surroundings.json"))?)?)
}

fn print(outcomes: &impl serde::Serialize) -> Result<(), Box<dyn Error>> {
    Ok(serde_json::to_writer(std::io::stdout(), outcomes)?)
}

fn hold(locks: PathBuf) -> Result<(), Box<dyn Error>> {
    let session = worker(locks).start(job("https://git.example.com/team/site.git")?)?;
    std::io::stdout().write_all(b"ready\n")?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(session.finish()?)
}

fn fetch(directory: &Path, url: &str) -> Result<(), Box<dyn Error>> {
    let mut job = job(url)?;
    let host = job.errand.url.host().zip(job.errand.url.port());
    job.host = host.map(|(name, port)| {
        let addresses = vec![([127, 0, 0, 1], port).into()];
        PinnedHost { name: name.to_owned(), port, addresses }
    });
    job.errand.staging = Some(directory.join("staging"));
    let mut session = worker(directory.join("locks")).start(job)?;
    let resolved = session.resolve(&Revision::Head)?;
    session.fetch(&FetchRequest::new(resolved, 1))?;
    Ok(session.finish()?)
}

fn escape(directory: &Path) -> Result<(), Box<dyn Error>> {
    let (name, port) = surroundings(directory)?.pinned;
    let addresses = vec![([127, 0, 0, 1], port).into()];
    let mut job = job(&format!("http://{name}:{port}/site.git"))?;
    job.host = Some(PinnedHost { name, port, addresses });
    job.errand.staging = Some(directory.join("staging"));
    job.errand.base = Some(directory.join("base"));
    job.errand.shows_base = true;
    let mut session = worker(directory.join("locks")).start(job)?;
    let mut outcomes = BTreeMap::new();
    for what in ["controls", "harmless", "harmful"] {
        let told = session.resolve(&Revision::parse(&format!("refs/attempts/{what}"))?)?.reference.unwrap_or_default();
        outcomes.insert(what, serde_json::from_str::<Outcomes>(&told)?);
    }
    session.finish()?;
    print(&outcomes)
}

fn worker(locks: PathBuf) -> Confined {
    Confined::new(&Config::for_person().worker).with_uid_locks(locks)
}

fn job(url: &str) -> Result<Job, Box<dyn Error>> {
    let mut errand = Errand::new(RepositoryUrl::parse(url)?);
    errand.limits = Config::for_person().limits;
    Ok(Job::new(errand, Watch::default()))
}

/// Revisions with which a volume has its receiver tell a [lie](lies).
const LIES: &str = "refs/attempts/lies/";

/// A worker that its remote has compromised.
struct Taken(Git);

impl Remote for Taken {
    fn converse(&self, request: &ConnectRequest, conversation: &mut dyn FnMut(&mut dyn Connection)) {
        self.0.converse(request, &mut |honest| conversation(&mut Trying { honest, request }));
    }
}

struct Trying<'a> {
    honest: &'a mut dyn Connection,
    request: &'a ConnectRequest,
}

impl Connection for Trying<'_> {
    fn resolve(&mut self, revision: &Revision) -> Result<Resolved, RemoteError> {
        let around = || -> Option<Surroundings> {
            let base = self.request.errand.base.clone()?;
            let text = fs::read(base.join("surroundings.json")).ok()?;
            let told: Surroundings = serde_json::from_slice(&text).ok()?;
            let staging = self.request.errand.repository().as_ref()?.parent()?.to_owned();
            Some(Surroundings { staging, base, ..told })
        };
        let outcomes = match (revision.to_string().as_str(), around()) {
            ("refs/attempts/controls", Some(around)) => attempts::controls(&around),
            ("refs/attempts/harmless", Some(around)) => attempts::forbidden_and_harmless(&around),
            ("refs/attempts/harmful", Some(around)) => attempts::forbidden(&around),
            ("refs/attempts/panic", _) => panic!("as told"),
            ("refs/attempts/abort", _) => std::process::abort(),
            ("refs/attempts/gluttony", _) => gluttony(),
            ("refs/attempts/silence", _) => loop {
                std::thread::park();
            },
            ("refs/attempts/patience", _) => wait_for_the_remote(self.request),
            ("refs/attempts/thought", _) => think_while_connected(self.request),
            (name, _) => return self.resolve_as_told(name, revision),
        };
        let reference = serde_json::to_string(&outcomes).ok();
        Ok(Resolved::new(CommitId::from_bytes([0; 20]), reference))
    }

    fn prove(&mut self, commit: CommitId) -> Result<Vec<u8>, RemoteError> {
        let errand = &self.request.errand;
        let is_forger =
            errand.credentials.secret_keys().get("token").is_some_and(|token| token.expose() == lies::FORGER);
        match self.honest.prove(commit) {
            Err(_) if is_forger => Ok(lies::forged(errand.base.as_deref(), commit)),
            proven => proven,
        }
    }

    fn tag(&mut self, tag: CommitId) -> Result<Vec<u8>, RemoteError> {
        self.honest.tag(tag)
    }

    fn fetch(&mut self, request: &FetchRequest) -> Result<FetchReport, RemoteError> {
        if let Some(lie) = lie(request.resolved.reference.as_deref())
            .filter(|lie| !lie.starts_with("lfs-") && !lie.starts_with("place-"))
        {
            self.tell(lie)?;
        }
        self.honest.fetch(request)
    }

    fn fetch_objects(&mut self, request: ObjectsRequest) -> Result<ObjectsFetched, RemoteError> {
        if let Some(lie) = lie(request.reference.as_deref()).filter(|lie| lie.starts_with("lfs-")) {
            self.tell(lie)?;
        }
        if request.endpoint.is_none() {
            let seen = lies::seen_elsewhere();
            assert!(seen.is_empty(), "{seen:?}");
        }
        let about_places = lie(request.reference.as_deref()).filter(|lie| lie.starts_with("place-")).map(str::to_owned);
        let told = self.honest.fetch_objects(request)?;
        Ok(match about_places {
            Some(lie) => lies::about_places(&lie, told),
            None => told,
        })
    }

    fn accepted_host_key(&self) -> Option<String> {
        self.honest.accepted_host_key()
    }
}

/// The lie that a ref is named after.
fn lie(reference: Option<&str>) -> Option<&str> {
    reference?.strip_prefix(LIES)
}

impl Trying<'_> {
    fn tell(&self, lie: &str) -> Result<(), RemoteError> {
        let url = self.request.errand.url.to_string();
        lies::tell(lie).map_err(|error| RemoteError::HandOver { url, source: Cause::new(error) })
    }

    /// For a lie, the remote's HEAD; the name stays, so that the fetch knows the lie, too. For a lie about a branch, what
    /// another branch has, or any commit.
    fn resolve_as_told(&mut self, name: &str, revision: &Revision) -> Result<Resolved, RemoteError> {
        if let Some(Ok(commit)) = name.strip_prefix("refs/attempts/stands-at-commit/").map(CommitId::parse) {
            return Ok(Resolved::new(commit, Some("refs/heads/main".to_owned())));
        }
        if let Some(other) = name.strip_prefix("refs/attempts/stands-at/") {
            let other = self.honest.resolve(&Revision::parse(other).unwrap_or(Revision::Head))?;
            return Ok(Resolved::new(other.commit, Some("refs/heads/main".to_owned())));
        }
        match name.starts_with(LIES) {
            true => Ok(Resolved::new(self.honest.resolve(&Revision::Head)?.commit, Some(name.to_owned()))),
            false => self.honest.resolve(revision),
        }
    }
}

/// Allocates more memory than any machine has.
fn gluttony() -> Outcomes {
    let mut eaten = Vec::new();
    loop {
        eaten.push(vec![1_u8; 16 << 20]);
    }
}

/// Waits for bytes, without a time limit of its own.
fn wait_for_the_remote(request: &ConnectRequest) -> Outcomes {
    let come = connect(request).and_then(|mut stream| stream.read(&mut [0]));
    BTreeMap::from([("read".to_owned(), come.err().map(|error| error.to_string()))])
}

/// Computes for much longer than a remote may be silent.
fn think_while_connected(request: &ConnectRequest) -> Outcomes {
    let connected = connect(request);
    let begun = Instant::now();
    while begun.elapsed() < request.errand.limits.stall * 4 {
        std::hint::spin_loop();
    }
    BTreeMap::from([("connect".to_owned(), connected.err().map(|error| error.to_string()))])
}

fn connect(request: &ConnectRequest) -> std::io::Result<TcpStream> {
    TcpStream::connect((request.errand.url.host().unwrap_or_default(), request.errand.url.port().unwrap_or_default()))
}
