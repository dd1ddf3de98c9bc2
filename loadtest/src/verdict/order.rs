//! The order kept: nobody who stayed is called after a later ticket.
//!
//! The moment of a call is not seen, only learnt of. But two things are certain. Whoever was told of the turn at some
//! moment had been called by then. Whoever sent a poll and was told to go on waiting had not been called when it was
//! sent. So if a later ticket had been called by some moment, and an earlier one had not been called after it, the
//! earlier one was overtaken: no false alarm is possible, and in the last stretch, where polls follow one another
//! without a gap, little can be missed. A held poll is answered when its ticket is called: counting that answer's
//! moment (less a slack for its way) as the moment of the call sees more, and is only very probable; it is counted
//! apart.

use std::collections::HashMap;

use serde::Serialize;

use crate::clock::Moment;
use crate::ticket::Place;

/// What is known of one visitor's call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Lane and number.
    pub place: Place,
    /// Never closed the page.
    pub stayed: bool,
    /// Not called yet at this time.
    pub uncalled_at: Moment,
    /// Called by this time, if at all.
    pub called_by: Option<Moment>,
}

/// Who was overtaken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Overtaken {
    /// Visitors who stayed and were called after a later ticket.
    pub visitors: usize,
    /// By how long at most, in seconds.
    pub worst_seconds: f64,
}

/// Finds out who was overtaken, lane by lane.
pub fn overtaken(calls: &[Call]) -> Overtaken {
    let mut from_last: Vec<&Call> = calls.iter().collect();
    from_last.sort_unstable_by_key(|call| std::cmp::Reverse(call.place));
    let mut earliest_later_call: HashMap<u8, Moment> = HashMap::new();
    let mut found = Overtaken::default();
    for call in from_last {
        let later = earliest_later_call.entry(call.place.class).or_insert(Moment::NEVER);
        if call.stayed && *later < call.uncalled_at {
            found.visitors += 1;
            found.worst_seconds = found.worst_seconds.max(call.uncalled_at.since(*later).as_secs_f64());
        }
        *later = (*later).min(call.called_by.unwrap_or(Moment::NEVER));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(number: u64, uncalled_at: u64, called_by: Option<u64>) -> Call {
        let second = |s: u64| Moment(s * 1_000_000);
        Call {
            place: Place { class: 0, number },
            stayed: true,
            uncalled_at: second(uncalled_at),
            called_by: called_by.map(second),
        }
    }

    #[test]
    fn learning_late_is_not_being_overtaken() {
        let calls = [call(1, 10, Some(30)), call(2, 15, Some(20)), call(3, 18, Some(21))];
        assert_eq!(overtaken(&calls), Overtaken::default());
    }

    #[test]
    fn waiting_on_after_a_later_call_is() {
        let calls = [call(1, 25, Some(30)), call(2, 15, Some(20)), call(3, 19, Some(22))];
        assert_eq!(overtaken(&calls), Overtaken { visitors: 1, worst_seconds: 5.0 });
    }

    #[test]
    fn whoever_was_never_called_counts_too() {
        assert_eq!(overtaken(&[call(1, 25, None), call(9, 0, Some(20))]).visitors, 1);
    }

    #[test]
    fn whoever_left_and_other_lanes_do_not() {
        let left = Call { stayed: false, ..call(1, 25, Some(30)) };
        assert_eq!(overtaken(&[left, call(2, 15, Some(20))]).visitors, 0);
        let other = Call { place: Place { class: 1, number: 2 }, ..call(2, 15, Some(20)) };
        assert_eq!(overtaken(&[call(1, 25, Some(30)), other]).visitors, 0);
    }
}
