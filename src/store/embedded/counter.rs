//! The counter of one lane: numbers one by one, never beyond the mark that is durable.
//!
//! The mark runs ahead of the counter by about a second's worth of joins, so that drawing a number waits for nothing.
//! After a start the counter continues at the mark: a few numbers are never drawn, none is drawn twice.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use super::super::StoreError;
use crate::domain::time::Mono;

/// The least that the mark is put ahead.
const LEAST_RESERVE: u64 = 64;
/// The most that the mark is put ahead, and so the most that a start leaves out.
const MOST_RESERVE: u64 = 65_536;

/// What somebody who waits for a number will get.
pub type Promise = oneshot::Receiver<Result<u64, StoreError>>;

/// The counter of one lane.
#[derive(Debug, Default)]
pub struct Counter {
    /// The number drawn last.
    taken: u64,
    /// The highest number that may be drawn: this is durable.
    mark: u64,
    /// What the counter stood at, and when, when the mark was extended last.
    extended_at: (u64, Mono),
    wanted: Wanted,
    waiting: VecDeque<oneshot::Sender<Result<u64, StoreError>>>,
}

/// Whether the mark ought to be extended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wanted {
    #[default]
    No,
    Yes,
}

impl Counter {
    /// The counter after a start.
    pub fn continuing_after(mark: u64, now: Mono) -> Counter {
        Counter { taken: mark, mark, extended_at: (mark, now), ..Counter::default() }
    }

    /// The number drawn last.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Draws the next number, unless the mark is reached or others wait already.
    pub fn take(&mut self) -> Option<u64> {
        let free = self.mark.saturating_sub(self.taken);
        if free <= (self.mark.saturating_sub(self.extended_at.0)) / 2 {
            self.wanted = Wanted::Yes;
        }
        if free == 0 || !self.waiting.is_empty() {
            return None;
        }
        self.taken += 1;
        Some(self.taken)
    }

    /// Stands in line for a number.
    pub fn wait(&mut self) -> Promise {
        let (giver, promise) = oneshot::channel();
        self.waiting.push_back(giver);
        self.wanted = Wanted::Yes;
        promise
    }

    /// Whether somebody waits for a number.
    pub fn is_awaited(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Draws no number up to `number` any more.
    pub fn lift(&mut self, number: u64) {
        let by = number.saturating_sub(self.taken);
        self.taken = self.taken.saturating_add(by);
        self.extended_at.0 = self.extended_at.0.saturating_add(by);
        self.wanted = Wanted::Yes;
    }

    /// The mark that ought to be made durable next, if any.
    pub fn wish(&self, now: Mono) -> Option<u64> {
        let ahead = self.reserve(now).saturating_add(self.waiting.len() as u64);
        let mark = self.taken.saturating_add(ahead);
        (self.wanted == Wanted::Yes && mark > self.mark).then_some(mark)
    }

    /// About one second's worth of numbers at the pace since the last extension.
    fn reserve(&self, now: Mono) -> u64 {
        let (taken, then) = self.extended_at;
        let drawn = u128::from(self.taken.saturating_sub(taken)) + self.waiting.len() as u128;
        let nanoseconds = now.since(then).as_nanos().max(1_000_000);
        let per_second = drawn.saturating_mul(1_000_000_000) / nanoseconds;
        u64::try_from(per_second).unwrap_or(MOST_RESERVE).clamp(LEAST_RESERVE, MOST_RESERVE)
    }

    /// `mark` is durable now: those who wait get their numbers, in the order in which they came.
    pub fn extend(&mut self, mark: u64, now: Mono) {
        self.mark = self.mark.max(mark);
        self.extended_at = (self.taken, now);
        self.wanted = Wanted::No;
        self.serve();
    }

    fn serve(&mut self) {
        while self.taken < self.mark {
            let Some(giver) = self.waiting.pop_front() else { return };
            // Whoever went away meanwhile uses up no number.
            if giver.send(Ok(self.taken + 1)).is_ok() {
                self.taken += 1;
            }
        }
        self.wanted = if self.is_awaited() { Wanted::Yes } else { self.wanted };
    }

    /// The mark cannot be extended now: those who wait are told why.
    pub fn refuse(&mut self, why: &StoreError) {
        for giver in self.waiting.drain(..) {
            // Nobody listens any more when this fails.
            let _ = giver.send(Err(why.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const START: Mono = Mono(1_000_000_000);

    fn extended(counter: &mut Counter, now: Mono) -> u64 {
        let mark = counter.wish(now).expect("the mark is wanted");
        counter.extend(mark, now);
        mark
    }

    #[test]
    fn the_first_number_waits_for_the_mark() {
        let mut counter = Counter::default();
        assert_eq!(counter.take(), None);
        let mut first = counter.wait();
        let mut second = counter.wait();
        assert_eq!(counter.take(), None, "nobody overtakes those who wait");
        assert!(extended(&mut counter, START) >= 2);
        assert_eq!(first.try_recv().unwrap(), Ok(1));
        assert_eq!(second.try_recv().unwrap(), Ok(2));
        assert_eq!(counter.take(), Some(3));
    }

    #[test]
    fn whoever_goes_away_uses_up_no_number() {
        let mut counter = Counter::default();
        drop(counter.wait());
        let mut second = counter.wait();
        extended(&mut counter, START);
        assert_eq!(second.try_recv().unwrap(), Ok(1));
    }

    #[test]
    fn an_unused_counter_asks_for_nothing() {
        assert_eq!(Counter::continuing_after(500, START).wish(START + Duration::from_secs(9)), None);
    }

    #[test]
    fn the_mark_is_wanted_when_half_of_it_is_used() {
        let mut counter = Counter::continuing_after(0, START);
        counter.lift(1);
        extended(&mut counter, START);
        let before = (0..).take_while(|_| counter.wish(START).is_none() && counter.take().is_some()).count() as u64;
        assert!((LEAST_RESERVE / 2..=LEAST_RESERVE / 2 + 1).contains(&before), "asked after {before}");
    }

    #[test]
    fn the_reserve_is_a_second_of_joins_within_bounds() {
        for (joins, span, reserve) in [(3, 60_000, 64), (500, 1_000, 500), (500, 500, 1_000), (60_000, 100, 65_536)] {
            let mut counter = Counter { taken: joins, mark: joins, extended_at: (0, START), ..Counter::default() };
            assert_eq!(counter.take(), None);
            let wish = counter.wish(START + Duration::from_millis(span));
            assert_eq!(wish, Some(joins + reserve), "{joins} joins in {span} ms");
        }
    }

    #[test]
    fn a_refusal_reaches_everybody_who_waits() {
        let mut counter = Counter::default();
        let mut promises = [counter.wait(), counter.wait()];
        counter.refuse(&StoreError::Closed);
        for promise in &mut promises {
            assert_eq!(promise.try_recv().unwrap(), Err(StoreError::Closed));
        }
        assert!(!counter.is_awaited());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Take,
        Extend,
        Lift(u64),
        Restart,
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            40 => Just(Step::Take),
            4 => Just(Step::Extend),
            1 => (0..500_u64).prop_map(Step::Lift),
            1 => Just(Step::Restart),
        ]
    }

    proptest! {
        #[test]
        fn no_number_twice_and_none_beyond_the_durable_mark(steps in prop::collection::vec(any_step(), 0..400)) {
            let (mut counter, mut durable, mut last, mut now) = (Counter::default(), 0, 0, START);
            for step in steps {
                now = now + Duration::from_millis(3);
                match step {
                    Step::Take => if let Some(number) = counter.take() {
                        prop_assert!(number > last && number <= durable);
                        last = number;
                    },
                    Step::Extend => if let Some(mark) = counter.wish(now) {
                        prop_assert!(mark > durable && mark > last);
                        durable = mark;
                        counter.extend(mark, now);
                    },
                    Step::Lift(to) => {
                        counter.lift(to);
                        last = last.max(to);
                    }
                    Step::Restart => {
                        counter = Counter::continuing_after(durable, now);
                        last = durable;
                    }
                }
            }
        }
    }
}
