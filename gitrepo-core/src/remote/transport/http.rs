//! Smart HTTP (gitprotocol-http(5)), over curl: git's own client reads what the most careless servers and proxies send.
//!
//! curl carries the bytes. What it may do with a credential or a redirect is decided here: it follows none by itself, and
//! sends no credential but in the header that it is given for one request.

use std::io;
use std::io::Read;
use std::net::ToSocketAddrs;
use std::time::Duration;
use std::time::Instant;

use curl::easy::Easy2;
use curl::easy::HttpVersion;
use curl::easy::List;
use curl::multi::Easy2Handle;
use curl::multi::Multi;

use super::Patience;
use super::Transport;
use super::authority;
use crate::error::Cause;
use crate::remote::ConnectRequest;
use crate::remote::RemoteError;
use crate::spec::RepositoryUrl;
use crate::spec::Scheme;

mod answer;
mod authentication;
mod authorities;
mod certificate;
mod client_certificate;
#[cfg(feature = "testing")]
pub(in crate::remote) mod fuzz;
mod objects;
mod proxy;
mod question;
mod redirect;
mod refusal;

use answer::Answer;
use answer::Inflate;
use authentication::Authentication;
pub use certificate::CertificateProblem;
pub(in crate::remote) use objects::Download;
pub(in crate::remote) use objects::ObjectServer;
pub(in crate::remote) use objects::Place;
use question::Question;
pub use redirect::Redirection;

/// The User-Agent header. It begins as git's does: some servers serve git only to clients with this prefix.
const USER_AGENT: &str = concat!("git/2.0 (gitrepo/", env!("CARGO_PKG_VERSION"), ")");

/// Most redirects that are followed.
const MOST_REDIRECTS: usize = 10;

/// Bytes that curl reads at once.
const BUFFER: usize = 128 * 1024;

/// How long the rest of an answer that nobody needs may take, so that its connection can be used again.
const DRAIN: Duration = Duration::from_secs(2);

/// The server of one repository.
pub(super) struct Http<'a> {
    request: &'a ConnectRequest,
    authentication: Authentication<'a>,
    /// Where the repository is, after redirects.
    base: RepositoryUrl,
    multi: Multi,
    exchange: Option<Exchange>,
    /// How the connection ended, if the server asked for a client certificate and then just hung up.
    silence: Option<Cause>,
    /// Whether the server has asked for a client certificate and then answered.
    admitted: bool,
    patience: Patience<'a>,
}

/// A request whose answer arrives.
struct Exchange {
    handle: Easy2Handle<Answer>,
    /// Whether the whole answer has arrived, or how it ended before.
    outcome: Option<Result<(), curl::Error>>,
    inflate: Option<Inflate>,
}

impl<'a> Http<'a> {
    /// Connects on the first request.
    pub(super) fn new(request: &'a ConnectRequest) -> Self {
        Self {
            request,
            authentication: Authentication::new(request),
            base: request.errand.url.clone(),
            multi: Multi::new(),
            exchange: None,
            silence: None,
            admitted: false,
            patience: Patience::new(request),
        }
    }

    fn url(&self) -> String {
        self.base.to_string()
    }

    /// Sends a question, with whatever the server asks for first. Returns when the answer begins.
    fn answer(&mut self, question: Question<'_>) -> Result<(), RemoteError> {
        let mut redirects = 0;
        let mut retries = refusal::Retries::new(&self.request.watch.cancel, self.request.errand.limits.stall);
        loop {
            let status = self.head_of_answer(question)?;
            self.decode()?;
            match status {
                200 if question.is_refs() => return self.check_type(),
                200 => return Ok(()),
                401 => {
                    let challenges = self.fields("www-authenticate");
                    self.authentication.challenged(&challenges)?;
                }
                300..=399 if question.is_refs() && redirects < MOST_REDIRECTS => {
                    redirects += 1;
                    self.redirected(question)?;
                }
                status => {
                    let refusal = self.refusal(question, status);
                    match retries.pause_before(status, self.head(|answer| answer.text("retry-after"))) {
                        Some(pause) => self.sleep(pause)?,
                        None => return Err(refusal),
                    }
                }
            }
        }
    }

    /// Sends one request and waits for the head of its answer. Returns the status.
    ///
    /// In TLS 1.3 a client may have sent its request when the server refuses its certificate. A server that closes the
    /// connection without reading the request resets it, and the refusal may be lost. So a server that asks for a
    /// certificate and hangs up is asked once more.
    fn head_of_answer(&mut self, question: Question<'_>) -> Result<u16, RemoteError> {
        self.begin(question)?;
        let first = self.await_head();
        if self.silence.is_none() {
            return first;
        }
        self.begin(question)?;
        self.silence = None;
        let second = self.await_head();
        match self.silence.take() {
            Some(end) => Err(client_certificate::refusal_in_silence(self.url(), self.request, &end)),
            None => second,
        }
    }

    /// Waits, as long as the answer is still wanted.
    fn sleep(&mut self, pause: Duration) -> Result<(), RemoteError> {
        let until = Instant::now() + pause;
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            std::thread::sleep(left.min(self.patience.tick()));
            self.patience.hear();
            self.patience.check()?;
        }
        Ok(())
    }

    /// Sends one request.
    fn begin(&mut self, question: Question<'_>) -> Result<(), RemoteError> {
        self.drain();
        let easy = match self.exchange.take() {
            Some(exchange) => self.multi.remove2(exchange.handle).map_err(|error| self.library(&error))?,
            None => {
                let mut easy = Easy2::new(Answer::default());
                self.configure(&mut easy)?;
                easy
            }
        };
        let easy = self.prepare(easy, question).map_err(|error| self.library(&error))?;
        let handle = self.multi.add2(easy).map_err(|error| self.library(&error))?;
        self.exchange = Some(Exchange { handle, outcome: None, inflate: None });
        self.patience.begin(question.phase());
        Ok(())
    }

    /// What holds for every request.
    fn configure(&self, easy: &mut Easy2<Answer>) -> Result<(), RemoteError> {
        let errand = &self.request.errand;
        let authorities = authorities::bundle(self.request)?;
        let certificate = client_certificate::of(self.request)?;
        let set = |easy: &mut Easy2<Answer>| -> Result<(), curl::Error> {
            easy.signal(false)?;
            easy.useragent(USER_AGENT)?;
            easy.http_version(HttpVersion::V11)?;
            easy.follow_location(false)?;
            easy.path_as_is(true)?;
            easy.buffer_size(BUFFER)?;
            easy.connect_timeout(errand.limits.stall)?;
            // curl tells of the server's request for a client certificate only when it is verbose.
            easy.verbose(errand.url.scheme() == Scheme::Https)?;
            proxy::set(easy, errand.proxy.as_ref())?;
            if let Some(bundle) = &authorities {
                easy.ssl_cainfo_blob(bundle)?;
            }
            if let Some(certificate) = certificate {
                easy.ssl_cert_type("PEM")?;
                easy.ssl_cert_blob(certificate.certificates().as_bytes())?;
                easy.ssl_key_type("PEM")?;
                easy.ssl_key_blob(certificate.key().expose().as_bytes())?;
            }
            Ok(())
        };
        set(easy).map_err(|error| self.library(&error))
    }

    /// The addresses of the server, or of its proxy, so that curl need not look them up on a thread of its own.
    fn addresses(&self) -> Result<List, curl::Error> {
        let mut list = List::new();
        let (host, port) = match &self.request.errand.proxy {
            Some(access) => (access.proxy.host(), access.proxy.port()),
            None => (self.base.host().unwrap_or_default(), self.base.port().unwrap_or_default()),
        };
        if let Ok(addresses) = (host, port).to_socket_addrs() {
            let addresses: Vec<_> = addresses.map(|address| super::bracketed(&address.ip().to_string())).collect();
            if !addresses.is_empty() {
                list.append(&format!("{}:{port}:{}", super::bracketed(host), addresses.join(",")))?;
            }
        }
        Ok(list)
    }

    /// Waits until the head of the answer is there: when its body begins or ends, since a head may follow another one
    /// (1xx, and a proxy's answer to CONNECT). Returns its status.
    fn await_head(&mut self) -> Result<u16, RemoteError> {
        loop {
            let Some(exchange) = &self.exchange else { return Err(self.hung_up()) };
            match &exchange.outcome {
                _ if exchange.handle.get_ref().has_body() => break,
                Some(Ok(())) => break,
                Some(Err(error)) => {
                    let error = error.clone();
                    return Err(self.failure(&error));
                }
                None => self.advance()?,
            }
        }
        self.admitted |= self.head(Answer::asked_for_certificate);
        Ok(self.head(Answer::status))
    }

    /// Lets curl do what it can, and waits a moment for more.
    fn advance(&mut self) -> Result<(), RemoteError> {
        let Some(exchange) = &mut self.exchange else { return Err(self.hung_up()) };
        let before = exchange.handle.get_ref().arrived();
        let advanced = self.multi.perform().and_then(|_| {
            let mut outcome = None;
            self.multi.messages(|message| outcome = message.result_for2(&exchange.handle).or(outcome.take()));
            exchange.outcome = outcome;
            let is_quiet = exchange.outcome.is_none() && exchange.handle.get_ref().arrived() == before;
            if is_quiet {
                self.multi.poll(&mut [], self.patience.tick())?;
            }
            Ok(is_quiet)
        });
        match advanced {
            Ok(is_quiet) => {
                if !is_quiet {
                    self.patience.hear();
                }
                self.patience.check()
            }
            Err(error) => Err(self.library(&error)),
        }
    }

    /// Reads the rest of an answer that nobody needs, if that is quick.
    fn drain(&mut self) {
        let until = Instant::now() + DRAIN;
        while let Some(Exchange { outcome: None, handle, .. }) = &mut self.exchange {
            handle.get_mut().take_body();
            if Instant::now() >= until || self.advance().is_err() {
                break;
            }
        }
    }

    /// Something of the head; nothing without one.
    fn head<T: Default>(&self, of: impl FnOnce(&Answer) -> T) -> T {
        self.exchange.as_ref().map(|exchange| of(exchange.handle.get_ref())).unwrap_or_default()
    }

    /// All fields of this name.
    fn fields(&self, name: &str) -> Vec<Vec<u8>> {
        self.head(|answer| answer.fields(name).map(<[u8]>::to_vec).collect())
    }

    /// Prepares to read a body that the server has compressed.
    fn decode(&mut self) -> Result<(), RemoteError> {
        let encoding = self.head(|answer| answer.text("content-encoding")).unwrap_or_default().to_ascii_lowercase();
        match encoding.as_str() {
            "" | "identity" => Ok(()),
            "gzip" | "x-gzip" => {
                if let Some(exchange) = &mut self.exchange {
                    exchange.inflate = Some(Inflate::default());
                }
                Ok(())
            }
            other => Err(self.protocol(format_args!("its answer is encoded as {other:?}"))),
        }
    }

    /// A list of refs has its own content type, which a web page does not.
    fn check_type(&mut self) -> Result<(), RemoteError> {
        let found = self.head(|answer| answer.text("content-type")).unwrap_or_default();
        let media_type = found.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if media_type.is_empty() || media_type == "application/x-git-upload-pack-advertisement" {
            return Ok(());
        }
        let beginning = self.beginning();
        Err(refusal::not_git(self.url(), &media_type, &beginning))
    }

    /// The beginning of an answer that is not git's, for a message.
    fn beginning(&mut self) -> String {
        let mut beginning = [0; refusal::EXAMINED];
        let mut length = 0;
        while let Ok(read @ 1..) = self.read(&mut beginning[length..]) {
            length += read;
        }
        String::from_utf8_lossy(&beginning[..length]).into_owned()
    }

    /// The answer is a redirect: continues there, or explains it.
    fn redirected(&mut self, question: Question<'_>) -> Result<(), RemoteError> {
        let to = self.redirection(question);
        if let Redirection::Repository { write, follow: true } = &to
            && let Ok(there) = RepositoryUrl::parse(write)
            && (there.scheme(), there.port()) == (self.base.scheme(), self.base.port())
        {
            self.base = there;
            return Ok(());
        }
        Err(RemoteError::Redirected { url: self.request.errand.url.to_string(), to })
    }

    fn redirection(&self, question: Question<'_>) -> Redirection {
        let locations = self.fields("location");
        let locations: Vec<_> = locations.iter().map(Vec::as_slice).collect();
        Redirection::read(&self.base, question.suffix(), &locations)
    }

    /// The meaning of an answer without content.
    fn refusal(&mut self, question: Question<'_>, status: u16) -> RemoteError {
        if let 300..=399 = status {
            let to = self.redirection(question).not_followed();
            return RemoteError::Redirected { url: self.request.errand.url.to_string(), to };
        }
        // Over TLS it is the server's own answer.
        if let (407, Scheme::Http, Some(access)) = (status, self.base.scheme(), &self.request.errand.proxy) {
            return proxy::wants_login(self.url(), access);
        }
        let kind = self.head(|answer| answer.text("content-type")).unwrap_or_default();
        let beginning = self.beginning();
        let page = if status == 400 { beginning.as_str() } else { "" };
        let asked = self.head(Answer::asked_for_certificate);
        client_certificate::refusal(self.url(), self.request, page, asked)
            .unwrap_or_else(|| refusal::of(self.url(), status, &kind, &beginning))
    }

    fn failure(&mut self, error: &curl::Error) -> RemoteError {
        let asked = self.head(Answer::asked_for_certificate);
        let is_silent = self.head(Answer::is_silent_since_asking);
        let easy = self.exchange.take().and_then(|exchange| self.multi.remove2(exchange.handle).ok());
        let errno = easy.and_then(|easy| easy.os_errno().ok()).filter(|errno| *errno != 0);
        let system = errno.map(io::Error::from_raw_os_error);
        self.silence = client_certificate::end(error, system.as_ref()).filter(|_| is_silent && !self.admitted);
        if let Some(access) = self.request.errand.proxy.as_ref().filter(|_| proxy::refuses(error)) {
            return proxy::wants_login(self.url(), access);
        }
        // An error of our own check of the server's certificate is not an alert of the server.
        let words = error.extra_description().filter(|words| words.contains("alert")).unwrap_or_default();
        client_certificate::refusal(self.url(), self.request, words, asked)
            .unwrap_or_else(|| refusal::failure(self.url(), error, system.as_ref(), &self.patience))
    }

    fn hung_up(&self) -> RemoteError {
        self.protocol("it hangs up")
    }

    fn protocol(&self, what: impl std::fmt::Display) -> RemoteError {
        RemoteError::Protocol { url: self.url(), source: Cause::new(what) }
    }

    fn library(&self, error: &dyn std::error::Error) -> RemoteError {
        RemoteError::Unreachable { url: self.url(), source: Cause::new(error) }
    }
}

impl Transport for Http<'_> {
    fn connect(&mut self) -> Result<&mut dyn Read, RemoteError> {
        self.answer(Question::Refs)?;
        Ok(self)
    }

    fn ask(&mut self, request: &[u8]) -> Result<&mut dyn Read, RemoteError> {
        self.answer(Question::UploadPack(request))?;
        Ok(self)
    }

    fn hang_up(&mut self) {
        self.exchange = None;
    }

    fn ends_with_fetch(&self) -> bool {
        false
    }
}

impl Read for Http<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(exchange) = &mut self.exchange else { return Ok(0) };
            let body = exchange.handle.get_mut();
            let length = match &mut exchange.inflate {
                Some(inflate) => match inflate.read(body, buffer) {
                    Ok(length) => length,
                    Err(error) => return Err(io::Error::other(self.protocol(format_args!("its answer: {error}")))),
                },
                None => body.read(buffer),
            };
            if length > 0 || buffer.is_empty() {
                return Ok(length);
            }
            match exchange.outcome.clone() {
                Some(Ok(())) => return Ok(0),
                Some(Err(error)) => return Err(io::Error::other(self.failure(&error))),
                None => self.advance().map_err(io::Error::other)?,
            }
        }
    }
}

/// Whether credentials may be sent to this URL before the server asks.
fn is_private(request: &ConnectRequest) -> bool {
    request.errand.url.scheme() != Scheme::Http || request.errand.credentials_over_http
}
