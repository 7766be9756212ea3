//! The files of `.git` that we write, as a device of an image.

use std::io;

use super::super::Ownership;
use super::super::SnapshotError;
use super::super::mountable::listed::Listed;
use super::index;
use super::index::Stat;
use crate::content::ALIGNMENT;

/// Where each file begins on the device, in bytes, and the length of the device.
pub(crate) fn places(written: &[Vec<u8>]) -> (Vec<u64>, u64) {
    let mut end = 0;
    let place = |content: &Vec<u8>| {
        let start = end;
        end = (start + super::super::widen(content.len())).next_multiple_of(ALIGNMENT);
        start
    };
    let places = written.iter().map(place).collect();
    (places, end)
}

/// The content of the device. The image has these inode numbers, in the order of the nodes, and belongs to these owners.
pub(crate) fn content(
    listed: &Listed,
    places: &[u64],
    length: u64,
    inodes: &[u64],
    ownership: &Ownership,
) -> Result<Vec<u8>, SnapshotError> {
    let failed = |kind: io::ErrorKind| SnapshotError::io("make", super::INDEX.as_bytes(), kind);
    let length = usize::try_from(length).map_err(|_| failed(io::ErrorKind::OutOfMemory))?;
    let mut device = Vec::with_capacity(length);
    for (number, (content, place)) in listed.written.iter().zip(places).enumerate() {
        // Both begin at a boundary.
        device.resize(usize::try_from(*place).unwrap_or(length), 0);
        let start = device.len();
        device.extend_from_slice(content);
        if listed.is_index(number) {
            fill_index(listed, &mut device[start..], inodes, ownership)
                .ok_or_else(|| failed(io::ErrorKind::InvalidData))?;
        }
    }
    device.resize(length, 0);
    Ok(device)
}

/// Fills in what lstat(2) says of the files of the image. `None` if the index does not have exactly its entries.
fn fill_index(listed: &Listed, index: &mut [u8], inodes: &[u64], ownership: &Ownership) -> Option<()> {
    let mut tracked = listed.tracked();
    let time = (listed.time, 0);
    let mut is_known = true;
    let mut stat = || {
        let (node, ..) = tracked.next()?;
        let size = listed.nodes[node].kind.size();
        let inode = *inodes.get(node)?;
        Some(Stat { changed: time, modified: time, inode, uid: ownership.uid, gid: ownership.gid, size })
    };
    // The index has them in this order.
    index::fill(index, |_, _| {
        let found = stat();
        is_known &= found.is_some();
        found
    })?;
    (is_known && tracked.next().is_none()).then_some(())
}
