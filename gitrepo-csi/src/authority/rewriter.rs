//! Rewrites the client's bytes of an HTTP/2 connection: frames in, frames out, without I/O of its own.

use super::hpack;
use super::hpack::Decoder;
use super::hpack::Field;
use super::hpack::Malformed;

/// The client's connection preface (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The largest payload of a frame, under the default `SETTINGS_MAX_FRAME_SIZE`.
const MAX_FRAME: usize = 16_384;

/// The largest accepted header block, compressed: about twice what gRPC servers accept by default, uncompressed.
const MAX_BLOCK: usize = 32 * 1024;

/// The largest list of fields, counted as in RFC 9113, 6.5.2. It has its own limit because a small block may refer to
/// large table entries.
const MAX_FIELDS: usize = 64 * 1024;

/// How many frames a client may split one header block into.
const MAX_CONTINUATIONS: usize = 128;

/// Bytes of waiting output at which the rewriter stops consuming input.
const AHEAD: usize = 16 * 1024;

const HEADERS: u8 = 1;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// Length of a frame header, and of the priority fields that may precede a header block.
const HEAD: usize = 9;
const PRIORITY_FIELD: usize = 5;

/// A protocol error of the client, which ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The first bytes are not those of HTTP/2.
    #[error("the client does not speak HTTP/2")]
    Preface,
    /// A frame with headers exceeds the server's limit.
    #[error("the client sent a frame of {0} bytes with headers, and {MAX_FRAME} are allowed")]
    FrameSize(usize),
    /// The padding or the priority does not fit into its frame.
    #[error("the client sent a header frame whose parts do not fit into it")]
    Parts,
    /// A frame interrupts a header block, or continues one that was not begun.
    #[error("the client sent a frame of type {0} where none is allowed")]
    Order(u8),
    /// The headers exceed a limit.
    #[error("the client sent more headers than are accepted")]
    TooLarge,
    /// The header block is not valid HPACK.
    #[error("the client sent a header block that cannot be decoded")]
    Block(#[from] Malformed),
}

/// The state of one connection's client side.
#[derive(Debug)]
pub struct Rewriter {
    state: State,
    /// The incomplete header block.
    block: Option<Block>,
    decoder: Decoder,
}

#[derive(Debug)]
enum State {
    /// This many bytes of the preface have arrived.
    Preface(usize),
    /// This many bytes of a frame header have arrived.
    Head([u8; HEAD], usize),
    /// This many bytes of a payload that passes unchanged are still missing.
    Payload(usize),
    /// The received part of the payload of a frame with headers.
    Headers(FrameHead, Vec<u8>),
}

#[derive(Clone, Copy, Debug)]
struct FrameHead {
    length: usize,
    kind: u8,
    flags: u8,
    /// Includes the reserved bit, unchanged.
    stream: [u8; 4],
}

#[derive(Debug)]
struct Block {
    stream: [u8; 4],
    /// Those of the original flags that are passed on.
    flags: u8,
    /// Exclusive bit, dependency and weight, or empty.
    priority: Vec<u8>,
    fragments: Vec<u8>,
    continuations: usize,
}

impl FrameHead {
    fn parse(bytes: [u8; HEAD]) -> Self {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = bytes;
        Self { length: u32::from_be_bytes([0, l0, l1, l2]) as usize, kind, flags, stream: [s0, s1, s2, s3] }
    }

    fn write(&self, into: &mut Vec<u8>) {
        let [_, length @ ..] = (self.length as u32).to_be_bytes();
        into.extend_from_slice(&length);
        into.extend_from_slice(&[self.kind, self.flags]);
        into.extend_from_slice(&self.stream);
    }
}

impl Default for Rewriter {
    /// The state at the beginning of a connection.
    fn default() -> Self {
        Self { state: State::Preface(0), block: None, decoder: Decoder::new() }
    }
}

impl Rewriter {
    /// Consumes bytes of the client, and appends the bytes for the server to `output`. Returns how many bytes it
    /// consumed: all of them, unless the output has grown too large.
    ///
    /// # Errors
    ///
    /// A [`Violation`] by the client; the connection must not be used any more.
    pub fn advance(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<usize, Violation> {
        let mut rest = input;
        while !rest.is_empty() && output.len() < AHEAD {
            let taken = self.step(rest, output)?;
            rest = rest.get(taken..).unwrap_or_default();
        }
        Ok(input.len() - rest.len())
    }

    /// Consumes at least one byte of a non-empty input.
    fn step(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<usize, Violation> {
        match &mut self.state {
            State::Preface(matched) => {
                let expected = &PREFACE[*matched..];
                let part = &input[..input.len().min(expected.len())];
                if !expected.starts_with(part) {
                    return Err(Violation::Preface);
                }
                output.extend_from_slice(part);
                *matched += part.len();
                if *matched == PREFACE.len() {
                    self.state = State::Head([0; HEAD], 0);
                }
                Ok(part.len())
            }
            State::Head(bytes, have) => {
                let missing = &mut bytes[*have..];
                let taken = input.len().min(missing.len());
                missing[..taken].copy_from_slice(&input[..taken]);
                *have += taken;
                if *have == HEAD {
                    let head = FrameHead::parse(*bytes);
                    self.begin(head, output)?;
                }
                Ok(taken)
            }
            State::Payload(missing) => {
                let part = &input[..input.len().min(*missing).min(AHEAD)];
                output.extend_from_slice(part);
                *missing -= part.len();
                if *missing == 0 {
                    self.state = State::Head([0; HEAD], 0);
                }
                Ok(part.len())
            }
            State::Headers(head, payload) => {
                let part = &input[..input.len().min(head.length - payload.len())];
                payload.extend_from_slice(part);
                if payload.len() == head.length {
                    let (head, payload) = (*head, std::mem::take(payload));
                    self.headers(head, &payload, output)?;
                }
                Ok(part.len())
            }
        }
    }

    /// Handles a complete frame header.
    fn begin(&mut self, head: FrameHead, output: &mut Vec<u8>) -> Result<(), Violation> {
        let in_block = self.block.as_ref().is_some_and(|block| block.stream == head.stream);
        match head.kind {
            CONTINUATION if !in_block => return Err(Violation::Order(head.kind)),
            _ if head.kind != CONTINUATION && self.block.is_some() => return Err(Violation::Order(head.kind)),
            // A client cannot push, and a block left undecoded would corrupt the table.
            PUSH_PROMISE => return Err(Violation::Order(head.kind)),
            HEADERS | CONTINUATION if head.length > MAX_FRAME => return Err(Violation::FrameSize(head.length)),
            HEADERS | CONTINUATION if head.length == 0 => return self.headers(head, &[], output),
            HEADERS | CONTINUATION => self.state = State::Headers(head, Vec::with_capacity(head.length.min(1024))),
            _ => {
                head.write(output);
                self.state = if head.length == 0 { State::Head([0; HEAD], 0) } else { State::Payload(head.length) };
            }
        }
        Ok(())
    }

    /// Handles a complete frame with a header block or a part of one.
    fn headers(&mut self, head: FrameHead, payload: &[u8], output: &mut Vec<u8>) -> Result<(), Violation> {
        self.state = State::Head([0; HEAD], 0);
        let mut block = match self.block.take() {
            Some(mut block) => {
                block.continuations += 1;
                block.fragments.extend_from_slice(payload);
                block
            }
            None => Block::begin(head, payload)?,
        };
        if block.fragments.len() > MAX_BLOCK || block.continuations > MAX_CONTINUATIONS {
            return Err(Violation::TooLarge);
        }
        if head.flags & END_HEADERS == 0 {
            self.block = Some(block);
            return Ok(());
        }
        block.fragments = self.rewrite(&block.fragments)?;
        block.write(output);
        Ok(())
    }

    /// Encodes the fields of a block again, without references and with `localhost` as the authority.
    fn rewrite(&mut self, block: &[u8]) -> Result<Vec<u8>, Violation> {
        let mut rewritten = Vec::with_capacity(block.len() * 2);
        let mut size = 0;
        self.decoder.decode(block, |mut field| {
            // Add no missing authority: h2 requires none. Keep a duplicate: h2 refuses it.
            if field.name == b":authority" {
                field = Field { value: b"localhost", ..field };
            }
            size += field.name.len() + field.value.len() + 32;
            if size > MAX_FIELDS {
                return Err(Violation::TooLarge);
            }
            hpack::encode(&field, &mut rewritten);
            Ok(())
        })?;
        Ok(rewritten)
    }
}

impl Block {
    /// Parses a HEADERS frame (RFC 9113, 6.2). Drops its padding.
    fn begin(head: FrameHead, payload: &[u8]) -> Result<Self, Violation> {
        let mut rest = payload;
        if head.flags & PADDED != 0 {
            let (padding, after) = rest.split_first().ok_or(Violation::Parts)?;
            let length = after.len().checked_sub(usize::from(*padding)).ok_or(Violation::Parts)?;
            rest = &after[..length];
        }
        let priority = if head.flags & PRIORITY != 0 { PRIORITY_FIELD } else { 0 };
        let (priority, fragment) = rest.split_at_checked(priority).ok_or(Violation::Parts)?;
        Ok(Self {
            stream: head.stream,
            flags: head.flags & (END_STREAM | PRIORITY),
            priority: priority.to_vec(),
            fragments: fragment.to_vec(),
            continuations: 0,
        })
    }

    /// Writes the block as one HEADERS frame and as many CONTINUATION frames as it needs.
    fn write(&self, output: &mut Vec<u8>) {
        let room = MAX_FRAME - self.priority.len();
        let (mut part, mut rest) = self.fragments.split_at(self.fragments.len().min(room));
        let (mut kind, mut flags, mut priority) = (HEADERS, self.flags, self.priority.as_slice());
        loop {
            if rest.is_empty() {
                flags |= END_HEADERS;
            }
            FrameHead { length: priority.len() + part.len(), kind, flags, stream: self.stream }.write(output);
            output.extend_from_slice(priority);
            output.extend_from_slice(part);
            if rest.is_empty() {
                return;
            }
            (kind, flags, priority) = (CONTINUATION, 0, &[]);
            (part, rest) = rest.split_at(rest.len().min(MAX_FRAME));
        }
    }
}

#[cfg(test)]
mod tests;
