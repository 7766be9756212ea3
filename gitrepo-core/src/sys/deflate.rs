//! libdeflate: inflates what is whole in memory, and computes CRC-32.

use std::ptr;
use std::ptr::NonNull;

use libdeflate_sys as ffi;

/// A decompressor, which can be used any number of times.
pub(crate) struct Decompressor(NonNull<ffi::libdeflate_decompressor>);

impl Decompressor {
    /// `None` if there is not enough memory.
    pub(crate) fn new() -> Option<Self> {
        // SAFETY: the call takes nothing, and returns null or a decompressor that is ours until we free it.
        NonNull::new(unsafe { ffi::libdeflate_alloc_decompressor() }).map(Self)
    }

    /// Inflates the zlib stream at the beginning of `input`, which must fill `output` exactly. Returns its length in
    /// bytes; `None` if it is damaged, longer than `input`, or of another size.
    pub(crate) fn inflate(&mut self, input: &[u8], output: &mut [u8]) -> Option<usize> {
        let mut consumed = 0;
        // SAFETY: the decompressor is alive, and exclusively borrowed. The call reads at most `input.len()` bytes of
        // `input`, writes at most `output.len()` bytes of `output`, and writes `consumed`. Without a place for the
        // number of bytes that were made, it fails unless `output` is full.
        let result = unsafe {
            ffi::libdeflate_zlib_decompress_ex(
                self.0.as_ptr(),
                input.as_ptr().cast(),
                input.len(),
                output.as_mut_ptr().cast(),
                output.len(),
                &raw mut consumed,
                ptr::null_mut(),
            )
        };
        (result == ffi::libdeflate_result_LIBDEFLATE_SUCCESS).then_some(consumed)
    }
}

impl Drop for Decompressor {
    fn drop(&mut self) {
        // SAFETY: it was allocated by libdeflate, and nobody uses it any more.
        unsafe { ffi::libdeflate_free_decompressor(self.0.as_ptr()) };
    }
}

/// The CRC-32 of what was seen before, of which `crc` is the CRC-32, and of `bytes`. That of nothing is 0.
pub(crate) fn crc32(crc: u32, bytes: &[u8]) -> u32 {
    // SAFETY: the call reads `bytes.len()` bytes of `bytes`.
    unsafe { ffi::libdeflate_crc32(crc, bytes.as_ptr().cast(), bytes.len()) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::ZlibEncoder;

    use super::*;

    #[test]
    fn a_stream_fills_its_output_exactly_or_fails() {
        let content = b"0123456789".repeat(1000);
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(&content).unwrap();
        let stream = zlib.finish().unwrap();
        let followed = [&stream[..], b"what follows"].concat();
        let mut decompressor = Decompressor::new().unwrap();
        let mut inflate = |input: &[u8], size: usize| {
            let mut output = vec![0; size];
            decompressor.inflate(input, &mut output).map(|consumed| (consumed, output))
        };
        assert_eq!(inflate(&followed, content.len()), Some((stream.len(), content.clone())));
        assert_eq!(inflate(&followed, content.len() - 1), None);
        assert_eq!(inflate(&followed, content.len() + 1), None);
        assert_eq!(inflate(&stream[..stream.len() - 1], content.len()), None);
        assert_eq!(inflate(b"", 0), None);
        let mut damaged = stream;
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(inflate(&damaged, content.len()), None, "the checksum is another one");
    }

    #[test]
    fn a_checksum_goes_on() {
        assert_eq!(crc32(0, b""), 0);
        assert_eq!(crc32(0, b"123456789"), 0xCBF4_3926);
        assert_eq!(crc32(crc32(0, b"1234"), b"56789"), 0xCBF4_3926);
    }
}
