//! Properties of the parsers of git's protocol, for fuzzing: each function panics on input that breaks one.

use std::io;
use std::io::Read;

use super::answer;
use super::answer::AnswerError;
use super::hello::Hello;
use super::packet::Packet;
use super::packet::Packets;

/// Longest data of a packet (gitprotocol-common(5)).
const LONGEST: usize = 65516;

/// Gives one byte at a time.
struct Trickle<'a>(&'a [u8]);

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(1);
        self.0.read(&mut buffer[..length])
    }
}

/// Asserts that a parser does the same whether the bytes come at once or one by one.
fn same<T: PartialEq + std::fmt::Debug>(bytes: &[u8], read: impl Fn(Packets<'_>) -> Result<T, AnswerError>) {
    let (mut at_once, mut one_by_one) = (bytes, Trickle(bytes));
    let [one, other] = [read(Packets::new(&mut at_once)), read(Packets::new(&mut one_by_one))]
        .map(|outcome| outcome.map_err(|error| error.to_string()));
    assert_eq!(one, other);
}

/// Packet lines: each is as long as its header says, and no longer than the longest.
pub fn packets(bytes: &[u8]) {
    same(bytes, |mut packets| {
        let mut lengths = Vec::new();
        loop {
            match packets.next() {
                Ok(Packet::Data(data)) => lengths.push(4 + data.len()),
                Ok(_) => lengths.push(4),
                Err(error) => {
                    assert!(lengths.iter().sum::<usize>() <= bytes.len());
                    assert!(lengths.iter().all(|length| *length <= 4 + LONGEST));
                    return Ok((lengths, error.to_string()));
                }
            }
        }
    });
}

/// A server's first words, of every version.
pub fn hello(bytes: &[u8]) {
    same(bytes, |mut packets| Hello::read(&mut packets));
}

/// The answer to `ls-refs`.
pub fn refs(bytes: &[u8]) {
    same(bytes, |mut packets| answer::read_refs(&mut packets));
}

/// The answer to a fetch, with side bands and without. No more comes out than went in.
pub fn fetch(bytes: &[u8]) {
    for banded in [true, false] {
        same(bytes, |packets| {
            let (boundary, mut pack) = answer::read_to_pack(packets, banded)?;
            let mut content = Vec::new();
            let outcome = pack.read_to_end(&mut content).map_err(AnswerError::from_stream);
            assert!(content.len() <= bytes.len());
            Ok((boundary, content, outcome.map_err(|error| error.to_string())))
        });
    }
}
