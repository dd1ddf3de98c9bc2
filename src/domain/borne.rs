//! What the portal has borne so far: the highest rate at which visitors entered for a whole minute while it was well.

use std::collections::VecDeque;

/// Seconds for which a rate must last to count.
const SUSTAINED: usize = 60;

/// A rate above this many times what was borne is worth a warning.
const ABOVE: f64 = 1.05;

/// The last minute of entries, and the best minute there ever was.
#[derive(Clone, Debug, Default)]
pub struct Borne {
    minute: VecDeque<u64>,
    best: f64,
}

/// How the portal did in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Did {
    /// It was well.
    Well,
    /// It was not: what entered until then says nothing good.
    Badly,
}

impl Borne {
    /// One that has seen this rate before, in entries per second.
    pub fn having_seen(best: f64) -> Borne {
        Borne { minute: VecDeque::new(), best: if best.is_finite() { best.max(0.0) } else { 0.0 } }
    }

    /// Notes a second in which so many visitors entered.
    pub fn note(&mut self, entries: u64, did: Did) {
        if did == Did::Badly {
            self.minute.clear();
            return;
        }
        if self.minute.len() == SUSTAINED {
            self.minute.pop_front();
        }
        self.minute.push_back(entries);
        if self.minute.len() == SUSTAINED {
            let sum: u64 = self.minute.iter().sum();
            self.best = self.best.max(sum as f64 / SUSTAINED as f64);
        }
    }

    /// Entries per second in the best minute; zero when there was none.
    pub fn best(&self) -> f64 {
        self.best
    }

    /// What to tell an operator who wants to admit so many per second instead of `before`.
    pub fn warning(&self, before: f64, wanted: f64) -> Option<String> {
        if wanted <= before || wanted <= self.best * ABOVE {
            return None;
        }
        let known = if self.best > 0.0 { self.best } else { before };
        let [wanted, known] = told_apart([wanted, known]);
        Some(if self.best > 0.0 {
            format!(
                "{wanted} are more than the portal has borne so far: at most {known} for a minute while it was well"
            )
        } else {
            format!("nothing is known yet of what the portal bears; {wanted} are more than {known} now")
        })
    }
}

/// Units in which rates are said, with seconds in each.
const UNITS: [(&str, f64); 3] = [("second", 1.0), ("minute", 60.0), ("hour", 3600.0)];

/// Two rates per second in words: in a unit in which both are at least one, or neither is in any, and with as many decimals
/// as it takes to tell them apart.
fn told_apart(rates: [f64; 2]) -> [String; 2] {
    let least = rates.into_iter().filter(|rate| *rate > 0.0).fold(f64::INFINITY, f64::min);
    let [_, .., last] = UNITS;
    let (unit, seconds) = UNITS.into_iter().find(|(_, seconds)| least * seconds >= 1.0).unwrap_or(last);
    let with = |decimals: usize| rates.map(|rate| format!("{:.decimals$}", rate * seconds));
    let [one, other] = rates.map(|rate| rate * seconds);
    // Where they are far apart, or large, decimals say nothing.
    let decimals = if (one - other).abs() >= 10.0 || one.min(other) >= 100.0 { 0 } else { 1 };
    let texts = (decimals..=2).map(with).find(|[one, other]| one != other).unwrap_or_else(|| with(3));
    texts.map(|number| format!("{} entries a {unit}", number.strip_suffix(".0").unwrap_or(&number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(borne: &mut Borne, count: usize, entries: u64, did: Did) {
        (0..count).for_each(|_| borne.note(entries, did));
    }

    #[test]
    fn only_a_whole_minute_in_health_counts() {
        let mut borne = Borne::default();
        seconds(&mut borne, 59, 50, Did::Well);
        assert_eq!(borne.best(), 0.0);
        seconds(&mut borne, 1, 0, Did::Badly);
        seconds(&mut borne, 59, 50, Did::Well);
        assert_eq!(borne.best(), 0.0);
        seconds(&mut borne, 1, 50, Did::Well);
        assert_eq!(borne.best(), 50.0);
        seconds(&mut borne, 100, 10, Did::Well);
        assert_eq!(borne.best(), 50.0, "the best minute stays");
    }

    #[test]
    fn more_than_was_borne_is_worth_a_warning() {
        let borne = Borne::having_seen(50.0);
        assert_eq!(borne.warning(20.0, 50.0), None);
        assert!(borne.warning(20.0, 80.0).is_some_and(|text| text.contains("at most 50 entries a second")));
        assert_eq!(borne.warning(100.0, 80.0), None, "less than now");
        assert!(Borne::default().warning(1.0, 2.0).is_some_and(|text| text.starts_with("nothing is known")));
        assert_eq!(Borne::having_seen(f64::NAN).best(), 0.0);
    }

    #[test]
    fn rates_are_said_so_that_they_differ() {
        let said = |one: f64, other: f64| told_apart([one, other]).map(|text| text.replace(" entries a ", "/"));
        assert_eq!(said(0.2, 0.1), ["12/minute", "6/minute"]);
        assert_eq!(said(0.1, 2.0 / 3600.0), ["360/hour", "2/hour"]);
        assert_eq!(said(50.0, 1.0), ["50/second", "1/second"]);
        assert_eq!(said(1.06, 1.0), ["1.1/second", "1/second"]);
        assert_eq!(said(1.004, 1.0), ["1.004/second", "1.000/second"]);
        assert_eq!(said(0.5, 0.0), ["30/minute", "0/minute"]);
        assert_eq!(said(120.0, 110.0), ["120/second", "110/second"]);
    }
}
