//! Whether a portal, or the login provider that it sends visitors to, is well: what probes and answers come to.
//!
//! A sick portal gets nobody new. It is sick when it says so to a probe several times in a row, and well again only
//! after several good answers; when of the answers to visitors too many are errors or too slow, until that has ended.

use std::time::Duration;

use super::budget::WHOLE;
use super::pulse::Recent;
use super::time::Mono;

/// How the portal is, for whoever admits visitors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answers.
    Healthy {
        /// Since when; `None` when it never was unhealthy. The admission rate ramps up from here.
        since: Option<Mono>,
    },
    /// Nobody is admitted, session clocks stand still.
    Unhealthy {
        /// Since when.
        since: Mono,
    },
}

impl Health {
    /// It never was unhealthy.
    pub const ALWAYS: Health = Health::Healthy { since: None };

    /// The same after it was found to be like this.
    #[must_use]
    pub fn found(self, finding: Finding, now: Mono) -> Health {
        match (self, finding) {
            (Health::Healthy { .. }, Finding::Ill) => Health::Unhealthy { since: now },
            (Health::Unhealthy { .. }, Finding::Well) => Health::Healthy { since: Some(now) },
            _ => self,
        }
    }

    /// Whether visitors can be admitted.
    pub fn is_healthy(self) -> bool {
        matches!(self, Health::Healthy { .. })
    }
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It does its work.
    Well,
    /// It does not.
    Ill,
}

/// How a probe was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// In time, and without an error.
    Good,
    /// Too late, with an error, or not at all.
    Bad,
}

/// How many answers in a row it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Bad ones, to make ill.
    pub failures: u32,
    /// Good ones, to make well again.
    pub successes: u32,
}

/// The probes of one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probed {
    finding: Finding,
    /// Answers in a row that say otherwise.
    otherwise: u32,
}

impl Default for Probed {
    fn default() -> Probed {
        Probed { finding: Finding::Well, otherwise: 0 }
    }
}

impl Probed {
    /// Notes an answer.
    pub fn note(&mut self, probe: Probe, thresholds: Thresholds) {
        let (says, needed) = match probe {
            Probe::Good => (Finding::Well, thresholds.successes),
            Probe::Bad => (Finding::Ill, thresholds.failures),
        };
        self.otherwise = if says == self.finding { 0 } else { self.otherwise + 1 };
        if self.otherwise >= needed {
            *self = Probed { finding: says, otherwise: 0 };
        }
    }

    /// What the probes come to.
    pub fn finding(&self) -> Finding {
        self.finding
    }
}

/// Seconds over which answers are judged.
const JUDGED: usize = 10;
/// Answers it takes to make ill: a few are chance.
const ENOUGH: u64 = 20;
/// Answers it takes to stay ill: one tab that goes on asking must not keep everybody out.
const ENOUGH_TO_STAY: u64 = 10;

/// Of one visitor at most one answer in so long counts: five in the ten seconds that are judged, so that it takes four
/// visitors to make ill and nobody alone can stop everybody.
const HEARD_EVERY: Duration = Duration::from_secs(2);

/// Whether an answer to a visitor counts, whose last answer that counted came at `heard`; `None` when none has yet.
pub fn counts(heard: Option<Mono>, now: Mono) -> bool {
    heard.is_none_or(|heard| now.since(heard) >= HEARD_EVERY)
}

/// What answers to visitors may be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bearable {
    /// Percent of the answers that may be errors; 100 means that nobody looks.
    pub errors_percent: u8,
    /// The time within which all but one in twenty answers must come; `None` means that nobody looks.
    pub latency: Option<Duration>,
}

/// What the answers of the last ten seconds come to, after what they came to so far. It takes many answers to make ill;
/// well again is who stays below half of the errors, and below four fifths of the time, or is asked nothing any more.
pub fn judge(recent: &Recent, so_far: Finding, bearable: Bearable) -> Finding {
    let answers = recent.over(JUDGED);
    let part = if so_far == Finding::Ill { (0.5, 0.8) } else { (1.0, 1.0) };
    let errs = bearable.errors_percent < 100 && answers.errors_percent() > f64::from(bearable.errors_percent) * part.0;
    let p95 = answers.quantile(0.95);
    let is_slow = bearable.latency.is_some_and(|limit| p95.is_some_and(|p95| p95 > limit.mul_f64(part.1)));
    let enough = if so_far == Finding::Ill { ENOUGH_TO_STAY } else { ENOUGH };
    if (errs || is_slow) && answers.count() >= enough { Finding::Ill } else { Finding::Well }
}

/// What the room's own vitals come to: whether anybody can be admitted, and the thousandths of the rate that are let in
/// while one of them recovers, or while the portal is slow.
pub fn together(healths: &[Health], ramp: Duration, now: Mono) -> (Finding, u32) {
    let finding = if healths.iter().all(|health| health.is_healthy()) { Finding::Well } else { Finding::Ill };
    let ramps = healths.iter().map(|health| match health {
        Health::Healthy { since: Some(since) } => ramped(now.since(*since), ramp),
        Health::Healthy { since: None } | Health::Unhealthy { .. } => WHOLE,
    });
    (finding, ramps.min().unwrap_or(WHOLE))
}

/// A tenth of the rate: where the ramp after an outage begins.
const RAMP_FROM: u32 = WHOLE / 10;

/// Thousandths of the rate `since` the portal recovered: from a tenth to the whole.
fn ramped(since: Duration, ramp: Duration) -> u32 {
    if since >= ramp {
        return WHOLE;
    }
    let part = since.as_secs_f64() / ramp.as_secs_f64();
    RAMP_FROM + (f64::from(WHOLE - RAMP_FROM) * part) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::pulse::{Counted, bucket_of};
    use super::*;

    const THRESHOLDS: Thresholds = Thresholds { failures: 3, successes: 2 };
    const BEARABLE: Bearable = Bearable { errors_percent: 50, latency: Some(Duration::from_secs(5)) };

    #[test]
    fn it_takes_several_probes_in_a_row_either_way() {
        let mut probed = Probed::default();
        let mut after = |probes: &[Probe]| {
            probes.iter().for_each(|probe| probed.note(*probe, THRESHOLDS));
            probed.finding()
        };
        use Probe::{Bad, Good};
        assert_eq!(after(&[Bad, Bad, Good, Bad, Bad]), Finding::Well);
        assert_eq!(after(&[Bad]), Finding::Ill);
        assert_eq!(after(&[Good, Bad, Good]), Finding::Ill);
        assert_eq!(after(&[Good]), Finding::Well);
    }

    #[test]
    fn health_begins_when_it_changes() {
        let ill = Health::ALWAYS.found(Finding::Ill, Mono(5));
        assert_eq!(ill, Health::Unhealthy { since: Mono(5) });
        assert_eq!(ill.found(Finding::Ill, Mono(6)), ill);
        assert_eq!(ill.found(Finding::Well, Mono(7)), Health::Healthy { since: Some(Mono(7)) });
        assert_eq!(Health::ALWAYS.found(Finding::Well, Mono(7)), Health::ALWAYS);
    }

    fn one_error_if(there_is_one: bool) -> Counted {
        let mut counted = Counted { errors: u32::from(there_is_one), ..Counted::default() };
        counted.answers[0] = counted.errors;
        counted
    }

    fn second(good: u32, errors: u32, latency: Duration) -> Recent {
        let mut counted = Counted { errors, ..Counted::default() };
        counted.answers[bucket_of(latency)] = good + errors;
        let mut recent = Recent::default();
        recent.push(counted);
        recent
    }

    #[test]
    fn many_errors_or_slow_answers_make_ill_and_few_are_chance() {
        let fast = Duration::from_millis(50);
        let judged = |recent: &Recent, so_far| judge(recent, so_far, BEARABLE);
        assert_eq!(judged(&second(9, 11, fast), Finding::Well), Finding::Ill);
        assert_eq!(judged(&second(10, 10, fast), Finding::Well), Finding::Well);
        assert_eq!(judged(&second(0, 19, fast), Finding::Well), Finding::Well, "too few to judge by");
        assert_eq!(judged(&second(30, 0, Duration::from_secs(9)), Finding::Well), Finding::Ill);
        // Who was ill must be clearly better.
        assert_eq!(judged(&second(12, 8, fast), Finding::Ill), Finding::Ill);
        assert_eq!(judged(&second(16, 4, fast), Finding::Ill), Finding::Well);
        assert_eq!(judged(&second(0, 0, fast), Finding::Ill), Finding::Well, "nobody is asked any more");
    }

    #[test]
    fn one_tab_that_goes_on_meeting_errors_does_not_keep_it_ill() {
        let fast = Duration::from_millis(50);
        for errors in 1..ENOUGH_TO_STAY as u32 {
            assert_eq!(judge(&second(0, errors, fast), Finding::Ill, BEARABLE), Finding::Well, "{errors}");
        }
        assert_eq!(judge(&second(0, ENOUGH_TO_STAY as u32, fast), Finding::Ill, BEARABLE), Finding::Ill);
    }

    #[test]
    fn the_rate_ramps_from_a_tenth_to_the_whole() {
        let ramp = Duration::from_secs(60);
        let at = |seconds| ramped(Duration::from_secs(seconds), ramp);
        assert_eq!((at(0), at(30), at(60), at(600)), (100, 550, 1000, 1000));
        assert_eq!(ramped(Duration::ZERO, Duration::ZERO), 1000);
    }

    #[test]
    fn whoever_recovered_last_decides_on_the_rate() {
        let second = |seconds: u64| Mono(0) + Duration::from_secs(seconds);
        let recovered = |seconds| Health::Healthy { since: Some(second(seconds)) };
        let now = second(100);
        let ramp = Duration::from_secs(60);
        assert_eq!(together(&[recovered(70), recovered(100), Health::ALWAYS], ramp, now), (Finding::Well, 100));
        let ill = Health::Unhealthy { since: second(99) };
        assert_eq!(together(&[Health::ALWAYS, ill], ramp, now).0, Finding::Ill);
    }

    #[test]
    fn of_one_visitor_at_most_five_answers_count_in_ten_seconds() {
        let mut heard = None;
        let mut counted = 0;
        for tenth in 0..100 {
            let now = Mono(0) + Duration::from_millis(tenth * 100);
            if counts(heard, now) {
                heard = Some(now);
                counted += 1;
            }
        }
        assert_eq!(counted, 5);
        assert!(counted < ENOUGH_TO_STAY && counted * 3 < ENOUGH);
    }

    #[test]
    fn an_error_each_five_seconds_does_not_keep_it_ill() {
        let mut recent = second(0, 30, Duration::from_millis(50));
        let mut finding = judge(&recent, Finding::Well, BEARABLE);
        assert_eq!(finding, Finding::Ill);
        for elapsed in 1..=11 {
            recent.push(one_error_if(elapsed % 5 == 0));
            finding = judge(&recent, finding, BEARABLE);
        }
        assert_eq!(finding, Finding::Well);
    }

    proptest! {
        #[test]
        fn whoever_looks_at_nothing_finds_nothing(good in 0u32..1000, errors in 0u32..1000, seconds in 0u64..60) {
            let off = Bearable { errors_percent: 100, latency: None };
            let recent = second(good, errors, Duration::from_secs(seconds));
            prop_assert_eq!(judge(&recent, Finding::Well, off), Finding::Well);
            prop_assert_eq!(judge(&recent, Finding::Ill, off), Finding::Well);
        }

        #[test]
        fn probes_change_their_finding_at_most_as_often_as_the_thresholds_allow(
            probes in prop::collection::vec(prop_oneof![Just(Probe::Good), Just(Probe::Bad)], 0..200),
            failures in 1u32..6, successes in 1u32..6,
        ) {
            let thresholds = Thresholds { failures, successes };
            let (mut probed, mut changes) = (Probed::default(), 0);
            for probe in &probes {
                let before = probed.finding();
                probed.note(*probe, thresholds);
                changes += usize::from(probed.finding() != before);
            }
            prop_assert!(changes <= probes.len() / failures.min(successes) as usize);
        }
    }
}
