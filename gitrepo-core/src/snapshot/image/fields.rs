//! The fields of a structure in an image, written one after the other.

/// What is left of a structure. It is zero before it is written.
pub(super) struct Fields<'a>(pub(super) &'a mut [u8]);

impl Fields<'_> {
    /// Writes the next field: a number in little-endian order.
    pub(super) fn put<const LENGTH: usize>(&mut self, field: [u8; LENGTH]) {
        self.next(LENGTH).copy_from_slice(&field);
    }

    /// Leaves reserved or unused bytes zero.
    pub(super) fn skip(&mut self, length: usize) {
        self.next(length);
    }

    fn next(&mut self, length: usize) -> &mut [u8] {
        let (field, rest) = std::mem::take(&mut self.0).split_at_mut(length);
        self.0 = rest;
        field
    }
}
