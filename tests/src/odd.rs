//! HTTP servers that write git's answers as few others do. Each of these answers is correct, or git reads it anyway.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::http::Answer;
use crate::http::Ending;
use crate::http::GitAnswer;
use crate::http::HttpServer;
use crate::http::HttpServerBuilder;
use crate::http::Request;
use crate::repository::Repository;

/// A way to write answers.
#[derive(Clone, Copy)]
pub struct Oddity {
    /// For the messages of a test.
    pub name: &'static str,
    write: fn(&Request, Written) -> Written,
}

/// An answer to be written.
struct Written {
    /// What comes before the head.
    before: String,
    /// The whole line.
    status: String,
    /// Whole lines, without the one that ends the head.
    fields: Vec<String>,
    /// What ends a line of the head.
    newline: &'static str,
    body: Vec<u8>,
    framing: Framing,
    ending: Ending,
}

/// How a client knows where a body ends.
#[derive(Clone, Copy)]
enum Framing {
    Length,
    /// The server hangs up.
    Close,
    Chunks {
        size: usize,
        extension: &'static str,
        trailer: &'static str,
    },
    /// No head either: the server hangs up at once.
    Nothing,
}

const CHUNKS: Framing = Framing::Chunks { size: 1000, extension: "", trailer: "" };

impl Written {
    fn new(answer: GitAnswer) -> Self {
        Self {
            before: String::new(),
            status: format!("HTTP/1.1 {} Answer", answer.status),
            fields: answer.headers.into_iter().map(|(name, value)| format!("{name}: {value}")).collect(),
            newline: "\r\n",
            body: answer.body,
            framing: Framing::Length,
            ending: Ending::Complete,
        }
    }

    fn before(self, before: &str) -> Self {
        Self { before: before.to_owned(), ..self }
    }

    /// Another status line, for answers with 200.
    fn status(self, status: &str) -> Self {
        Self { status: status.to_owned(), ..self }
    }

    fn field(mut self, line: &str) -> Self {
        self.fields.push(line.to_owned());
        self
    }

    fn framed(self, framing: Framing) -> Self {
        let ending = if matches!(framing, Framing::Close | Framing::Nothing) { Ending::Broken } else { self.ending };
        Self { framing, ending, ..self }
    }

    fn and_closed(self) -> Self {
        Self { ending: Ending::Broken, ..self }
    }

    /// Changes the content type.
    fn typed(mut self, change: impl Fn(&str) -> Option<String>) -> Self {
        let is_type = |line: &String| line.to_ascii_lowercase().starts_with("content-type:");
        let (types, rest): (Vec<_>, Vec<_>) = self.fields.drain(..).partition(is_type);
        self.fields = rest;
        self.fields.extend(types.iter().filter_map(|line| change(line.split_once(':')?.1.trim())));
        self
    }

    fn gzipped(self, coding: &str) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&self.body).unwrap();
        Self { body: encoder.finish().unwrap(), ..self }.field(&format!("Content-Encoding: {coding}"))
    }

    fn bytes(mut self) -> Vec<u8> {
        if let Framing::Nothing = self.framing {
            return Vec::new();
        }
        match self.framing {
            Framing::Length => self.fields.push(format!("Content-Length: {}", self.body.len())),
            Framing::Chunks { .. } => self.fields.push("Transfer-Encoding: chunked".to_owned()),
            Framing::Close | Framing::Nothing => {}
        }
        let mut bytes = self.before.into_bytes();
        for line in [&self.status].into_iter().chain(&self.fields) {
            bytes.extend_from_slice(line.as_bytes());
            bytes.extend_from_slice(self.newline.as_bytes());
        }
        bytes.extend_from_slice(self.newline.as_bytes());
        match self.framing {
            Framing::Chunks { size, extension, trailer } => {
                for part in self.body.chunks(size) {
                    bytes.extend_from_slice(format!("{:X}{extension}\r\n", part.len()).as_bytes());
                    bytes.extend_from_slice(part);
                    bytes.extend_from_slice(b"\r\n");
                }
                bytes.extend_from_slice(format!("0{extension}\r\n{trailer}\r\n").as_bytes());
            }
            _ => bytes.extend_from_slice(&self.body),
        }
        bytes
    }
}

/// All of them. Git clones from a server with any of these.
pub const ALL: &[Oddity] = &[
    Oddity { name: "HTTP/1.0, closed", write: |_, answer| answer.status("HTTP/1.0 200 OK").framed(Framing::Close) },
    Oddity {
        name: "HTTP/1.0, kept",
        write: |_, answer| answer.status("HTTP/1.0 200 OK").field("Connection: Keep-Alive"),
    },
    Oddity {
        name: "neither length nor chunks",
        write: |_, answer| answer.field("Connection: close").framed(Framing::Close),
    },
    Oddity { name: "neither length nor an announced close", write: |_, answer| answer.framed(Framing::Close) },
    Oddity { name: "an announced close", write: |_, answer| answer.field("Connection: close").and_closed() },
    Oddity { name: "a close without a word", write: |_, answer| answer.and_closed() },
    Oddity { name: "a close when the second request comes", write: |request, answer| closed_at(2, request, answer) },
    Oddity { name: "a close when the third request comes", write: |request, answer| closed_at(3, request, answer) },
    Oddity { name: "100", write: |_, answer| answer.before("HTTP/1.1 100 Continue\r\n\r\n") },
    Oddity { name: "102 twice", write: |_, answer| answer.before(&"HTTP/1.1 102 Processing\r\n\r\n".repeat(2)) },
    Oddity {
        name: "103 ten times",
        write: |_, answer| answer.before(&"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n".repeat(10)),
    },
    Oddity {
        name: "100 and 103 with a type and a length",
        write: |_, answer| {
            answer.before("HTTP/1.1 100\r\n\r\nHTTP/1.1 103 \r\nContent-Type: text/html\r\nContent-Length: 7\r\n\r\n")
        },
    },
    Oddity { name: "no reason", write: |_, answer| answer.status("HTTP/1.1 200") },
    Oddity { name: "an empty reason", write: |_, answer| answer.status("HTTP/1.1 200 ") },
    Oddity { name: "a long reason", write: |_, answer| answer.status("HTTP/1.1 200 All is 404 well; 500 times") },
    Oddity {
        name: "a type with parameters",
        write: |_, answer| answer.typed(|found| Some(format!("Content-Type: {found}; charset=utf-8; x=\"y\""))),
    },
    Oddity {
        name: "a type without spaces",
        write: |_, answer| answer.typed(|found| Some(format!("content-type:{found};charset=utf-8"))),
    },
    Oddity {
        name: "a type in capitals",
        write: |_, answer| answer.typed(|found| Some(format!("CONTENT-TYPE: {}", found.to_uppercase()))),
    },
    Oddity {
        name: "the wrong type at the POST",
        write: |request, answer| {
            let is_post = request.is_upload_pack();
            answer.typed(|found| {
                let wrong = "application/x-git-upload-pack-advertisement";
                Some(format!("Content-Type: {}", if is_post { wrong } else { found }))
            })
        },
    },
    Oddity { name: "gzip", write: |_, answer| answer.gzipped("gzip") },
    Oddity { name: "x-gzip", write: |_, answer| answer.gzipped("x-gzip") },
    Oddity { name: "gzip in capitals", write: |_, answer| answer.gzipped("GZIP") },
    Oddity {
        name: "gzip at the POST alone",
        write: |request, answer| if request.is_upload_pack() { answer.gzipped("gzip") } else { answer },
    },
    Oddity { name: "gzip in chunks", write: |_, answer| answer.gzipped("gzip").framed(CHUNKS) },
    Oddity { name: "gzip until the close", write: |_, answer| answer.gzipped("gzip").framed(Framing::Close) },
    Oddity { name: "identity", write: |_, answer| answer.field("Content-Encoding: identity") },
    Oddity {
        name: "chunks of a byte",
        write: |_, answer| answer.framed(Framing::Chunks { size: 1, extension: "", trailer: "" }),
    },
    Oddity {
        name: "chunks with extensions",
        write: |_, answer| answer.framed(Framing::Chunks { size: 999, extension: ";x=\"y\";z", trailer: "" }),
    },
    Oddity {
        name: "chunks with trailers",
        write: |_, answer| {
            let trailer = "X-Sum: 1\r\nContent-Type: text/html\r\nLocation: /elsewhere\r\n";
            answer.framed(Framing::Chunks { size: 4096, extension: "", trailer })
        },
    },
    Oddity { name: "chunks and a length", write: |_, answer| answer.field("Content-Length: 3").framed(CHUNKS) },
    Oddity { name: "chunks, then a close", write: |_, answer| answer.framed(CHUNKS).and_closed() },
    Oddity {
        name: "the length twice",
        write: |_, answer| {
            let line = format!("content-length: {}", answer.body.len());
            answer.field(&line)
        },
    },
    Oddity {
        name: "an offer to upgrade",
        write: |_, answer| answer.field("Upgrade: h2,h2c").field("Connection: Upgrade, Keep-Alive"),
    },
    Oddity { name: "a folded field", write: |_, answer| answer.field("X-Folded: a\r\n b\r\n\t c: d") },
    Oddity { name: "newlines without returns", write: |_, answer| Written { newline: "\n", ..answer } },
    Oddity { name: "a field of 60 KB", write: |_, answer| answer.field(&format!("X-Long: {}", "x".repeat(60_000))) },
    Oddity {
        name: "a thousand fields",
        write: |_, answer| (0..1000).fold(answer, |answer, number| answer.field(&format!("X-{number}: {number}"))),
    },
    Oddity {
        name: "cookies and policies",
        write: |_, answer| {
            answer
                .field("Set-Cookie: a=b; Secure")
                .field("Set-Cookie: c=d")
                .field("Alt-Svc: h3=\":443\"")
                .field("Strict-Transport-Security: max-age=31536000")
        },
    },
];

/// Hangs up instead of answering the request of this number: the client has to ask again, on another connection.
fn closed_at(number: usize, request: &Request, answer: Written) -> Written {
    if request.number == number { answer.framed(Framing::Nothing) } else { answer }
}

impl Oddity {
    /// How a server answers.
    pub fn answer(self) -> Answer {
        Answer::rewritten(move |request, answer| {
            let plain = Written::new(answer);
            let is_well = plain.status.contains(" 200 ");
            let written = if is_well { (self.write)(request, plain) } else { plain };
            let ending = written.ending;
            (written.bytes(), ending)
        })
    }

    /// A server of `repository` that answers like this.
    pub fn serve(self, repository: &Repository) -> HttpServer {
        self.over(HttpServer::builder().serve(repository)).start()
    }

    /// A server that answers like this.
    pub fn over(self, server: HttpServerBuilder) -> HttpServerBuilder {
        server.answer(move |_| self.answer())
    }
}

/// A server whose every answer is odd in another way.
pub fn all_in_turn() -> HttpServerBuilder {
    HttpServer::builder().answer(|request| ALL[request.number % ALL.len()].answer())
}
