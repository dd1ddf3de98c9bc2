//! The seats of a room: who is inside. Hot: every request of an admitted visitor touches one seat and nothing else.

use std::collections::HashMap;
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use crate::domain::client::ClientPrefix;
use crate::domain::limiter::WorkedOffAt;
use crate::domain::names::ClassId;
use crate::domain::pass_limits::{Excess, PassLimits};
use crate::domain::portal_health::counts;
use crate::domain::seat::{
    Ends, ForkedPass, SeatFacts, Showing, Stay, Worth, ended, ends, extensions_left, puts_limit_off, remembered_until,
    worth,
};
use crate::domain::time::Mono;
use crate::domain::token::VisitorId;
use crate::store::{SeatRecord, Standing};

/// How old the durable "last seen" of a seat may be, in seconds.
const TOUCH_DURABLE: u32 = 10;

/// Everybody inside, and the identities that ended early and are remembered until their passes would have expired.
#[derive(Debug, Default)]
pub struct Seats {
    taken: DashMap<VisitorId, Arc<Seat>>,
    ended: DashMap<VisitorId, Ended>,
    count: AtomicU64,
    freed: AtomicU32,
}

/// One seat. All seconds are the room's own (see `domain::seat`).
#[derive(Debug)]
pub struct Seat {
    /// The ticket that entered.
    pub number: u64,
    /// Its lane.
    pub class: ClassId,
    entered: u32,
    last_seen: AtomicU32,
    generation: AtomicU64,
    seen_generation: AtomicU64,
    seen_at: AtomicU32,
    seen_from: AtomicU64,
    renewed_at: AtomicU32,
    open: AtomicU32,
    confirmed: AtomicBool,
    extended: AtomicU32,
    recorded_at: AtomicU32,
    /// When an answer counted for the portal's health last, in nanoseconds of [`Mono`] and one more; 0 means never.
    heard_at: AtomicU64,
    /// See [`WorkedOffAt`]; in nanoseconds of [`Mono`].
    worked_off_at: AtomicU64,
}

/// A good pass as a request shows it.
#[derive(Clone, Copy, Debug)]
pub struct PassShown {
    /// Whose it is.
    pub id: VisitorId,
    /// Its generation.
    pub generation: u64,
    /// From where it comes.
    pub client: IpAddr,
}

/// What holds for the passes of a room.
#[derive(Clone, Copy, Debug)]
pub struct PassTerms {
    /// How long their visitors may stay.
    pub stay: Stay,
    /// What becomes of forks.
    pub forked: ForkedPass,
}

/// An identity that ended before its pass expired.
#[derive(Clone, Copy, Debug)]
struct Ended {
    remembered_until: u32,
    /// When it ended for lack of activity; `None` when the visitor or the portal ended it.
    silently_at: Option<u32>,
}

/// What a pass that was shown is worth.
#[derive(Clone, Debug)]
pub enum Shown {
    /// It holds this seat.
    Good(Arc<Seat>),
    /// Its seat ended; for lack of activity in the second given, otherwise because it was wished.
    Ended(Option<u32>),
    /// A newer generation of it has been in use for a while.
    Superseded,
    /// A newer generation of it is in use elsewhere. It shares the seat, or is good no longer.
    Forked(Option<Arc<Seat>>),
    /// No seat is known: it was lost in a crash, or the pass is older than the state.
    Unknown,
}

impl Seat {
    /// A seat just taken.
    pub fn new(number: u64, class: ClassId, now: u32, standing: Standing) -> Seat {
        Seat {
            number,
            class,
            entered: now,
            last_seen: AtomicU32::new(now),
            generation: AtomicU64::new(1),
            seen_generation: AtomicU64::new(0),
            seen_at: AtomicU32::new(now),
            seen_from: AtomicU64::new(0),
            renewed_at: AtomicU32::new(now),
            open: AtomicU32::new(0),
            confirmed: AtomicBool::new(standing.is_firm()),
            extended: AtomicU32::new(standing.extended()),
            recorded_at: AtomicU32::new(now),
            heard_at: AtomicU64::new(0),
            worked_off_at: AtomicU64::new(0),
        }
    }

    /// The seat of a pass that was signed in that second: from then on counts when it is due for renewal, and its visitor
    /// entered no later.
    pub fn with_pass_signed_at(self, issued: u32) -> Seat {
        Seat { renewed_at: AtomicU32::new(issued), entered: self.entered.min(issued), ..self }
    }

    /// A seat as the store has it. Which generation was seen is not known, so all count.
    pub fn restored(record: &SeatRecord) -> Seat {
        let seat = Seat::new(record.number, record.class, record.last_seen, record.standing);
        seat.generation.store(record.generation, Ordering::Relaxed);
        Seat { entered: record.entered, ..seat }
    }

    /// What the store should know of it.
    pub fn record(&self) -> SeatRecord {
        SeatRecord {
            number: self.number,
            class: self.class,
            generation: self.generation.load(Ordering::Relaxed),
            last_seen: self.last_seen.load(Ordering::Relaxed),
            entered: self.entered,
            standing: Standing::of(self.confirmed.load(Ordering::Relaxed), self.extended.load(Ordering::Relaxed)),
        }
    }

    /// What the rules need to know of it.
    fn facts(&self) -> SeatFacts {
        SeatFacts {
            last_seen: self.last_seen.load(Ordering::Relaxed),
            // First of the three, see `saw`.
            seen_generation: self.seen_generation.load(Ordering::Acquire),
            seen_at: self.seen_at.load(Ordering::Relaxed),
            seen_from: self.seen_from.load(Ordering::Relaxed),
            confirmed: self.confirmed.load(Ordering::Relaxed),
            open: self.open.load(Ordering::Relaxed),
            entered: self.entered,
            extended: self.extended.load(Ordering::Relaxed),
        }
    }

    /// When the stay ends if nothing more happens.
    pub fn ends(&self, stay: &Stay) -> Ends {
        ends(&self.facts(), stay)
    }

    /// How often the visitor may put the limit off still; `None` without a limit.
    pub fn extensions_left(&self, stay: &Stay) -> Option<u32> {
        extensions_left(&self.facts(), stay)
    }

    /// The visitor wishes for more time. Returns whether that puts the limit off, which the store should hear of.
    pub fn put_limit_off(&self, stay: &Stay, now: u32) -> bool {
        let facts = self.facts();
        let (before, after) = (facts.extended, facts.extended.saturating_add(1));
        puts_limit_off(&facts, stay, now)
            && self.extended.compare_exchange(before, after, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The visitor is active. Returns whether the store should hear of it.
    pub fn touch(&self, now: u32) -> bool {
        self.last_seen.fetch_max(now, Ordering::Relaxed);
        let recorded = self.recorded_at.load(Ordering::Relaxed);
        now >= recorded.saturating_add(TOUCH_DURABLE)
            && self.recorded_at.compare_exchange(recorded, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Whether an answer to this visitor counts for the portal's health; nobody is heard too often.
    pub fn is_heard(&self, now: Mono) -> bool {
        let before = self.heard_at.load(Ordering::Relaxed);
        let heard = before.checked_sub(1).map(Mono);
        let this = now.0.saturating_add(1);
        counts(heard, now) && self.heard_at.compare_exchange(before, this, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The pass came back with this generation. Returns whether that makes the seat firm.
    fn saw(&self, generation: u64, client: IpAddr, now: u32) -> bool {
        if self.seen_generation.load(Ordering::Relaxed) < generation {
            // When and where come first: whoever finds the newer generation must not take it for one seen long ago.
            self.seen_at.store(now, Ordering::Relaxed);
            self.seen_from.store(site(client), Ordering::Relaxed);
            self.seen_generation.fetch_max(generation, Ordering::Release);
        }
        !self.confirmed.load(Ordering::Relaxed) && !self.confirmed.swap(true, Ordering::Relaxed)
    }

    /// The next generation for a renewal, if nobody else renewed it within `pause` seconds.
    pub fn renew(&self, now: u32, pause: u32) -> Option<u64> {
        let renewed = self.renewed_at.load(Ordering::Relaxed);
        let mine = now >= renewed.saturating_add(pause)
            && self.renewed_at.compare_exchange(renewed, now, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        mine.then(|| self.generation.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// A pass of this generation was issued, by whoever had the seat before.
    pub fn issued(&self, generation: u64) {
        self.generation.fetch_max(generation, Ordering::Relaxed);
    }

    /// The generation issued last.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Something of the visitor's begins that counts as activity until it ends.
    pub fn begin(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// The same for a request, unless the pass asks for more than one person's traffic.
    ///
    /// # Errors
    /// [`Excess`]; nothing has begun then.
    pub fn begin_within(&self, limits: &PassLimits, now: Mono) -> Result<(), Excess> {
        let under_way = self.open.fetch_add(1, Ordering::Relaxed);
        let begun = limits.one_more(under_way).and_then(|()| self.count(limits, now));
        if begun.is_err() {
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
        begun
    }

    fn count(&self, limits: &PassLimits, now: Mono) -> Result<(), Excess> {
        let mut before = self.worked_off_at.load(Ordering::Relaxed);
        loop {
            let mut state = WorkedOffAt(Mono(before));
            limits.count(&mut state, now)?;
            let after = state.0.0;
            match self.worked_off_at.compare_exchange_weak(before, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(other) => before = other,
            }
        }
    }

    /// It ended.
    pub fn end(&self, now: u32) {
        self.last_seen.fetch_max(now, Ordering::Relaxed);
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Seats {
    /// Seats taken.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Seats taken by those of each class.
    pub fn by_class(&self) -> HashMap<ClassId, u64> {
        let mut counts = HashMap::new();
        for seat in &self.taken {
            *counts.entry(seat.class).or_insert(0) += 1;
        }
        counts
    }

    /// Seats freed since the last call.
    pub fn take_freed(&self) -> u32 {
        self.freed.swap(0, Ordering::Relaxed)
    }

    /// Puts a seat in; one that is taken already stays as it is.
    pub fn put(&self, id: VisitorId, seat: Seat) -> Arc<Seat> {
        match self.taken.entry(id) {
            Entry::Occupied(taken) => taken.get().clone(),
            Entry::Vacant(vacant) => {
                self.count.fetch_add(1, Ordering::Relaxed);
                vacant.insert(Arc::new(seat)).clone()
            }
        }
    }

    /// Remembers an identity that ended, until the second given.
    pub fn put_ended(&self, id: VisitorId, until: u32) {
        self.ended.insert(id, Ended { remembered_until: until, silently_at: None });
    }

    /// Takes over what another node says of a seat.
    pub fn note(&self, id: VisitorId, record: &SeatRecord) {
        if self.ended.contains_key(&id) {
            return;
        }
        let seat = self.put(id, Seat::restored(record));
        seat.last_seen.fetch_max(record.last_seen, Ordering::Relaxed);
        seat.generation.fetch_max(record.generation, Ordering::Relaxed);
        seat.confirmed.fetch_or(record.standing.is_firm(), Ordering::Relaxed);
        seat.extended.fetch_max(record.standing.extended(), Ordering::Relaxed);
    }

    /// Another node freed a seat. Whether for lack of activity can be seen from here as well.
    pub fn note_gone(&self, id: VisitorId, ended_until: Option<u32>, stay: &Stay, now: u32) {
        let was_silent = self.get(&id).is_some_and(|seat| ended(&seat.facts(), stay, now).is_some());
        match ended_until {
            Some(_) if was_silent => self.free_silent(&id, now, ended_until),
            Some(until) => {
                self.put_ended(id, until);
                self.free(&id);
            }
            None => {
                self.free(&id);
            }
        }
    }

    /// Frees all other seats.
    pub fn keep_only(&self, kept: HashSet<VisitorId>) {
        let others: Vec<VisitorId> =
            self.taken.iter().map(|seat| *seat.key()).filter(|id| !kept.contains(id)).collect();
        for id in others {
            self.free(&id);
        }
    }

    /// The seats of those of whom something is under way here.
    pub fn open(&self) -> Vec<(VisitorId, Arc<Seat>)> {
        let is_open = |seat: &Seat| seat.open.load(Ordering::Relaxed) > 0;
        self.taken.iter().filter(|seat| is_open(seat)).map(|seat| (*seat.key(), seat.clone())).collect()
    }

    /// All seats, as the store should know them.
    pub fn records(&self) -> Vec<([u8; 16], SeatRecord)> {
        self.taken.iter().map(|seat| (seat.key().0, seat.record())).collect()
    }

    /// All identities that ended, each with the second until which that is remembered.
    pub fn ended(&self) -> Vec<([u8; 16], u32)> {
        self.ended.iter().map(|ended| (ended.key().0, ended.remembered_until)).collect()
    }

    /// The seat of an identity.
    pub fn get(&self, id: &VisitorId) -> Option<Arc<Seat>> {
        self.taken.get(id).map(|seat| seat.clone())
    }

    /// What a pass is worth that was verified by key. `firm` is told of a seat that its pass made firm.
    pub fn show(&self, pass: &PassShown, terms: &PassTerms, now: u32, firm: impl FnOnce(&Seat)) -> Shown {
        let Some(seat) = self.get(&pass.id) else { return self.without_seat(&pass.id) };
        let facts = seat.facts();
        if let Some(at) = ended(&facts, &terms.stay, now).filter(|_| facts.confirmed) {
            return Shown::Ended(Some(at));
        }
        // Nearly all passes are of the newest generation; of those it does not matter from where they come.
        if pass.generation < facts.seen_generation {
            let showing = Showing { generation: pass.generation, site: site(pass.client) };
            return match worth(&facts, showing, terms.forked, now) {
                Worth::Good => Shown::Good(seat),
                Worth::GoodFork => Shown::Forked(Some(seat)),
                Worth::Superseded => Shown::Superseded,
                Worth::Fork => Shown::Forked(None),
            };
        }
        if seat.saw(pass.generation, pass.client, now) {
            firm(&seat);
        }
        Shown::Good(seat)
    }

    /// What a pass is worth whose seat is gone: [`Shown::Ended`] as long as the end is remembered.
    pub fn without_seat(&self, id: &VisitorId) -> Shown {
        self.ended.get(id).map_or(Shown::Unknown, |ended| Shown::Ended(ended.silently_at))
    }

    /// Frees the seat of a visitor who stayed silent, and remembers when.
    pub fn free_silent(&self, id: &VisitorId, now: u32, remembered_until: Option<u32>) {
        if let Some(remembered_until) = remembered_until {
            self.ended.insert(*id, Ended { remembered_until, silently_at: Some(now) });
        }
        self.free(id);
    }

    /// Frees a seat.
    pub fn free(&self, id: &VisitorId) -> bool {
        let was_taken = self.taken.remove(id).is_some();
        if was_taken {
            self.count.fetch_sub(1, Ordering::Relaxed);
            self.freed.fetch_add(1, Ordering::Relaxed);
        }
        was_taken
    }

    /// The seats that ended by themselves, each with the second until which its identity is to be remembered
    /// (`None` when its pass never came back). Forgets ended identities whose time is over.
    pub fn sweep(&self, stay: &Stay, now: u32) -> Vec<(VisitorId, Option<u32>)> {
        self.ended.retain(|_, ended| ended.remembered_until > now);
        self.taken
            .iter()
            .filter(|seat| ended(&seat.facts(), stay, now).is_some())
            .map(|seat| {
                let remembered = seat.confirmed.load(Ordering::Relaxed);
                (*seat.key(), remembered.then(|| remembered_until(stay.idle, now)))
            })
            .collect()
    }
}

/// The number of the site that an address is in.
fn site(client: IpAddr) -> u64 {
    ClientPrefix::of(client).site().number()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::limiter::Limit;

    #[test]
    fn what_was_refused_does_not_count_as_under_way() {
        let seat = Seat::new(1, ClassId::CITIZEN, 0, Standing::Confirmed);
        let limits = PassLimits { at_once: Some(2), pace: Some(Limit::new(Duration::from_secs(1), 3)) };
        let begin = |at: u64| seat.begin_within(&limits, Mono(at * 1_000_000_000));
        assert_eq!((begin(1), begin(1), begin(1)), (Ok(()), Ok(()), Err(Excess::AtOnce)));
        seat.end(0);
        assert_eq!(begin(1), Ok(()), "neither does it count as a request");
        seat.end(0);
        seat.end(0);
        assert_eq!(begin(1), Err(Excess::Pace(Duration::from_secs(1))));
        assert_eq!(begin(2), Ok(()));
        assert_eq!(seat.open.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_lost_seat_that_is_given_again_began_no_later_than_its_pass() {
        let seat = Seat::new(1, ClassId::CITIZEN, 1000, Standing::Confirmed).with_pass_signed_at(400);
        assert_eq!(seat.record().entered, 400);
        let ahead = Seat::new(1, ClassId::CITIZEN, 1000, Standing::Confirmed).with_pass_signed_at(1003);
        assert_eq!(ahead.record().entered, 1000);
    }

    #[test]
    fn what_another_node_says_of_a_seat_takes_no_extension_back() {
        let stay = Stay { idle: Duration::from_secs(1200), limit: Some(Duration::from_secs(1200)), extensions: 3 };
        let (seats, id) = (Seats::default(), VisitorId([7; 16]));
        let seat = seats.put(id, Seat::new(1, ClassId::CITIZEN, 0, Standing::Confirmed));
        let before = seat.record();
        assert!(seat.put_limit_off(&stay, 1100) && !seat.put_limit_off(&stay, 1100), "once for one warning");
        assert_eq!(seat.record().standing, Standing::Extended { times: 1 });
        seats.note(id, &before);
        assert_eq!(seat.ends(&stay).limit, Some(2400));
        seats.note(id, &SeatRecord { standing: Standing::Extended { times: 2 }, ..before });
        assert_eq!((seat.ends(&stay).limit, seat.extensions_left(&stay)), (Some(3600), Some(1)));
        assert_eq!(Seat::restored(&seat.record()).record(), seat.record());
    }

    #[test]
    fn whoever_asks_again_and_again_is_heard_each_two_seconds() {
        let seat = Seat::new(1, ClassId::CITIZEN, 0, Standing::Confirmed);
        let heard = (0..100).filter(|tenth| seat.is_heard(Mono(tenth * 100_000_000))).count();
        assert_eq!(heard, 5);
    }
}
