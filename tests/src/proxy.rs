//! A proxy for HTTP and SOCKS5 on one port of the loopback. Every name leads to the loopback, so a URL may have a host that
//! only the proxy knows.

use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::Ipv4Addr;
use std::net::Shutdown;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::listener::Listener;

/// SOCKS5 (RFC 1928): no login, a user and a password (RFC 1929), none of what is offered.
const NO_LOGIN: u8 = 0;
const PASSWORD: u8 = 2;
const NOTHING: u8 = 0xff;

/// A running proxy.
pub struct Proxy {
    listener: Listener,
    shared: Arc<Shared>,
}

struct Shared {
    login: Option<(String, String)>,
    asked: Mutex<Vec<String>>,
}

impl Proxy {
    /// A proxy for everybody.
    pub fn start() -> Self {
        Self::wanting(None)
    }

    /// A proxy that wants a login.
    pub fn with_login(user: &str, password: &str) -> Self {
        Self::wanting(Some((user.to_owned(), password.to_owned())))
    }

    fn wanting(login: Option<(String, String)>) -> Self {
        let shared = Arc::new(Shared { login, asked: Mutex::default() });
        let serving = Arc::clone(&shared);
        // An error means that one side hung up. The test checks the client's reaction.
        Self { listener: Listener::start(move |stream| drop(serving.serve(stream))), shared }
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.listener.port()
    }

    /// Its URL as an HTTP proxy.
    pub fn http(&self) -> String {
        format!("http://127.0.0.1:{}", self.port())
    }

    /// Its URL as a SOCKS proxy.
    pub fn socks(&self) -> String {
        format!("socks5://127.0.0.1:{}", self.port())
    }

    /// What it was asked to reach, such as `CONNECT host:443`, `GET host:80` and `SOCKS host:443`, without refused requests.
    pub fn asked(&self) -> Vec<String> {
        self.shared.asked().clone()
    }

    /// Connections accepted, including those of refused clients.
    pub fn connections(&self) -> u64 {
        self.listener.accepted()
    }
}

impl Shared {
    fn asked(&self) -> MutexGuard<'_, Vec<String>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, client: TcpStream) -> io::Result<()> {
        let mut first = [0];
        client.peek(&mut first)?;
        if first == [5] { self.socks(client) } else { self.http(client) }
    }

    fn http(&self, client: TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(client.try_clone()?);
        let mut client = client;
        loop {
            let head = head(&mut reader)?;
            let Some(line) = head.first() else { return Ok(()) };
            let mut words = line.split(' ');
            let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let mut body = vec![0; field(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0)];
            reader.read_exact(&mut body)?;
            if let Some((user, password)) = &self.login {
                let expected = format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")));
                if field(&head, "proxy-authorization") != Some(&expected) {
                    client.write_all(
                        b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"proxy\"\r\n\
                          Content-Length: 0\r\n\r\n",
                    )?;
                    continue;
                }
            }
            if method == "CONNECT" {
                self.asked().push(format!("CONNECT {target}"));
                let server = connect(target)?;
                client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
                return splice(client, server);
            }
            let Some((authority, path)) = target.strip_prefix("http://").and_then(|rest| rest.split_once('/')) else {
                return client.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
            };
            self.asked().push(format!("{method} {authority}"));
            let mut server = connect(authority)?;
            write!(server, "{method} /{path} HTTP/1.1\r\n")?;
            for line in head[1..].iter().filter(|line| !line.to_ascii_lowercase().starts_with("proxy-")) {
                write!(server, "{line}\r\n")?;
            }
            server.write_all(b"\r\n")?;
            server.write_all(&body)?;
            // The server hangs up after its answer, so that the answer's end needs no parsing.
            server.shutdown(Shutdown::Write)?;
            io::copy(&mut server, &mut client)?;
        }
    }

    fn socks(&self, mut client: TcpStream) -> io::Result<()> {
        let methods = counted(&mut client, 1)?;
        let wanted = if self.login.is_some() { PASSWORD } else { NO_LOGIN };
        if !methods.contains(&wanted) {
            return client.write_all(&[5, NOTHING]);
        }
        client.write_all(&[5, wanted])?;
        if let Some((user, password)) = &self.login {
            let given = (counted(&mut client, 1)?, counted(&mut client, 0)?);
            let is_right = given == (user.as_bytes().to_vec(), password.as_bytes().to_vec());
            client.write_all(&[1, u8::from(!is_right)])?;
            if !is_right {
                return Ok(());
            }
        }
        let mut request = [0; 4];
        client.read_exact(&mut request)?;
        let host = match request[3] {
            1 => {
                let mut address = [0; 4];
                client.read_exact(&mut address)?;
                Ipv4Addr::from(address).to_string()
            }
            3 => String::from_utf8_lossy(&counted(&mut client, 0)?).into_owned(),
            other => panic!("the proxy of the harness knows no addresses of the type {other}"),
        };
        let mut port = [0; 2];
        client.read_exact(&mut port)?;
        let target = format!("{host}:{}", u16::from_be_bytes(port));
        self.asked().push(format!("SOCKS {target}"));
        let server = connect(&target)?;
        client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
        splice(client, server)
    }
}

/// The lines of a head; empty at the end of the stream.
fn head(reader: &mut impl BufRead) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end() {
            "" => return Ok(lines),
            text => lines.push(text.to_owned()),
        }
    }
}

fn field<'a>(head: &'a [String], name: &str) -> Option<&'a str> {
    let mut fields = head.iter().filter_map(|line| line.split_once(": "));
    fields.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// Bytes after `skipped` others and their number.
fn counted(stream: &mut TcpStream, skipped: usize) -> io::Result<Vec<u8>> {
    let mut start = vec![0; skipped + 1];
    stream.read_exact(&mut start)?;
    let mut bytes = vec![0; usize::from(start[skipped])];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Whatever the host's name is, it is on the loopback.
fn connect(target: &str) -> io::Result<TcpStream> {
    let port = target.rsplit_once(':').map_or(Some(80), |(_, port)| port.parse().ok());
    TcpStream::connect((Ipv4Addr::LOCALHOST, port.ok_or(io::ErrorKind::InvalidInput)?))
}

/// Copies both ways until both sides have ended.
fn splice(client: TcpStream, server: TcpStream) -> io::Result<()> {
    fn copy(mut from: TcpStream, mut to: TcpStream) -> io::Result<()> {
        let copied = io::copy(&mut from, &mut to);
        // Also after an error: a side that was reset has ended.
        copied.and(to.shutdown(Shutdown::Write))
    }

    let (from_client, to_server) = (client.try_clone()?, server.try_clone()?);
    let upwards = std::thread::spawn(move || copy(from_client, to_server));
    let copied = copy(server, client);
    // An error of that direction shows in this one.
    drop(upwards.join());
    copied
}
