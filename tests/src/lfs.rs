//! A server of Git LFS: its batch API, downloads and uploads, as answers of an [`HttpServer`]. It can be
//! made to misbehave.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use openssl::sha::sha256;

use crate::http::Answer;
use crate::http::Ending;
use crate::http::HttpServer;
use crate::http::HttpServerBuilder;
use crate::http::Request;
use crate::repository::Files;

/// The attributes that make a file with this end one of Git LFS.
pub const ATTRIBUTES: &str = "*.bin filter=lfs diff=lfs merge=lfs -text\n";

const MEDIA_TYPE: &str = "application/vnd.git-lfs+json";

/// What is wrong with an object.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The connection ends after half of what is left, this many times.
    Cut(usize),
    /// Other bytes of the same length come, this many times.
    Corrupt(usize),
    /// The server does not have it.
    Missing,
    /// The server sends more than it says.
    WrongSize,
    /// Bytes without end.
    Endless,
    /// Nothing, on an open connection.
    Silent,
    /// Every answer is the whole object, whatever part is wanted. The first one is cut.
    WithoutRanges(usize),
    /// It is at this URL.
    At(String),
    /// Its place redirects to this URL.
    RedirectedTo(String),
    /// Its place answers with this status.
    Status(u16),
    /// Its place answers with this status and `Retry-After: 0`, this many times.
    Later(u16, usize),
    /// Its place answers with this status, this many times.
    Refused(u16, usize),
    /// Its answer takes until the time of its place is over.
    Outlives,
    /// The same, and the connection ends after half of it.
    CutLate,
}

/// Places that are good for a short time, each signed anew.
#[derive(Clone)]
struct Signing {
    lifetime: Duration,
    /// What the server says of it.
    says: serde_json::Value,
    /// When each signature was made.
    made: Vec<Instant>,
}

/// Objects and their faults. Clones share them.
#[derive(Clone, Default)]
pub struct Lfs(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    objects: HashMap<String, Vec<u8>>,
    faults: HashMap<String, Fault>,
    /// Header for each object.
    header: Option<(String, String)>,
    /// Where objects are; the server itself if that is missing.
    storage: Option<String>,
    signing: Option<Signing>,
    /// What the URLs of objects end with.
    suffix: String,
}

impl Lfs {
    /// A server without objects.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an object. Returns its pointer.
    pub fn add(&self, content: &[u8]) -> String {
        let oid = oid(content);
        self.lock().objects.insert(oid.clone(), content.to_vec());
        pointer(&oid, content.len())
    }

    /// Adds a file of Git LFS to a commit, and its object to the server.
    #[must_use]
    pub fn file(&self, files: Files, path: &str, content: &[u8]) -> Files {
        files.file(path, self.add(content))
    }

    /// Makes an object misbehave.
    pub fn spoil(&self, content: &[u8], fault: Fault) {
        self.lock().faults.insert(oid(content), fault);
    }

    /// Makes all objects good.
    pub fn repair(&self) {
        self.lock().faults.clear();
    }

    /// Wants this header for each object.
    pub fn authorize(&self, name: &str, value: &str) {
        self.lock().header = Some((name.to_owned(), value.to_owned()));
    }

    /// Says that objects are at another server.
    pub fn store_at(&self, server: &HttpServer, host: &str) {
        self.lock().storage = Some(server.url_by(host, "storage"));
    }

    /// Signs places for so long, and says of that what the object has, such as `expires_in`.
    pub fn sign(&self, lifetime: Duration, says: serde_json::Value) {
        self.lock().signing = Some(Signing { lifetime, says, made: Vec::new() });
    }

    /// Ends the URL of each object with this, in its query.
    pub fn lengthen(&self, suffix: &str) {
        self.lock().suffix = suffix.to_owned();
    }

    /// The names of the objects.
    pub fn oids(&self) -> BTreeSet<String> {
        self.lock().objects.keys().cloned().collect()
    }

    /// How this server answers a request; `None` if it is not about objects.
    pub fn answer(&self, request: &Request) -> Option<Answer> {
        if request.method == "POST" && request.path.ends_with("/objects/batch") {
            return Some(self.batch(request));
        }
        let (_, oid) = request.path.rsplit_once('/')?;
        if request.method != "GET" {
            return self.upload(request, oid);
        }
        let content = self.lock().objects.get(oid).cloned()?;
        Some(self.download(request, oid, content))
    }

    /// Starts a git server with these objects.
    pub fn start(&self, server: HttpServerBuilder) -> HttpServer {
        let lfs = self.clone();
        server.answer(move |request| lfs.answer_or_git(request)).start()
    }

    /// How a git server with these objects answers a request.
    pub fn answer_or_git(&self, request: &Request) -> Answer {
        self.answer(request).unwrap_or(Answer::Git)
    }

    fn batch(&self, request: &Request) -> Answer {
        let type_is = |name: &str| request.header(name).is_some_and(|value| value.starts_with(MEDIA_TYPE));
        if !type_is("accept") || !type_is("content-type") {
            return Answer::status(415);
        }
        let question: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        assert!(question["transfers"].as_array().unwrap().contains(&"basic".into()));
        let mut state = self.lock();
        let own = request.path.strip_suffix("/objects/batch").unwrap();
        let own = format!("http://{}{own}/storage", request.header("host").unwrap());
        let wanted = question["objects"].as_array().unwrap().iter();
        if question["operation"] == "upload" {
            let objects: Vec<_> = wanted.map(|wanted| state.missing(wanted, &own)).collect();
            return json(&serde_json::json!({ "transfer": "basic", "objects": objects }));
        }
        let storage = state.storage.clone().unwrap_or(own);
        state.signing.iter_mut().for_each(|signing| signing.made.push(Instant::now()));
        let told = |wanted: &serde_json::Value| state.told(wanted["oid"].as_str().unwrap(), &wanted["size"], &storage);
        let objects: Vec<_> = wanted.map(told).collect();
        json(&serde_json::json!({ "transfer": "basic", "objects": objects }))
    }

    fn download(&self, request: &Request, oid: &str, content: Vec<u8>) -> Answer {
        let header = self.lock().header.clone();
        if let Some((name, value)) = header
            && request.header(&name.to_ascii_lowercase()) != Some(&value)
        {
            return Answer::status(403);
        }
        let ends = self.lock().end_of(request);
        if ends.is_some_and(|end| end <= Instant::now()) {
            return Answer::status(403);
        }
        let from =
            request.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        let from: usize = from.unwrap_or(0);
        match self.next_fault(oid) {
            Some(Fault::Status(status) | Fault::Refused(status, _)) => Answer::status(status),
            Some(fault @ (Fault::Outlives | Fault::CutLate)) => {
                // Like a line that is slow.
                std::thread::sleep(ends.unwrap().saturating_duration_since(Instant::now()));
                part(content, from, matches!(fault, Fault::CutLate))
            }
            Some(Fault::Later(status, _)) => {
                Answer::Status { status, headers: vec![("Retry-After".to_owned(), "0".to_owned())] }
            }
            Some(Fault::RedirectedTo(url)) => {
                Answer::Status { status: 302, headers: vec![("Location".to_owned(), url)] }
            }
            Some(Fault::Cut(_)) => part(content, from, true),
            Some(Fault::WithoutRanges(left)) => part(content, 0, left > 0),
            Some(Fault::Corrupt(_)) => part(content.iter().map(|byte| !byte).collect(), from, false),
            Some(Fault::WrongSize) => part([content, b"more".to_vec()].concat(), from, false),
            Some(Fault::Endless) => Answer::raw(|wire| {
                wire.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
                loop {
                    wire.write_all(&[b'x'; 65536])?;
                }
            }),
            Some(Fault::Silent) => Answer::raw(|wire| {
                wire.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")?;
                wire.flush()?;
                Ok(Ending::Silent)
            }),
            Some(Fault::Missing | Fault::At(_)) | None => part(content, from, false),
        }
    }

    /// The fault of the next answer. Those that end are counted down.
    fn next_fault(&self, oid: &str) -> Option<Fault> {
        let mut state = self.lock();
        let fault = state.faults.get_mut(oid)?;
        let now = fault.clone();
        match fault {
            Fault::WithoutRanges(left) => *left = left.saturating_sub(1),
            Fault::CutLate => drop(state.faults.remove(oid)),
            Fault::Cut(left) | Fault::Corrupt(left) | Fault::Later(_, left) | Fault::Refused(_, left) => {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    state.faults.remove(oid);
                }
            }
            _ => {}
        }
        Some(now)
    }

    /// Takes an object in, or says whether it is here.
    fn upload(&self, request: &Request, oid: &str) -> Option<Answer> {
        match request.method.as_str() {
            "PUT" if self::oid(&request.body) == oid => {
                self.add(&request.body);
                Some(Answer::status(200))
            }
            "POST" if oid == "verify" => {
                let told: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
                let is_here = self.lock().objects.contains_key(told["oid"].as_str().unwrap());
                Some(Answer::status(if is_here { 200 } else { 404 }))
            }
            _ => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn told(&self, oid: &str, size: &serde_json::Value, storage: &str) -> serde_json::Value {
        let fault = self.faults.get(oid);
        if !self.objects.contains_key(oid) || matches!(fault, Some(Fault::Missing)) {
            let error = serde_json::json!({ "code": 404, "message": "Object does not exist" });
            return serde_json::json!({ "oid": oid, "size": size, "error": error });
        }
        let href = match fault {
            Some(Fault::At(url)) => url.clone(),
            _ => format!("{storage}/{oid}{}", self.query()),
        };
        let header: HashMap<_, _> = self.header.iter().cloned().collect();
        let mut download = match &self.signing {
            Some(signing) => signing.says.clone(),
            None => serde_json::json!({ "expires_in": 600 }),
        };
        download["href"] = href.into();
        download["header"] = serde_json::json!(header);
        serde_json::json!({ "oid": oid, "size": size, "actions": { "download": download } })
    }

    /// Where an object goes that is not here.
    fn missing(&self, wanted: &serde_json::Value, storage: &str) -> serde_json::Value {
        let oid = wanted["oid"].as_str().unwrap();
        let mut told = serde_json::json!({ "oid": oid, "size": wanted["size"] });
        if !self.objects.contains_key(oid) {
            let at = |name: &str| serde_json::json!({ "href": format!("{storage}/{name}") });
            told["actions"] = serde_json::json!({ "upload": at(oid), "verify": at("verify") });
        }
        told
    }

    fn query(&self) -> String {
        let signature = self.signing.as_ref().map(|signing| format!("signature={}", signing.made.len() - 1));
        match (signature, self.suffix.as_str()) {
            (None, "") => String::new(),
            (signature, suffix) => format!("?{}{suffix}", signature.unwrap_or_default()),
        }
    }

    /// When the place of a request ceases to be good.
    fn end_of(&self, request: &Request) -> Option<Instant> {
        let signing = self.signing.as_ref()?;
        let number: usize = request.query.strip_prefix("signature=")?.parse().unwrap();
        Some(signing.made[number] + signing.lifetime)
    }
}

/// The name of an object.
pub fn oid(content: &[u8]) -> String {
    sha256(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The pointer to an object.
pub fn pointer(oid: &str, size: usize) -> String {
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n")
}

/// Requests to the batch API.
pub fn batches(server: &HttpServer) -> Vec<Arc<Request>> {
    server.requests().into_iter().filter(|request| request.path.ends_with("/objects/batch")).collect()
}

/// The objects that the batch API was asked for, in this order.
pub fn asked(server: &HttpServer) -> Vec<String> {
    let of_one = |request: Arc<Request>| -> Vec<String> {
        let question: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        let objects = question["objects"].as_array().unwrap().iter();
        objects.map(|object| object["oid"].as_str().unwrap().to_owned()).collect()
    };
    batches(server).into_iter().flat_map(of_one).collect()
}

/// Requests for objects.
pub fn downloads(server: &HttpServer) -> Vec<Arc<Request>> {
    server.requests().into_iter().filter(|request| request.path.contains("/storage/")).collect()
}

fn json(value: &serde_json::Value) -> Answer {
    let body = value.to_string();
    Answer::raw(move |wire| {
        let length = body.len();
        write!(wire, "HTTP/1.1 200 OK\r\nContent-Type: {MEDIA_TYPE}\r\nContent-Length: {length}\r\n\r\n{body}")?;
        wire.flush()?;
        Ok(Ending::Complete)
    })
}

/// An object from a byte on, or half of that.
fn part(content: Vec<u8>, from: usize, is_cut: bool) -> Answer {
    Answer::raw(move |wire| {
        let rest = &content[from.min(content.len())..];
        let (total, last) = (content.len(), content.len().saturating_sub(1));
        match from {
            0 => write!(wire, "HTTP/1.1 200 OK\r\n")?,
            _ => write!(wire, "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{last}/{total}\r\n")?,
        }
        write!(wire, "Content-Length: {}\r\n\r\n", rest.len())?;
        wire.write_all(if is_cut { &rest[..rest.len() / 2] } else { rest })?;
        wire.flush()?;
        Ok(if is_cut { Ending::Broken } else { Ending::Complete })
    })
}
