//! What every back end of [`Store`] keeps, written once. A back end names itself a [`Subject`] and calls
//! `every_property_holds!`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{
    Change, Drawn, Fact, Health, Lane, Line, Noted, NotesMark, Origin, Script, SeatRecord, Standing, Store, StoreError,
    TicketRecord, TicketState, VisitorId,
};
use crate::domain::line::Asks;
use crate::domain::names::{ClassId, RoomName};
use crate::domain::opening::{self, Gathered, Opening};
use crate::domain::recent::Bounds;
use crate::domain::time::Unix;

/// A back end under test: one state that outlives any number of stores on it. Its clock stands still.
pub trait Subject {
    /// Opens a store on the state.
    async fn open(&self) -> Store;
    /// Ends a store as a kill would.
    async fn kill(&self, store: Store);
    /// What the clock of the stores shows.
    fn now(&self) -> Unix;
    /// Lets an hour pass.
    fn an_hour_passes(&self);
}

/// One test for each property; `$subject` is an expression that gives a new [`Subject`].
macro_rules! every_property_holds {
    ($subject:expr) => {
        $crate::store::contract::every_property_holds!($subject;
            a_new_line_is_empty_and_keeps_its_identity,
            numbers_begin_at_one_and_follow_one_another,
            numbers_are_unique_under_concurrency,
            lanes_and_rooms_count_by_themselves,
            no_number_is_drawn_twice_after_a_kill,
            a_clean_close_leaves_no_gap,
            flushed_facts_survive_a_kill,
            the_latest_fact_wins,
            facts_are_durable_soon_without_a_flush,
            seats_come_and_go,
            a_limit_that_was_put_off_stays_put_off,
            ended_identities_are_forgotten_in_time,
            a_lifted_counter_stays_lifted,
            forgotten_tickets_take_no_room,
            a_reset_begins_a_new_line_and_leaves_the_others,
            a_line_opened_twice_goes_on,
            an_opening_is_held_once_and_ends_with_its_line,
            a_room_that_is_not_open_gets_nothing,
            notes_are_kept_in_order_and_survive_a_kill,
            no_more_notes_are_kept_than_wanted,
            a_closed_store_says_so,
            a_good_store_is_in_good_health);
    };
    ($subject:expr; $($property:ident),*) => {
        $(#[tokio::test]
        async fn $property() {
            $crate::store::contract::$property(&$subject).await;
        })*
    };
}
pub(crate) use every_property_holds;

pub const CITIZEN: ClassId = ClassId(7);
pub const INTERMEDIARY: ClassId = ClassId(9);

const WAITS: Drawn = Drawn::ToWait(Asks::Scripted);

pub fn room(name: &str) -> RoomName {
    RoomName::new(name).unwrap()
}

pub fn ticket(number: u64, state: TicketState) -> Fact {
    Fact::Ticket { class: CITIZEN, number, record: TicketRecord { state, script: Script::Runs } }
}

pub fn seat(number: u64, last_seen: u32) -> SeatRecord {
    let standing = if number.is_multiple_of(2) { Standing::Provisional } else { Standing::Confirmed };
    SeatRecord { number, class: CITIZEN, generation: number << 40, last_seen, entered: 5, standing }
}

pub fn visitor(number: u64) -> VisitorId {
    (u128::from(number) << 64 | 0xfeed).to_be_bytes()
}

pub fn lane(line: &Line, class: ClassId) -> Lane {
    line.lanes.iter().find(|(of, _)| *of == class).map(|(_, lane)| lane.clone()).unwrap_or_default()
}

pub fn states(line: &Line) -> Vec<(u64, TicketState)> {
    lane(line, CITIZEN).tickets().map(|(number, record)| (number, record.state)).collect()
}

async fn line_after_kill(subject: &impl Subject, store: Store, room: &RoomName) -> (Store, Line) {
    subject.kill(store).await;
    let store = subject.open().await;
    let line = store.open_line(room, 999).await.unwrap();
    (store, line)
}

pub async fn a_new_line_is_empty_and_keeps_its_identity(subject: &impl Subject) {
    let (store, room) = (subject.open().await, room("r"));
    let line = store.open_line(&room, 42).await.unwrap();
    assert_eq!((line.identity, line.origin, line.frozen), (42, Origin::New, Duration::ZERO));
    assert!(line.lanes.is_empty() && line.seats.is_empty() && line.ended.is_empty());
    let (_, line) = line_after_kill(subject, store, &room).await;
    assert_eq!((line.identity, line.origin), (42, Origin::Known));
    assert!(line.last_durable.is_some());
}

pub async fn numbers_begin_at_one_and_follow_one_another(subject: &impl Subject) {
    let (store, room) = (subject.open().await, room("r"));
    store.open_line(&room, 1).await.unwrap();
    for expected in 1..=500 {
        assert_eq!(store.take_number(&room, CITIZEN, WAITS).await, Ok(expected));
    }
}

pub async fn numbers_are_unique_under_concurrency(subject: &impl Subject) {
    let (store, room) = (Arc::new(subject.open().await), room("r"));
    store.open_line(&room, 1).await.unwrap();
    let takers: Vec<_> = (0..16)
        .map(|_| {
            let (store, room) = (Arc::clone(&store), room.clone());
            tokio::spawn(async move {
                let mut taken = Vec::new();
                for _ in 0..250 {
                    taken.push(store.take_number(&room, CITIZEN, WAITS).await.unwrap());
                    tokio::task::yield_now().await;
                }
                taken
            })
        })
        .collect();
    let mut all = BTreeSet::new();
    for taker in takers {
        let taken = taker.await.unwrap();
        assert!(taken.is_sorted(), "each sees its numbers grow");
        all.extend(taken);
    }
    assert_eq!(all, (1..=4000).collect(), "each number once");
}

pub async fn lanes_and_rooms_count_by_themselves(subject: &impl Subject) {
    let store = subject.open().await;
    let (first, second) = (room("first"), room("second"));
    store.open_line(&first, 1).await.unwrap();
    store.open_line(&second, 2).await.unwrap();
    for expected in 1..=3 {
        assert_eq!(store.take_number(&first, CITIZEN, WAITS).await, Ok(expected));
        assert_eq!(store.take_number(&first, INTERMEDIARY, WAITS).await, Ok(expected));
        assert_eq!(store.take_number(&second, CITIZEN, WAITS).await, Ok(expected));
    }
}

pub async fn no_number_is_drawn_twice_after_a_kill(subject: &impl Subject) {
    let (mut store, room) = (subject.open().await, room("r"));
    store.open_line(&room, 1).await.unwrap();
    let mut last = 0;
    for _ in 0..4 {
        for _ in 0..100 {
            let number = store.take_number(&room, CITIZEN, WAITS).await.unwrap();
            assert!(number > last, "{number} after {last}");
            last = number;
        }
        let line;
        (store, line) = line_after_kill(subject, store, &room).await;
        assert!(lane(&line, CITIZEN).mark >= last);
    }
}

pub async fn a_clean_close_leaves_no_gap(subject: &impl Subject) {
    let (store, room) = (subject.open().await, room("r"));
    store.open_line(&room, 1).await.unwrap();
    for _ in 0..10 {
        store.take_number(&room, CITIZEN, WAITS).await.unwrap();
    }
    store.record(&room, ticket(10, TicketState::Waiting));
    store.close().await.unwrap();
    let store = subject.open().await;
    let line = store.open_line(&room, 2).await.unwrap();
    assert_eq!((lane(&line, CITIZEN).mark, lane(&line, CITIZEN).issued), (10, 10));
    assert_eq!(store.take_number(&room, CITIZEN, WAITS).await, Ok(11));
}

pub async fn flushed_facts_survive_a_kill(subject: &impl Subject) {
    let (store, room) = (subject.open().await, room("r"));
    store.open_line(&room, 1).await.unwrap();
    let numbers = [1, 2, 4095, 4096, 4097, 1_000_000];
    for number in numbers {
        store.record(&room, ticket(number, TicketState::Called));
        store.record(&room, Fact::Seat { id: visitor(number), seat: seat(number, 77) });
    }
    store.record(&room, Fact::Frozen(Duration::from_millis(12_345)));
    store.flush().await.unwrap();
    let (_, line) = line_after_kill(subject, store, &room).await;
    assert_eq!(states(&line), numbers.map(|number| (number, TicketState::Called)));
    assert_eq!(lane(&line, CITIZEN).issued, 1_000_000);
    let mut seats = line.seats;
    seats.sort_by_key(|(_, seat)| seat.number);
    assert_eq!(seats, numbers.map(|number| (visitor(number), seat(number, 77))));
    assert_eq!(line.frozen, Duration::from_millis(12_345));
}

pub async fn the_latest_fact_wins(subject: &impl Subject) {
    let (mut store, room) = (subject.open().await, room("r"));
    store.open_line(&room, 1).await.unwrap();
    for state in [TicketState::Waiting, TicketState::Called, TicketState::Absent, TicketState::Entered] {
        store.record(&room, ticket(5, TicketState::Left));
        store.record(&room, ticket(5, state));
        store.record(&room, Fact::Seat { id: visitor(5), seat: seat(5, 1) });
        store.record(&room, Fact::Seat { id: visitor(5), seat: seat(5, 2) });
        store.flush().await.unwrap();
        let line;
        (store, line) = line_after_kill(subject, store, &room).await;
        assert_eq!(states(&line), [(5, state)]);
        assert_eq!(line.seats, [(visitor(5), seat(5, 2))]);
    }
}

pub async fn facts_are_durable_soon_without_a_flush(subject: &impl Subject) {
    let (store, room) = (subject.open().await, room("r"));
    store.open_line(&room, 1).await.unwrap();
    store.record(&room, ticket(3, TicketState::Waiting));
    // The promise under test is about real time.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (_, line) = line_after_kill(subject, store, &room).await;
    assert_eq!(states(&line), [(3, TicketState::Waiting)]);
}

pub async fn seats_come_and_go(subject: &impl Subject) {
    let (store, room) = (subject.open().await, room("r"));
    store.open_line(&room, 1).await.unwrap();
    for number in 1..=4 {
        store.record(&room, Fact::Seat { id: visitor(number), seat: seat(number, 1) });
    }
    store.flush().await.unwrap();
    store.record(&room, Fact::SeatGone { id: visitor(1), ended_until: Some(u32::MAX) });
    store.record(&room, Fact::SeatGone { id: visitor(2), ended_until: None });
    store.record(&room, Fact::SeatGone { id: visitor(3), ended_until: Some(u32::MAX) });
    store.record(&room, Fact::Seat { id: visitor(3), seat: seat(3, 9) });
    store.flush().await.unwrap();
    let (_, line) = line_after_kill(subject, store, &room).await;
    assert_eq!(line.ended, [(visitor(1), u32::MAX)]);
    assert_eq!(line.seats, [(visitor(3), seat(3, 9)), (visitor(4), seat(4, 1))]);
}

pub async fn a_limit_that_was_put_off_stays_put_off(subject: &impl Subject) {
    let (store, room) = (subject.open().await, room("r"));
    store.open_line(&room, 1).await.unwrap();
    let extended = |number, times| SeatRecord { standing: Standing::Extended { times }, ..seat(number, 1) };
    for number in 1..=3 {
        store.record(&room, Fact::Seat { id: visitor(number), seat: seat(number, 1) });
    }
    store.record(&room, Fact::Seat { id: visitor(1), seat: extended(1, 1) });
    store.record(&room, Fact::Seat { id: visitor(2), seat: extended(2, 1) });
    store.flush().await.unwrap();
    store.record(&room, Fact::Seat { id: visitor(1), seat: extended(1, 300) });
    store.record(&room, Fact::SeatGone { id: visitor(2), ended_until: None });
    store.flush().await.unwrap();
    let (store, line) = line_after_kill(subject, store, &room).await;
    assert_eq!(line.seats, [(visitor(1), extended(1, 300)), (visitor(3), seat(3, 1))]);
    // Of a seat that is taken again, nothing is left of the one before.
    store.record(&room, Fact::Seat { id: visitor(2), seat: seat(2, 5) });
    store.flush().await.unwrap();
    let (store, line) = line_after_kill(subject, store, &room).await;
    assert_eq!(line.seats[1], (visitor(2), seat(2, 5)));
    let line = store.end_line(&room, 2).await.unwrap();
    assert_eq!(line.seats, []);
}

pub async fn ended_identities_are_forgotten_in_time(subject: &impl Subject) {
    let (store, room) = (subject.open().await, room("r"));
    store.open_line(&room, 1).await.unwrap();
    let start = subject.now().seconds();
    store.record(&room, Fact::SeatGone { id: visitor(1), ended_until: Some(start + 1800) });
    store.record(&room, Fact::SeatGone { id: visitor(2), ended_until: Some(start + 5400) });
    store.flush().await.unwrap();
    let (store, line) = line_after_kill(subject, store, &room).await;
    assert_eq!(line.ended.len(), 2);
    subject.kill(store).await;
    subject.an_hour_passes();
    let store = subject.open().await;
    store.flush().await.unwrap();
    let line = store.open_line(&room, 1).await.unwrap();
    assert_eq!(line.ended, [(visitor(2), start + 5400)]);
}

pub async fn a_lifted_counter_stays_lifted(subject: &impl Subject) {
    let (store, room) = (subject.open().await, room("r"));
    store.open_line(&room, 1).await.unwrap();
    assert_eq!(store.take_number(&room, CITIZEN, WAITS).await, Ok(1));
    store.lift(&room, CITIZEN, 700_000).await.unwrap();
    assert_eq!(store.take_number(&room, CITIZEN, WAITS).await, Ok(700_001));
    store.lift(&room, CITIZEN, 5).await.unwrap();
    assert_eq!(store.take_number(&room, CITIZEN, WAITS).await, Ok(700_002));
    store.lift(&room, INTERMEDIARY, 30).await.unwrap();
    let (store, _) = line_after_kill(subject, store, &room).await;
    assert!(store.take_number(&room, CITIZEN, WAITS).await.unwrap() > 700_002);
    assert!(store.take_number(&room, INTERMEDIARY, WAITS).await.unwrap() > 30);
}

pub async fn forgotten_tickets_take_no_room(subject: &impl Subject) {
    let (store, room) = (subject.open().await, room("r"));
    store.open_line(&room, 1).await.unwrap();
    for number in [1, 5000, 9000, 20_000] {
        store.record(&room, ticket(number, TicketState::Left));
    }
    store.flush().await.unwrap();
    store.record(&room, Fact::Forget { class: CITIZEN, through: 9000 });
    store.record(&room, ticket(2, TicketState::Left));
    store.flush().await.unwrap();
    store.record(&room, Fact::Forget { class: CITIZEN, through: 10 });
    let (store, line) = line_after_kill(subject, store, &room).await;
    let citizens = lane(&line, CITIZEN);
    assert_eq!((citizens.forgotten, citizens.issued), (9000, 20_000));
    assert_eq!(states(&line), [(9000, TicketState::Left), (20_000, TicketState::Left)]);
    assert!(store.take_number(&room, CITIZEN, WAITS).await.unwrap() > 20_000);
}

pub async fn a_reset_begins_a_new_line_and_leaves_the_others(subject: &impl Subject) {
    let store = subject.open().await;
    let (ended, kept) = (room("ended"), room("ended-not"));
    for (room, identity) in [(&ended, 1), (&kept, 2)] {
        store.open_line(room, identity).await.unwrap();
        store.take_number(room, CITIZEN, WAITS).await.unwrap();
        store.record(room, ticket(1, TicketState::Waiting));
        store.record(room, Fact::Seat { id: visitor(1), seat: seat(1, 1) });
        store.record(room, Fact::SeatGone { id: visitor(2), ended_until: Some(u32::MAX) });
        store.record(room, Fact::Frozen(Duration::from_secs(9)));
    }
    let before = store.open_line(&kept, 0).await.unwrap();
    let line = store.end_line(&ended, 3).await.unwrap();
    assert_eq!((line.identity, line.origin), (3, Origin::New));
    assert_eq!(store.take_number(&ended, CITIZEN, WAITS).await, Ok(1));
    store.record(&ended, ticket(1, TicketState::Called));
    store.flush().await.unwrap();
    let (store, line) = line_after_kill(subject, store, &ended).await;
    assert_eq!((line.identity, line.origin, line.frozen), (3, Origin::Known, Duration::ZERO));
    assert_eq!(states(&line), [(1, TicketState::Called)]);
    assert!(line.seats.is_empty() && line.ended.is_empty());
    let after = store.open_line(&kept, 0).await.unwrap();
    assert_eq!((after.identity, &after.seats, &after.ended), (2, &before.seats, &before.ended));
    assert_eq!((states(&after), after.frozen), (vec![(1, TicketState::Waiting)], Duration::from_secs(9)));
}

pub async fn a_line_opened_twice_goes_on(subject: &impl Subject) {
    let (store, room) = (subject.open().await, room("r"));
    store.open_line(&room, 1).await.unwrap();
    for _ in 0..3 {
        store.take_number(&room, CITIZEN, WAITS).await.unwrap();
    }
    for number in 1..=3 {
        store.record(&room, ticket(number, TicketState::Waiting));
    }
    let line = store.open_line(&room, 2).await.unwrap();
    assert_eq!((line.identity, line.origin, lane(&line, CITIZEN).mark), (1, Origin::Known, 3));
    assert_eq!(states(&line), [1, 2, 3].map(|number| (number, TicketState::Waiting)));
    assert_eq!(store.take_number(&room, CITIZEN, WAITS).await, Ok(4));
}

/// An opening as it is announced.
pub fn announced(number: u32, seed: u8) -> Opening {
    let (at, announced) = (Unix::from_seconds(1_800_000_100), Unix::from_seconds(1_800_000_000));
    let (order, seed) = (opening::Order::Lottery, Some([seed; 32]));
    Opening { number, order, at, announced, seed, after: Vec::new(), held: None }
}

/// Makes a change as soon as the store takes it: where several nodes share it, this one may not lead yet.
pub async fn change(store: &Store, room: &RoomName, change: Change<'_>) -> Noted {
    for _ in 0..200 {
        if let Ok(noted) = store.change_opening(room, change).await {
            return noted;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the store does not take it: {change:?}");
}

fn done(noted: Noted) -> Opening {
    match noted {
        Noted::Done(opening) => opening,
        otherwise => panic!("{otherwise:?}"),
    }
}

pub async fn an_opening_is_held_once_and_ends_with_its_line(subject: &impl Subject) {
    let (store, room) = (subject.open().await, room("r"));
    assert!(store.open_line(&room, 1).await.unwrap().openings.is_empty());
    store.take_number(&room, CITIZEN, WAITS).await.unwrap();
    let first = change(&store, &room, Change::Announce { opening: &announced(1, 3), instead_of: None }).await;
    let first = done(first);
    assert_eq!(first, Opening { after: vec![(CITIZEN, 1)], ..announced(1, 3) });
    let moved = Opening { at: Unix(9), ..first.clone() };
    let set = Change::Set { opening: &moved, instead_of: Some(&first) };
    assert_eq!(done(change(&store, &room, set).await), moved);
    for _ in 0..3 {
        store.take_number(&room, CITIZEN, WAITS).await.unwrap();
    }
    let hold = Change::Hold { opening: &moved, at: subject.now() };
    let held = done(change(&store, &room, hold).await);
    let gathered = Gathered { class: CITIZEN, after: 1, count: 3 };
    assert_eq!(held.held.as_ref().map(|held| held.lanes.clone()), Some(vec![gathered]));
    let next = done(change(&store, &room, Change::Announce { opening: &announced(2, 4), instead_of: None }).await);
    let withdrawn = next.clone().withdrawn(subject.now());
    let withdrawn = done(change(&store, &room, Change::Withdraw { opening: &withdrawn, instead_of: &next }).await);
    assert!(withdrawn.is_withdrawn() && withdrawn.held.is_some());
    let (store, line) = line_after_kill(subject, store, &room).await;
    assert_eq!(line.openings, [held, withdrawn]);
    assert!(store.end_line(&room, 2).await.unwrap().openings.is_empty());
}

pub async fn a_room_that_is_not_open_gets_nothing(subject: &impl Subject) {
    let (store, room) = (subject.open().await, room("r"));
    assert_eq!(store.take_number(&room, CITIZEN, WAITS).await, Err(StoreError::NotOpen(room.clone())));
    assert_eq!(store.lift(&room, CITIZEN, 3).await, Err(StoreError::NotOpen(room.clone())));
    store.record(&room, ticket(1, TicketState::Waiting));
    store.flush().await.unwrap();
    assert_eq!(store.open_line(&room, 1).await.unwrap().origin, Origin::New);
}

pub async fn a_closed_store_says_so(subject: &impl Subject) {
    let (store, room) = (subject.open().await, room("r"));
    store.open_line(&room, 1).await.unwrap();
    store.close().await.unwrap();
    assert_eq!(store.take_number(&room, CITIZEN, WAITS).await, Err(StoreError::Closed));
    assert_eq!(store.flush().await, Err(StoreError::Closed));
    assert_eq!(store.open_line(&room, 1).await, Err(StoreError::Closed));
    assert_eq!(store.close().await, Err(StoreError::Closed));
}

pub async fn a_good_store_is_in_good_health(subject: &impl Subject) {
    let store = subject.open().await;
    store.flush().await.unwrap();
    assert_eq!(*store.health().borrow(), Health::Good);
    store.close().await.unwrap();
    assert_eq!(*store.health().borrow(), Health::Good);
}

fn so_many(entries: usize) -> Bounds {
    Bounds { entries, span: Duration::from_secs(7200) }
}

/// Everything that the notes after a mark say.
async fn all_notes(store: &Store, mut mark: NotesMark) -> (Vec<Vec<u8>>, NotesMark) {
    let mut all = Vec::new();
    loop {
        let some = store.read_notes(mark).await.unwrap();
        if some.notes.is_empty() {
            return (all, mark);
        }
        mark = some.mark;
        all.extend(some.notes.into_iter().map(|note| note.text));
    }
}

fn texts(numbers: std::ops::Range<u32>) -> Vec<Vec<u8>> {
    numbers.map(|number| number.to_be_bytes().to_vec()).collect()
}

pub async fn notes_are_kept_in_order_and_survive_a_kill(subject: &impl Subject) {
    let store = subject.open().await;
    assert_eq!(all_notes(&store, NotesMark::default()).await, (Vec::new(), NotesMark::default()));
    store.add_notes(texts(0..1500), so_many(5000)).await.unwrap();
    let (first, mark) = all_notes(&store, NotesMark::default()).await;
    assert_eq!(first, texts(0..1500));
    subject.kill(store).await;
    let store = subject.open().await;
    store.add_notes(texts(1500..1503), so_many(5000)).await.unwrap();
    assert_eq!(all_notes(&store, mark).await.0, texts(1500..1503));
    assert_eq!(all_notes(&store, NotesMark::default()).await.0, texts(0..1503));
}

pub async fn no_more_notes_are_kept_than_wanted(subject: &impl Subject) {
    let store = subject.open().await;
    for part in 0..10 {
        store.add_notes(texts(part * 500..(part + 1) * 500), so_many(1000)).await.unwrap();
    }
    let (kept, _) = all_notes(&store, NotesMark::default()).await;
    assert!((1000..=1200).contains(&kept.len()), "{}", kept.len());
    assert_eq!(kept, texts(5000 - u32::try_from(kept.len()).unwrap()..5000));
}
