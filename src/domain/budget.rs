//! The admission budget: one generic cell rate algorithm (GCRA, ITU-T I.371) per room, counted in whole numbers.
//!
//! It is kept as its dual, the level of a bucket: time fills it, an entry takes one admission out. It starts empty and
//! holds at most the burst, so that in any interval T at most rate x T + burst admissions leave it.

use std::time::Duration;

use super::rate::Rate;
use super::shares::Earned;
use super::time::Mono;

/// How often the pacer works.
pub const TICK: Duration = Duration::from_millis(100);

/// The part of a second whose worth of admissions may be saved up.
const BURST_NANOS: u128 = 250_000_000;

/// Thousandths, in which factors of the rate (the ramp after an outage) are given.
pub const WHOLE: u32 = 1000;

/// The bucket of one room.
///
/// The level is counted in `admissions x nanoseconds of the rate's unit x 1000`, which makes every sum exact.
#[derive(Clone, Debug)]
pub struct Budget {
    rate: Rate,
    level: u128,
    filled_until: Mono,
    saving: Saving,
}

/// How much is saved up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Saving {
    /// The whole burst.
    Burst,
    /// One admission and a tick's worth of so many thousandths of the rate.
    Little { permille: u32 },
}

impl Budget {
    /// An empty bucket.
    pub fn empty(rate: Rate, now: Mono) -> Budget {
        Budget { rate, level: 0, filled_until: now, saving: Saving::Burst }
    }

    /// Saves up no more than one admission and a tick's worth of what it is filled with. What is spent here and used
    /// elsewhere may be used a little later: what that delay adds to the burst is left out of it here. And where several
    /// such buckets have parts of one rate, they save up one tick's worth of it in all.
    pub fn save_little(&mut self) {
        self.saving = Saving::Little { permille: WHOLE };
        self.level = self.level.min(self.capacity());
    }

    /// Fills the bucket with the time since the last call, at `permille` thousandths of the rate; at 0 it stands still.
    ///
    /// A process that was stopped makes up for nothing: the bucket never holds more than [`Budget::burst`].
    ///
    /// Returns what the rate gave in that time.
    pub fn fill(&mut self, now: Mono, permille: u32) -> Earned {
        let elapsed = now.since(self.filled_until).as_nanos();
        self.filled_until = self.filled_until.max(now);
        if let Saving::Little { permille: before } = &mut self.saving {
            *before = permille.min(WHOLE);
        }
        let per_nano = u128::from(self.rate.count()) * u128::from(permille.min(WHOLE));
        self.level = (self.level + elapsed * per_nano).min(self.capacity());
        Earned { units: elapsed * per_nano, second: 1_000_000_000 * per_nano, one: self.one() }
    }

    /// Takes one admission out, if there is one.
    pub fn spend(&mut self) -> Spent {
        if self.level < self.one() {
            return Spent::Nothing;
        }
        self.level -= self.one();
        Spent::Admission
    }

    /// Puts back an admission that reached nobody (the visitor had gone). What is above the burst is lost.
    pub fn give_back(&mut self) {
        self.level = (self.level + self.one()).min(self.capacity());
    }

    /// How long until `count` admissions will be there, at `permille` thousandths of the rate; `None` when the bucket
    /// does not fill.
    pub fn time_until(&self, count: u64, permille: u32) -> Option<Duration> {
        let missing = (self.one() * u128::from(count)).saturating_sub(self.level);
        let per_nano = u128::from(self.rate.count()) * u128::from(permille.min(WHOLE));
        let nanos = missing.checked_div(per_nano)?;
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    /// Empties the bucket: after a standstill nothing is made up for.
    pub fn drain(&mut self, now: Mono) {
        self.level = 0;
        self.filled_until = now;
    }

    /// Changes the rate. The admissions saved so far stay, up to the new burst.
    pub fn set_rate(&mut self, rate: Rate) {
        if rate == self.rate {
            return;
        }
        let old_unit = u128::from(self.rate.per().nanos());
        self.level = self.level / old_unit * u128::from(rate.per().nanos());
        self.rate = rate;
        self.level = self.level.min(self.capacity());
    }

    /// The configured rate.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// The most admissions that can be saved up, rounded down: one and a tick's worth, or a quarter of a second's worth.
    pub fn burst(&self) -> u64 {
        u64::try_from(self.capacity() / self.one()).unwrap_or(u64::MAX)
    }

    /// An admission, in the unit in which credits are counted.
    pub fn one(&self) -> u128 {
        u128::from(self.rate.per().nanos()) * u128::from(WHOLE)
    }

    fn capacity(&self) -> u128 {
        let worth = |nanos: u128, permille: u32| nanos * u128::from(self.rate.count()) * u128::from(permille);
        let little = |permille| self.one() + worth(TICK.as_nanos(), permille);
        match self.saving {
            Saving::Burst => little(WHOLE).max(worth(BURST_NANOS, WHOLE)),
            Saving::Little { permille } => little(permille),
        }
    }
}

/// Whether an admission was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Spent {
    /// One admission was taken out.
    Admission,
    /// The bucket was empty; nothing changed.
    Nothing,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::rate::Per;

    fn rates() -> impl Strategy<Value = Rate> {
        (1u32..5000, prop_oneof![Just(Per::Second), Just(Per::Minute), Just(Per::Hour)])
            .prop_map(|(count, per)| Rate::new(count, per).expect("in range"))
    }

    /// Spends whatever it can at each of `steps` and returns how many admissions there were at which instant.
    fn admissions(rate: Rate, steps: &[u64]) -> Vec<(u64, u64)> {
        let mut budget = Budget::empty(rate, Mono(0));
        let mut at = 0;
        let mut spent = Vec::new();
        for step in steps {
            at += step;
            budget.fill(Mono(at), WHOLE);
            let mut count = 0;
            while budget.spend() == Spent::Admission {
                count += 1;
            }
            spent.push((at, count));
        }
        spent
    }

    proptest! {
        #[test]
        fn no_interval_sees_more_than_the_rate_and_the_burst(
            rate in rates(),
            steps in prop::collection::vec(1u64..3_000_000_000, 1..120),
        ) {
            let spent = admissions(rate, &steps);
            let burst = (1.0 + rate.per_second() * 0.1).max(rate.per_second() * 0.25);
            for (first, (from, _)) in spent.iter().enumerate() {
                let mut sum = 0;
                for (to, count) in spent.iter().skip(first) {
                    sum += count;
                    let bound = rate.per_second() * (to - from) as f64 / 1e9 + burst;
                    prop_assert!(sum as f64 <= bound + 1e-6, "{sum} in {from}..{to}");
                }
            }
        }

        #[test]
        fn who_asks_every_tick_gets_the_whole_rate(rate in rates(), ticks in 100u64..2000) {
            let steps = vec![100_000_000; usize::try_from(ticks).expect("small")];
            let got: u64 = admissions(rate, &steps).iter().map(|(_, count)| count).sum();
            // In whole numbers: what a rounding error says is not worth a thought.
            let (of, tick) = (u128::from(rate.per().nanos()), 100_000_000);
            let due = u128::from(rate.count()) * u128::from(ticks) * tick;
            let got = u128::from(got) * of;
            prop_assert!(got <= due && due < got + of + of / 1_000_000, "{got} of {due}");
        }

        #[test]
        fn a_changed_rate_creates_no_admission(first in rates(), second in rates()) {
            let mut budget = Budget::empty(first, Mono(0));
            budget.fill(Mono(3_000_000_000_000), WHOLE);
            let saved = budget.burst();
            budget.set_rate(second);
            let mut left = 0;
            while budget.spend() == Spent::Admission {
                left += 1;
            }
            prop_assert!(left <= saved.min(budget.burst()));
        }
    }

    #[test]
    fn starts_empty_and_makes_up_for_nothing() {
        let rate = Rate::new(100, Per::Second).expect("in range");
        let mut budget = Budget::empty(rate, Mono(0));
        assert_eq!(budget.spend(), Spent::Nothing);
        budget.fill(Mono(3_600_000_000_000), WHOLE);
        assert_eq!(budget.burst(), 25);
        budget.drain(Mono(3_600_000_000_000));
        assert_eq!(budget.spend(), Spent::Nothing);
    }

    #[test]
    fn what_is_used_elsewhere_is_saved_up_less() {
        let rate = Rate::new(100, Per::Second).expect("in range");
        let mut budget = Budget::empty(rate, Mono(0));
        budget.fill(Mono(3_600_000_000_000), WHOLE);
        budget.save_little();
        assert_eq!(budget.burst(), 11);
        let mut spent = 0;
        while budget.spend() == Spent::Admission {
            spent += 1;
        }
        assert_eq!(spent, 11);
    }

    #[test]
    fn nodes_with_parts_of_the_rate_have_one_burst_in_all_and_an_admission_each() {
        let rate = Rate::new(1000, Per::Second).expect("in range");
        for nodes in 1..=10_u32 {
            let mut at_once = 0;
            for _ in 0..nodes {
                let mut budget = Budget::empty(rate, Mono(0));
                budget.save_little();
                budget.fill(Mono(3_600_000_000_000), WHOLE / nodes);
                while budget.spend() == Spent::Admission {
                    at_once += 1;
                }
            }
            assert!(at_once <= 100 + nodes, "{nodes} nodes let in {at_once} at once");
        }
    }

    #[test]
    fn a_tenth_of_the_rate_is_a_tenth() {
        let rate = Rate::new(100, Per::Second).expect("in range");
        let mut budget = Budget::empty(rate, Mono(0));
        let mut spent = 0;
        for tick in 1..=100 {
            budget.fill(Mono(tick * 100_000_000), WHOLE / 10);
            while budget.spend() == Spent::Admission {
                spent += 1;
            }
        }
        assert_eq!(spent, 100);
    }
}
