//! What a node tells of a session: to the other nodes, which may see it next, and to itself after a restart.
//!
//! What is told is a record's whole state, so that a note that is lost, heard twice or heard late does no harm. It comes
//! a moment late in any case. So where another node has served a session lately, an answer that contradicts what is
//! known here has a harmless explanation: a login there of which nothing was heard yet.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::time::{Mono, Now, Unix};
use super::{
    Bound, Certainty, Detector, Finding, IdentityKey, LATELY, MayChange, PRESENTERS, Seen, SessionRecord, VisitorKey,
    Who,
};

/// A session in use is told again after so long, so that it is not forgotten elsewhere.
pub const TOLD_AGAIN: Duration = Duration::from_secs(300);

/// So long after another node told of a session it may still be serving it.
const SERVED_ELSEWHERE: Duration = Duration::from_secs(3 * TOLD_AGAIN.as_secs());

/// Whether others know of the latest changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    has_changed: bool,
    at: Mono,
}

impl Told {
    pub(super) fn has_changed(&mut self) {
        self.has_changed = true;
    }
}

/// What is told of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionNote {
    issued: Option<SeenNote>,
    presented: Vec<SeenNote>,
    bound: Option<BoundNote>,
    /// When somebody may have logged in, and when that was answered.
    may_change: Option<(Unix, Option<Unix>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SeenNote {
    who: Who,
    first: Unix,
    at: Unix,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct BoundNote {
    identity: IdentityKey,
    since: Unix,
    before: Option<IdentityKey>,
}

/// Who told a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Teller {
    /// Another node.
    AnotherNode,
    /// This one, before it was started.
    ThisOneBefore,
}

impl SeenNote {
    fn of(seen: &Seen, now: Now) -> SeenNote {
        SeenNote { who: seen.who, first: now.unix_of(seen.first), at: now.unix_of(seen.at) }
    }

    fn seen(&self, now: Now) -> Seen {
        Seen { who: self.who, first: now.mono_of(self.first), at: now.mono_of(self.at) }
    }
}

impl SessionNote {
    /// The person of the session.
    pub fn identity(&self) -> Option<IdentityKey> {
        self.bound.map(|bound| bound.identity)
    }
}

impl SessionRecord {
    /// Whether the session is to be told of, which is then as good as done.
    pub fn is_to_be_told(&mut self, now: Mono) -> bool {
        let is_due = self.told.has_changed || now.since(self.told.at) >= TOLD_AGAIN;
        if is_due {
            self.told = Told { has_changed: false, at: now };
        }
        is_due
    }

    /// To whom it was issued.
    pub fn issued_to(&self) -> Option<VisitorKey> {
        self.issued.and_then(|seen| seen.who.visitor)
    }

    /// What there is to tell.
    pub fn tell(&self, now: Now) -> SessionNote {
        let bound = |bound: Bound| {
            let Bound { identity, since, before } = bound;
            BoundNote { identity, since: now.unix_of(since), before }
        };
        let change = |change: MayChange| (now.unix_of(change.since), change.answered.map(|at| now.unix_of(at)));
        SessionNote {
            issued: self.issued.as_ref().map(|seen| SeenNote::of(seen, now)),
            presented: self.presenters().map(|seen| SeenNote::of(seen, now)).collect(),
            bound: self.bound.map(bound),
            may_change: self.may_change.map(change),
        }
    }

    /// Takes up what was told. Found is what this node did not know when it answered: too late to stop it.
    pub fn hear(&mut self, note: &SessionNote, teller: Teller, now: Now) -> Option<Finding> {
        let is_first = self.elsewhere.is_none() && teller == Teller::AnotherNode;
        let reissued = self.hear_issue(note, now);
        let renamed = self.hear_name(note, now);
        self.hear_change(note, now);
        self.hear_presenters(note, now);
        if teller == Teller::AnotherNode {
            self.elsewhere = Some(now.mono);
        }
        // Every node hears everything; the one whose answer came second reports it, once.
        reissued.or(renamed).filter(|_| is_first)
    }

    /// What was issued first counts.
    fn hear_issue(&mut self, note: &SessionNote, now: Now) -> Option<Finding> {
        let heard = note.issued?.seen(now);
        let Some(own) = self.issued else {
            self.issued = Some(heard);
            return None;
        };
        if heard.first >= own.first {
            return None;
        }
        self.issued = Some(heard);
        let other_visitor: Option<VisitorKey> = heard.who.visitor;
        (!heard.who.may_be(own.who))
            .then(|| Finding { other_visitor, ..Finding::of(Detector::SessionReissued, Certainty::Likely) })
    }

    /// A person who took the place of the one known here has it here, too; otherwise who was named first.
    fn hear_name(&mut self, note: &SessionNote, now: Now) -> Option<Finding> {
        let BoundNote { identity, since, before } = note.bound?;
        let heard = Bound { identity, since: now.mono_of(since), before };
        let Some(own) = self.bound else {
            self.bound = Some(heard);
            return None;
        };
        if own.identity == identity || own.before == Some(identity) {
            return None;
        }
        let has_followed = before == Some(own.identity);
        if has_followed || heard.since < own.since {
            self.bound = Some(heard);
            self.contest = None;
        }
        (!has_followed && heard.since < own.since).then(|| Finding {
            other_identity: Some(identity),
            ..Finding::of(Detector::SessionIdentities, Certainty::Likely)
        })
    }

    fn hear_change(&mut self, note: &SessionNote, now: Now) {
        let Some((since, answered)) = note.may_change else { return };
        if now.unix.since(answered.unwrap_or(since)) >= LATELY {
            return;
        }
        let heard = MayChange::begun(now.mono_of(since), answered.map(|at| now.mono_of(at)));
        let is_newer = |own: MayChange| (heard.since, heard.answered) > (own.since, own.answered);
        if self.may_change.is_none_or(is_newer) {
            self.may_change = Some(heard);
        }
    }

    fn hear_presenters(&mut self, note: &SessionNote, now: Now) {
        let mut all: Vec<Seen> = self.presenters().copied().collect();
        for heard in note.presented.iter().take(PRESENTERS).map(|seen| seen.seen(now)) {
            match all.iter_mut().find(|own| own.who == heard.who) {
                Some(own) => (own.first, own.at) = (own.first.min(heard.first), own.at.max(heard.at)),
                None => all.push(heard),
            }
        }
        all.sort_by_key(|seen| seen.at);
        let latest = all.into_iter().rev().take(PRESENTERS);
        self.presented = [None; PRESENTERS];
        self.presented.iter_mut().rev().zip(latest).for_each(|(place, seen)| *place = Some(seen));
    }

    /// How sure it is that an answer contradicts what is known here.
    pub(super) fn certainty_beside_others(&self, now: Mono) -> Certainty {
        let is_served_elsewhere = self.elsewhere.is_some_and(|at| now.since(at) < SERVED_ELSEWHERE);
        if is_served_elsewhere { Certainty::Likely } else { Certainty::Sure }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::client::ClientPrefix;
    use super::super::{Arrival, Asked, Effect, Shows};
    use super::*;

    const ANNA: IdentityKey = IdentityKey([1; 16]);
    const BRUNO: IdentityKey = IdentityKey([2; 16]);

    fn who(visitor: u8) -> Who {
        Who { visitor: Some(VisitorKey([visitor; 16])), network: ClientPrefix::of([192, 0, 2, visitor].into()) }
    }

    /// Seconds after the nodes were started; they agree on the time, and were not started at once.
    fn here(second: u64) -> Now {
        Now { mono: Mono(0) + Duration::from_secs(second), unix: Unix((1_000_000 + second) * 1000), ..Now::default() }
    }

    fn there(second: u64) -> Now {
        Now { mono: Mono(0) + Duration::from_secs(5000 + second), ..here(second) }
    }

    /// What one node told reaches the other.
    fn tell(from: &SessionRecord, at: Now, to: &mut SessionRecord, now: Now) -> Option<Finding> {
        let bytes = postcard::to_stdvec(&from.tell(at)).unwrap();
        to.hear(&postcard::from_bytes(&bytes).unwrap(), Teller::AnotherNode, now)
    }

    fn found(finding: Option<Finding>) -> Option<(Detector, Certainty)> {
        finding.map(|finding| (finding.detector, finding.certainty))
    }

    fn named(record: &mut SessionRecord, person: IdentityKey, visitor: u8, asked: Now, now: Now) -> Option<Finding> {
        record.present(who(visitor), Arrival::Inside, Effect::Reads, asked.mono);
        let asked = Asked { who: who(visitor), at: asked.mono, effect: Effect::Reads };
        record.name(person, &asked, Shows::Page, now.mono)
    }

    #[test]
    fn a_session_issued_at_one_node_and_presented_or_issued_at_another() {
        let (mut one, mut other) = (SessionRecord::default(), SessionRecord::default());
        assert_eq!(one.issue(who(1), here(0).mono), None);
        assert_eq!(tell(&one, here(1), &mut other, there(1)), None);
        let presented = other.present(who(2), Arrival::Inside, Effect::Reads, there(2).mono);
        assert_eq!(found(presented), Some((Detector::SessionPresented, Certainty::Sure)));
        let own = other.present(who(1), Arrival::Inside, Effect::Reads, there(3).mono);
        assert_ne!(found(own), Some((Detector::SessionPresented, Certainty::Sure)), "it was issued to them");
        let reissued = other.issue(who(3), there(3).mono);
        assert_eq!(found(reissued), Some((Detector::SessionReissued, Certainty::Sure)));
    }

    #[test]
    fn what_was_heard_too_late_is_reported_once_by_the_node_that_came_second() {
        let mut nodes = [SessionRecord::default(), SessionRecord::default(), SessionRecord::default()];
        let [one, other, third] = &mut nodes;
        one.issue(who(1), here(0).mono);
        other.issue(who(2), there(1).mono);
        let (first, second) = (one.clone(), other.clone());
        assert_eq!(found(tell(&first, here(1), other, there(1))), Some((Detector::SessionReissued, Certainty::Likely)));
        assert_eq!(tell(&second, there(1), one, here(1)), None);
        for _ in 0..2 {
            assert_eq!(tell(&second, there(1), third, here(2)), None, "it issued nothing");
            assert_eq!(tell(&first, here(1), third, here(2)), None);
            assert_eq!(tell(&first, here(1), other, there(2)), None);
        }
        for record in nodes {
            assert_eq!(record.issued.map(|seen| seen.who), Some(who(1)));
        }
    }

    #[test]
    fn a_login_at_another_node_of_which_nothing_was_heard_blocks_nobody() {
        let (mut one, mut other) = (SessionRecord::default(), SessionRecord::default());
        one.issue(who(1), here(0).mono);
        named(&mut one, ANNA, 1, here(100), here(100));
        tell(&one, here(100), &mut other, there(100));
        // Somebody else logs in there, and asks here before anything is heard.
        let elsewhere = named(&mut other, BRUNO, 1, there(300), there(300));
        assert_eq!(found(elsewhere), Some((Detector::IdentityMismatch, Certainty::Likely)));
    }

    #[test]
    fn a_session_of_one_node_is_judged_as_strictly_as_without_others() {
        let (mut one, mut other) = (SessionRecord::default(), SessionRecord::default());
        one.issue(who(1), here(0).mono);
        named(&mut one, ANNA, 1, here(100), here(100));
        tell(&one, here(100), &mut other, there(100));
        let here_still = named(&mut one, BRUNO, 1, here(300), here(300));
        assert_eq!(found(here_still), Some((Detector::IdentityMismatch, Certainty::Sure)));
        let moved_for_good = named(&mut other, BRUNO, 1, there(1100), there(1100));
        assert_eq!(found(moved_for_good), Some((Detector::IdentityMismatch, Certainty::Sure)));
    }

    #[test]
    fn a_person_who_took_over_has_the_session_everywhere() {
        let (mut one, mut other) = (SessionRecord::default(), SessionRecord::default());
        named(&mut one, ANNA, 1, here(0), here(0));
        tell(&one, here(0), &mut other, there(0));
        one.adopt(super::super::Candidate { identity: BRUNO, times: 3, first: here(50).mono }, ANNA);
        assert_eq!(tell(&one, here(51), &mut other, there(51)), None);
        assert_eq!(named(&mut other, BRUNO, 1, there(200), there(200)), None);
    }

    #[test]
    fn a_restart_forgets_neither_owner_nor_person_and_blames_nobody() {
        let mut before = SessionRecord::default();
        before.issue(who(1), there(0).mono);
        named(&mut before, ANNA, 1, there(100), there(100));
        let note = before.tell(there(200));
        let mut after = SessionRecord::default();
        let started = Now { mono: Mono(0), ..here(200) };
        assert_eq!(after.hear(&note, Teller::ThisOneBefore, started), None);
        let later = |second: u64| Now { mono: Mono(0) + Duration::from_secs(second), ..here(200 + second) };
        assert_eq!(named(&mut after, ANNA, 1, later(1), later(1)), None);
        let presented = after.present(who(2), Arrival::Inside, Effect::Reads, later(2).mono);
        assert_eq!(found(presented), Some((Detector::SessionPresented, Certainty::Sure)));
        let mismatch = named(&mut after, BRUNO, 1, later(100), later(100));
        assert_eq!(found(mismatch), Some((Detector::IdentityMismatch, Certainty::Sure)));
    }

    #[test]
    fn what_does_not_change_is_told_seldom() {
        let mut record = SessionRecord::default();
        record.issue(who(1), here(400).mono);
        assert!(record.is_to_be_told(here(400).mono));
        let mut times = 0;
        for second in 401..1000 {
            record.present(who(1), Arrival::Inside, Effect::Reads, here(second).mono);
            times += usize::from(record.is_to_be_told(here(second).mono));
        }
        assert_eq!(times, 2, "once as somebody who presents it, then every five minutes");
    }
}
