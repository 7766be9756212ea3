//! Medians, and how far samples lie apart.

use serde::Serialize;

/// Of some numbers, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The least.
    pub least: f64,
    /// The one in the middle; of an even number, the mean of the two in the middle.
    pub median: f64,
    /// The most.
    pub most: f64,
}

impl Spread {
    /// `None` of no numbers.
    pub fn of(numbers: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut numbers: Vec<f64> = numbers.into_iter().collect();
        numbers.sort_by(f64::total_cmp);
        let (least, most) = (*numbers.first()?, *numbers.last()?);
        let (below, above) = (numbers[(numbers.len() - 1) / 2], numbers[numbers.len() / 2]);
        Some(Self { least, median: (below + above) / 2.0, most })
    }

    /// Of the quotients of two series, round by round: what slows both down in a round does not show.
    pub fn of_ratios(
        numerators: impl IntoIterator<Item = f64>,
        denominators: impl IntoIterator<Item = f64>,
    ) -> Option<Self> {
        Self::of(numerators.into_iter().zip(denominators).map(|(numerator, denominator)| numerator / denominator))
    }

    /// Each number by `factor`, which is positive.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        Self { least: self.least * factor, median: self.median * factor, most: self.most * factor }
    }
}
