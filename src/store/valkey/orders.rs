//! What is asked of the server, and what its answers mean.

use std::time::Duration;

use redis::Value;

use super::super::transfer::MOST_TICKETS;
use super::super::{
    Doubt, Fact, Item, Lane, Line, Operation, Order, Orders, Origin, SeatRecord, StoreError, TicketPage, VisitorId,
};
use super::room::{Asked, Committed, Draws, Found, Outcome, Room, Run};
use super::{Inner, log};
use crate::domain::budget::WHOLE;
use crate::domain::going_alone::Claim;
use crate::domain::mirror::{NodeId, Said};
use crate::domain::names::ClassId;
use crate::domain::time::{Mono, Unix};

/// The format of the keys and of the log.
pub const FORMAT: u64 = 1;

/// How long the leader leads without being heard of.
pub const LEASE: Duration = Duration::from_millis(1000);

/// How far counters jump when the server may have lost its last writes.
const JUMP: u64 = 65_536;

/// What an opened line looks like in the answer.
type Opened = (String, u64, u64, u64, u64, String, String, Vec<(u8, u64)>, Vec<(u8, u64)>, u8, u8);

impl Inner {
    /// Reads the line of a room with all that lasts of it; begins or ends it if so asked.
    ///
    /// # Errors
    /// When the server cannot be reached, refuses, or holds what this version does not know.
    pub(super) async fn read_line(&self, room: &Room, fresh: u64, asked: Asked) -> Result<Found, StoreError> {
        let mut script = self.scripts.open.prepare_invoke();
        let word = match asked {
            Asked::Look => "look",
            Asked::Open => "open",
            Asked::End => "end",
        };
        script.key(room.base()).arg(fresh).arg(FORMAT).arg(word);
        let opened: Option<Opened> = self.link.run(&script).await?;
        let Some((origin, format, identity, frozen, seq, last, cursor, marks, forgotten, frozen_by_hand, held)) =
            opened
        else {
            return Err(StoreError::NotOpen(room.name().clone()));
        };
        if format == 0 {
            let unfinished = "was being brought here and is not whole; run anticamera store import again";
            return Err(StoreError::Refused(format!("the line of room {} {unfinished}", room.name()).into()));
        }
        if format != FORMAT {
            return Err(StoreError::Refused(
                format!("the line of this room has format {format}, this version knows {FORMAT}; run the version that wrote it").into(),
            ));
        }
        let forgotten = |class: u8| forgotten.iter().find(|(of, _)| *of == class).map_or(0, |(_, through)| *through);
        let mut lanes = Vec::new();
        for (class, mark) in marks {
            let pages = self.pages(room, class, forgotten(class), mark).await?;
            let issued = pages.last().and_then(|(number, page)| page.highest(*number)).unwrap_or(0);
            lanes.push((ClassId(class), Lane { mark, issued, forgotten: forgotten(class), doubt: Doubt::None, pages }));
        }
        lanes.sort_by_key(|(class, _)| *class);
        let line = Line {
            identity,
            origin: if origin == "new" { Origin::New } else { Origin::Known },
            lanes,
            seats: self.seats(room).await?,
            ended: self.ended(room, Duration::from_millis(frozen)).await?,
            frozen: Duration::from_millis(frozen),
            last_durable: last.parse().ok().map(Unix),
            // Read last: what is heard of them meanwhile from the log is known already then.
            openings: self.openings(room).await?,
            orders: Orders { frozen: frozen_by_hand == 1, held: held == 1 },
        };
        Ok(Found { line, seq, cursor })
    }

    /// What the server's clock shows.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub(super) async fn time(&self) -> Result<Unix, StoreError> {
        let (seconds, micros): (u64, u64) = self.link.ask(&redis::cmd("TIME")).await?;
        Ok(Unix(seconds.saturating_mul(1000).saturating_add(micros / 1000)))
    }

    async fn pages(
        &self,
        room: &Room,
        class: u8,
        forgotten: u64,
        mark: u64,
    ) -> Result<Vec<(u64, TicketPage)>, StoreError> {
        let mut pages = Vec::new();
        if mark.saturating_sub(forgotten) > MOST_TICKETS {
            return Err(unknown(room));
        }
        let numbers: Vec<u64> = (TicketPage::holding(forgotten)..=TicketPage::holding(mark)).collect();
        for part in numbers.chunks(64) {
            let mut pipeline = redis::pipe();
            for number in part {
                pipeline.get(room.page(class, *number));
            }
            let found: Vec<Option<Vec<u8>>> = self.link.ask_all(&pipeline).await?;
            for (number, bytes) in part.iter().zip(found) {
                if let Some(bytes) = bytes {
                    pages.push((*number, page_of(bytes).ok_or_else(|| unknown(room))?));
                }
            }
        }
        Ok(pages)
    }

    async fn seats(&self, room: &Room) -> Result<Vec<(VisitorId, SeatRecord)>, StoreError> {
        let found: Vec<(Vec<u8>, Vec<u8>)> = self.link.ask(redis::cmd("HGETALL").arg(room.key("seats"))).await?;
        let seat = |(id, record): (Vec<u8>, Vec<u8>)| {
            Some((VisitorId::try_from(id.as_slice()).ok()?, postcard::from_bytes(&record).ok()?))
        };
        let mut seats = found.into_iter().map(seat).collect::<Option<Vec<_>>>().ok_or_else(|| unknown(room))?;
        seats.sort_unstable_by_key(|(id, _)| *id);
        Ok(seats)
    }

    /// The ends are told in the room's own seconds, which stand still while the session clocks do.
    async fn ended(&self, room: &Room, frozen: Duration) -> Result<Vec<(VisitorId, u32)>, StoreError> {
        let now = self.clock.unix().minus(frozen).seconds();
        let forget = redis::cmd("ZREMRANGEBYSCORE").arg(room.key("ended")).arg("-inf").arg(now).clone();
        let _: u64 = self.link.ask(&forget).await?;
        let all = redis::cmd("ZRANGE").arg(room.key("ended")).arg(0).arg(-1).arg("WITHSCORES").clone();
        let found: Vec<(Vec<u8>, u32)> = self.link.ask(&all).await?;
        let ended = |(id, until): (Vec<u8>, u32)| Some((VisitorId::try_from(id.as_slice()).ok()?, until));
        found.into_iter().map(ended).collect::<Option<_>>().ok_or_else(|| unknown(room))
    }

    /// Lifts counters; begins the line again if the server has lost it.
    ///
    /// # Errors
    /// When the server does not do it, or has another line by now.
    pub(super) async fn lift(&self, room: &Room, marks: &[(ClassId, u64)], lift: Lift) -> Result<(), StoreError> {
        let mut script = self.scripts.lift.prepare_invoke();
        let (seq, beyond) = match lift {
            Lift::To => (0, "0"),
            Lift::BeyondWhatWasLost => (room.seq(), "1"),
        };
        script.key(room.base()).arg(room.identity()).arg(FORMAT).arg(seq).arg(JUMP).arg(beyond);
        for (class, number) in marks {
            script.arg(class.0).arg(*number);
        }
        let outcome: String = self.link.run(&script).await?;
        if outcome == "done" { Ok(()) } else { Err(StoreError::NotOpen(room.name().clone())) }
    }

    /// Writes all that is known of a line over what the server has.
    ///
    /// # Errors
    /// When the server does not take it.
    pub(super) async fn tell_again(&self, room: &Room, line: &Line) -> Result<(), StoreError> {
        let marks: Vec<_> = line.lanes.iter().map(|(class, lane)| (*class, lane.mark)).collect();
        self.lift(room, &marks, Lift::BeyondWhatWasLost).await?;
        self.restore_openings(room, line).await?;
        self.write_pages(room, line).await?;
        let forgotten = line.lanes.iter().map(|(class, lane)| Fact::Forget { class: *class, through: lane.forgotten });
        let seats = line.seats.iter().map(|(id, seat)| Fact::Seat { id: *id, seat: *seat });
        let ended = line.ended.iter().map(|(id, until)| Fact::SeatGone { id: *id, ended_until: Some(*until) });
        let orders = line.orders.in_force().map(Fact::Ordered);
        let all = forgotten.chain(seats).chain(ended).chain([Fact::Frozen(line.frozen)]).chain(orders);
        let facts: Vec<Fact> = all.collect();
        for part in facts.chunks(2000) {
            let items: Vec<Item> = part.iter().copied().map(Item::Fact).collect();
            let written = self.write_silently(room, &Draws::default(), &items).await?;
            if !matches!(written, Outcome::Done(_)) {
                return Err(StoreError::Unreachable("the server has changed again meanwhile".into()));
            }
        }
        Ok(())
    }

    /// Fills in what the server does not know of the pages of a line.
    ///
    /// # Errors
    /// When the server does not take them, or has another line by now.
    pub(super) async fn write_pages(&self, room: &Room, line: &Line) -> Result<(), StoreError> {
        for (class, lane) in &line.lanes {
            for (number, page) in &lane.pages {
                // In one script: others tell it at the same time, and go on with the line.
                let mut merge = self.scripts.merge.prepare_invoke();
                merge.key(room.base()).arg(room.identity()).arg(class.0).arg(*number).arg(swapped(page.as_bytes()));
                let outcome: String = self.link.run(&merge).await?;
                if outcome != "done" {
                    return Err(StoreError::NotOpen(room.name().clone()));
                }
            }
        }
        Ok(())
    }

    /// Writes down what the others need not hear.
    ///
    /// # Errors
    /// When the server does not take it.
    pub(super) async fn write_silently(
        &self,
        room: &Room,
        draws: &Draws,
        items: &[Item],
    ) -> Result<Outcome, StoreError> {
        self.send(room, draws, items, 0, Spoken::Silently).await
    }

    /// Says what a node has to say, and hears what became of it. The same `number` again means the same words again: done
    /// once, they are only answered.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses; it may have done it all the same.
    pub(super) async fn commit(
        &self,
        room: &Room,
        draws: &Draws,
        items: &[Item],
        decided: u64,
        number: u64,
    ) -> Result<Outcome, StoreError> {
        let since = self.clock.mono();
        let outcome = self.send(room, draws, items, decided, Spoken::ToAll { number }).await;
        self.observe(Operation::Commit, since);
        outcome
    }

    /// Says what anybody may say, once more if need be: none of it is a draw.
    ///
    /// # Errors
    /// See [`Inner::commit`].
    pub(super) async fn send_once(&self, room: &Room, items: &[Item]) -> Result<Outcome, StoreError> {
        self.send(room, &Draws::default(), items, 0, Spoken::ToAll { number: 0 }).await
    }

    async fn send(
        &self,
        room: &Room,
        draws: &Draws,
        items: &[Item],
        decided: u64,
        spoken: Spoken,
    ) -> Result<Outcome, StoreError> {
        let (said, number) = match spoken {
            Spoken::ToAll { number } => (log::write(items), number),
            Spoken::Silently => (Vec::new(), 0),
        };
        let mut script = self.scripts.commit.prepare_invoke();
        let willing = if room.is_willing() { "1" } else { "0" };
        let lease = u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX);
        script.key(room.base()).arg(self.node.0).arg(room.identity()).arg(lease).arg(willing).arg(decided);
        script.arg(said).arg(draws.groups().len()).arg(room.run()).arg(JUMP).arg(number).arg(room.claim(draws));
        for (class, drawn, count) in draws.groups() {
            script.arg(class.0).arg(count).arg(drawn.letter());
        }
        for item in items {
            match item {
                Item::Fact(fact) => write_fact(&mut script, fact, spoken),
                // Whoever could not enter after all keeps the turn.
                Item::Said(Said::Unspent { class, number }) => {
                    script.arg("u").arg(class.0).arg(*number);
                }
                Item::Said(_) | Item::Drawn { .. } => {}
            }
        }
        let sent = self.clock.mono();
        let answer: Vec<Value> = self.link.run(&script).await?;
        outcome(answer, sent, self.clock.mono()).ok_or_else(|| unknown(room))
    }
}

/// How far a counter is lifted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lift {
    /// To a number.
    To,
    /// To a number that was known to be drawn, and beyond those that may have been drawn after it, if the counter is below.
    BeyondWhatWasLost,
}

/// Whether the others hear of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoken {
    /// They do; the node counts what it says.
    ToAll {
        /// The count.
        number: u64,
    },
    /// It is only written down.
    Silently,
}

fn write_fact(script: &mut redis::ScriptInvocation<'_>, fact: &Fact, spoken: Spoken) {
    match fact {
        Fact::Ticket { class, number, record } => {
            script.arg("t").arg(class.0).arg(*number).arg(record.nibble());
        }
        Fact::Forget { class, through } => {
            script.arg("f").arg(class.0).arg(*through);
        }
        Fact::Seat { id, seat } => {
            script.arg("s").arg(id.as_slice()).arg(postcard::to_stdvec(seat).unwrap_or_default());
        }
        Fact::SeatGone { id, ended_until } => {
            script.arg("g").arg(id.as_slice()).arg(ended_until.map_or(String::new(), |until| until.to_string()));
        }
        Fact::Ordered(order) => {
            let (what, value) = match order {
                Order::Freeze => ("by_hand:frozen", 1),
                Order::Thaw => ("by_hand:frozen", 0),
                Order::Hold => ("by_hand:held", 1),
                Order::GoOn => ("by_hand:held", 0),
            };
            // A node that tells the line again may not have heard of the last order: what the server has stays.
            let word = if spoken == Spoken::Silently { "n" } else { "o" };
            script.arg(word).arg(what).arg(value);
        }
        Fact::Frozen(span) => {
            script.arg("z").arg(u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
        }
    }
}

fn outcome(answer: Vec<Value>, sent: Mono, heard: Mono) -> Option<Outcome> {
    let mut parts = answer.into_iter();
    let word: String = redis::from_redis_value(parts.next()?).ok()?;
    let store_ms: u64 = redis::from_redis_value(parts.next()?).ok()?;
    Some(match word.as_str() {
        "done" => Outcome::Done(Committed {
            sent,
            heard,
            store_ms,
            fence: redis::from_redis_value(parts.next()?).ok()?,
            first: redis::from_redis_value(parts.next()?).ok()?,
            given: redis::from_redis_value(parts.next()?).ok()?,
            claims: claims(&redis::from_redis_value::<Vec<u64>>(parts.next()?).ok()?),
        }),
        "anew" => Outcome::Anew(Run {
            id: redis::from_redis_value(parts.next()?).ok()?,
            seq: redis::from_redis_value(parts.next()?).ok()?,
            cursor: redis::from_redis_value(parts.next()?).ok()?,
        }),
        "fenced" => Outcome::Fenced,
        "gone" => Outcome::LineGone,
        _ => Outcome::AnotherLine,
    })
}

fn claims(figures: &[u64]) -> Vec<Claim> {
    let claim = |four: &[u64]| match *four {
        [node, answered_ms, until_ms, share] => Claim {
            node: NodeId(node),
            answered_ms,
            until_ms,
            permille: u32::try_from(share).unwrap_or(WHOLE).min(WHOLE),
        },
        _ => Claim { node: NodeId(0), answered_ms: 0, until_ms: u64::MAX, permille: WHOLE },
    };
    figures.chunks(4).map(claim).collect()
}

fn unknown(room: &Room) -> StoreError {
    StoreError::Refused(
        format!(
            "{}… holds what this version does not know; run the version that wrote it, or choose another store.prefix",
            room.base()
        )
        .into(),
    )
}

/// The server counts four bits from the high end of a byte, a page from the low end.
fn swapped(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|pair| pair.rotate_left(4)).collect()
}

fn page_of(bytes: Vec<u8>) -> Option<TicketPage> {
    let mut bytes = swapped(&bytes);
    bytes.resize(TicketPage::blank().as_bytes().len(), 0);
    TicketPage::from_bytes(&bytes).ok()
}
