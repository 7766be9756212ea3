//! Git over smart HTTP: `git http-backend` behind a small server with credentials and TLS that records its requests and
//! can be made to misbehave.

use std::collections::BTreeMap;
use std::io;
use std::io::BufReader;
use std::io::Write;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::percent_decode_str;

use crate::authority::Identity;
use crate::listener::Listener;
use crate::repository::Repository;

mod answer;
mod backend;
mod gate;
pub(crate) mod message;
mod wire;

pub use answer::Answer;
pub use answer::Ending;
pub use answer::GitAnswer;
pub use answer::Rewrite;
pub use answer::Tamper;
pub use answer::WriteAnswer;
pub use gate::Gate;
pub use message::Request;
pub use wire::Wire;

use gate::Barrier;

/// A credential that a server accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// User name and password.
    Basic(&'static str, &'static str),
    /// A bearer token.
    Bearer(&'static str),
}

/// A git server on a port of the loopback.
pub struct HttpServer {
    listener: Option<Listener>,
    shared: Arc<Shared>,
}

/// A server before it starts.
#[derive(Default)]
pub struct HttpServerBuilder {
    repositories: BTreeMap<String, PathBuf>,
    accepted: Vec<Credential>,
    identity: Option<Identity>,
    answer: Option<AnswerFor>,
    close: bool,
    resets: u64,
    protocol: Option<u8>,
    address: Option<IpAddr>,
}

type AnswerFor = Box<dyn Fn(&Request) -> Answer + Send + Sync>;

struct Shared {
    /// Path of the URL, with its leading slash, to the bare repository.
    repositories: Mutex<BTreeMap<String, PathBuf>>,
    accepted: Mutex<Vec<Credential>>,
    identity: Option<Identity>,
    answer: AnswerFor,
    close: bool,
    /// Connections still to be reset.
    resets: AtomicU64,
    protocol: Option<u8>,
    requests: Mutex<Vec<Arc<Request>>>,
    sent: Arc<AtomicU64>,
    gates: Mutex<Vec<Arc<Barrier>>>,
    stopped: AtomicBool,
}

impl HttpServerBuilder {
    /// Serves `repository` under its name.
    #[must_use]
    pub fn serve(self, repository: &Repository) -> Self {
        self.serve_at(repository.name(), repository)
    }

    /// Serves `repository` at `path`, without leading slash.
    #[must_use]
    pub fn serve_at(mut self, path: &str, repository: &Repository) -> Self {
        self.repositories.insert(format!("/{path}"), repository.path());
        self
    }

    /// Accepts this credential. From the first one on, all other clients are refused.
    #[must_use]
    pub fn accept(mut self, credential: Credential) -> Self {
        self.accepted.push(credential);
        self
    }

    /// Speaks TLS, as `identity`.
    #[must_use]
    pub fn tls(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Asks `answer` how to answer each request with a valid credential. It may also just watch, or block.
    #[must_use]
    pub fn answer(mut self, answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        self.answer = Some(Box::new(answer));
        self
    }

    /// Closes the connection after each answer, as some servers do.
    #[must_use]
    pub fn close_connections(mut self) -> Self {
        self.close = true;
        self
    }

    /// Resets the first `count` connections after their TLS handshake, with or without the certificate that it asks for.
    #[must_use]
    pub fn reset_first(mut self, count: u64) -> Self {
        self.resets = count;
        self
    }

    /// Speaks this version of git's protocol, whatever the client asks for.
    #[must_use]
    pub fn protocol(mut self, version: u8) -> Self {
        self.protocol = Some(version);
        self
    }

    /// Listens on this address of the loopback instead of 127.0.0.1.
    #[must_use]
    pub fn at(mut self, address: IpAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// Starts it.
    pub fn start(self) -> HttpServer {
        let address = SocketAddr::new(self.address.unwrap_or(Ipv4Addr::LOCALHOST.into()), 0);
        let shared = Arc::new(Shared {
            repositories: Mutex::new(self.repositories),
            accepted: Mutex::new(self.accepted),
            identity: self.identity,
            answer: self.answer.unwrap_or_else(|| Box::new(|_| Answer::Git)),
            close: self.close,
            resets: AtomicU64::new(self.resets),
            protocol: self.protocol,
            requests: Mutex::default(),
            sent: Arc::default(),
            gates: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        // An error means that the client hung up or rejected the certificate. The test checks the client's reaction.
        let listener = Listener::start_at(address, move |stream| drop(serving.converse(stream)));
        HttpServer { listener: Some(listener), shared }
    }
}

impl HttpServer {
    /// A server without repositories, credentials or TLS, to be configured.
    pub fn builder() -> HttpServerBuilder {
        HttpServerBuilder::default()
    }

    /// Serves one repository to everybody over plain HTTP.
    pub fn start(repository: &Repository) -> Self {
        Self::builder().serve(repository).start()
    }

    /// The URL of `repository` under its name.
    pub fn url(&self, repository: &Repository) -> String {
        self.url_at(repository.name())
    }

    /// The URL of `path`, without leading slash.
    pub fn url_at(&self, path: &str) -> String {
        self.url_by("127.0.0.1", path)
    }

    /// The URL of `path`, without leading slash, at a `host` that also resolves to the loopback.
    pub fn url_by(&self, host: &str, path: &str) -> String {
        let scheme = if self.shared.identity.is_some() { "https" } else { "http" };
        format!("{scheme}://{host}:{}/{path}", self.port())
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.listener.as_ref().map(Listener::port).unwrap()
    }

    /// Serves another repository under its name from now on.
    pub fn add(&self, repository: &Repository) {
        lock(&self.shared.repositories).insert(format!("/{}", repository.name()), repository.path());
    }

    /// Accepts these credentials, and no others, from now on.
    pub fn accept_only(&self, credentials: &[Credential]) {
        *lock(&self.shared.accepted) = credentials.to_vec();
    }

    /// From now on holds every request that matches `filter` before it is answered.
    pub fn hold(&self, filter: impl Fn(&Request) -> bool + Send + Sync + 'static) -> Gate {
        let barrier = Arc::new(Barrier::new(filter));
        lock(&self.shared.gates).push(Arc::clone(&barrier));
        Gate::new(barrier)
    }

    /// Connections accepted.
    pub fn connections(&self) -> u64 {
        self.listener.as_ref().map(Listener::accepted).unwrap()
    }

    /// Waits until everything that clients sent before they hung up has been answered. No client may be connected.
    pub fn settle(&self) {
        self.listener.iter().for_each(Listener::settle)
    }

    /// All requests in the order read, including those still being answered.
    pub fn requests(&self) -> Vec<Arc<Request>> {
        lock(&self.shared.requests).clone()
    }

    /// Requests for the ref advertisement, including refused ones.
    pub fn info_refs(&self) -> usize {
        self.requests().iter().filter(|request| request.is_info_refs()).count()
    }

    /// Requests for a pack, including refused ones.
    pub fn upload_packs(&self) -> usize {
        self.requests().iter().filter(|request| request.is_upload_pack()).count()
    }

    /// Packs sent, or begun: fetches that transferred something.
    pub fn packs(&self) -> usize {
        self.requests().iter().filter(|request| request.brought_pack() && !request.is_proof()).count()
    }

    /// Requests for a commit as a proof of access, including refused ones.
    pub fn proofs(&self) -> usize {
        self.requests().iter().filter(|request| request.is_proof()).count()
    }

    /// Bytes of HTTP sent to all clients, before encryption.
    pub fn bytes_sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        for gate in lock(&self.shared.gates).iter() {
            gate.open();
        }
        self.listener = None;
    }
}

impl Shared {
    fn converse(&self, stream: TcpStream) -> io::Result<()> {
        let left = self.resets.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left.is_ok() {
            return wire::reset(stream, self.identity.as_ref());
        }
        let mut wire = Wire::accept(stream, self.identity.as_ref(), Arc::clone(&self.sent))?;
        wire.closing = self.close;
        let mut reader = BufReader::new(wire);
        loop {
            let Some(mut request) = Request::read(&mut reader)? else { return Ok(()) };
            if request.header("expect").is_some() {
                reader.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            request.read_body(&mut reader)?;
            if let Some(version) = self.protocol {
                request.speak(version);
            }
            let request = self.log(request);
            let gates = lock(&self.gates).clone();
            gates.iter().for_each(|gate| gate.pass(&request));
            let is_last = request.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
            let before = reader.get_ref().written();
            let answered = self.answer(&request, reader.get_mut());
            request.sent.store(reader.get_ref().written() - before, Ordering::Relaxed);
            match answered? {
                Ending::Silent => return reader.get_mut().swallow(),
                Ending::Broken => return Ok(()),
                Ending::Complete if is_last || self.close || self.stopped.load(Ordering::SeqCst) => return Ok(()),
                Ending::Complete => {}
            }
        }
    }

    fn log(&self, mut request: Request) -> Arc<Request> {
        let mut requests = lock(&self.requests);
        request.number = requests.len() + 1;
        let request = Arc::new(request);
        requests.push(Arc::clone(&request));
        request
    }

    fn answer(&self, request: &Request, wire: &mut Wire) -> io::Result<Ending> {
        let accepted = lock(&self.accepted).clone();
        if !accepted.is_empty() && !accepted.iter().any(|one| request.authorization() == Some(&*one.header())) {
            let challenges = accepted.iter().map(Credential::challenge).collect();
            return answer::status(wire, 401, challenges);
        }
        match (self.answer)(request) {
            Answer::Status { status, headers } => answer::status(wire, status, headers),
            Answer::Raw(write) => write(wire),
            by_git => match (self.route(&request.path), by_git) {
                (None, _) => answer::status(wire, 404, Vec::new()),
                (Some((repository, rest)), Answer::Tampered(tamper)) => {
                    answer::tampered(wire, &repository, &rest, request, &*tamper)
                }
                (Some((repository, rest)), Answer::Rewritten(rewrite)) => {
                    answer::rewritten(wire, &repository, &rest, request, &*rewrite)
                }
                (Some((repository, rest)), Answer::Slow(time)) => answer::slow(wire, &repository, &rest, request, time),
                (Some((repository, rest)), _) => answer::git(wire, &repository, &rest, request),
            },
        }
    }

    /// The repository of a request's path, and the rest of the path.
    fn route(&self, path: &str) -> Option<(PathBuf, String)> {
        let path = percent_decode_str(path).decode_utf8_lossy();
        let repositories = lock(&self.repositories);
        let (prefix, repository) = repositories
            .iter()
            .find(|(prefix, _)| path.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.starts_with('/')))?;
        Some((repository.clone(), path[prefix.len()..].to_owned()))
    }
}

impl Credential {
    /// The `Authorization` header value for this credential.
    pub fn header(&self) -> String {
        match self {
            Self::Basic(user, password) => format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))),
            Self::Bearer(token) => format!("Bearer {token}"),
        }
    }

    fn challenge(&self) -> (String, String) {
        let scheme = match self {
            Self::Basic(..) => "Basic",
            Self::Bearer(_) => "Bearer",
        };
        ("WWW-Authenticate".to_owned(), format!("{scheme} realm=\"git\""))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
