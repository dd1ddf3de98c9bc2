//! Rates as operators write them: `"100/s"`, `"6/min"`, `"500/h"`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// So many events per second, minute or hour, kept as whole numbers so that nothing drifts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    count: u32,
    per: Per,
}

/// The unit of time of a [`Rate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Per {
    /// `/s`
    Second,
    /// `/min`
    Minute,
    /// `/h`
    Hour,
}

impl Per {
    /// The length of the unit in nanoseconds.
    pub fn nanos(self) -> u64 {
        match self {
            Per::Second => 1_000_000_000,
            Per::Minute => 60_000_000_000,
            Per::Hour => 3_600_000_000_000,
        }
    }
}

/// Why a text is no rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a rate: write a whole number from 1 to 1000000 and a unit, such as \"100/s\", \"6/min\" or \"500/h\"")]
pub struct NotARate;

impl Rate {
    /// The largest count a rate may have.
    pub const MAX_COUNT: u32 = 1_000_000;

    /// A rate of `count` (1 to 1,000,000) per unit.
    ///
    /// # Errors
    /// [`NotARate`] when the count is out of range.
    pub fn new(count: u32, per: Per) -> Result<Rate, NotARate> {
        if (1..=Self::MAX_COUNT).contains(&count) { Ok(Rate { count, per }) } else { Err(NotARate) }
    }

    /// Events per unit.
    pub fn count(self) -> u32 {
        self.count
    }

    /// The unit.
    pub fn per(self) -> Per {
        self.per
    }

    /// So many thousandths of it, for people to read: at least one per unit.
    #[must_use]
    pub fn lowered(self, permille: u32) -> Rate {
        let count = u64::from(self.count) * u64::from(permille.min(1000)) / 1000;
        Rate { count: u32::try_from(count).unwrap_or(self.count).max(1), ..self }
    }

    /// Events per second, for pacing and estimates; never for the budget.
    pub fn per_second(self) -> f64 {
        f64::from(self.count) / Duration::from_nanos(self.per.nanos()).as_secs_f64()
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.per {
            Per::Second => "s",
            Per::Minute => "min",
            Per::Hour => "h",
        };
        write!(f, "{}/{unit}", self.count)
    }
}

impl FromStr for Rate {
    type Err = NotARate;

    fn from_str(text: &str) -> Result<Rate, NotARate> {
        let (count, unit) = text.split_once('/').ok_or(NotARate)?;
        let per = match unit.trim() {
            "s" => Per::Second,
            "min" => Per::Minute,
            "h" => Per::Hour,
            _ => return Err(NotARate),
        };
        Rate::new(count.trim().parse().map_err(|_| NotARate)?, per)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for text in ["100/s", "6/min", "500/h"] {
            assert_eq!(text.parse::<Rate>().map(|rate| rate.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn refuses_what_is_no_rate() {
        for text in ["", "100", "0/s", "-1/s", "1.5/s", "1000001/s", "10/day", "/s"] {
            assert_eq!(text.parse::<Rate>(), Err(NotARate), "{text}");
        }
    }

    #[test]
    fn per_second() {
        assert!(("6/min".parse::<Rate>().map(Rate::per_second).unwrap_or(0.0) - 0.1).abs() < 1e-12);
    }
}
