//! What the crowd counts and times as it goes.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::clock::Moment;
use crate::visitor::Ask;

/// Whoever is told to ask again within this time may be near to being called.
const SOON: Duration = Duration::from_secs(3);

/// A kind of request, for latencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The first request for the page.
    Page,
    /// Joining.
    Join,
    /// A poll of somebody far from being called, which is never held.
    Poll,
    /// A poll of somebody near to being called, which may be held up to 20 s.
    NearPoll,
    /// The page under the turn, which may be held at the gate.
    Enter,
    /// A request with the pass.
    Journey,
}

impl Kind {
    /// All kinds, in the order of [`Kind`].
    pub const ALL: [Kind; 6] = [Kind::Page, Kind::Join, Kind::Poll, Kind::NearPoll, Kind::Enter, Kind::Journey];

    /// The kind of a request of a visitor who was shown `ahead` and told to ask again after `told`, when polls are held
    /// from `near` on, and not of those who were told to ask later than in three seconds: where many do not enter, calls go faster
    /// than entries, and polls are held from further on.
    pub fn of(ask: Ask, ahead: Option<u64>, told: Duration, near: u64) -> Kind {
        match ask {
            Ask::Page => Kind::Page,
            Ask::Join => Kind::Join,
            Ask::Poll if told > SOON && ahead.is_some_and(|ahead| ahead > near) => Kind::Poll,
            Ask::Poll => Kind::NearPoll,
            Ask::Enter => Kind::Enter,
            Ask::Journey(_) => Kind::Journey,
        }
    }

    /// Whether the answer comes at once, whoever asks: not held until a call, nor at the gate.
    pub fn is_never_held(self) -> bool {
        matches!(self, Kind::Join | Kind::Poll | Kind::Journey)
    }

    /// As written in reports.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Page => "page",
            Kind::Join => "join",
            Kind::Poll => "poll",
            Kind::NearPoll => "poll, may be held",
            Kind::Enter => "enter",
            Kind::Journey => "journey",
        }
    }
}

/// Durations, with three significant digits.
#[derive(Clone, Debug)]
pub struct Durations(Histogram<u64>);

impl Default for Durations {
    #[expect(clippy::expect_used, reason = "three significant digits are a valid precision")]
    fn default() -> Durations {
        Durations(Histogram::new(3).expect("up to five significant digits are valid"))
    }
}

/// Durations in figures: milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[expect(missing_docs, reason = "names say it all")]
pub struct Figures {
    pub count: u64,
    pub p10_ms: f64,
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

impl Durations {
    /// Adds one.
    pub fn add(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        // The histogram grows as needed; more than its largest bucket, half a million years, does not happen.
        let _ = self.0.record(micros);
    }

    /// Adds all of another.
    pub fn add_all(&mut self, other: &Durations) {
        // This one grows as needed.
        let _ = self.0.add(&other.0);
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.reset();
    }

    /// Percentiles and the longest.
    pub fn figures(&self) -> Figures {
        if self.0.is_empty() {
            return Figures::default();
        }
        let ms = |micros: u64| micros as f64 / 1000.0;
        Figures {
            count: self.0.len(),
            p10_ms: ms(self.0.value_at_quantile(0.10)),
            p50_ms: ms(self.0.value_at_quantile(0.50)),
            p90_ms: ms(self.0.value_at_quantile(0.90)),
            p99_ms: ms(self.0.value_at_quantile(0.99)),
            max_ms: ms(self.0.max()),
        }
    }
}

/// Requests that did not go as the contract says, and those that could not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Troubles {
    /// No connection or no answer, while the line was not cut.
    pub unreachable: u64,
    /// Statuses and documents that the contract does not know.
    pub strange: u64,
    /// 502 or 504 of the proxy while the portal was well.
    pub gateway_errors: u64,
    /// 502 or 504 of the proxy while the portal was ill, as it should be.
    pub gateway_errors_in_outage: u64,
    /// Errors of the portal's own.
    pub portal_errors: u64,
    /// 429.
    pub too_many_requests: u64,
    /// Joins that were asked for work first, as beyond the limits they should be.
    pub challenged: u64,
    /// Requests given up or not sent because the line was cut.
    pub cut: u64,
}

impl Troubles {
    /// Those for which there is no excuse.
    pub fn errors(&self) -> u64 {
        self.unreachable + self.strange + self.gateway_errors + self.too_many_requests
    }
}

/// Running counts, for the progress line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "names say it all")]
pub struct Counts {
    pub arrived: u64,
    pub joined: u64,
    pub waiting: u64,
    pub called: u64,
    pub entered: u64,
    pub left: u64,
    pub requests: u64,
    pub polls: u64,
}

/// What one crowd that does not play by the rules did, and how honest visitors fared meanwhile.
#[derive(Clone, Debug, Default)]
pub struct Attack {
    /// Its requests.
    pub requests: u64,
    /// Those of them that were refused (429).
    pub refused: u64,
    /// Joins that were asked for work.
    pub challenged: u64,
    /// When its first request was sent.
    pub first: Option<Moment>,
    /// When its last one was.
    pub last: Moment,
    /// Latencies of honest visitors' polls that are never held, as long as it went on.
    pub polls: Durations,
    /// The same of everything that is never held: joins, polls, pages inside.
    pub never_held: Durations,
}

/// An attack goes on for so long after each of its requests.
const GOES_ON: Duration = Duration::from_secs(1);

impl Attack {
    /// Notes a request that was sent at `sent`.
    pub fn note(&mut self, sent: Moment) {
        self.requests += 1;
        self.first = Some(self.first.map_or(sent, |first| first.min(sent)));
        self.last = self.last.max(sent);
    }

    /// Notes how long an honest visitor waited for an answer meanwhile; later it is of no account.
    pub fn note_honest(&mut self, kind: Kind, sent: Moment, latency: Duration) {
        if self.first.is_none() || sent > self.last + GOES_ON {
            return;
        }
        if kind.is_never_held() {
            self.never_held.add(latency);
        }
        if kind == Kind::Poll {
            self.polls.add(latency);
        }
    }
}

/// All of it. Latencies are those of honest visitors.
#[derive(Clone, Debug)]
pub struct Measures {
    /// Latency by kind, from the instant a request was due.
    pub latencies: [Durations; 6],
    /// From due to begun: the load tester's own lateness.
    pub lag: Durations,
    /// How long requests for the page under the turn were held that were then answered with the page.
    pub held_in_vain: Durations,
    /// What went wrong.
    pub troubles: Troubles,
    /// What went wrong for those who do not play by the rules, as it should.
    pub hostile: Troubles,
    /// Each of their crowds, by its position in the scenario.
    pub attacks: BTreeMap<usize, Attack>,
    /// Hashes done for places.
    pub hashes: u64,
    /// Latencies since somebody looked last, of what is never held.
    pub recent: Durations,
    /// Running counts.
    pub counts: Counts,
    /// When the first visitor learnt of a turn.
    pub first_call: Option<Moment>,
    /// When the last did.
    pub last_call: Option<Moment>,
}

impl Default for Measures {
    fn default() -> Measures {
        Measures {
            latencies: std::array::from_fn(|_| Durations::default()),
            lag: Durations::default(),
            held_in_vain: Durations::default(),
            troubles: Troubles::default(),
            hostile: Troubles::default(),
            attacks: BTreeMap::new(),
            hashes: 0,
            recent: Durations::default(),
            counts: Counts::default(),
            first_call: None,
            last_call: None,
        }
    }
}

impl Measures {
    /// The latencies of a kind.
    pub fn latency(&mut self, kind: Kind) -> Option<&mut Durations> {
        self.latencies.get_mut(kind as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_milliseconds() {
        let mut durations = Durations::default();
        assert_eq!(durations.figures(), Figures::default());
        (1..=100).for_each(|ms| durations.add(Duration::from_millis(ms)));
        let figures = durations.figures();
        assert_eq!(figures.count, 100);
        assert!((figures.p50_ms - 50.0).abs() < 0.2 && (figures.p99_ms - 99.0).abs() < 0.2);
    }

    #[test]
    fn an_attack_is_judged_by_what_honest_visitors_met_as_long_as_it_went_on() {
        let at = |seconds: u64| Moment(seconds * 1_000_000);
        let mut attack = Attack::default();
        let met = |attack: &mut Attack, kind, second| attack.note_honest(kind, at(second), Duration::from_millis(5));
        met(&mut attack, Kind::Poll, 9);
        attack.note(at(10));
        met(&mut attack, Kind::Poll, 11);
        met(&mut attack, Kind::Journey, 11);
        met(&mut attack, Kind::Enter, 11);
        met(&mut attack, Kind::Poll, 12);
        attack.note(at(20));
        met(&mut attack, Kind::Poll, 20);
        assert_eq!((attack.first, attack.last, attack.requests), (Some(at(10)), at(20), 2));
        assert_eq!((attack.polls.figures().count, attack.never_held.figures().count), (2, 3));
    }

    #[test]
    fn only_polls_of_the_far_are_never_held() {
        let kind = |ahead, told| Kind::of(Ask::Poll, ahead, Duration::from_secs(told), 100);
        assert_eq!(kind(Some(1000), 4), Kind::Poll);
        assert_eq!(kind(Some(1000), 2), Kind::NearPoll, "calls go fast");
        assert_eq!((kind(Some(100), 60), kind(None, 60)), (Kind::NearPoll, Kind::NearPoll));
    }
}
