//! The tickets and admissions of those whom proofs name, counted by all nodes that share a line together: kept at their
//! store, each identity's in one piece, which a node replaces only if it is still what the node saw. The rule is
//! `domain::quota`'s.

use std::time::Duration;

use super::held::Owner;
use crate::clock::Clock;
use crate::domain::quota::{HasEverywhere, Quota, Stands, Taken};
use crate::entropy;
use crate::room::LiveRoom;
use crate::store::{Exchanged, StoreError};

/// How often a node begins again when others were faster.
const TRIES: usize = 20;

/// The right to draw a ticket, as all nodes know it. What comes to nothing lapses within seconds.
#[derive(Debug)]
pub struct Claim {
    what: String,
    draw: u64,
    /// What was kept since.
    kept: Vec<u8>,
}

/// What became of the wish for a right to draw.
#[derive(Debug)]
pub enum Claimed {
    /// It is there.
    Yes(Claim),
    /// The owner has all there may be.
    No,
    /// Nobody else counts, or their store is away: what this node counts is all that is known.
    Alone,
}

/// Takes the right to draw one more ticket, as far as all nodes know. `stands` says what became of a number.
pub async fn claim(
    room: &LiveRoom,
    owner: &Owner,
    quota: &Quota,
    stands: impl Fn(u64) -> Stands + Sync,
    clock: &Clock,
) -> Claimed {
    let Some(draw) = entropy::bytes().ok().filter(|_| room.is_shared()).map(u64::from_be_bytes) else {
        return Claimed::Alone;
    };
    let what = format!("quota:{}:{}:{}", room.identity().0, owner.class.0, owner.identity);
    let take = |has: &mut HasEverywhere, now: u64| {
        has.look(&stands, now);
        has.take(quota, draw, now)
    };
    match replace(room, &what, Vec::new(), take, clock).await {
        Ok(Some(kept)) => Claimed::Yes(Claim { what, draw, kept }),
        Ok(None) => Claimed::No,
        Err(error) => {
            tracing::debug!(room = %room.name, %error, "a quota is counted by this node alone");
            Claimed::Alone
        }
    }
}

impl Claim {
    /// The ticket was drawn.
    pub async fn drawn(self, room: &LiveRoom, number: u64, clock: &Clock) {
        let note = |has: &mut HasEverywhere, now: u64| {
            has.drawn(self.draw, number, now);
            Taken::Yes
        };
        if let Err(error) = replace(room, &self.what, self.kept, note, clock).await {
            tracing::warn!(room = %room.name, %error, "other nodes do not hear of a ticket that counts towards a quota");
        }
    }
}

/// Replaces what is kept, beginning with what it was when last seen; what it is then, or nothing where there is no right.
async fn replace(
    room: &LiveRoom,
    what: &str,
    seen: Vec<u8>,
    change: impl Fn(&mut HasEverywhere, u64) -> Taken,
    clock: &Clock,
) -> Result<Option<Vec<u8>>, StoreError> {
    let keep = room.settings().ticket_lifetime * 2 + Duration::from_secs(7200);
    let mut before = seen;
    for _ in 0..TRIES {
        // What cannot be read was written by another version: it begins anew.
        let mut has: HasEverywhere = postcard::from_bytes(&before).unwrap_or_default();
        let taken = change(&mut has, room.shared_millis(clock.mono()));
        // Writing such a value into memory cannot fail.
        let after = postcard::to_stdvec(&has).unwrap_or_default();
        if taken == Taken::No && after == before {
            return Ok(None);
        }
        // What was found out is kept also where there is no right: an hour begins once.
        match room.exchange(what, (&before, &after), keep, clock.mono()).await? {
            Exchanged::Done => return Ok((taken == Taken::Yes).then_some(after)),
            Exchanged::Other(kept) => before = kept,
        }
    }
    Ok(None)
}
