//! Going on while the shared store is away: how the nodes divide the rate beforehand, so that they never let in more than
//! it in all, whatever is cut off from whatever.
//!
//! While the store answers, it keeps for each node that would go on alone what that node may use then: its claim. All
//! claims together are at most the whole. A node uses its claim only after the store has been silent for a while; before
//! that, whoever leads with the store has begun to leave it out. A claim is given up when its node says so, or when the
//! time is over for which a node may go on.

use std::time::Duration;

use super::budget::WHOLE;
use super::mirror::NodeId;

/// After this silence, whoever leads leaves out what a node may use alone.
pub const LEFT_OUT_AFTER: Duration = Duration::from_secs(2);

/// After this silence a node goes on alone: later than that by more than what the leader knows may be old.
pub const ALONE_AFTER: Duration = Duration::from_secs(4);

/// What the store keeps of another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Whose it is.
    pub node: NodeId,
    /// When the store had answered the last time that the node knew of when it was heard last, in its milliseconds.
    pub answered_ms: u64,
    /// Until when the node may use it, in the same milliseconds.
    pub until_ms: u64,
    /// Thousandths of the rate.
    pub permille: u32,
}

/// What a node asks for besides so many others: as much as each of them.
pub fn wanted(others: usize) -> u32 {
    WHOLE / u32::try_from(others).unwrap_or(u32::MAX).saturating_add(1)
}

/// Thousandths of the rate that are left with the store when others may be going on alone by now.
pub fn left_with_the_store(others: &[Claim], now_ms: u64) -> u32 {
    let silent = |claim: &&Claim| {
        let silence = Duration::from_millis(now_ms.saturating_sub(claim.answered_ms));
        silence >= LEFT_OUT_AFTER && claim.until_ms >= now_ms
    };
    let used: u32 = others.iter().filter(silent).map(|claim| claim.permille).fold(0, u32::saturating_add);
    WHOLE.saturating_sub(used)
}

/// Whether a node goes on alone whose last answer was asked for and heard that long ago, when it may do so for `longest`. An
/// answer that was heard late is taken for as fresh as it may be when the node begins, and for as old when it ends.
pub fn goes_on_alone(asked: Duration, heard: Duration, longest: Duration) -> bool {
    heard >= ALONE_AFTER && asked < longest
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const LONGEST: Duration = Duration::from_secs(30);
    const STEP_MS: u64 = 100;

    /// The store's part: what is asked for is given as far as the others leave it, and nothing is taken back before its
    /// node knows.
    #[derive(Default)]
    struct Store {
        claims: BTreeMap<usize, Claim>,
    }

    impl Store {
        fn renew(&mut self, node: usize, words: &Words, now_ms: u64) -> Answer {
            self.claims.retain(|of, claim| *of == node || claim.until_ms >= now_ms);
            let others: Vec<Claim> =
                self.claims.iter().filter(|(of, _)| **of != node).map(|(_, claim)| *claim).collect();
            let taken: u32 = others.iter().map(|claim| claim.permille).sum();
            let given = words.wanted.min(WHOLE.saturating_sub(taken));
            // Who hears this answer has asked for it by now, and goes on for no longer than that after it.
            let until_ms = now_ms + LONGEST.as_millis() as u64;
            let name = NodeId(node as u64);
            let claim = Claim { node: name, answered_ms: words.answered_ms, until_ms, permille: words.has.max(given) };
            self.claims.insert(node, claim);
            Answer { given, others, at_ms: now_ms }
        }
    }

    /// What a node says.
    struct Words {
        answered_ms: u64,
        has: u32,
        wanted: u32,
    }

    #[derive(Clone)]
    struct Answer {
        given: u32,
        others: Vec<Claim>,
        at_ms: u64,
    }

    #[derive(Clone, Default)]
    struct Node {
        /// The last answer, when it was asked for and when it came.
        last: Option<(Answer, u64, u64)>,
        /// Words under way: when they arrive, when the answer would, and whether it does.
        under_way: Option<(u64, u64, u64, bool)>,
        answer: Option<Answer>,
    }

    impl Node {
        fn words(&self) -> Words {
            match &self.last {
                Some((answer, ..)) => {
                    Words { answered_ms: answer.at_ms, has: answer.given, wanted: wanted(answer.others.len()) }
                }
                None => Words { answered_ms: 0, has: 0, wanted: 0 },
            }
        }

        fn alone(&self, now: u64) -> u32 {
            let Some((answer, asked, heard)) = &self.last else { return 0 };
            let since = |at: &u64| Duration::from_millis(now.saturating_sub(*at));
            if goes_on_alone(since(asked), since(heard), LONGEST) { answer.given } else { 0 }
        }

        /// Nobody leads by words that were asked for longer ago than a lease lasts.
        fn may_lead_with(&self, now: u64) -> Option<u32> {
            let (answer, asked, _) = self.last.as_ref()?;
            (now.saturating_sub(*asked) < 625).then(|| left_with_the_store(&answer.others, answer.at_ms))
        }
    }

    /// For each node and second: how long words and answers are under way, and whether the answer is lost.
    fn any_weather() -> impl Strategy<Value = Vec<Vec<(u64, u64, bool)>>> {
        let one = prop_oneof![
            5 => Just((0, 0, true)),
            2 => (0..400_u64, 0..1500_u64, Just(true)),
            3 => (0..9000_u64, Just(0), Just(false)),
            2 => Just((u64::MAX / 4, 0, false)),
        ];
        let stretch = (one, 1..8_usize).prop_map(|(one, times)| vec![one; times]);
        let node = prop::collection::vec(stretch, 12..20).prop_map(|stretches| stretches.concat());
        prop::collection::vec(node, 1..6)
    }

    proptest! {
        #[test]
        fn nodes_never_let_in_more_than_the_rate_in_all(weather in any_weather()) {
            let mut store = Store::default();
            let mut nodes = vec![Node::default(); weather.len()];
            let seconds = weather.iter().map(Vec::len).max().unwrap_or(0) as u64;
            for now in (10_000..10_000 + seconds * 1000).step_by(STEP_MS as usize) {
                for (index, node) in nodes.iter_mut().enumerate() {
                    let second = ((now - 10_000) / 1000) as usize;
                    let Some((there, back, arrives)) = weather[index].get(second).copied() else { continue };
                    if node.under_way.is_none() {
                        node.under_way = Some((now, now + there, now + there + back, arrives));
                    }
                    let Some((asked, at_store, at_node, arrives)) = node.under_way else { continue };
                    if node.answer.is_none() && now >= at_store {
                        node.answer = Some(store.renew(index, &node.words(), now));
                    }
                    if arrives && now >= at_node && let Some(answer) = node.answer.take() {
                        node.last = Some((answer, asked, now));
                        node.under_way = None;
                    } else if now >= asked + 2000 {
                        // Nobody waits longer for an answer; what was said may still arrive, here at once.
                        if node.answer.take().is_none() && at_store < u64::MAX / 8 {
                            store.renew(index, &node.words(), now);
                        }
                        node.under_way = None;
                    }
                }
                let alone: u32 = nodes.iter().map(|node| node.alone(now)).sum();
                let leading = nodes.iter().filter_map(|node| node.may_lead_with(now)).max().unwrap_or(0);
                prop_assert!(alone + leading <= WHOLE, "at {now}: {alone} alone and {leading} with the store");
            }
        }
    }

    #[test]
    fn nodes_that_stay_get_equal_parts_within_moments() {
        let mut store = Store::default();
        let mut nodes = vec![Node::default(); 3];
        for now in (10_000..11_000).step_by(100) {
            for (index, node) in nodes.iter_mut().enumerate() {
                let answer = store.renew(index, &node.words(), now);
                node.last = Some((answer, now, now));
            }
        }
        let given: Vec<u32> =
            nodes.iter().map(|node| node.last.as_ref().map_or(0, |(answer, ..)| answer.given)).collect();
        assert_eq!(given, [333, 333, 333]);
        assert!(nodes.iter().all(|node| node.alone(11_000) == 0 && node.alone(15_000) == 333));
        assert!(nodes.iter().all(|node| node.alone(11_000 + 30_000) == 0), "no longer than that");
    }

    #[test]
    fn what_a_silent_node_may_use_is_left_out_until_its_time_is_over() {
        let claim = Claim { node: NodeId(1), answered_ms: 1000, until_ms: 31_000, permille: 250 };
        let left = |now_ms| left_with_the_store(&[claim], now_ms);
        assert_eq!([left(1500), left(3000), left(31_000), left(31_001)], [1000, 750, 750, 1000]);
    }
}
