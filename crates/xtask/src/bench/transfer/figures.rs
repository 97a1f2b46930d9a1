//! What a handful of times says.

use std::time::Duration;

/// The middle one of several figures, and the range of all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// Of at least one figure; of an even number the lower of the two in the middle is the median.
    pub(crate) fn of(mut figures: Vec<f64>) -> Option<Self> {
        figures.sort_by(f64::total_cmp);
        let median = *figures.get(figures.len().checked_sub(1)? / 2)?;
        Some(Self { median, least: *figures.first()?, most: *figures.last()? })
    }

    /// Rates in MiB/s of `mib` in each of these times.
    pub(crate) fn of_rates(mib: u64, times: &[Duration]) -> Option<Self> {
        Self::of(times.iter().map(|time| mib as f64 / time.as_secs_f64()).collect())
    }

    /// How much faster one was than the other in each round: 1 is as fast, 0.5 takes twice as long.
    pub(crate) fn of_ratios(measured: &[Duration], baseline: &[Duration]) -> Option<Self> {
        let ratios = measured.iter().zip(baseline).map(|(m, b)| b.as_secs_f64() / m.as_secs_f64());
        Self::of(ratios.collect())
    }
}

/// Such as "0.93 (0.90 to 0.97)".
pub(crate) fn shown(spread: Option<Spread>, decimals: usize) -> String {
    match spread {
        Some(Spread { median, least, most }) => {
            format!("{median:.decimals$} ({least:.decimals$} to {most:.decimals$})")
        }
        None => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slow_round_does_not_move_the_median() {
        let rates = Spread::of_rates(100, &[5, 900, 4, 6, 3].map(Duration::from_secs));
        assert_eq!(rates.map(|rates| rates.median), Some(20.0));
        assert_eq!(Spread::of(Vec::new()), None);
    }

    #[test]
    fn ratios_are_those_of_the_rounds() {
        // A slow second round meets both.
        let (ours, theirs) = ([1, 8].map(Duration::from_secs), [1, 4].map(Duration::from_secs));
        assert_eq!(Spread::of_ratios(&ours, &theirs), Some(Spread { median: 0.5, least: 0.5, most: 1.0 }));
    }
}
