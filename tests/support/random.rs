//! A small generator of numbers, so that a failing run can be repeated from its seed.

/// Numbers that follow from a seed, which is not zero.
pub struct Random(pub u64);

impl Random {
    /// The next one, from 0 to below 1.
    pub fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A span of this mean, in its unit.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.next()).ln()
    }
}
