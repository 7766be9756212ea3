//! Which frames the rewriter changes or passes on, and which end the connection.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A frame as a client sends it.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    FrameHead { length: payload.len(), kind, flags, stream: stream.to_be_bytes() }.write(&mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

/// Feeds a preface and `frames` in pieces of `piece` bytes, and returns the output after the preface.
fn rewritten(frames: &[u8], piece: usize) -> Result<Vec<u8>, Violation> {
    let input = [PREFACE, frames].concat();
    let mut rewriter = Rewriter::default();
    let mut all = Vec::new();
    for mut part in input.chunks(piece) {
        while !part.is_empty() {
            let mut output = Vec::new();
            let taken = rewriter.advance(part, &mut output)?;
            assert!(taken > 0 && output.len() <= AHEAD + MAX_FIELDS + 1024, "{taken} {}", output.len());
            part = &part[taken..];
            all.extend(output);
        }
    }
    Ok(all.strip_prefix(PREFACE).expect("the preface passes").to_vec())
}

/// Parses frames into kind, flags, stream and payload.
fn frames(mut bytes: &[u8]) -> Vec<(u8, u8, u32, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() {
        let head = FrameHead::parse(*head);
        let (payload, rest) = rest.split_at(head.length);
        frames.push((head.kind, head.flags, u32::from_be_bytes(head.stream), payload.to_vec()));
        bytes = rest;
    }
    assert!(bytes.is_empty(), "a frame is cut off");
    frames
}

fn fields(block: &[u8]) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    Decoder::new()
        .decode(block, |field| {
            fields.push((text(field.name), text(field.value)));
            Ok::<(), Violation>(())
        })
        .unwrap();
    fields
}

/// A block with `:method: POST`, an authority, and a field that enters the table.
const BLOCK: &[u8] = b"\x83\x41\x05/a/b/\x40\x01a\x01b";

fn expected() -> Vec<(String, String)> {
    [(":method", "POST"), (":authority", "localhost"), ("a", "b")].map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec()
}

#[test]
fn the_authority_becomes_localhost_however_the_block_is_framed() {
    let padded = [&[3][..], BLOCK, &[0; 3]].concat();
    let priority = [&[0x80, 0, 0, 1, 15][..], BLOCK].concat();
    let both = [&[2, 0x80, 0, 0, 1, 15][..], BLOCK, &[0; 2]].concat();
    let (first, rest) = BLOCK.split_at(4);
    let split = [
        frame(HEADERS, END_STREAM | PADDED, 5, &[&[1][..], first, &[0]].concat()),
        frame(CONTINUATION, 0, 5, &[]),
        frame(CONTINUATION, END_HEADERS, 5, rest),
    ];
    let cases = [
        (frame(HEADERS, END_HEADERS | END_STREAM, 5, BLOCK), 0),
        (frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 5, &padded), 0),
        (frame(HEADERS, END_HEADERS | END_STREAM | PRIORITY, 5, &priority), 5),
        (frame(HEADERS, END_HEADERS | END_STREAM | PRIORITY | PADDED, 5, &both), 5),
        (split.concat(), 0),
    ];
    for (input, priority) in cases {
        for piece in [1, 2, 7, 1000] {
            let output = frames(&rewritten(&input, piece).unwrap());
            let [(HEADERS, flags, 5, payload)] = output.as_slice() else { panic!("{output:?}") };
            assert_eq!(flags & !PRIORITY, END_HEADERS | END_STREAM);
            assert_eq!(flags & PRIORITY != 0, priority > 0);
            assert_eq!(&payload[..priority], &[0x80, 0, 0, 1, 15][..priority]);
            assert_eq!(fields(&payload[priority..]), expected());
        }
    }
}

#[test]
fn a_block_may_refer_to_entries_of_an_earlier_block() {
    // The second request names both entries by their indices.
    let input = [
        frame(HEADERS, END_HEADERS, 1, BLOCK),
        frame(0, END_STREAM, 1, b"data"),
        frame(HEADERS, END_HEADERS, 3, &[0x83, 0xbf, 0xbe]),
    ];
    let output = frames(&rewritten(&input.concat(), 3).unwrap());
    assert_eq!(output[1], (0, END_STREAM, 1, b"data".to_vec()));
    assert_eq!(fields(&output[2].3), expected());
}

#[test]
fn an_absent_authority_stays_absent_and_an_empty_one_becomes_localhost() {
    let absent = frames(&rewritten(&frame(HEADERS, END_HEADERS, 1, &[0x83]), 9).unwrap());
    assert_eq!(fields(&absent[0].3), [(":method".to_owned(), "POST".to_owned())]);
    let empty = frames(&rewritten(&frame(HEADERS, END_HEADERS, 1, &[0x81]), 9).unwrap());
    assert_eq!(fields(&empty[0].3), [(":authority".to_owned(), "localhost".to_owned())]);
}

#[test]
fn other_frames_pass_unchanged() {
    let large = vec![7; 70_000];
    let input = [
        frame(4, 0, 0, &[]),
        frame(6, 0, 0, b"12345678"),
        frame(0x2a, 0xff, 0x8000_0001, b"unknown"),
        frame(0, 0, 1, &large),
        frame(8, 0, 1, &[0, 0, 0, 1]),
    ]
    .concat();
    assert_eq!(rewritten(&input, 4096).unwrap(), input);
}

#[test]
fn a_block_that_grows_beyond_a_frame_is_continued() {
    // Five entries of about 4,000 bytes each are one byte each on the wire.
    let mut block = b"\x40\x01a\x7f\xa1\x1e".to_vec();
    block.extend(vec![b'x'; 4000]);
    block.extend([0xbe; 9]);
    let output = frames(&rewritten(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block), 5000).unwrap());
    let heads: Vec<(u8, u8)> = output.iter().map(|frame| (frame.0, frame.1)).collect();
    assert_eq!(heads, [(HEADERS, END_STREAM), (CONTINUATION, 0), (CONTINUATION, END_HEADERS)]);
    assert!(output.iter().all(|frame| frame.3.len() <= MAX_FRAME));
    let whole: Vec<u8> = output.into_iter().flat_map(|frame| frame.3).collect();
    assert_eq!(fields(&whole), vec![("a".to_owned(), "x".repeat(4000)); 10]);
}

#[test]
fn hostile_frames_end_the_connection() {
    let open = frame(HEADERS, 0, 1, BLOCK);
    let after_open = |next: Vec<u8>| rewritten(&[open.clone(), next].concat(), 100);
    assert_eq!(after_open(frame(0, 0, 1, b"x")), Err(Violation::Order(0)));
    assert_eq!(after_open(frame(0x2a, 0, 1, b"x")), Err(Violation::Order(0x2a)));
    assert_eq!(after_open(frame(HEADERS, 0, 3, BLOCK)), Err(Violation::Order(HEADERS)));
    assert_eq!(after_open(frame(CONTINUATION, END_HEADERS, 3, b"")), Err(Violation::Order(CONTINUATION)));
    assert_eq!(after_open(frame(CONTINUATION, 0, 1, b"").repeat(200)), Err(Violation::TooLarge));
    assert_eq!(after_open(frame(CONTINUATION, 0, 1, &[0x82; 16_384]).repeat(3)), Err(Violation::TooLarge));
    let alone = |frame: Vec<u8>| rewritten(&frame, 100);
    assert_eq!(alone(frame(CONTINUATION, END_HEADERS, 1, BLOCK)), Err(Violation::Order(CONTINUATION)));
    assert_eq!(alone(frame(PUSH_PROMISE, END_HEADERS, 1, BLOCK)), Err(Violation::Order(PUSH_PROMISE)));
    assert_eq!(alone(frame(HEADERS, END_HEADERS, 1, &[0x82; 16_385])), Err(Violation::FrameSize(16_385)));
    assert_eq!(alone(frame(HEADERS, END_HEADERS | PADDED, 1, &[])), Err(Violation::Parts));
    assert_eq!(alone(frame(HEADERS, END_HEADERS | PADDED, 1, &[2, 0x82])), Err(Violation::Parts));
    assert_eq!(alone(frame(HEADERS, END_HEADERS | PRIORITY, 1, &[0; 4])), Err(Violation::Parts));
    assert_eq!(alone(frame(HEADERS, END_HEADERS, 1, &[0xbe])), Err(Violation::Block(Malformed::Index(62))));
    assert_eq!(Rewriter::default().advance(b"GET / HTTP/1.1\r\n", &mut Vec::new()), Err(Violation::Preface));
}

#[test]
fn a_small_block_of_large_entries_is_refused() {
    let mut block = b"\x40\x01a\x7f\xa1\x1e".to_vec();
    block.extend(vec![b'x'; 4000]);
    block.extend([0xbe; 1000]);
    assert_eq!(rewritten(&frame(HEADERS, END_HEADERS, 1, &block), 5000), Err(Violation::TooLarge));
}

#[test]
fn output_is_bounded_while_input_waits() {
    let mut block = b"\x40\x01a\x7f\xa1\x1e".to_vec();
    block.extend(vec![b'x'; 4000]);
    let mut input = [PREFACE, &frame(HEADERS, END_HEADERS, 1, &block)].concat();
    input.extend(frame(HEADERS, END_HEADERS, 3, &[0xbe; 15]).repeat(100));
    let mut output = Vec::new();
    let taken = Rewriter::default().advance(&input, &mut output).unwrap();
    assert!(taken < input.len() && output.len() < AHEAD + MAX_FIELDS, "{taken} {}", output.len());
}

/// How a test client writes one field.
#[derive(Clone, Debug)]
enum Representation {
    Indexed,
    Remembered,
    Plain,
    Never,
}

/// An encoder with its own table, deliberately separate from the decoder's.
#[derive(Default)]
struct Client {
    table: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Client {
    fn write(&mut self, name: &[u8], value: &[u8], how: &Representation, into: &mut Vec<u8>) {
        let known = self.table.iter().position(|entry| entry.0 == name && entry.1 == value);
        match (how, known) {
            (Representation::Indexed, Some(at)) if at + 62 < 127 => into.push(0x80 | (at + 62) as u8),
            (Representation::Indexed | Representation::Remembered, _) => {
                Self::literal(0x40, name, value, into);
                self.table.insert(0, (name.to_vec(), value.to_vec()));
                let size =
                    |table: &[(Vec<u8>, Vec<u8>)]| table.iter().map(|e| e.0.len() + e.1.len() + 32).sum::<usize>();
                while size(&self.table) > 4096 {
                    self.table.pop();
                }
            }
            (Representation::Plain, _) => Self::literal(0, name, value, into),
            (Representation::Never, _) => Self::literal(0x10, name, value, into),
        }
    }

    fn literal(kind: u8, name: &[u8], value: &[u8], into: &mut Vec<u8>) {
        into.push(kind);
        for bytes in [name, value] {
            into.push(bytes.len() as u8);
            into.extend_from_slice(bytes);
        }
    }
}

fn representation() -> impl Strategy<Value = Representation> {
    prop_oneof![
        Just(Representation::Indexed),
        Just(Representation::Remembered),
        Just(Representation::Plain),
        Just(Representation::Never)
    ]
}

fn field() -> impl Strategy<Value = (Vec<u8>, Vec<u8>, Representation)> {
    let name = prop_oneof![
        Just(b":authority".to_vec()),
        Just(b"te".to_vec()),
        vec(b'a'..=b'd', 1..3),
        vec(any::<u8>(), 0..40)
    ];
    (name, vec(any::<u8>(), 0..100), representation())
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..2000), piece in 1_usize..50) {
        rewritten(&bytes, piece).ok();
    }

    #[test]
    fn random_frames_never_panic(
        frames in vec((0_u8..12, any::<u8>(), 0_u32..4, vec(any::<u8>(), 0..200)), 0..20),
        piece in 1_usize..300,
    ) {
        let bytes: Vec<u8> = frames.iter().flat_map(|(kind, flags, stream, payload)| frame(*kind, *flags, *stream, payload)).collect();
        rewritten(&bytes, piece).ok();
    }

    #[test]
    fn random_blocks_never_panic(blocks in vec(vec(any::<u8>(), 0..100), 0..20)) {
        let bytes: Vec<u8> = blocks.iter().flat_map(|block| frame(HEADERS, END_HEADERS, 1, block)).collect();
        rewritten(&bytes, 64).ok();
    }

    #[test]
    fn a_valid_stream_comes_out_equivalent(
        requests in vec((vec(field(), 0..30), vec(any::<u8>(), 0..300), 1_usize..200), 1..8),
        piece in 1_usize..3000,
    ) {
        let mut client = Client::default();
        let mut input = Vec::new();
        for (stream, (fields, data, cut)) in (1..).step_by(2).zip(&requests) {
            let mut block = Vec::new();
            for (name, value, how) in fields {
                client.write(name, value, how, &mut block);
            }
            // Not more continuations than are allowed.
            let cut = (*cut).max(block.len().div_ceil(MAX_CONTINUATIONS));
            let (first, rest) = block.split_at(block.len().min(cut));
            let last = if rest.is_empty() { END_HEADERS } else { 0 };
            input.extend(frame(HEADERS, last, stream, first));
            let parts = rest.chunks(cut).count();
            for (at, part) in rest.chunks(cut).enumerate() {
                input.extend(frame(CONTINUATION, if at + 1 == parts { END_HEADERS } else { 0 }, stream, part));
            }
            input.extend(frame(0, END_STREAM, stream, data));
        }
        let output = frames(&rewritten(&input, piece).unwrap());
        prop_assert_eq!(output.len(), requests.len() * 2);
        for ((stream, (sent, data, _)), pair) in (1..).step_by(2).zip(&requests).zip(output.chunks(2)) {
            let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
            let sent: Vec<(String, String)> = sent
                .iter()
                .map(|(name, value, _)| (text(name), if name == b":authority" { "localhost".to_owned() } else { text(value) }))
                .collect();
            prop_assert_eq!((pair[0].0, pair[0].1, pair[0].2), (HEADERS, END_HEADERS, stream));
            prop_assert_eq!(fields(&pair[0].3), sent);
            prop_assert_eq!(&pair[1], &(0, END_STREAM, stream, data.clone()));
        }
    }
}
