//! Random numbers that are the same on every machine.

/// A sequence of splitmix64.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number less than `bound`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A number of a log-normal distribution with median 1, as sizes of source files have it.
    pub(super) fn log_normal(&mut self) -> f64 {
        const SIGMA: f64 = 1.2;
        // A sum of twelve uniform numbers is as good as normal here, and needs no function of libm, which may differ.
        let uniform: f64 = (0..12).map(|_| (self.next() >> 11) as f64 / (1_u64 << 53) as f64).sum();
        let exponent = SIGMA * (uniform - 6.0);
        // (1 + x/1024)^1024 is close to the exponential function.
        (0..10).fold(1.0 + exponent / 1024.0, |power, _| power * power)
    }
}
