//! Numbers and packets as OpenPGP writes them (RFC 9580, sections 3 and 4).

/// Reads values one after the other. `None` where there is no such value.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

/// A packet, or a part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packet<'a> {
    /// Its type ID.
    pub(super) kind: u8,
    pub(super) body: &'a [u8],
}

/// Something that a signature says, in a subpacket (RFC 9580, section 5.2.3.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Subpacket<'a> {
    pub(super) kind: u8,
    /// Whether who does not know it must refuse the signature.
    pub(super) is_critical: bool,
    pub(super) body: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    pub(super) fn short(&mut self) -> Option<u16> {
        let (number, rest) = self.0.split_first_chunk::<2>()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*number))
    }

    pub(super) fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*number))
    }

    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// What a number of two octets announces.
    pub(super) fn after_short(&mut self) -> Option<&'a [u8]> {
        let length = self.short()?;
        self.take(usize::from(length))
    }

    /// What a number of four octets announces.
    pub(super) fn after_number(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        self.take(length)
    }

    /// A positive integer, which begins with the number of its bits.
    pub(super) fn integer(&mut self) -> Option<&'a [u8]> {
        let bits = self.short()?;
        self.take(usize::from(bits).div_ceil(8))
    }

    /// A packet in one piece: keys and signatures have no parts, and an end.
    pub(super) fn packet(&mut self) -> Option<Packet<'a>> {
        let first = self.byte()?;
        let (kind, length) = match first {
            0xc0.. => (first & 0x3f, self.length(223)?),
            0x80.. => {
                let length = match first & 3 {
                    0 => u32::from(self.byte()?),
                    1 => u32::from(self.short()?),
                    2 => self.number()?,
                    _ => return None,
                };
                (first >> 2 & 0xf, length)
            }
            _ => return None,
        };
        Some(Packet { kind, body: self.take(usize::try_from(length).ok()?)? })
    }

    pub(super) fn subpacket(&mut self) -> Option<Subpacket<'a>> {
        let length = self.length(254)?;
        let (first, body) = self.take(usize::try_from(length).ok()?)?.split_first()?;
        Some(Subpacket { kind: first & 0x7f, is_critical: first & 0x80 != 0, body })
    }

    /// A length of one, two or five octets. A first octet of up to `two` begins one of two.
    fn length(&mut self, two: u8) -> Option<u32> {
        match self.byte()? {
            one @ ..192 => Some(u32::from(one)),
            255 => self.number(),
            first if first <= two => Some(((u32::from(first) - 192) << 8) + u32::from(self.byte()?) + 192),
            _ => None,
        }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_both_formats_are_read_and_none_without_an_end() {
        let long = [vec![0xc2, 192, 8], vec![7; 200]].concat();
        for (bytes, kind, length) in [
            (vec![0xc2, 1, 7], 2, 1),
            (long, 2, 200),
            (vec![0xc6, 255, 0, 0, 0, 1, 7], 6, 1),
            (vec![0x88, 1, 7], 2, 1),
            (vec![0x99, 0, 1, 7], 6, 1),
            (vec![0x9a, 0, 0, 0, 1, 7], 6, 1),
        ] {
            let mut reader = Reader(&bytes);
            let packet = reader.packet().unwrap();
            assert_eq!((packet.kind, packet.body), (kind, &vec![7; length][..]), "{bytes:?}");
            assert!(reader.is_at_end());
        }
        for bytes in [
            &[][..],
            &[0x12, 1, 7],
            &[0xc2],
            &[0xc2, 2, 7],
            &[0xc2, 224, 7],
            &[0xc2, 255, 255, 255, 255, 255, 7],
            &[0x8b, 7],
            &[0x9a, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert_eq!(Reader(bytes).packet(), None, "{bytes:?}");
        }
    }

    #[test]
    fn subpackets_have_a_kind_and_lengths_of_their_own() {
        let read = |bytes: &'static [u8]| Reader(bytes).subpacket();
        assert_eq!(read(&[2, 0x82, 7]), Some(Subpacket { kind: 2, is_critical: true, body: &[7] }));
        assert_eq!(read(&[1, 2]), Some(Subpacket { kind: 2, is_critical: false, body: &[] }));
        // 224 would be a part of a packet.
        let long: Vec<u8> = [vec![224, 0, 2], vec![7; 8383]].concat();
        assert_eq!(Reader(&long).subpacket().unwrap().body.len(), 8383);
        for bytes in [&[][..], &[0], &[2, 2], &[255, 0, 0, 0, 0]] {
            assert_eq!(Reader(bytes).subpacket(), None, "{bytes:?}");
        }
    }

    #[test]
    fn an_integer_begins_with_its_bits() {
        let mut reader = Reader(&[0, 9, 1, 2, 0, 0, 0, 8]);
        assert_eq!((reader.integer(), reader.integer(), reader.integer()), (Some(&[1, 2][..]), Some(&[][..]), None));
    }
}
