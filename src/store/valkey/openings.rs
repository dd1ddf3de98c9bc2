//! Openings as the server keeps them: written down in one script that compares what is known with what the node knows, and
//! heard by all nodes in the log, in one place among the numbers drawn.

use super::super::openings::{Change, Noted};
use super::super::{Line, StoreError};
use super::room::Room;
use super::{Inner, LOOK_AGAIN, LOOKS, Valkey};
use crate::domain::draw_proof::to_hex;
use crate::domain::names::{ClassId, RoomName};
use crate::domain::opening::{Gathered, Held, Opening};
use crate::domain::tickets::Number;
use crate::domain::time::Unix;

impl Valkey {
    /// See [`super::super::Store::change_opening`].
    ///
    /// # Errors
    /// See there.
    pub async fn change_opening(&self, name: &RoomName, change: Change<'_>) -> Result<Noted, StoreError> {
        let room = self.inner.room(name)?;
        let known = |before: Option<&Opening>| before.map(record).unwrap_or_default();
        let (number, expected, deed, words) = match change {
            Change::Announce { opening, instead_of } => {
                (opening.number, known(instead_of), "announce", announced(opening))
            }
            Change::Set { opening, instead_of } => (opening.number, known(instead_of), "set", record(opening)),
            Change::Withdraw { opening, instead_of } => {
                (opening.number, known(Some(instead_of)), "withdraw", announced(opening))
            }
            Change::Hold { opening, .. } => (opening.number, known(Some(opening)), "hold", String::new()),
        };
        self.inner.change_opening(&room, number, &expected, deed, &words).await
    }
}

impl Inner {
    async fn change_opening(
        &self,
        room: &Room,
        number: u32,
        expected: &str,
        deed: &str,
        words: &str,
    ) -> Result<Noted, StoreError> {
        let (outcome, known) = self.ask_for_change(room, number, expected, deed, words).await?;
        let read = || read(&known).ok_or_else(|| not_an_opening(room));
        match outcome.as_str() {
            "done" => Ok(Noted::Done(read()?)),
            // The answer to the same change was lost.
            "otherwise" if is_what_was_wanted(&known, expected, deed, words) => Ok(Noted::Done(read()?)),
            "otherwise" if known.is_empty() => Ok(Noted::Otherwise(None)),
            "otherwise" => Ok(Noted::Otherwise(Some(read()?))),
            "fenced" => Err(StoreError::Unreachable("another node leads by now".into())),
            "anew" => Err(StoreError::Unreachable("the server has to be got to know again first".into())),
            _ => Err(StoreError::NotOpen(room.name().clone())),
        }
    }

    /// Asks until the server is known, or known again, as with the first words to it.
    async fn ask_for_change(
        &self,
        room: &Room,
        number: u32,
        expected: &str,
        deed: &str,
        words: &str,
    ) -> Result<(String, String), StoreError> {
        let mut asked = 0;
        loop {
            let mut script = self.scripts.opening.prepare_invoke();
            script.key(room.base()).arg(self.node.0).arg(room.identity()).arg(room.run()).arg(room.fence());
            script.arg(number).arg(expected).arg(deed).arg(words);
            let (outcome, known): (String, String) = self.link.run(&script).await?;
            asked += 1;
            if outcome != "anew" || asked >= LOOKS {
                return Ok((outcome, known));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// The openings of a line, the first one first.
    ///
    /// # Errors
    /// When the server cannot be reached, or holds what this version does not know.
    pub(super) async fn openings(&self, room: &Room) -> Result<Vec<Opening>, StoreError> {
        let found: Vec<String> = self.link.ask(redis::cmd("HVALS").arg(room.key("openings"))).await?;
        let mut openings =
            found.iter().map(|text| read(text)).collect::<Option<Vec<_>>>().ok_or_else(|| not_an_opening(room))?;
        openings.sort_unstable_by_key(|opening| opening.number);
        Ok(openings)
    }

    /// Tells the server the openings that it may have lost, and the other nodes with it.
    ///
    /// # Errors
    /// When the server does not take them.
    pub(super) async fn restore_openings(&self, room: &Room, line: &Line) -> Result<(), StoreError> {
        self.put_openings(room, line, "restore").await
    }

    /// Writes down the openings of a line that is brought from another store.
    ///
    /// # Errors
    /// When the server does not take them.
    pub(super) async fn bring_openings(&self, room: &Room, line: &Line) -> Result<(), StoreError> {
        self.put_openings(room, line, "bring").await
    }

    async fn put_openings(&self, room: &Room, line: &Line, deed: &str) -> Result<(), StoreError> {
        for opening in &line.openings {
            self.change_opening(room, opening.number, "", deed, &record(opening)).await?;
        }
        Ok(())
    }
}

/// Whether what is known is what was wanted of what was expected: it was done, and the answer was lost.
fn is_what_was_wanted(known: &str, expected: &str, deed: &str, words: &str) -> bool {
    match deed {
        "hold" => known.len() > expected.len() && known.starts_with(expected),
        "announce" | "withdraw" => known.split('|').next() == Some(words),
        _ => known == words,
    }
}

fn not_an_opening(room: &Room) -> StoreError {
    StoreError::Refused(
        format!("{}openings holds what this version does not know; run the version that wrote it", room.base()).into(),
    )
}

/// The three parts of what is known of an opening.
fn record(opening: &Opening) -> String {
    let held = opening.held.as_ref().map(held_in_words).unwrap_or_default();
    format!("{}|{}|{held}", announced(opening), lanes_in_words(opening.after.iter().copied()))
}

/// What was announced, without what the server itself knows.
fn announced(opening: &Opening) -> String {
    let announced = Opening { after: Vec::new(), held: None, ..opening.clone() };
    // Writing such a value into memory cannot fail.
    to_hex(&postcard::to_stdvec(&announced).unwrap_or_default())
}

fn held_in_words(held: &Held) -> String {
    let marks = held.lanes.iter().map(|Gathered { class, after, count }| (*class, after.saturating_add(*count)));
    format!("{} {}", held.at.0, lanes_in_words(marks)).trim_end().to_owned()
}

fn lanes_in_words(lanes: impl Iterator<Item = (ClassId, Number)>) -> String {
    lanes.map(|(class, mark)| format!("{}:{mark}", class.0)).collect::<Vec<_>>().join(" ")
}

/// An opening as the server knows it.
pub(super) fn read(record: &str) -> Option<Opening> {
    let [announced, after, held] = record.split('|').collect::<Vec<_>>().try_into().ok()?;
    let opening: Opening = postcard::from_bytes(&bytes_of(announced)?).ok()?;
    let opening = Opening { after: lanes_of(after)?, held: None, ..opening };
    let Some((at, counters)) = held.split_once(' ').or((!held.is_empty()).then_some((held, ""))) else {
        return Some(opening);
    };
    let at = Unix(at.parse().ok()?);
    let held =
        if opening.is_withdrawn() { Held { at, lanes: Vec::new() } } else { opening.held_at(at, &lanes_of(counters)?) };
    Some(Opening { held: Some(held), ..opening })
}

fn lanes_of(text: &str) -> Option<Vec<(ClassId, Number)>> {
    let lane = |text: &str| {
        let (class, mark) = text.split_once(':')?;
        Some((ClassId(class.parse().ok()?), mark.parse().ok()?))
    };
    text.split_ascii_whitespace().map(lane).collect()
}

fn bytes_of(digits: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = digits.chars().map(|digit| u8::try_from(digit.to_digit(16)?).ok()).collect::<Option<_>>()?;
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(high << 4 | low),
        _ => None,
    };
    digits.chunks(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::opening::Order;

    fn opening() -> Opening {
        Opening {
            number: 2,
            order: Order::Lottery,
            at: Unix(1_775_023_200_000),
            announced: Unix(5),
            seed: Some([0xa7; 32]),
            after: vec![(ClassId(7), 3), (ClassId(200), 0)],
            held: None,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let gathered = Gathered { class: ClassId(7), after: 3, count: 9_000_000_000 };
        let held = Held { at: Unix(6), lanes: vec![gathered] };
        for opening in [
            opening(),
            Opening { held: Some(held), ..opening() },
            Opening { held: Some(Held { at: Unix(6), lanes: Vec::new() }), ..opening() },
            opening().withdrawn(Unix(8)),
            Opening { seed: None, order: Order::Arrival, after: Vec::new(), ..opening() },
        ] {
            assert_eq!(read(&record(&opening)), Some(opening));
        }
    }

    #[test]
    fn what_nobody_writes_is_nothing() {
        let good = record(&opening());
        assert!(read(&good).is_some());
        for bad in
            ["", "||", "zz||", "0||", &good[1..], &good[..good.len() - 1], &format!("{good}x"), &format!("{good}5 7")]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
