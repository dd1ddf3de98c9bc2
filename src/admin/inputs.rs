//! What operators send: bodies and queries of the API, turned into wishes.

use std::fmt;

use jiff::civil::Date;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::command::WantedChange;
use crate::domain::local_time;
use crate::domain::overrides::{Message, Subject, Text, Wanted, Wish};
use crate::domain::time::Unix;

/// What is to be changed of a room, and until when.
#[derive(Debug)]
pub(super) struct Wished {
    pub(super) wanted: WantedChange,
    pub(super) until: Option<Unix>,
}

/// Reads the body of a change of this subject. An empty body is an empty object.
///
/// # Errors
/// What is wrong with it.
pub(super) fn wished(subject: Subject, body: &[u8]) -> Result<Wished, serde_json::Error> {
    let body = if body.trim_ascii().is_empty() { b"{}" } else { body };
    let (wish, until) = match subject {
        Subject::Rate => {
            let RateBody { rate, until } = serde_json::from_slice(body)?;
            let wish = rate.map(|rate| rate.parse().map(Wish::Rate).map_err(de::Error::custom)).transpose()?;
            (wish, until)
        }
        Subject::State => {
            let StateBody { state, until } = serde_json::from_slice(body)?;
            (state.map(Wish::State), until)
        }
        Subject::Message => {
            let MessageBody { message, until } = serde_json::from_slice(body)?;
            (message.map(|texts| Wish::Message(Message(texts.0))), until)
        }
        Subject::Freeze => {
            let UntilBody { until } = serde_json::from_slice(body)?;
            (Some(Wish::Freeze), until)
        }
    };
    Ok(Wished { wanted: WantedChange::Set(subject, wish), until: instant(until)? })
}

/// Reads what is to be undone.
///
/// # Errors
/// What is wrong with it.
pub(super) fn undone(body: &[u8]) -> Result<Option<Subject>, serde_json::Error> {
    if body.trim_ascii().is_empty() {
        return Ok(None);
    }
    serde_json::from_slice::<UndoBody>(body).map(|body| body.what)
}

fn instant(until: Option<String>) -> Result<Option<Unix>, serde_json::Error> {
    let parse = |text: String| {
        let instant: Result<jiff::Timestamp, _> = text.parse();
        instant.map(local_time::unix).map_err(|_| {
            de::Error::custom(format!(
                "until {text:?} is no instant: write it with its offset, such as 2026-04-01T10:00:00+02:00"
            ))
        })
    };
    until.map(parse).transpose()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RateBody {
    #[serde(deserialize_with = "present")]
    rate: Option<String>,
    until: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StateBody {
    #[serde(deserialize_with = "present")]
    state: Option<Wanted>,
    until: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MessageBody {
    #[serde(deserialize_with = "present")]
    message: Option<Texts>,
    until: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UntilBody {
    until: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UndoBody {
    what: Option<Subject>,
}

/// A member that must be there, though it may be `null`: a mistyped name must not mean "what the file says".
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(deserializer)
}

/// A text for all, one for each language, or a list of both; the first written does for languages without one.
struct Texts(Vec<Text>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Texts, D::Error> {
        deserializer.deserialize_any(TextsVisitor)
    }
}

struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, or one for each language: {\"it\": \"...\", \"de\": \"...\"}")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Texts, E> {
        Ok(Texts(vec![Text { language: None, text: text.to_owned() }]))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts, A::Error> {
        let mut texts = Vec::new();
        while let Some((language, text)) = map.next_entry::<String, String>()? {
            texts.push(Text { language: Some(language), text });
        }
        Ok(Texts(texts))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut members: A) -> Result<Texts, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = members.next_element::<Text>()? {
            texts.push(text);
        }
        Ok(Texts(texts))
    }
}

/// An invitation code that is wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeBody {
    /// The class that it proves.
    pub class: String,
    /// To whom it is given.
    pub identity: String,
    /// How many tickets may be drawn with it.
    #[serde(default = "one")]
    pub uses: u32,
    /// The last day on which it is good.
    pub expires: Option<Date>,
}

fn one() -> u32 {
    1
}

/// A staff pass that is wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassBody {
    /// The room that it opens.
    pub room: String,
    /// What it is for, or whose it is.
    pub name: String,
    /// The last day on which it is good.
    pub expires: Option<Date>,
}

/// The value of a name in a query, with its escapes undone; `None` when it is not there.
pub(super) fn in_query(query: &str, name: &str) -> Option<String> {
    let raw = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    let mut bytes = Vec::new();
    let mut rest = raw.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                bytes.push(u8::try_from(high * 16 + low).ok()?);
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(subject: Subject, body: &str) -> Option<Wish> {
        match wished(subject, body.as_bytes()).unwrap().wanted {
            WantedChange::Set(_, wish) => wish,
            WantedChange::Undo(_) => panic!("an undo"),
        }
    }

    #[test]
    fn bodies_become_wishes() {
        assert_eq!(set(Subject::Rate, r#"{"rate": "20/s"}"#), Some(Wish::Rate("20/s".parse().unwrap())));
        assert_eq!(set(Subject::Rate, r#"{"rate": null}"#), None);
        assert_eq!(set(Subject::State, r#"{"state": "hold"}"#), Some(Wish::State(Wanted::Hold)));
        assert_eq!(set(Subject::Freeze, ""), Some(Wish::Freeze));
        let Some(Wish::Message(message)) = set(Subject::Message, r#"{"message": {"it": "Ciao", "de": "Hallo"}}"#)
        else {
            panic!("no message")
        };
        let languages: Vec<_> = message.0.iter().map(|text| text.language.as_deref()).collect();
        assert_eq!(languages, [Some("it"), Some("de")], "in the order in which they were written");
        let until = wished(Subject::Freeze, br#"{"until": "2026-04-01T10:00:00+02:00"}"#).unwrap().until;
        assert_eq!(until, Some(Unix(1_775_030_400_000)));
        assert_eq!(undone(br#"{"what": "rate"}"#).unwrap(), Some(Subject::Rate));
    }

    #[test]
    fn what_is_mistyped_means_nothing() {
        for (subject, body) in [
            (Subject::Rate, "{}"),
            (Subject::Rate, r#"{"raet": "1/s"}"#),
            (Subject::Rate, r#"{"rate": "0/s"}"#),
            (Subject::Rate, r#"{"rate": "1/s", "until": "tomorrow"}"#),
            (Subject::State, r#"{"state": "closed"}"#),
            (Subject::Message, r#"{"message": 3}"#),
            (Subject::Freeze, "[]x"),
        ] {
            assert!(wished(subject, body.as_bytes()).is_err(), "{body}");
        }
        assert!(undone(br#"{"what": "everything"}"#).is_err());
    }

    #[test]
    fn queries_are_read_with_their_escapes() {
        assert_eq!(in_query("a=1&message=Bis%2010+Uhr%C3%A0", "message").as_deref(), Some("Bis 10 Uhrà"));
        assert_eq!(in_query("a=%zz", "a"), None);
        assert_eq!(in_query("ab=1", "a"), None);
    }
}
