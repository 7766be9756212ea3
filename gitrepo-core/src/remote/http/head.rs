//! The head of a response: its status and its header fields.

use std::io;
use std::io::BufRead;
use std::io::Read;

/// Longest head read, in bytes.
const LIMIT: usize = 64 * 1024;

/// Maximum number of fields.
const FIELDS: usize = 128;

/// A complete head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    /// HTTP/1.1, not 1.0.
    pub(super) is_current: bool,
    /// Names in lower case.
    fields: Vec<(String, Vec<u8>)>,
}

impl Head {
    /// Reads the next head; `None` at the end of the connection.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidData`] if the head is malformed or too long.
    pub(super) fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut text = Vec::new();
        loop {
            let start = text.len();
            let left = (LIMIT - start) as u64;
            from.by_ref().take(left).read_until(b'\n', &mut text)?;
            match &text[start..] {
                b"" if start == 0 => return Ok(None),
                b"\r\n" | b"\n" if start > 0 => break,
                line if line.ends_with(b"\n") => {}
                _ if text.len() == LIMIT => return Err(malformed("the head of its answer is too long")),
                _ => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the head of its answer breaks off")),
            }
        }
        Self::parse(&text).map(Some)
    }

    fn parse(text: &[u8]) -> io::Result<Self> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        let parsed = httparse::ParserConfig::default()
            .allow_obsolete_multiline_headers_in_responses(true)
            .parse_response(&mut response, text);
        match (parsed, response.code, response.version) {
            (Ok(httparse::Status::Complete(_)), Some(status), Some(version)) => Ok(Self {
                status,
                is_current: version == 1,
                fields: response
                    .headers
                    .iter()
                    .map(|field| (field.name.to_ascii_lowercase(), field.value.to_vec()))
                    .collect(),
            }),
            (Err(error), ..) => Err(malformed(&format!("its answer is not HTTP: {error}"))),
            _ => Err(malformed("its answer is not HTTP")),
        }
    }

    /// All values of a field, by its name in lower case.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.fields.iter().filter(move |(field, _)| field == name).map(|(_, value)| value.as_slice())
    }

    /// The first value of a field, if it is text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.all(name).next().and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Whether a list field contains this word in lower case.
    pub(super) fn lists(&self, name: &str, word: &str) -> bool {
        self.all(name)
            .filter_map(|value| std::str::from_utf8(value).ok())
            .flat_map(|value| value.split(','))
            .any(|found| found.trim().eq_ignore_ascii_case(word))
    }
}

pub(super) fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> io::Result<Option<Head>> {
        Head::read(&mut io::BufReader::new(text))
    }

    #[test]
    fn fields_are_found_by_name_whatever_their_case() {
        let head = read(b"HTTP/1.1 302 Found\r\nLOCATION: /a\r\nlocation: b\r\nX:\r\n\r\nbody").unwrap().unwrap();
        assert_eq!((head.status, head.is_current), (302, true));
        assert_eq!(head.all("location").collect::<Vec<_>>(), [b"/a".as_slice(), b"b"]);
        assert_eq!((head.text("x"), head.text("y")), (Some(""), None));
        let head = read(b"HTTP/1.0 200 OK\nConnection: x, Keep-Alive\n\n").unwrap().unwrap();
        assert!(!head.is_current && head.lists("connection", "keep-alive") && !head.lists("connection", "keep"));
    }

    #[test]
    fn what_is_no_head_is_refused() {
        assert_eq!(read(b"").unwrap(), None);
        for text in [b"HTTP/1.1 200 OK\r\nA: b".as_slice(), b"HTTP/1.1 200 OK\r\n"] {
            assert_eq!(read(text).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
        let long = [b"HTTP/1.1 200 OK\r\nA: ".as_slice(), &[b'a'; LIMIT]].concat();
        let many = [b"HTTP/1.1 200 OK\r\n".as_slice(), &b"A: b\r\n".repeat(FIELDS + 1), b"\r\n"].concat();
        for text in [b"SSH-2.0-x\r\n\r\n".as_slice(), b"HTTP/1.1 2 OK\r\n\r\n", &long, &many] {
            assert_eq!(read(text).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }
}
