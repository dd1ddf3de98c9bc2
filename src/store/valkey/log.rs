//! The log of a line as the server keeps it: what the nodes said, in the one order that all of them hear.

use redis::FromRedisValue;
use redis::Value;
use serde::{Deserialize, Serialize};

use super::super::{Drawn, Fact, Item};
use super::openings;
use crate::domain::mirror::{NodeId, Said};
use crate::domain::names::ClassId;
use crate::domain::opening::Opening;

/// Numbers drawn at once at most; more are none of ours.
const MOST_DRAWN: u64 = 1_000_000;

/// An entry of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct LogEntry {
    /// Its identity: `milliseconds-count`.
    pub id: String,
    /// Who wrote it.
    pub node: NodeId,
    /// Entries count up by one; a gap means that some were lost or trimmed.
    pub seq: u64,
    /// The fence under which its decisions were made; 0 when there are none.
    pub fence: u64,
    /// What it says.
    pub items: Vec<Item>,
    /// An opening that was changed.
    pub opening: Option<Box<Opening>>,
}

/// What an item looks like in the log.
#[derive(Serialize, Deserialize)]
enum Written {
    Fact(Fact),
    Said(Said),
}

/// Items as bytes. Empty for none.
pub fn write(items: &[Item]) -> Vec<u8> {
    let written: Vec<Written> = items
        .iter()
        .filter_map(|item| match *item {
            Item::Fact(fact) => Some(Written::Fact(fact)),
            Item::Said(said) => Some(Written::Said(said)),
            Item::Drawn { .. } => None,
        })
        .collect();
    if written.is_empty() {
        return Vec::new();
    }
    // Writing such values into memory cannot fail.
    postcard::to_stdvec(&written).unwrap_or_default()
}

fn read(bytes: &[u8]) -> Option<Vec<Item>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let written: Vec<Written> = postcard::from_bytes(bytes).ok()?;
    let item = |written| match written {
        Written::Fact(fact) => Item::Fact(fact),
        Written::Said(said) => Item::Said(said),
    };
    Some(written.into_iter().map(item).collect())
}

fn drawn(text: &str) -> Option<Vec<Item>> {
    let draw = |text: &str| {
        let mut parts = text.split(':');
        let class = ClassId(parts.next()?.parse().ok()?);
        let (first, count): (u64, u64) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let last = first.checked_add(count.checked_sub(1)?).filter(|_| count <= MOST_DRAWN)?;
        Some(Item::Drawn { class, first, last, drawn: Drawn::of_letter(parts.next()?)? })
    };
    text.split_ascii_whitespace().map(draw).collect()
}

/// The entries of an answer to `XREAD` of one stream; `None` for what no node of this version writes.
pub fn entries(answer: &Value) -> Vec<Option<LogEntry>> {
    let Value::Array(streams) = answer else { return Vec::new() };
    let of_stream = |stream: &Value| match stream {
        Value::Array(parts) => match parts.as_slice() {
            [_, Value::Array(entries)] => entries.iter().map(entry).collect(),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    };
    streams.iter().flat_map(of_stream).collect()
}

/// The identities of the entries of an answer to `XRANGE` or `XREVRANGE`.
pub fn identities(answer: &Value) -> impl Iterator<Item = String> {
    let entries = if let Value::Array(entries) = answer { entries.as_slice() } else { &[] };
    entries.iter().filter_map(|entry| match entry {
        Value::Array(parts) => String::from_redis_value(parts.first()?.clone()).ok(),
        _ => None,
    })
}

fn entry(value: &Value) -> Option<LogEntry> {
    let Value::Array(parts) = value else { return None };
    let [id, Value::Array(fields)] = parts.as_slice() else { return None };
    let field = |name: &str| {
        fields.chunks(2).find_map(|pair| match pair {
            [Value::BulkString(key), Value::BulkString(value)] if key == name.as_bytes() => Some(value.as_slice()),
            _ => None,
        })
    };
    let number = |name| std::str::from_utf8(field(name)?).ok()?.parse::<u64>().ok();
    let mut items = drawn(std::str::from_utf8(field("j")?).ok()?)?;
    items.extend(read(field("b")?)?);
    let opening = match field("o") {
        Some(record) => Some(Box::new(openings::read(std::str::from_utf8(record).ok()?)?)),
        None => None,
    };
    Some(LogEntry {
        opening,
        id: String::from_redis_value(id.clone()).ok()?,
        node: NodeId(number("n")?),
        seq: number("s")?,
        fence: number("f")?,
        items,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::line::Asks;
    use crate::domain::tickets::Told;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    /// An answer with one entry of node 5.
    fn stream(draws: &str, blob: Vec<u8>) -> Value {
        let mut fields: Vec<Value> = ["n", "5", "s", "6", "f", "0", "j", draws, "b"].map(text).into();
        fields.push(Value::BulkString(blob));
        let entry = Value::Array(vec![text("17-3"), Value::Array(fields)]);
        Value::Array(vec![Value::Array(vec![text("log"), Value::Array(vec![entry])])])
    }

    #[test]
    fn what_a_node_writes_the_others_read() {
        let class = ClassId(7);
        let items = vec![
            Item::Said(Said::Heard { class, number: 9, told: Told::Eight }),
            Item::Fact(Fact::Forget { class, through: 4 }),
        ];
        let read = entries(&stream("7:3:2:p", write(&items)));
        let drawn = Item::Drawn { class, first: 3, last: 4, drawn: Drawn::ToWait(Asks::ByHand) };
        let expected = LogEntry {
            id: "17-3".to_owned(),
            node: NodeId(5),
            seq: 6,
            fence: 0,
            items: std::iter::once(drawn).chain(items).collect(),
            opening: None,
        };
        assert_eq!(read, [Some(expected)]);
    }

    #[test]
    fn what_nobody_writes_is_nothing() {
        for (draws, blob) in [
            ("7:3", vec![]),
            ("7:0:0:w", vec![]),
            ("7:1:9000000000000000:w", vec![]),
            ("x:1:1:w", vec![]),
            ("", vec![9, 200, 3]),
        ] {
            assert_eq!(entries(&stream(draws, blob)), [None], "{draws}");
        }
        assert_eq!(entries(&Value::Nil), []);
    }
}
