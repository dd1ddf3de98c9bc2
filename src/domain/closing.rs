//! The closing of a room: from an hour on nobody new can join, and what becomes of those who still wait was said before.

use serde::Serialize;

use std::time::Duration;

use super::hour::Hour;
use super::outlook::Stretch;
use super::schedule::{Hours, OpenNow};
use super::time::Unix;
use super::wait_estimate::WaitRange;

/// What becomes of those who still wait when a room closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rest {
    /// They are served until the line is empty.
    Serve,
    /// The line ends: nobody is called any more. Whoever was called before keeps the turn.
    End,
}

/// What the operator plans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing {
    /// The hour.
    pub at: Unix,
    /// What becomes of those who still wait then.
    pub then: Rest,
}

/// How far a room is with its closing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// There is none, or it is still to come.
    #[default]
    Open,
    /// Nobody new can join; those who wait are served.
    LastOnes,
    /// The line has ended.
    Ended,
}

/// Whether somebody who waits will be called before the line ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// As far as can be seen.
    Likely,
    /// Perhaps.
    Uncertain,
    /// Most probably not.
    Unlikely,
}

impl Closing {
    /// How far the room is, when its hour has come or not.
    pub fn stage(&self, hour: Hour) -> Stage {
        match (hour, self.then) {
            (Hour::ToCome, _) => Stage::Open,
            (Hour::Come, Rest::Serve) => Stage::LastOnes,
            (Hour::Come, Rest::End) => Stage::Ended,
        }
    }

    /// Whether somebody who is called after `wait` is called in time; `None` where that does not matter.
    pub fn reach(&self, now: Unix, wait: WaitRange) -> Option<Reach> {
        let left = self.at.since(now);
        match self.then {
            Rest::Serve => None,
            Rest::End if wait.high <= left => Some(Reach::Likely),
            Rest::End if wait.low > left => Some(Reach::Unlikely),
            Rest::End => Some(Reach::Uncertain),
        }
    }

    /// What a lane can have from now on as far as the line lasts.
    pub fn cut(&self, stretches: Vec<Stretch>, now: Unix) -> Vec<Stretch> {
        if self.then == Rest::Serve {
            return stretches;
        }
        let (left, mut from) = (self.at.since(now), Duration::ZERO);
        let mut lasting = Vec::new();
        for stretch in stretches.into_iter().take_while(|stretch| std::mem::replace(&mut from, stretch.until) < left) {
            lasting.push(Stretch { until: stretch.until.min(left), ..stretch });
        }
        lasting
    }

    /// The hours of a class as far as the line lasts: where it ends nothing opens any more.
    pub fn bound(&self, hours: Hours, stage: Stage) -> Hours {
        match (self.then, stage) {
            (Rest::End, Stage::Ended) => Hours { now: OpenNow::Closed, opens_at: None, closes_at: None },
            (Rest::End, _) if hours.now == OpenNow::Open => {
                Hours { closes_at: Some(hours.closes_at.map_or(self.at, |closes| closes.min(self.at))), ..hours }
            }
            (Rest::End, _) => Hours { opens_at: hours.opens_at.filter(|opens| *opens < self.at), ..hours },
            (Rest::Serve, _) => hours,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Unix = Unix(10_000_000);
    const ENDS: Closing = Closing { at: AT, then: Rest::End };
    const SERVES: Closing = Closing { at: AT, then: Rest::Serve };

    fn wait(low: u64, high: u64) -> WaitRange {
        WaitRange { low: Duration::from_secs(low), high: Duration::from_secs(high) }
    }

    #[test]
    fn a_line_ends_or_serves_its_last_ones() {
        assert_eq!([ENDS, SERVES].map(|closing| closing.stage(Hour::ToCome)), [Stage::Open, Stage::Open]);
        assert_eq!([ENDS, SERVES].map(|closing| closing.stage(Hour::Come)), [Stage::Ended, Stage::LastOnes]);
    }

    #[test]
    fn it_is_told_early_who_will_not_be_reached() {
        let told = |wait| ENDS.reach(Unix(9_000_000), wait);
        assert_eq!(told(wait(500, 1000)), Some(Reach::Likely));
        assert_eq!(told(wait(999, 1001)), Some(Reach::Uncertain));
        assert_eq!(told(wait(1001, 2000)), Some(Reach::Unlikely));
        assert_eq!(SERVES.reach(Unix(9_000_000), wait(1001, 2000)), None);
    }

    #[test]
    fn nobody_can_expect_anything_of_the_hours_after_the_end() {
        let of = |hours: &[(u64, f64)]| -> Vec<Stretch> {
            hours.iter().map(|(until, rate)| Stretch { until: Duration::from_secs(*until), rate: *rate }).collect()
        };
        let planned = of(&[(600, 5.0), (1800, 0.0), (3600, 9.0)]);
        let (early, amid, over) = (Unix(AT.0 - 3_600_000), Unix(AT.0 - 1_000_000), AT);
        assert_eq!(ENDS.cut(planned.clone(), early), planned);
        assert_eq!(ENDS.cut(planned.clone(), amid), of(&[(600, 5.0), (1000, 0.0)]));
        assert_eq!(ENDS.cut(planned.clone(), Unix(AT.0 - 600_000)), of(&[(600, 5.0)]));
        assert_eq!(ENDS.cut(planned.clone(), over), []);
        assert_eq!(SERVES.cut(planned.clone(), over), planned);
    }

    #[test]
    fn nothing_opens_after_the_end() {
        let closed = |opens| Hours { now: OpenNow::Closed, opens_at: Some(Unix(opens)), closes_at: None };
        assert_eq!(ENDS.bound(closed(10_000_000), Stage::Open).opens_at, None);
        assert_eq!(ENDS.bound(closed(9_999_999), Stage::Open), closed(9_999_999));
        assert_eq!(ENDS.bound(Hours::ALWAYS, Stage::Open).closes_at, Some(AT));
        assert_eq!(ENDS.bound(Hours::ALWAYS, Stage::Ended).now, OpenNow::Closed);
        assert_eq!(SERVES.bound(Hours::ALWAYS, Stage::LastOnes), Hours::ALWAYS);
    }
}
