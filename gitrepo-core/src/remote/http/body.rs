//! The body of a response: RFC 9112, section 6.

use std::io;
use std::io::BufRead;
use std::io::Read;

use super::head::Head;
use super::head::malformed;

/// Longest line before a chunk, and after the last one, in bytes.
const LINE: u64 = 4096;

/// Maximum number of trailers after the last chunk.
const TRAILERS: usize = 128;

/// The rest of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Body {
    rest: Rest,
    /// Whether the server keeps the connection open for another request.
    stays: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// This many bytes.
    Length(u64),
    /// This many bytes of the current chunk, then further chunks.
    Chunk(u64),
    /// Everything until the connection ends.
    Open,
    Nothing,
}

impl Body {
    /// No body.
    pub(super) const NONE: Self = Self { rest: Rest::Nothing, stays: true };

    /// The body that follows this head.
    pub(super) fn of(head: &Head) -> io::Result<Self> {
        let rest = if matches!(head.status, 204 | 304) {
            Rest::Nothing
        } else if head.lists("transfer-encoding", "chunked") {
            Rest::Chunk(0)
        } else if head.all("transfer-encoding").next().is_some() {
            Rest::Open
        } else {
            match length(head)? {
                Some(0) => Rest::Nothing,
                Some(length) => Rest::Length(length),
                None => Rest::Open,
            }
        };
        let said =
            if head.is_current { !head.lists("connection", "close") } else { head.lists("connection", "keep-alive") };
        Ok(Self { rest, stays: said && rest != Rest::Open })
    }

    /// Whether the connection can be reused once the body has ended.
    pub(super) fn leaves_connection_open(&self) -> bool {
        self.stays
    }

    /// Reads more of the body; 0 is the end.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::UnexpectedEof`] if the connection ends before the body.
    pub(super) fn read(&mut self, from: &mut impl BufRead, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let (read, is_over) = match &mut self.rest {
            Rest::Nothing => return Ok(0),
            Rest::Open => from.read(buffer).map(|read| (read, read == 0))?,
            Rest::Length(left) => some(from, buffer, left).map(|read| (read, *left == 0))?,
            Rest::Chunk(left) => chunked(from, buffer, left).map(|read| (read, read == 0))?,
        };
        if is_over {
            self.rest = Rest::Nothing;
        }
        Ok(read)
    }
}

/// The length in the head. Two different lengths are an attempt at request smuggling.
fn length(head: &Head) -> io::Result<Option<u64>> {
    let mut found = None;
    for value in head.all("content-length") {
        let number = std::str::from_utf8(value).ok().and_then(crate::spec::decimal::<u64>);
        match number {
            Some(number) if found.is_none_or(|before| before == number) => found = Some(number),
            _ => return Err(malformed("its answer has no one length")),
        }
    }
    Ok(found)
}

/// Reads some of the `left` bytes.
fn some(from: &mut impl BufRead, buffer: &mut [u8], left: &mut u64) -> io::Result<usize> {
    let wanted = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
    match from.read(&mut buffer[..wanted])? {
        0 => Err(broken()),
        read => {
            *left -= read as u64;
            Ok(read)
        }
    }
}

/// Reads from the current or next chunk; 0 is the end of the last.
fn chunked(from: &mut impl BufRead, buffer: &mut [u8], left: &mut u64) -> io::Result<usize> {
    if *left == 0 {
        *left = chunk_size(&line(from)?)?;
    }
    if *left == 0 {
        for _ in 0..TRAILERS {
            if line(from)?.is_empty() {
                return Ok(0);
            }
        }
        return Err(malformed("its answer has too many trailers"));
    }
    let read = some(from, buffer, left)?;
    if *left == 0 && !line(from)?.is_empty() {
        return Err(malformed("a chunk of its answer is longer than it says"));
    }
    Ok(read)
}

fn chunk_size(line: &[u8]) -> io::Result<u64> {
    std::str::from_utf8(line)
        .ok()
        .and_then(|line| line.split(';').next())
        .map(str::trim)
        .filter(|size| !size.is_empty() && size.bytes().all(|digit| digit.is_ascii_hexdigit()))
        .and_then(|size| u64::from_str_radix(size, 16).ok())
        .ok_or_else(|| malformed("a chunk of its answer has no size"))
}

/// A line without its line end.
fn line(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    from.by_ref().take(LINE).read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(if line.len() as u64 + 1 == LINE {
            malformed("a line of its answer is too long")
        } else {
            broken()
        });
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(line)
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "its answer breaks off")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body of a response and the text behind it, or the kind of the error.
    fn read(answer: &str) -> Result<(String, String, bool), io::ErrorKind> {
        let mut from = io::BufReader::with_capacity(7, answer.as_bytes());
        let head = Head::read(&mut from).unwrap().unwrap();
        let mut body = Body::of(&head).map_err(|error| error.kind())?;
        let (mut found, mut buffer) = (Vec::new(), [0; 5]);
        loop {
            match body.read(&mut from, &mut buffer).map_err(|error| error.kind())? {
                0 => break,
                length => found.extend_from_slice(&buffer[..length]),
            }
        }
        let mut rest = String::new();
        from.read_to_string(&mut rest).unwrap();
        Ok((String::from_utf8(found).unwrap(), rest, body.leaves_connection_open()))
    }

    #[test]
    fn a_body_ends_where_its_head_says() {
        for (head, text, body, rest, stays) in [
            ("1.1 200 OK\r\nContent-Length: 11", "hello worldHTTP", "hello world", "HTTP", true),
            ("1.1 200 OK\r\nContent-Length: 2\r\ncontent-length: 2", "hello", "he", "llo", true),
            ("1.1 200 OK\r\nContent-Length: 5\r\nConnection: close", "hello", "hello", "", false),
            ("1.0 200 OK\r\nContent-Length: 5", "hello", "hello", "", false),
            ("1.0 200 OK\r\nContent-Length: 5\r\nConnection: Keep-Alive", "hello", "hello", "", true),
            ("1.1 200 OK", "hello world", "hello world", "", false),
            ("1.1 200 OK\r\nTransfer-Encoding: gzip", "hello world", "hello world", "", false),
            ("1.1 204 No", "HTTP", "", "HTTP", true),
            ("1.1 200 OK\r\nContent-Length: 0", "HTTP", "", "HTTP", true),
            (
                "1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nContent-Length: 1",
                "6;x=y\r\nhello \r\n05\nworld\n0\r\nX: y\r\n\r\nHTTP",
                "hello world",
                "HTTP",
                true,
            ),
        ] {
            let expected = (body.to_owned(), rest.to_owned(), stays);
            assert_eq!(read(&format!("HTTP/{head}\r\n\r\n{text}")), Ok(expected), "{head}");
        }
    }

    #[test]
    fn a_body_that_ends_elsewhere_is_refused() {
        let long = format!("{}\r\n", "1".repeat(5000));
        let trailers = format!("0\r\n{}\r\n", "a: b\r\n".repeat(200));
        for (head, text, kind) in [
            ("Content-Length: 9", "hello", io::ErrorKind::UnexpectedEof),
            ("Content-Length: 5\r\nContent-Length: 6", "hello", io::ErrorKind::InvalidData),
            ("Content-Length: -5", "hello", io::ErrorKind::InvalidData),
            ("Content-Length:", "hello", io::ErrorKind::InvalidData),
            ("Transfer-Encoding: chunked", "5\r\nhello\r\n", io::ErrorKind::UnexpectedEof),
            ("Transfer-Encoding: chunked", "5\r\nhel", io::ErrorKind::UnexpectedEof),
            ("Transfer-Encoding: chunked", "4\r\nhello\r\n0\r\n\r\n", io::ErrorKind::InvalidData),
            ("Transfer-Encoding: chunked", "hello", io::ErrorKind::UnexpectedEof),
            ("Transfer-Encoding: chunked", "-1\r\n", io::ErrorKind::InvalidData),
            ("Transfer-Encoding: chunked", "ffffffffffffffffff\r\n", io::ErrorKind::InvalidData),
            ("Transfer-Encoding: chunked", &long, io::ErrorKind::InvalidData),
            ("Transfer-Encoding: chunked", &trailers, io::ErrorKind::InvalidData),
        ] {
            assert_eq!(read(&format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{text}")), Err(kind), "{head}: {text}");
        }
    }
}
