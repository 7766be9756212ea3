//! The part of HTTP/1.1 that git's clients use: reading requests, writing answers.

use std::io;
use std::io::BufRead;
use std::io::Read;
use std::io::Write;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use super::wire::Wire;

/// A client's request, and how much was sent to it.
#[derive(Debug)]
pub struct Request {
    /// Counted from 1.
    pub number: usize,
    /// `GET`, `POST`.
    pub method: String,
    /// As sent, without the query.
    pub path: String,
    /// The part after the `?`.
    pub query: String,
    /// Names are in lower case.
    pub headers: Vec<(String, String)>,
    /// As sent: possibly compressed.
    pub body: Vec<u8>,
    pub(super) sent: AtomicU64,
    pub(super) brought_pack: AtomicBool,
}

impl Request {
    /// Reads up to the empty line; `None` when the client has hung up.
    pub(super) fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let start = read_line(reader)?;
        let mut words = start.split_ascii_whitespace();
        let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(None) };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut headers = Vec::new();
        loop {
            let line = read_line(reader)?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Ok(Some(Self {
            number: 0,
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers,
            body: Vec::new(),
            sent: AtomicU64::new(0),
            brought_pack: AtomicBool::new(false),
        }))
    }

    /// Reads the body.
    pub(super) fn read_body(&mut self, reader: &mut impl BufRead) -> io::Result<()> {
        if self.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            loop {
                let size = u64::from_str_radix(read_line(reader)?.trim(), 16).map_err(io::Error::other)?;
                reader.by_ref().take(size).read_to_end(&mut self.body)?;
                // The newline after a chunk, and the empty trailer after the last.
                read_line(reader)?;
                if size == 0 {
                    return Ok(());
                }
            }
        }
        let size = self.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        reader.take(size).read_to_end(&mut self.body).map(drop)
    }

    /// Asks for this version of git's protocol instead of any other.
    pub(super) fn speak(&mut self, version: u8) {
        self.headers.retain(|(name, _)| name != "git-protocol");
        if version > 0 {
            self.headers.push(("git-protocol".to_owned(), format!("version={version}")));
        }
    }

    /// The value of a header by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The `Authorization` header.
    pub fn authorization(&self) -> Option<&str> {
        self.header("authorization")
    }

    /// Whether this requests the ref advertisement.
    pub fn is_info_refs(&self) -> bool {
        self.method == "GET" && self.path.ends_with("/info/refs") && self.query == "service=git-upload-pack"
    }

    /// Whether this requests a pack to keep, and neither the refs, as protocol version 2 does in the same way, nor a proof
    /// of access.
    pub fn is_upload_pack(&self) -> bool {
        self.asks_for_objects() && self.says("thin-pack")
    }

    /// Whether this requests a commit by its id as a proof of access, and keeps nothing of the answer.
    pub fn is_proof(&self) -> bool {
        self.asks_for_objects() && !self.says("thin-pack")
    }

    /// Whether the body contains this word.
    pub fn says(&self, word: &str) -> bool {
        self.body.windows(word.len()).any(|window| window == word.as_bytes())
    }

    fn asks_for_objects(&self) -> bool {
        let asks_for_refs = self.body.starts_with(b"0014command=ls-refs");
        self.method == "POST" && self.path.ends_with("/git-upload-pack") && !asks_for_refs
    }

    /// Whether git's answer contained a pack, sent completely or not.
    pub fn brought_pack(&self) -> bool {
        self.brought_pack.load(Ordering::Relaxed)
    }

    /// Bytes of the answer, headers included; 0 until it has ended.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

/// Writes status and headers of an answer whose body follows in [chunks][write_chunk].
pub(crate) fn write_head(wire: &mut Wire, status: u16, headers: &[(String, String)]) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {status} {}\r\n", reason(status));
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if wire.closing {
        head.push_str("Connection: close\r\n");
    }
    head.push_str("Transfer-Encoding: chunked\r\n\r\n");
    wire.write_all(head.as_bytes())
}

/// Writes a part of a body; an empty one ends it.
pub(crate) fn write_chunk(writer: &mut impl Write, content: &[u8]) -> io::Result<()> {
    let mut chunk = format!("{:x}\r\n", content.len()).into_bytes();
    chunk.extend_from_slice(content);
    chunk.extend_from_slice(b"\r\n");
    writer.write_all(&chunk)?;
    writer.flush()
}

/// The reason phrase, which some clients repeat in their messages.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        301 => "Moved Permanently",
        302 => "Found",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    }
}

/// A line without its newline, at most 64 KiB.
fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    reader.take(64 << 10).read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
