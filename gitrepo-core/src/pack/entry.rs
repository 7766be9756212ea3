//! The header of one object in a pack.

use std::io::Read;

use git2::ObjectType;
use git2::Oid;

use super::PackError;
use super::input::Input;

/// An object as it stands in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The object itself.
    Plain(ObjectType),
    /// Its difference to the object that begins at this byte of the pack.
    DeltaAt(u64),
    /// Its difference to the object with this id.
    DeltaOf(Oid),
}

/// The header of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// The byte of the pack where it begins.
    pub(super) offset: u64,
    pub(super) form: Form,
    /// Length of what follows once it is inflated, in bytes: the object's, or its delta's.
    pub(super) size: u64,
}

impl Entry {
    /// Reads a header. `offset` is where it begins in the pack.
    pub(super) fn read<R: Read>(input: &mut Input<R>, offset: u64) -> Result<Self, PackError> {
        let damaged = |what| PackError::Object { offset, what };
        let mut byte = input.byte()?;
        let kind = (byte >> 4) & 7;
        let mut size = u64::from(byte & 15);
        let mut shift = 4;
        while byte & 0x80 != 0 {
            byte = input.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift > 60 || bits << shift >> shift != bits {
                return Err(damaged("has no sensible size"));
            }
            size |= bits << shift;
            shift += 7;
        }
        let form = match kind {
            1 => Form::Plain(ObjectType::Commit),
            2 => Form::Plain(ObjectType::Tree),
            3 => Form::Plain(ObjectType::Blob),
            4 => Form::Plain(ObjectType::Tag),
            6 => {
                let back = distance(input)?.filter(|back| *back > 0);
                let base = back.and_then(|back| offset.checked_sub(back));
                Form::DeltaAt(base.ok_or(damaged("is a delta of nothing"))?)
            }
            7 => Form::DeltaOf(Oid::from_bytes(&input.array::<20>()?).map_err(|_| damaged("is a delta of nothing"))?),
            _ => return Err(damaged("has an unknown type")),
        };
        Ok(Self { offset, form, size })
    }
}

/// How far back the base of a delta begins; `None` if that is beyond any pack.
fn distance<R: Read>(input: &mut Input<R>) -> Result<Option<u64>, PackError> {
    let mut byte = input.byte()?;
    let mut distance = u64::from(byte & 0x7f);
    while byte & 0x80 != 0 {
        if distance > u64::MAX >> 8 {
            return Ok(None);
        }
        byte = input.byte()?;
        distance = ((distance + 1) << 7) | u64::from(byte & 0x7f);
    }
    Ok(Some(distance))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], offset: u64) -> Result<Entry, PackError> {
        Entry::read(&mut Input::new(bytes), offset)
    }

    #[test]
    fn sizes_and_distances_have_any_number_of_bytes() {
        for (bytes, form, size) in [
            (&[0x35][..], Form::Plain(ObjectType::Blob), 5),
            (&[0xbf, 0x01], Form::Plain(ObjectType::Blob), 31),
            (&[0x9f, 0xff, 0x7f], Form::Plain(ObjectType::Commit), (1 << 18) - 1),
            (&[0x61, 0x05], Form::DeltaAt(99_995), 1),
            (&[0x61, 0x80, 0x00], Form::DeltaAt(99_872), 1),
            (&[0x61, 0x80, 0xff, 0x00], Form::DeltaAt(100_000 - 32_768), 1),
        ] {
            assert_eq!(read(bytes, 100_000).unwrap(), Entry { offset: 100_000, form, size }, "{bytes:x?}");
        }
        let id = [&[0x72][..], &[7; 20]].concat();
        assert_eq!(read(&id, 12).unwrap().form, Form::DeltaOf(Oid::from_bytes(&[7; 20]).unwrap()));
    }

    #[test]
    fn nonsense_is_refused() {
        let endless = [&[0xb0][..], &[0xff; 20]].concat();
        let far = [&[0x61][..], &[0xff; 20]].concat();
        for bytes in [
            &[0x05][..],
            &[0x55],
            &[0x61, 0x00],
            &[0x61, 0x40],
            &[0xb5],
            &[0x61, 0x80],
            &[0x72, 1],
            &[],
            &endless,
            &far,
        ] {
            assert!(read(bytes, 32).is_err(), "{bytes:x?}");
        }
    }
}
