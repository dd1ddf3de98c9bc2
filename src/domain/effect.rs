//! What a change does to those who wait: how long the last of them waits before it and after it, by the same model that
//! estimates live waits.

use std::time::Duration;

use super::outlook::{Stretch, wait};
use super::wait_estimate::{Movement, WaitRange};

/// A lane as it is.
#[derive(Clone, Debug)]
pub struct LaneNow {
    /// Its class.
    pub class: String,
    /// Visitors present and uncalled.
    pub waiting: u64,
    /// Calls that come before somebody who joins now.
    pub calls: u64,
    /// How it moved lately.
    pub movement: Movement,
}

/// Whether anybody of a lane can enter at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moves {
    /// Somebody can, in the lane's hours.
    Yes,
    /// Nobody can, and it is not known for how long: a hold, a freeze, an unwell portal.
    No,
}

/// What a lane can have: window by window from now on, as far as it moves.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// Its rates, which follow one another from now on.
    pub stretches: &'a [Stretch],
    /// Whether it moves.
    pub moves: Moves,
}

/// What becomes of the wait of a lane's last visitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// The lane's class.
    pub class: String,
    /// Visitors concerned.
    pub waiting: u64,
    /// The wait as things are; `None` when no end is known.
    pub before: Option<WaitRange>,
    /// The wait after the change; `None` when no end is known.
    pub after: Option<WaitRange>,
}

/// Works out what a change from one's terms to others does to a lane.
pub fn effect(lane: &LaneNow, before: Terms<'_>, after: Terms<'_>) -> Effect {
    let nobody = |terms: Terms<'_>| lane.calls == 0 && terms.stretches.first().is_some_and(|now| now.rate > 0.0);
    let of = |movement: &Movement, terms: Terms<'_>| match terms.moves {
        Moves::Yes if nobody(terms) => Some(WaitRange { low: Duration::ZERO, high: Duration::ZERO }),
        Moves::Yes => wait_if_they_come(movement, lane.calls, terms.stretches),
        Moves::No => None,
    };
    Effect {
        class: lane.class.clone(),
        waiting: lane.waiting,
        before: of(&lane.movement, before),
        after: of(&moved_under(&lane.movement, before, after), after),
    }
}

/// The wait of whoever has so many calls before them. At a line's beginning, and at low rates for long, more are called than
/// enter, and it is not known yet whether those called will come: the fast end takes it that the line goes on like that, the
/// slow end that they come, and that no more are called than the rate says.
fn wait_if_they_come(movement: &Movement, calls: u64, stretches: &[Stretch]) -> Option<WaitRange> {
    let by_the_rate = (movement.rate * movement.over.as_secs_f64()).round() as u64;
    let fast = wait(movement, calls, stretches)?;
    if movement.called <= by_the_rate {
        return Some(fast);
    }
    let slow = wait(&Movement { called: by_the_rate, ..*movement }, calls, stretches)?;
    Some(WaitRange { low: fast.low, high: slow.high.max(fast.high) })
}

/// How the lane would have moved under other terms: in proportion to its rates, or, when it stood still, as its new rate
/// says.
fn moved_under(movement: &Movement, before: Terms<'_>, after: Terms<'_>) -> Movement {
    let rate_of = |terms: Terms<'_>| terms.stretches.first().map_or(0.0, |stretch| stretch.rate);
    let (old, new) = (rate_of(before), rate_of(after));
    if old == new && before.moves == after.moves {
        return *movement;
    }
    if before.moves == Moves::No || old <= 0.0 || movement.rate <= 0.0 || new <= 0.0 {
        return Movement { rate: new, ..Movement::default() };
    }
    let factor = new / old;
    Movement { called: (movement.called as f64 * factor).round() as u64, rate: movement.rate * factor, ..*movement }
}

impl Effect {
    /// The effect in one line for people: `citizen: 31,200 waiting, 42 -> 97 min`.
    pub fn text(&self) -> String {
        let unit = [self.before, self.after].into_iter().flatten().map(|wait| Unit::of(middle(wait))).max();
        let shown = |wait: Option<WaitRange>| match wait {
            Some(wait) => unit.unwrap_or(Unit::Minutes).count(middle(wait)),
            None => "no end known".to_owned(),
        };
        let unit = unit.map(|unit| format!(" {}", unit.as_str())).unwrap_or_default();
        let waiting = with_thousands(self.waiting);
        match (self.before, self.after) {
            (None, None) => format!("{}: {waiting} waiting, no end known either way", self.class),
            (Some(before), None) => {
                let before = Unit::of(middle(before)).count(middle(before));
                format!("{}: {waiting} waiting, {before}{unit} -> no end known", self.class)
            }
            (before, after) => {
                format!("{}: {waiting} waiting, {} -> {}{unit}", self.class, shown(before), shown(after))
            }
        }
    }
}

/// The middle of a range.
pub fn middle(wait: WaitRange) -> Duration {
    (wait.low + wait.high) / 2
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Unit {
    Seconds,
    Minutes,
    Hours,
}

impl Unit {
    fn of(span: Duration) -> Unit {
        match span.as_secs() {
            0..120 => Unit::Seconds,
            120..18_000 => Unit::Minutes,
            _ => Unit::Hours,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Unit::Seconds => "s",
            Unit::Minutes => "min",
            Unit::Hours => "h",
        }
    }

    fn count(self, span: Duration) -> String {
        let seconds = span.as_secs_f64();
        match self {
            Unit::Seconds => format!("{seconds:.0}"),
            Unit::Minutes => format!("{:.0}", (seconds / 60.0).ceil()),
            Unit::Hours => format!("{:.1}", seconds / 3600.0),
        }
    }
}

/// A number with a comma before each three digits.
pub fn with_thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn flat(rate: f64) -> [Stretch; 1] {
        [Stretch { until: DAY, rate }]
    }

    fn yes(stretches: &[Stretch]) -> Terms<'_> {
        Terms { stretches, moves: Moves::Yes }
    }

    fn lane(waiting: u64, rate: f64) -> LaneNow {
        let over = Duration::from_secs(60);
        let movement = Movement { over, called: (rate * 60.0) as u64, gave_up: 0, present: waiting as f64, rate };
        LaneNow { class: "citizen".to_owned(), waiting, calls: waiting, movement }
    }

    #[test]
    fn half_the_rate_is_twice_the_wait() {
        let effect = effect(&lane(30_000, 10.0), yes(&flat(10.0)), yes(&flat(5.0)));
        let (before, after) =
            (middle(effect.before.unwrap()).as_secs_f64(), middle(effect.after.unwrap()).as_secs_f64());
        assert!((before - 3000.0).abs() < 100.0, "{before}");
        assert!((after / before - 2.0).abs() < 0.1, "{after} after {before}");
        let text = effect.text();
        assert!(text.starts_with("citizen: 30,000 waiting, 5") && text.ends_with(" min"), "{text}");
    }

    #[test]
    fn a_hold_has_no_known_end_and_a_release_goes_by_the_rate() {
        let (rates, lane) = (flat(10.0), lane(6000, 10.0));
        let held = Terms { stretches: &rates, moves: Moves::No };
        let hold = effect(&lane, yes(&rates), held);
        assert_eq!(hold.after, None);
        assert!(hold.text().ends_with("min -> no end known"), "{}", hold.text());
        let standing = LaneNow { movement: Movement::default(), ..lane };
        let release = effect(&standing, held, yes(&rates));
        assert_eq!(release.before, None);
        let after = middle(release.after.unwrap()).as_secs();
        assert!((500..700).contains(&after), "{after}");
        assert!(release.text().contains("no end known -> "), "{}", release.text());
    }

    #[test]
    fn previews_after_the_start_go_by_the_rate_too() {
        // Ten were called in the first seconds at six a minute; nobody has come yet.
        let movement = Movement { over: Duration::from_secs(10), called: 10, gave_up: 0, present: 600.0, rate: 0.1 };
        let begun = LaneNow { movement, ..lane(600, 0.1) };
        let effect = effect(&begun, yes(&flat(0.1)), yes(&flat(0.2)));
        let (before, after) = (effect.before.unwrap(), effect.after.unwrap());
        assert!(before.high > Duration::from_secs(6000), "{before:?}");
        assert!(middle(before) > Duration::from_secs(4000), "an hour and more, not ten minutes: {before:?}");
        assert!(
            (1.5..2.5).contains(&(middle(before).as_secs_f64() / middle(after).as_secs_f64())),
            "{before:?} {after:?}"
        );
    }

    #[test]
    fn where_nobody_waits_nobody_will() {
        let idle = LaneNow { calls: 0, ..lane(0, 10.0) };
        let slow = effect(&idle, yes(&flat(10.0)), yes(&flat(1.0)));
        assert_eq!(slow.text(), "citizen: 0 waiting, 0 -> 0 s");
        let closed = effect(&idle, yes(&flat(10.0)), yes(&flat(0.0)));
        assert_eq!(closed.after, None);
    }

    #[test]
    fn thousands_are_told_apart() {
        assert_eq!(
            ["0", "999", "31,200", "1,000,000"],
            [0, 999, 31_200, 1_000_000].map(with_thousands).each_ref().map(String::as_str)
        );
    }

    proptest! {
        #[test]
        fn a_higher_rate_never_makes_the_wait_longer(
            waiting in 1u64..1_000_000, rate in 0.1..1000.0f64, factor in 1.0..20.0f64,
        ) {
            let (old, new) = (flat(rate), flat(rate * factor));
            let effect = effect(&lane(waiting, rate), yes(&old), yes(&new));
            if let (Some(before), Some(after)) = (effect.before, effect.after) {
                // The measured minute is counted in whole calls.
                prop_assert!(middle(after).as_secs_f64() <= middle(before).as_secs_f64() * 1.02 + 1.0);
            }
        }
    }
}
