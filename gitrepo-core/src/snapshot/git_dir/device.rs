//! The files of `.git` that we write, as a device of an image.

use super::super::Ownership;
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
pub(crate) fn content(listed: &Listed, places: &[u64], inodes: &[u64], ownership: &Ownership) -> Vec<u8> {
    let mut device = Vec::new();
    for (number, (content, place)) in listed.written.iter().zip(places).enumerate() {
        // Both begin at a boundary.
        device.resize(usize::try_from(*place).unwrap_or_default(), 0);
        if number + 1 == listed.written.len() {
            device.extend(index_of(listed, content, inodes, ownership));
        } else {
            device.extend_from_slice(content);
        }
    }
    device.resize(device.len().next_multiple_of(ALIGNMENT as usize), 0);
    device
}

/// The index with what lstat(2) says of the files of the image.
fn index_of(listed: &Listed, template: &[u8], inodes: &[u64], ownership: &Ownership) -> Vec<u8> {
    let tracked: Vec<usize> = listed.tracked().map(|(node, ..)| node).collect();
    let time = (listed.time, 0);
    let stat = |number: usize, _: &[u8]| {
        let node = *tracked.get(number)?;
        let size = listed.nodes[node].kind.size();
        let inode = *inodes.get(node)?;
        Some(Stat { changed: time, modified: time, inode, uid: ownership.uid, gid: ownership.gid, size })
    };
    let mut bytes = template.to_vec();
    // It is an index: we made it.
    index::fill(&mut bytes, stat).unwrap_or_default();
    bytes
}
