//! An answer as curl delivers it.

use std::io;

use curl::easy::Handler;
use curl::easy::InfoType;
use curl::easy::WriteError;
use flate2::Decompress;
use flate2::FlushDecompress;
use flate2::Status;

/// Most bytes of a head, over all its lines. curl has a similar bound of its own.
const MOST_HEAD: usize = 256 * 1024;

/// The first bytes of a gzip member (RFC 1952).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// How curl writes that the server asks for a client certificate. The number is TLS's (RFC 8446, section 4).
const CERTIFICATE_REQUEST: &str = "(IN), TLS handshake, Request CERT (13)";

/// The window of gzip (RFC 1952): the largest that the format has.
const GZIP_WINDOW: u8 = 15;

/// The head of an answer, and what has arrived of its body.
#[derive(Default)]
pub(super) struct Answer {
    status: u16,
    /// Names in lower case.
    fields: Vec<(String, Vec<u8>)>,
    head_bytes: usize,
    body: Vec<u8>,
    /// Bytes of the body that were read.
    taken: usize,
    /// Bytes of heads and bodies that have arrived.
    arrived: u64,
    has_body: bool,
    /// Bytes that had arrived when the server asked for a client certificate.
    asked_after: Option<u64>,
}

impl Answer {
    /// The status; 0 without an answer.
    pub(super) fn status(&self) -> u16 {
        self.status
    }

    /// All fields of this name, which is in lower case.
    pub(super) fn fields<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.fields.iter().filter(move |(field, _)| field == name).map(|(_, value)| value.as_slice())
    }

    /// The first field of this name, as text.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.fields(name).next().map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// Whether its body has begun.
    pub(super) fn has_body(&self) -> bool {
        self.has_body
    }

    /// Bytes that have arrived.
    pub(super) fn arrived(&self) -> u64 {
        self.arrived
    }

    /// Whether the server has asked for a client certificate on the way to this answer.
    pub(super) fn asked_for_certificate(&self) -> bool {
        self.asked_after.is_some()
    }

    /// Whether it has asked for one and sent nothing since.
    pub(super) fn is_silent_since_asking(&self) -> bool {
        self.asked_after == Some(self.arrived)
    }

    /// Reads of the body what has arrived; 0 if there is no more yet.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> usize {
        let unread = &self.body[self.taken..];
        let length = unread.len().min(buffer.len());
        buffer[..length].copy_from_slice(&unread[..length]);
        self.take(length);
        length
    }

    /// Forgets what has arrived of the body.
    pub(super) fn take_body(&mut self) {
        self.take(self.body.len() - self.taken);
    }

    fn take(&mut self, length: usize) {
        self.taken += length;
        if self.taken == self.body.len() {
            self.body.clear();
            self.taken = 0;
        }
    }
}

impl Handler for Answer {
    /// Called for everything that curl does. None of it is shown or kept: headers may contain credentials.
    fn debug(&mut self, kind: InfoType, data: &[u8]) {
        if matches!(kind, InfoType::Text) && String::from_utf8_lossy(data).contains(CERTIFICATE_REQUEST) {
            self.asked_after = Some(self.arrived);
        }
    }

    fn write(&mut self, data: &[u8]) -> Result<usize, WriteError> {
        self.has_body = true;
        self.arrived += data.len() as u64;
        self.body.extend_from_slice(data);
        Ok(data.len())
    }

    /// Called for each line of a head, and of a chunked body's trailer, which is ignored.
    fn header(&mut self, line: &[u8]) -> bool {
        self.arrived += line.len() as u64;
        self.head_bytes += line.len();
        if self.has_body {
            return self.head_bytes <= MOST_HEAD;
        }
        let line = line.trim_ascii_end();
        if let Some(rest) = line.strip_prefix(b"HTTP/") {
            let status = rest.split(|byte| *byte == b' ').nth(1).and_then(|status| std::str::from_utf8(status).ok());
            self.status = status.and_then(|status| status.parse().ok()).unwrap_or_default();
            self.fields.clear();
        } else if let Some(end) = line.iter().position(|byte| *byte == b':') {
            let name = String::from_utf8_lossy(&line[..end]).trim().to_ascii_lowercase();
            self.fields.push((name, line[end + 1..].trim_ascii().to_vec()));
        }
        self.head_bytes <= MOST_HEAD
    }
}

/// Inflates a body that the server has compressed.
pub(super) struct Inflate {
    inflate: Decompress,
    ended: bool,
}

impl Default for Inflate {
    fn default() -> Self {
        Self { inflate: Decompress::new_gzip(GZIP_WINDOW), ended: false }
    }
}

impl Inflate {
    /// Reads of what has arrived; 0 if there is no more yet.
    pub(super) fn read(&mut self, body: &mut Answer, buffer: &mut [u8]) -> io::Result<usize> {
        while body.taken < body.body.len() {
            if self.ended {
                // Another member may follow (RFC 1952, section 2.2). Anything else is not part of the answer.
                if !body.body[body.taken..].starts_with(&GZIP_MAGIC) {
                    body.take_body();
                    break;
                }
                *self = Self::default();
            }
            let (read, written) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self.inflate.decompress(&body.body[body.taken..], buffer, FlushDecompress::None)?;
            body.take((self.inflate.total_in() - read) as usize);
            self.ended = status == Status::StreamEnd;
            match (self.inflate.total_out() - written) as usize {
                0 if self.inflate.total_in() == read => break,
                0 => {}
                length => return Ok(length),
            }
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn head(lines: &[&str]) -> Answer {
        let mut answer = Answer::default();
        for line in lines {
            assert!(answer.header(format!("{line}\r\n").as_bytes()));
        }
        answer
    }

    #[test]
    fn the_last_head_counts() {
        let mut answer = head(&[
            "HTTP/1.1 103 Early Hints",
            "Link: </x>",
            "",
            "HTTP/1.0 401 No",
            "WWW-Authenticate: Negotiate",
            "www-authenticate :  Basic realm=\"a:b\" ",
            "nonsense",
            "",
        ]);
        assert_eq!((answer.status(), answer.text("link")), (401, None));
        let challenges: Vec<_> = answer.fields("www-authenticate").collect();
        assert_eq!(challenges, [&b"Negotiate"[..], b"Basic realm=\"a:b\""]);
        answer.write(b"body").unwrap();
        assert!(answer.header(b"HTTP/1.1 200 a trailer\r\n"));
        assert_eq!(answer.status(), 401);
    }

    #[test]
    fn silence_counts_from_the_request_for_a_certificate() {
        let mut answer = head(&["HTTP/1.1 200 Connection established", ""]);
        answer.debug(InfoType::Text, b"TLSv1.3 (IN), TLS handshake, Certificate (11):\n");
        answer.debug(InfoType::HeaderOut, format!("X: {CERTIFICATE_REQUEST}").as_bytes());
        assert!(!answer.asked_for_certificate() && !answer.is_silent_since_asking());
        answer.debug(InfoType::Text, b"TLSv1.3 (IN), TLS handshake, Request CERT (13):\n");
        assert!(answer.asked_for_certificate() && answer.is_silent_since_asking());
        assert!(answer.header(b"HTTP/1.1 200 OK\r\n"));
        assert!(answer.asked_for_certificate() && !answer.is_silent_since_asking());
    }

    #[test]
    fn a_head_without_end_is_refused() {
        let mut answer = Answer::default();
        let line = format!("x: {}\r\n", "y".repeat(1000));
        assert!((0..1000).any(|_| !answer.header(line.as_bytes())));
    }

    #[test]
    fn a_compressed_body_is_inflated_whatever_the_pieces() {
        let content: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&content).unwrap();
        let compressed = encoder.finish().unwrap();
        let (mut answer, mut inflate, mut read) = (Answer::default(), Inflate::default(), Vec::new());
        let mut buffer = [0; 1000];
        for piece in compressed.chunks(777) {
            answer.write(piece).unwrap();
            while let length @ 1.. = inflate.read(&mut answer, &mut buffer).unwrap() {
                read.extend_from_slice(&buffer[..length]);
            }
        }
        assert!(read == content && inflate.ended);
    }
}
