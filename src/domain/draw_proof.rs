//! What is published of an opening, and what follows from it: the facts before the hour and after it as one document, and
//! the check that a place is the one that was drawn.

use serde::{Deserialize, Serialize};

use super::lottery::{ALGORITHM, Facts, SEED_LEN, commitment};
use super::names::ClassId;
use super::opening::Order;
use super::reference::Gatherer;
use super::tickets::Number;
use super::token::LineIdentity;

/// Everything that anybody may know of an opening, at `GET draw/ROOM`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrawDocument {
    /// The room.
    pub room: String,
    /// The identity of its line, sixteen hexadecimal digits.
    pub line: String,
    /// Which opening of the line it is, from 1.
    pub opening: u32,
    /// How places are given.
    pub order: Order,
    /// How the draw is made; null when nothing is drawn.
    pub algorithm: Option<String>,
    /// The hour (RFC 3339).
    pub at: String,
    /// When all this was announced (RFC 3339).
    pub announced_at: String,
    /// The hash of the seed, in hexadecimal digits; null when nothing is drawn.
    pub commitment: Option<String>,
    /// When the number of those who gathered became final (RFC 3339); null before.
    pub held_at: Option<String>,
    /// The seed, in hexadecimal digits; null before the opening, and when nothing is drawn.
    pub seed: Option<String>,
    /// Who gathered; null before the opening.
    pub lanes: Option<Vec<DrawnLane>>,
}

/// Those who gathered in a lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrawnLane {
    /// The class's name.
    pub class: String,
    /// The class as tokens and references name it.
    pub class_number: u8,
    /// The first of their places.
    pub first: Number,
    /// How many they are.
    pub count: u64,
}

/// A place that follows from what was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenPlace {
    /// The class's name.
    pub class: String,
    /// Who came how manieth, from 0.
    pub index: u64,
    /// The number in the line.
    pub number: Number,
    /// How many gathered in the lane.
    pub count: u64,
}

/// Why nothing is proven.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotProven {
    /// The two documents are not of one opening.
    #[error("the two files are not about the same draw: {0} differs")]
    Another(&'static str),
    /// The second document is from before the opening.
    #[error("the second file is from before the opening: save {0} again afterwards")]
    NotHeld(&'static str),
    /// The first document is from after the opening: it promised nothing.
    #[error("the first file is from after the opening: only one that was saved before it can be a promise")]
    SavedLate,
    /// Nothing was drawn.
    #[error("places were given in the order of arrival: nothing was drawn")]
    NothingDrawn,
    /// The algorithm is another one.
    #[error("the draw was made by {0}, which this version does not know")]
    Algorithm(String),
    /// A hexadecimal text is none.
    #[error("{0} is no number of the right length")]
    Digits(&'static str),
    /// The seed is not the one that was promised.
    #[error("THE DRAW DOES NOT HOLD: the seed is not the one that the commitment was made of")]
    Seed,
    /// Two lanes are of one class, so a reference would have two places.
    #[error("THE DRAW DOES NOT HOLD: two lanes have the class number {0}")]
    LaneTwice(u8),
    /// The text is no reference of somebody who gathered.
    #[error("this is not the reference of anybody who came before the opening: check it for slips of the pen")]
    Reference,
}

impl DrawDocument {
    /// The place that a reference was given, by the document that was published `before` the hour and this one.
    ///
    /// # Errors
    /// [`NotProven`].
    pub fn prove(&self, before: &DrawDocument, reference: &str) -> Result<ProvenPlace, NotProven> {
        if before.held_at.is_some() || before.seed.is_some() || before.lanes.is_some() {
            return Err(NotProven::SavedLate);
        }
        self.is_the_same_as(before)?;
        let seed = self.proven_seed()?;
        let gatherer = Gatherer::read(reference).ok_or(NotProven::Reference)?;
        let lanes = self.lanes.as_ref().ok_or(NotProven::NotHeld("the facts"))?;
        let has = |lane: &&DrawnLane| lane.class_number == gatherer.class.0 && gatherer.index < lane.count;
        let lane = lanes.iter().find(has).ok_or(NotProven::Reference)?;
        if lanes.iter().filter(|other| other.class_number == lane.class_number).count() > 1 {
            return Err(NotProven::LaneTwice(lane.class_number));
        }
        let line = u64::from_str_radix(&self.line, 16).map_err(|_| NotProven::Digits("line"))?;
        let facts = Facts {
            room: &self.room,
            line: LineIdentity(line),
            opening: self.opening,
            class: ClassId(lane.class_number),
            count: lane.count,
        };
        let place = facts.permutation(&seed).place(gatherer.index);
        let number = lane.first.saturating_add(place);
        Ok(ProvenPlace { class: lane.class.clone(), index: gatherer.index, number, count: lane.count })
    }

    fn is_the_same_as(&self, before: &DrawDocument) -> Result<(), NotProven> {
        let differs = [
            ("room", self.room != before.room),
            ("line", self.line != before.line),
            ("opening", self.opening != before.opening),
            ("order", self.order != before.order),
            ("algorithm", self.algorithm != before.algorithm),
            ("announced_at", self.announced_at != before.announced_at),
            ("commitment", self.commitment != before.commitment),
        ];
        differs.into_iter().find(|(_, differ)| *differ).map_or(Ok(()), |(name, _)| Err(NotProven::Another(name)))
    }

    fn proven_seed(&self) -> Result<[u8; SEED_LEN], NotProven> {
        let (Some(promised), Some(algorithm)) = (&self.commitment, &self.algorithm) else {
            return Err(NotProven::NothingDrawn);
        };
        if algorithm != ALGORITHM {
            return Err(NotProven::Algorithm(algorithm.chars().take(60).collect()));
        }
        let seed = self.seed.as_ref().ok_or(NotProven::NotHeld("the facts"))?;
        let seed = from_hex(seed).ok_or(NotProven::Digits("seed"))?;
        let promised = from_hex(promised).ok_or(NotProven::Digits("commitment"))?;
        if commitment(&seed) == promised { Ok(seed) } else { Err(NotProven::Seed) }
    }
}

/// Bytes as hexadecimal digits.
pub fn to_hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u32> = text.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
    let bytes = digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit));
    let bytes: Vec<u8> = bytes.map(|byte| u8::try_from(byte).ok()).collect::<Option<_>>()?;
    if digits.len() == 64 { bytes.try_into().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: [u8; 32] = [9; 32];

    fn before() -> DrawDocument {
        DrawDocument {
            room: "fair".to_owned(),
            line: "0000000000000007".to_owned(),
            opening: 1,
            order: Order::Lottery,
            algorithm: Some(ALGORITHM.to_owned()),
            at: "2026-04-01T08:00:00+02:00".to_owned(),
            announced_at: "2026-03-31T08:00:00+02:00".to_owned(),
            commitment: Some(to_hex(&commitment(&SEED))),
            held_at: None,
            seed: None,
            lanes: None,
        }
    }

    fn after() -> DrawDocument {
        let lane = DrawnLane { class: "citizen".to_owned(), class_number: 3, first: 1, count: 10 };
        DrawDocument { held_at: Some("now".to_owned()), seed: Some(to_hex(&SEED)), lanes: Some(vec![lane]), ..before() }
    }

    fn reference(index: u64) -> String {
        Gatherer { class: ClassId(3), index }.reference().unwrap()
    }

    #[test]
    fn a_place_follows_from_what_was_published() {
        let numbers = (0..10).map(|index| after().prove(&before(), &reference(index)).unwrap().number);
        assert_eq!(numbers.collect::<Vec<_>>(), [3, 7, 9, 2, 10, 6, 5, 1, 8, 4]);
    }

    #[test]
    fn a_changed_fact_is_found() {
        let seed = |byte: u8| DrawDocument { seed: Some(to_hex(&[byte; 32])), ..after() };
        assert_eq!(seed(8).prove(&before(), &reference(0)), Err(NotProven::Seed));
        let other = DrawDocument { commitment: Some(to_hex(&commitment(&[8; 32]))), ..seed(8) };
        assert_eq!(other.prove(&before(), &reference(0)), Err(NotProven::Another("commitment")));
        let another = DrawDocument { line: "1".to_owned(), ..before() };
        assert_eq!(after().prove(&another, &reference(0)), Err(NotProven::Another("line")));
        assert_eq!(before().prove(&before(), &reference(0)), Err(NotProven::NotHeld("the facts")));
        let arrival = DrawDocument { order: Order::Arrival, algorithm: None, commitment: None, ..before() };
        assert_eq!(arrival.prove(&arrival, &reference(0)), Err(NotProven::NothingDrawn));
        let broken = DrawDocument { seed: Some("zz".to_owned()), ..after() };
        assert_eq!(broken.prove(&before(), &reference(0)), Err(NotProven::Digits("seed")));
    }

    #[test]
    fn what_was_saved_after_the_opening_promised_nothing() {
        assert_eq!(after().prove(&after(), &reference(0)), Err(NotProven::SavedLate));
        for late in [
            DrawDocument { held_at: after().held_at, ..before() },
            DrawDocument { seed: after().seed, ..before() },
            DrawDocument { lanes: after().lanes, ..before() },
        ] {
            assert_eq!(after().prove(&late, &reference(0)), Err(NotProven::SavedLate));
        }
    }

    #[test]
    fn a_promise_of_another_announcement_is_none_of_this_draw() {
        let another = DrawDocument { announced_at: "2026-03-31T09:00:00+02:00".to_owned(), ..before() };
        assert_eq!(after().prove(&another, &reference(0)), Err(NotProven::Another("announced_at")));
    }

    #[test]
    fn two_lanes_of_one_class_prove_nothing() {
        let lanes = after().lanes.map(|lanes| lanes.iter().cloned().chain(lanes.clone()).collect());
        let twice = DrawDocument { lanes, ..after() };
        assert_eq!(twice.prove(&before(), &reference(0)), Err(NotProven::LaneTwice(3)));
    }

    #[test]
    fn only_who_gathered_has_a_place_in_the_draw() {
        for typed in [reference(10), "7F3K-92QX".to_owned(), String::new()] {
            assert_eq!(after().prove(&before(), &typed), Err(NotProven::Reference), "{typed}");
        }
    }
}
