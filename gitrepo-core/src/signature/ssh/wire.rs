//! SSH's wire format (RFC 4251, section 5).

/// Reads values one after the other. `None` where there is no such value.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    /// A string with its length before it.
    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (string, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(string)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    pub(super) fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*number))
    }

    pub(super) fn long_number(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*number))
    }

    /// A positive integer, without the zero before it that marks it as positive.
    pub(super) fn positive(&mut self) -> Option<&'a [u8]> {
        let bytes = self.string()?;
        match bytes {
            [0, rest @ ..] => Some(rest),
            [first, ..] if first & 0x80 != 0 => None,
            bytes => Some(bytes),
        }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }
}

/// Writes a string with its length before it.
pub(super) fn string(bytes: &[u8]) -> Vec<u8> {
    // Nothing that is signed is longer.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), bytes].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_beyond_its_end() {
        let bytes = [string(b"one"), vec![0, 0, 0, 7], string(&[0, 0x80])].concat();
        let mut reader = Reader(&bytes);
        assert_eq!((reader.string(), reader.number()), (Some(&b"one"[..]), Some(7)));
        assert_eq!((reader.positive(), reader.is_at_end()), (Some(&[0x80][..]), true));
        assert_eq!((reader.string(), reader.byte(), reader.number(), reader.long_number()), (None, None, None, None));
        assert_eq!(Reader(&[0xff, 0xff, 0xff, 0xff, 1]).string(), None);
        assert_eq!(Reader(&string(&[0x80])).positive(), None, "a negative one");
    }
}
