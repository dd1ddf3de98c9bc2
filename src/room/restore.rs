//! Taking a line up again where the last process left it.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, RwLock};

use dashmap::DashMap;
use tokio::sync::watch;

use super::lanes::NamedLanes;
use super::opening::{NoOpening, Openings};
use super::{Around, Inner, Joins, LiveRoom, Seat, Seats, hours};
use crate::config;
use crate::domain::budget::WHOLE;
use crate::domain::line::{Asks, Line};
use crate::domain::names::ClassId;
use crate::domain::places::Places;
use crate::domain::tickets::State;
use crate::domain::time::Now;
use crate::domain::token::{LineIdentity, VisitorId};
use crate::entropy;
use crate::store::{self, Doubt, Origin, Script, Store, TicketState};
use crate::telemetry::metrics::Metrics;

/// How far below the durable mark unknown numbers may have been drawn just before a stop: two stops' worth. Unknown
/// numbers further back take their place again when somebody shows one.
const IN_DOUBT: u64 = 2 * 65_536;

/// Why a room cannot be taken up.
#[derive(Debug, thiserror::Error)]
pub enum NoRoom {
    /// The store gives no line.
    #[error(transparent)]
    Store(#[from] store::StoreError),
    /// There is no randomness.
    #[error(transparent)]
    Entropy(#[from] entropy::NoEntropy),
    /// Its opening cannot be in force.
    #[error("opening: {0}")]
    Opening(#[from] NoOpening),
}

impl LiveRoom {
    /// Opens a room's line, or begins it.
    ///
    /// # Errors
    /// When the store cannot give it.
    pub async fn open(
        room: Arc<config::Room>,
        store: Arc<Store>,
        metrics: &Arc<Metrics>,
        now: Now,
    ) -> Result<Arc<LiveRoom>, NoRoom> {
        let fresh = u64::from_be_bytes(entropy::bytes()?);
        let known = store.open_line(&room.name, fresh).await?;
        let hours = hours::Kept::new(&room, now.wall);
        let places = Places::of(&room.name, LineIdentity(known.identity), &known.openings);
        let inner = Inner {
            line: line_of(&hours.last(), &known, &places, Sharing::of(&store), now),
            news: Default::default(),
            at_gate: Default::default(),
            moving: Default::default(),
            still: None,
            closed: Default::default(),
            last_tick: now.mono,
            others: Default::default(),
            openings: Openings::of(known.openings.clone(), places),
            closing: Default::default(),
        };
        let live = LiveRoom {
            metrics: metrics.room(&room.name),
            lanes: NamedLanes::new(&room, metrics),
            hours,
            name: room.name.clone(),
            identity: AtomicU64::new(known.identity),
            alone: Default::default(),
            seats: seats_of(&known),
            joins: Joins::default(),
            inner: Mutex::new(inner),
            drawn: watch::Sender::new(()),
            settings: RwLock::new(room),
            store,
            polls: DashMap::new(),
            late: Default::default(),
            estimates: DashMap::new(),
            frozen_ms: AtomicU64::new(u64::try_from(known.frozen.as_millis()).unwrap_or(u64::MAX)),
            lost_from: known.last_durable,
            started: now.unix,
            opening_work: Arc::default(),
            vitals: Default::default(),
        };
        known.orders.each().into_iter().for_each(|order| live.obey(order, now.mono));
        live.opening_at_start(now).await?;
        // Whoever comes before the first tick finds the room as it is: held, or full.
        live.tick(now, Around { standstill: None, ramp: WHOLE });
        Ok(Arc::new(live))
    }
}

fn seats_of(known: &store::Line) -> Seats {
    let seats = Seats::default();
    for (id, record) in &known.seats {
        seats.put(VisitorId(*id), Seat::restored(record));
    }
    for (id, until) in &known.ended {
        seats.put_ended(VisitorId(*id), *until);
    }
    seats
}

/// Whether several nodes serve the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    /// This one alone.
    Alone,
    /// Several.
    Shared,
}

impl Sharing {
    fn of(store: &Store) -> Sharing {
        if store.node().is_some() { Sharing::Shared } else { Sharing::Alone }
    }
}

pub(super) fn line_of(
    in_force: &hours::InForce,
    known: &store::Line,
    places: &Places,
    sharing: Sharing,
    now: Now,
) -> Line {
    let mut line = match known.origin {
        Origin::New => Line::new(in_force.terms, now.mono),
        Origin::Known => Line::taken_up(in_force.terms, now.mono),
    };
    line.set_shares(&in_force.shares);
    if sharing == Sharing::Shared {
        line.is_shared();
    }
    for (class, lane) in &known.lanes {
        restore_lane(&mut line, *class, lane, places, now);
    }
    line
}

fn restore_lane(line: &mut Line, class: ClassId, lane: &store::Lane, places: &Places, now: Now) {
    line.restore_done(class, lane.forgotten, now);
    for (number, record) in lane.tickets().filter(|(number, _)| *number > lane.forgotten) {
        let asks = if record.script == Script::Plain { Asks::ByHand } else { Asks::Scripted };
        line.restore(class, places.place(class, number), state_of(record.state), asks, now);
    }
    let in_doubt_from = (lane.forgotten + 1).max(lane.mark.saturating_sub(IN_DOUBT));
    if lane.doubt == Doubt::NearTheMark {
        for number in in_doubt_from..=lane.mark {
            let place = places.place(class, number);
            line.restore_in_doubt(class, place..=place, now);
        }
    }
    line.lifted(class, lane.mark, now);
}

fn state_of(state: TicketState) -> State {
    match state {
        TicketState::Waiting => State::Waiting,
        TicketState::Called => State::Called,
        TicketState::Entered => State::Entered,
        TicketState::Left => State::Left,
        TicketState::Absent => State::Absent,
    }
}
