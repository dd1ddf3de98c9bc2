//! What one pass may ask of the portal: one person's traffic. A copied pass shares the limits of the first.

use std::time::Duration;

use super::limiter::{Limit, WorkedOffAt};
use super::time::Mono;

/// When whoever has too much under way should ask again: when that ends is not known.
const SOME_MOMENT: Duration = Duration::from_secs(1);

/// The limits of each pass of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassLimits {
    /// Requests, bodies and upgraded connections under way at once; `None` means no limit.
    pub at_once: Option<u32>,
    /// Requests on average, and how many of them at once; `None` means no limit.
    pub pace: Option<Limit>,
}

/// What was too much, and after how long the next request would be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// Too much is under way.
    AtOnce,
    /// Too many requests came; so long until the next.
    Pace(Duration),
}

impl Excess {
    /// After how long to ask again.
    pub fn wait(self) -> Duration {
        match self {
            Excess::AtOnce => SOME_MOMENT,
            Excess::Pace(wait) => wait,
        }
    }
}

impl PassLimits {
    /// Whether one more may begin while so many are under way.
    ///
    /// # Errors
    /// [`Excess::AtOnce`].
    pub fn one_more(&self, under_way: u32) -> Result<(), Excess> {
        if self.at_once.is_some_and(|most| under_way >= most) { Err(Excess::AtOnce) } else { Ok(()) }
    }

    /// Counts a request.
    ///
    /// # Errors
    /// [`Excess::Pace`]; the request does not count then.
    pub fn count(&self, state: &mut WorkedOffAt, now: Mono) -> Result<(), Excess> {
        self.pace.map_or(Ok(()), |pace| pace.count(state, now).map_err(Excess::Pace))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::rate::Rate;

    #[test]
    fn no_more_are_under_way_at_once_than_may_be() {
        let limits = PassLimits { at_once: Some(2), pace: None };
        assert_eq!((limits.one_more(1), limits.one_more(2)), (Ok(()), Err(Excess::AtOnce)));
        assert_eq!(PassLimits { at_once: None, pace: None }.one_more(u32::MAX), Ok(()));
    }

    #[test]
    fn whoever_asked_too_often_is_told_when_to_ask_again() {
        let limits = PassLimits { at_once: None, pace: Some(Limit::new(Duration::from_secs(2), 3)) };
        let mut state = WorkedOffAt::default();
        let now = Mono(1_000_000_000_000);
        assert!((0..3).all(|_| limits.count(&mut state, now).is_ok()));
        assert_eq!(limits.count(&mut state, now), Err(Excess::Pace(Duration::from_secs(2))));
    }

    proptest! {
        #[test]
        fn a_page_of_a_hundred_parts_every_four_seconds_is_never_too_much(pages in 1..200u64) {
            let limits = PassLimits { at_once: Some(128), pace: Some(Limit::of("1800/min".parse::<Rate>().unwrap())) };
            let mut state = WorkedOffAt::default();
            for page in 0..pages {
                for part in 0..100 {
                    prop_assert_eq!(limits.one_more(part), Ok(()));
                    prop_assert_eq!(limits.count(&mut state, Mono((1 + page * 4) * 1_000_000_000)), Ok(()));
                }
            }
        }
    }
}
