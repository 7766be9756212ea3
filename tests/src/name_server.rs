//! A DNS server for a private network, where 127.0.0.1:53 is free.
//!
//! It implements what a stub resolver needs of RFC 1035: one question, addresses as answers.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread::JoinHandle;

use crate::listener::Listener;

/// How a server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Normally.
    Plain,
    /// Over UDP it answers that the message is truncated.
    OnlyOverTcp,
    /// Not at all.
    Silent,
}

/// A server at 127.0.0.1:53 that knows a few names, and denies all others.
pub struct NameServer {
    socket: UdpSocket,
    zone: Arc<Zone>,
    listener: Option<Listener>,
    answering: Option<JoinHandle<()>>,
}

struct Zone {
    records: Vec<(&'static str, IpAddr)>,
    manner: Manner,
    asked: Mutex<Vec<String>>,
}

const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 53);
const HEADER: usize = 12;
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const CLASS_INTERNET: u16 = 1;
/// QR, RD and RA: an answer with recursion desired and available.
const ANSWER: u16 = 0x8180;
const TRUNCATED: u16 = 0x0200;
const NO_SUCH_NAME: u16 = 3;

impl NameServer {
    /// Starts it in the thread's network, see [`crate::namespace::private_network`]. A name may have several addresses.
    pub fn start(manner: Manner, records: &[(&'static str, IpAddr)]) -> Self {
        let zone = Arc::new(Zone { records: records.to_vec(), manner, asked: Mutex::default() });
        let socket = UdpSocket::bind(ADDRESS).expect("bind 127.0.0.1:53");
        let listener = {
            let zone = Arc::clone(&zone);
            // An error means that the client hung up.
            Listener::start_at(ADDRESS, move |stream| drop(zone.converse(stream)))
        };
        let answering = {
            let (zone, socket) = (Arc::clone(&zone), socket.try_clone().unwrap());
            std::thread::spawn(move || zone.answer_datagrams(&socket))
        };
        Self { socket, zone, listener: Some(listener), answering: Some(answering) }
    }

    /// The names of all questions, in order, repeated ones included.
    pub fn asked(&self) -> Vec<String> {
        self.zone.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Questions that came over TCP.
    pub fn connections(&self) -> u64 {
        self.listener.as_ref().map(Listener::accepted).unwrap()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.listener = None;
        // An empty message is not a question: it ends the thread.
        self.socket.send_to(&[], ADDRESS).expect("wake the name server");
        if let Some(answering) = self.answering.take() {
            assert!(answering.join().is_ok() || std::thread::panicking(), "the name server panicked");
        }
    }
}

impl Zone {
    fn answer_datagrams(&self, socket: &UdpSocket) {
        let mut question = [0; 512];
        loop {
            let (length, client) = socket.recv_from(&mut question).unwrap();
            if length == 0 {
                return;
            }
            let answer = self.answer(&question[..length], self.manner == Manner::OnlyOverTcp);
            if let Some(answer) = answer.filter(|_| self.manner != Manner::Silent) {
                // The client may be gone.
                drop(socket.send_to(&answer, client));
            }
        }
    }

    /// Over TCP, each message is preceded by its length.
    fn converse(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            let mut question = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut question)?;
            if let Some(answer) = self.answer(&question, false).filter(|_| self.manner != Manner::Silent) {
                let length = u16::try_from(answer.len()).unwrap();
                stream.write_all(&[&length.to_be_bytes(), &*answer].concat())?;
            }
        }
    }

    /// `None` for anything but a question.
    fn answer(&self, message: &[u8], truncate: bool) -> Option<Vec<u8>> {
        let (name, kind, question) = question(message)?;
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(name.clone());
        let known: Vec<IpAddr> =
            self.records.iter().filter(|(own, _)| *own == name).map(|(_, address)| *address).collect();
        let addresses: Vec<Vec<u8>> = known.iter().filter_map(|address| data(*address, kind)).collect();
        let addresses = if truncate { &[] } else { &addresses[..] };

        let mut flags = ANSWER;
        flags |= if known.is_empty() { NO_SUCH_NAME } else { 0 };
        flags |= if truncate { TRUNCATED } else { 0 };
        let mut answer = message[..2].to_vec();
        let counts = [1, u16::try_from(addresses.len()).unwrap(), 0, 0];
        answer.extend([flags].into_iter().chain(counts).flat_map(u16::to_be_bytes));
        answer.extend(question);
        for address in addresses {
            /// A pointer to the name in the question.
            const SAME_NAME: u16 = 0xc000 | HEADER as u16;
            const SECONDS: u32 = 60;
            answer.extend([SAME_NAME, kind, CLASS_INTERNET].into_iter().flat_map(u16::to_be_bytes));
            answer.extend(SECONDS.to_be_bytes());
            answer.extend(u16::try_from(address.len()).unwrap().to_be_bytes());
            answer.extend(address);
        }
        Some(answer)
    }
}

/// The name, the record type, and the question's bytes.
fn question(message: &[u8]) -> Option<(String, u16, &[u8])> {
    let mut labels = Vec::new();
    let mut rest = message.get(HEADER..)?;
    loop {
        let (length, after) = rest.split_first()?;
        let label = after.get(..usize::from(*length))?;
        rest = &after[label.len()..];
        if label.is_empty() {
            break;
        }
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
    }
    let kind = u16::from_be_bytes([*rest.first()?, *rest.get(1)?]);
    let end = message.len() - rest.get(4..)?.len();
    Some((labels.join("."), kind, &message[HEADER..end]))
}

fn data(address: IpAddr, kind: u16) -> Option<Vec<u8>> {
    match (address, kind) {
        (IpAddr::V4(address), TYPE_A) => Some(address.octets().to_vec()),
        (IpAddr::V6(address), TYPE_AAAA) => Some(address.octets().to_vec()),
        _ => None,
    }
}
