//! Packet lines: the frames of git's protocol (gitprotocol-common(5)).

use std::io::Read;

use super::answer::AnswerError;

/// Longest packet, in bytes, with its length field.
const LONGEST: usize = 65520;

/// The packet that ends a message.
pub(super) const FLUSH: &[u8] = b"0000";

/// The packet between the sections of a message.
pub(super) const DELIMITER: &[u8] = b"0001";

/// A packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    /// Data, as sent. A text usually ends with a newline: see [`text`].
    Data(&'a [u8]),
    /// Ends a message.
    Flush,
    /// Separates sections of a message.
    Delimiter,
    /// Ends a response, for servers that forget the requests before.
    ResponseEnd,
}

/// A packet as text, without its newline.
pub(super) fn text(data: &[u8]) -> &[u8] {
    data.strip_suffix(b"\n").unwrap_or(data)
}

/// Appends a packet with this data, at most 65,516 bytes.
pub(super) fn append(message: &mut Vec<u8>, data: &str) {
    message.extend_from_slice(format!("{:04x}", data.len() + 4).as_bytes());
    message.extend_from_slice(data.as_bytes());
}

/// Reads packets.
pub(super) struct Packets<'a> {
    stream: &'a mut dyn Read,
    packet: Vec<u8>,
}

impl<'a> Packets<'a> {
    pub(super) fn new(stream: &'a mut dyn Read) -> Self {
        Self { stream, packet: Vec::new() }
    }

    /// The next packet.
    ///
    /// # Errors
    ///
    /// Those of the stream, its end included, and [`AnswerError::Nonsense`] for what is not a packet.
    pub(super) fn next(&mut self) -> Result<Packet<'_>, AnswerError> {
        match header(self.stream)? {
            0 => Ok(Packet::Flush),
            1 => Ok(Packet::Delimiter),
            2 => Ok(Packet::ResponseEnd),
            length => {
                self.packet.resize(length - 4, 0);
                self.stream.read_exact(&mut self.packet)?;
                Ok(Packet::Data(&self.packet))
            }
        }
    }

    /// The stream, after the last packet read.
    pub(super) fn stream(self) -> &'a mut dyn Read {
        self.stream
    }
}

/// Reads the header of a packet: its length in bytes, this header included, or a special packet's number below 3.
pub(super) fn header(stream: &mut dyn Read) -> Result<usize, AnswerError> {
    let mut digits = [0; 4];
    stream.read_exact(&mut digits)?;
    let value = digits.iter().try_fold(0, |value, digit| Some(value * 16 + char::from(*digit).to_digit(16)? as usize));
    match value {
        Some(length @ (0..=2 | 4..=LONGEST)) => Ok(length),
        _ => Err(not_a_packet(digits)),
    }
}

fn not_a_packet(header: [u8; 4]) -> AnswerError {
    AnswerError::Nonsense(format!("a packet of git's protocol cannot begin with \"{}\"", header.escape_ascii()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The packets of a message as text, and whether it just ends.
    fn read(mut message: &[u8]) -> (Vec<String>, bool) {
        let mut packets = Packets::new(&mut message);
        let mut shown = Vec::new();
        loop {
            match packets.next() {
                Ok(Packet::Data(data)) => shown.push(String::from_utf8_lossy(text(data)).into_owned()),
                Ok(other) => shown.push(format!("{other:?}")),
                Err(error) => return (shown, matches!(error, AnswerError::Stream(_))),
            }
        }
    }

    #[test]
    fn packets_are_read_as_they_are_written() {
        let mut message = Vec::new();
        append(&mut message, "command=ls-refs\n");
        message.extend_from_slice(DELIMITER);
        append(&mut message, "");
        message.extend_from_slice(FLUSH);
        assert_eq!(message, b"0014command=ls-refs\n000100040000");
        let shown = ["command=ls-refs", "Delimiter", "", "Flush"].map(str::to_owned).to_vec();
        assert_eq!(read(&message), (shown, true));
    }

    #[test]
    fn a_packet_that_is_cut_short_or_has_no_length_is_an_error() {
        let cases: [(&[u8], bool); 7] = [
            (b"", true),
            (b"00", true),
            (b"0009abcd", true),
            (b"0003", false),
            (b"fff1", false),
            (b"<htm", false),
            (b"+00a", false),
        ];
        for (message, ends) in cases {
            assert_eq!(read(message), (Vec::new(), ends), "{message:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end_without_a_panic(message in any::<Vec<u8>>()) {
            read(&message);
        }
    }
}
