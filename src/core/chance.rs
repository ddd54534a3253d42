//! A small seeded generator, so that random policies replay (SplitMix64, Steele et al., OOPSLA 2014).

/// Draws that depend on the seed alone.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// A generator.
    pub fn seeded(seed: u64) -> Self {
        Chance(seed)
    }

    /// 64 random bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.draw()) * bound as u128) >> 64) as usize
    }
}
