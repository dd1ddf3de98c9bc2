//! What operators said while the program runs, on top of the configuration file: which of it is in force, who said it and
//! until when, how it is undone, and what two operators who act at once hear of each other.
//!
//! Every change makes a new revision. Whoever names the revision that they saw changes nothing that others changed since.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::names::RoomName;
use super::rate::Rate;
use super::time::Unix;

/// Changes that are remembered for whoever comes with an older revision.
const REMEMBERED: usize = 100;
/// Overrides and what they replaced, at most.
const MOST: usize = 1000;
/// Characters of a message at most, as in the configuration file.
const LONGEST_MESSAGE: usize = 2000;
/// Languages of a message at most.
const MOST_LANGUAGES: usize = 50;
/// No override lasts longer, unless it lasts until it is taken back.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// What can be overridden in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// Entries at the portal, whatever the windows say.
    Rate,
    /// Whether anybody is called and enters.
    State,
    /// What visitors read, whatever the windows say.
    Message,
    /// Nobody new enters, and the clocks of those inside stand still.
    Freeze,
}

/// What an operator wants of one subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// So many entries.
    #[serde(with = "as_text")]
    Rate(Rate),
    /// This state.
    State(Wanted),
    /// This text; without any, none is shown.
    Message(Message),
    /// Frozen.
    Freeze,
}

/// A state that operators can ask for at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// The room works.
    Open,
    /// Nobody is called or enters.
    Hold,
}

/// A message, the same for everybody or one for each language.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Message(pub Vec<Text>);

/// One text of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// Its language; `None`: for all.
    pub language: Option<String>,
    /// What it says.
    pub text: String,
}

/// A wish with who has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saying {
    /// What is wanted.
    #[serde(flatten)]
    pub wish: WishField,
    /// Who wants it.
    pub by: String,
    /// Since when.
    pub since: Unix,
    /// Until when; `None`: until it is taken back.
    pub until: Option<Unix>,
}

/// The wish under a name of its own in files and answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WishField {
    /// What is wanted.
    pub wish: Wish,
}

/// What is said of one subject of one room, and what was said before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The room.
    pub room: String,
    /// The subject.
    pub subject: Subject,
    /// What is in force; `None`: what the file says.
    pub now: Option<Saying>,
    /// What was in force before; undoing brings it back.
    pub before: Option<Saying>,
    /// The revision that the last change of it made.
    pub revision: u64,
}

/// How something came to be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// An operator said so.
    Set,
    /// An operator took the last change back.
    Undone,
    /// Its time was over.
    Expired,
    /// Its room is gone from the file.
    RoomGone,
    /// It was said to all nodes that share the line, which is no override.
    ToldToAll,
    /// A new configuration came into force.
    Reloaded,
}

/// A change that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The revision that it made.
    pub revision: u64,
    /// When.
    pub at: Unix,
    /// Who made it.
    pub by: String,
    /// How.
    pub how: How,
    /// The room; `None`: the configuration.
    pub room: Option<String>,
    /// What of it.
    pub subject: Option<Subject>,
    /// What was in force; `None`: what the file says.
    pub from: Option<Saying>,
    /// What is in force; `None`: what the file says.
    pub to: Option<Saying>,
}

/// Everything that operators said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overrides {
    revision: u64,
    entries: Vec<Entry>,
    #[serde(default)]
    changes: VecDeque<Change>,
}

/// What holds for a room besides the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InForce {
    /// Its rate.
    pub rate: Option<Rate>,
    /// Its state.
    pub state: Option<Wanted>,
    /// Its message.
    pub message: Option<Message>,
    /// Whether it is frozen.
    pub frozen: bool,
}

/// Why a change is not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Somebody else changed something since.
    #[error(
        "somebody else changed something since revision {seen}: look at what changed, then ask again with If-Match: \"{revision}\""
    )]
    Outdated {
        /// The revision that the operator saw.
        seen: u64,
        /// The revision now.
        revision: u64,
        /// What changed since, as far as it is remembered.
        changes: Vec<Change>,
    },
    /// There is nothing to take back.
    #[error("there is nothing to undo: nobody changed this room, or its last change is over")]
    NothingToUndo,
    /// The last change of the room is no override.
    #[error(
        "the last change of this room was said to all nodes that share its line: take it back with release or thaw, or name what to undo"
    )]
    ToldToAll,
    /// The end lies in the past or too far ahead.
    #[error("until must lie in the future, and at most 366 days ahead")]
    Until,
    /// A message is too long.
    #[error("a message has at most {LONGEST_MESSAGE} characters, in at most {MOST_LANGUAGES} languages")]
    MessageTooLong,
    /// A language's name is none.
    #[error("{0:?} is no language: write a tag such as \"it\" or \"de\", each once")]
    Language(String),
    /// A message has characters that nobody can see.
    #[error("a message has no control characters besides line breaks")]
    Control,
    /// There are too many.
    #[error("there are {MOST} overrides: take some back")]
    TooMany,
}

/// Who asks, when, and until when it is to hold.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Who.
    pub by: String,
    /// When.
    pub at: Unix,
    /// Until when; `None`: until it is taken back.
    pub until: Option<Unix>,
}

impl Wish {
    /// What it is about.
    pub fn subject(&self) -> Subject {
        match self {
            Wish::Rate(_) => Subject::Rate,
            Wish::State(_) => Subject::State,
            Wish::Message(_) => Subject::Message,
            Wish::Freeze => Subject::Freeze,
        }
    }
}

impl Saying {
    fn is_over(&self, now: Unix) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

impl Message {
    /// The message without blank texts and blanks around them.
    ///
    /// # Errors
    /// [`Refused`] when a page could not show it.
    pub fn checked(self) -> Result<Message, Refused> {
        let kept = self.0.into_iter().map(|text| Text { text: text.text.trim().to_owned(), ..text });
        let texts: Vec<Text> = kept.filter(|text| !text.text.is_empty()).collect();
        if texts.len() > MOST_LANGUAGES || texts.iter().any(|text| text.text.chars().count() > LONGEST_MESSAGE) {
            return Err(Refused::MessageTooLong);
        }
        if texts.iter().any(|text| text.text.chars().any(|c| c.is_control() && c != '\n')) {
            return Err(Refused::Control);
        }
        for (index, text) in texts.iter().enumerate() {
            let language = text.language.as_deref();
            let repeated = texts.iter().take(index).any(|other| other.language == text.language);
            if repeated || language.is_some_and(|language| !is_language(language)) {
                return Err(Refused::Language(language.unwrap_or_default().to_owned()));
            }
        }
        Ok(Message(texts))
    }
}

fn is_language(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (2..=12).contains(&text.len())
        && text.bytes().all(plain)
        && text.starts_with(|first: char| first.is_ascii_lowercase())
}

impl Overrides {
    /// The revision of everything that operators and reloads changed.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// What is in force, room by room.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.now.is_some())
    }

    /// What holds for a room.
    pub fn of(&self, room: &RoomName) -> InForce {
        let mut held = InForce::default();
        for entry in self.entries.iter().filter(|entry| entry.room == room.as_str()) {
            match entry.now.as_ref().map(|saying| &saying.wish.wish) {
                Some(Wish::Rate(rate)) => held.rate = Some(*rate),
                Some(Wish::State(state)) => held.state = Some(*state),
                Some(Wish::Message(message)) => held.message = Some(message.clone()),
                Some(Wish::Freeze) => held.frozen = true,
                None => {}
            }
        }
        held
    }

    /// Whether an operator who saw this revision saw everything.
    ///
    /// # Errors
    /// [`Refused::Outdated`] with what changed since.
    pub fn check_seen(&self, seen: u64) -> Result<(), Refused> {
        if seen == self.revision {
            return Ok(());
        }
        let changes = self.changes.iter().filter(|change| change.revision > seen).cloned().collect();
        Err(Refused::Outdated { seen, revision: self.revision, changes })
    }

    /// The last changes, the newest last.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter()
    }

    /// An operator wants something of a room's subject, or, with `None`, what the file says. `None` is the answer when that
    /// is so already.
    ///
    /// # Errors
    /// [`Refused`]
    pub fn set(
        &mut self,
        room: &RoomName,
        subject: Subject,
        wish: Option<Wish>,
        asked: &Asked,
    ) -> Result<Option<Change>, Refused> {
        if asked.until.is_some_and(|until| until <= asked.at || until > asked.at + LONGEST) {
            return Err(Refused::Until);
        }
        let saying = wish.map(|wish| Saying {
            wish: WishField { wish },
            by: asked.by.clone(),
            since: asked.at,
            until: asked.until,
        });
        let current = self.find(room, subject).and_then(|entry| entry.now.clone());
        let same = match (&current, &saying) {
            (None, None) => true,
            (Some(old), Some(new)) => old.wish == new.wish && old.until == new.until,
            _ => false,
        };
        if same {
            return Ok(None);
        }
        if self.find(room, subject).is_none() && self.entries.len() >= MOST {
            return Err(Refused::TooMany);
        }
        Ok(Some(self.put(room, subject, saying, How::Set, &asked.by, asked.at)))
    }

    /// Something of a room was said to all nodes that share its line. It is no override, and whoever looks sees that something
    /// changed.
    pub fn told_to_all(&mut self, room: &RoomName, subject: Subject, by: &str, now: Unix) {
        self.note(Change {
            revision: self.revision + 1,
            at: now,
            by: by.to_owned(),
            how: How::ToldToAll,
            room: Some(room.as_str().to_owned()),
            subject: Some(subject),
            from: None,
            to: None,
        });
    }

    /// Takes the last change of a room back, or that of one subject. Undoing twice brings the change back.
    ///
    /// # Errors
    /// [`Refused::NothingToUndo`]; [`Refused::ToldToAll`] when no subject is named and the last change is no override: another
    /// one than the operator means would be taken back.
    pub fn undo(&mut self, room: &RoomName, subject: Option<Subject>, by: &str, now: Unix) -> Result<Change, Refused> {
        let last = self.changes.iter().rfind(|change| change.room.as_deref() == Some(room.as_str()));
        if subject.is_none() && last.is_some_and(|change| change.how == How::ToldToAll) {
            return Err(Refused::ToldToAll);
        }
        let of_room = self.entries.iter().filter(|entry| entry.room == room.as_str());
        let wanted = of_room.filter(|entry| subject.is_none_or(|subject| subject == entry.subject));
        let last = wanted.max_by_key(|entry| entry.revision).ok_or(Refused::NothingToUndo)?;
        let before = last.before.clone().filter(|before| !before.is_over(now));
        if before.is_none() && last.now.is_none() {
            return Err(Refused::NothingToUndo);
        }
        let subject = last.subject;
        Ok(self.put(room, subject, before, How::Undone, by, now))
    }

    /// Drops what is over.
    pub fn expire(&mut self, now: Unix) -> Vec<Change> {
        self.drop_where(How::Expired, now, |entry| entry.now.as_ref().is_some_and(|saying| saying.is_over(now)))
    }

    /// Whether anything is over.
    pub fn is_anything_over(&self, now: Unix) -> bool {
        self.entries().any(|entry| entry.now.as_ref().is_some_and(|saying| saying.is_over(now)))
    }

    /// Drops what is said of rooms that are gone.
    pub fn keep_rooms(&mut self, is_there: impl Fn(&str) -> bool, now: Unix) -> Vec<Change> {
        let dropped = self.drop_where(How::RoomGone, now, |entry| entry.now.is_some() && !is_there(&entry.room));
        self.entries.retain(|entry| is_there(&entry.room));
        dropped
    }

    /// A new configuration is in force.
    pub fn reloaded(&mut self, by: &str, now: Unix) -> Change {
        let change = Change {
            revision: self.revision + 1,
            at: now,
            by: by.to_owned(),
            how: How::Reloaded,
            room: None,
            subject: None,
            from: None,
            to: None,
        };
        self.note(change)
    }

    fn drop_where(&mut self, how: How, now: Unix, is_dropped: impl Fn(&Entry) -> bool) -> Vec<Change> {
        let dropped: Vec<Entry> = self.entries.iter().filter(|entry| is_dropped(entry)).cloned().collect();
        let drop = |entry: Entry| {
            let revision = self.revision + 1;
            if let Some(kept) =
                self.entries.iter_mut().find(|kept| kept.room == entry.room && kept.subject == entry.subject)
            {
                (kept.now, kept.before, kept.revision) = (None, None, revision);
            }
            let change = Change {
                revision,
                at: now,
                by: "anticamera".to_owned(),
                how,
                room: Some(entry.room),
                subject: Some(entry.subject),
                from: entry.now,
                to: None,
            };
            self.note(change)
        };
        dropped.into_iter().map(drop).collect()
    }

    fn find(&self, room: &RoomName, subject: Subject) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.room == room.as_str() && entry.subject == subject)
    }

    fn put(&mut self, room: &RoomName, subject: Subject, to: Option<Saying>, how: How, by: &str, at: Unix) -> Change {
        let revision = self.revision + 1;
        let from = self.find(room, subject).and_then(|entry| entry.now.clone());
        self.entries.retain(|entry| entry.room != room.as_str() || entry.subject != subject);
        self.entries.push(Entry {
            room: room.as_str().to_owned(),
            subject,
            now: to.clone(),
            before: from.clone(),
            revision,
        });
        let room = Some(room.as_str().to_owned());
        self.note(Change { revision, at, by: by.to_owned(), how, room, subject: Some(subject), from, to })
    }

    fn note(&mut self, change: Change) -> Change {
        self.revision = change.revision;
        if self.changes.len() == REMEMBERED {
            self.changes.pop_front();
        }
        self.changes.push_back(change.clone());
        change
    }
}

/// Rates in files and answers are written as operators write them.
mod as_text {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use super::Rate;

    pub(super) fn serialize<S: Serializer>(rate: &Rate, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(rate)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Rate, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn room() -> RoomName {
        RoomName::new("fair").unwrap()
    }

    fn rate(text: &str) -> Option<Wish> {
        Some(Wish::Rate(text.parse().unwrap()))
    }

    fn asked(at: u64) -> Asked {
        Asked { by: "ann".to_owned(), at: Unix(at), until: None }
    }

    fn shown(overrides: &Overrides) -> Option<String> {
        overrides.of(&room()).rate.map(|rate| rate.to_string())
    }

    fn set(overrides: &mut Overrides, text: &str, at: u64) -> Change {
        overrides.set(&room(), Subject::Rate, rate(text), &asked(at)).unwrap().unwrap()
    }

    #[test]
    fn one_call_undoes_and_another_brings_it_back() {
        let mut overrides = Overrides::default();
        set(&mut overrides, "10/s", 1);
        set(&mut overrides, "20/s", 2);
        let undone = overrides.undo(&room(), None, "bob", Unix(3)).unwrap();
        assert_eq!((undone.how, shown(&overrides).as_deref()), (How::Undone, Some("10/s")));
        overrides.undo(&room(), Some(Subject::Rate), "bob", Unix(4)).unwrap();
        assert_eq!(shown(&overrides).as_deref(), Some("20/s"));
        assert_eq!(overrides.undo(&room(), Some(Subject::Freeze), "bob", Unix(4)), Err(Refused::NothingToUndo));
    }

    #[test]
    fn the_first_override_is_undone_to_what_the_file_says() {
        let mut overrides = Overrides::default();
        set(&mut overrides, "10/s", 1);
        overrides.undo(&room(), None, "ann", Unix(2)).unwrap();
        assert_eq!(shown(&overrides), None);
        assert_eq!(overrides.entries().count(), 0);
    }

    #[test]
    fn the_last_change_of_the_room_is_the_one_that_is_undone() {
        let mut overrides = Overrides::default();
        set(&mut overrides, "10/s", 1);
        overrides.set(&room(), Subject::State, Some(Wish::State(Wanted::Hold)), &asked(2)).unwrap();
        overrides.undo(&room(), None, "ann", Unix(3)).unwrap();
        assert_eq!(overrides.of(&room()).state, None);
        assert_eq!(shown(&overrides).as_deref(), Some("10/s"));
    }

    #[test]
    fn an_override_expires_and_undo_does_not_bring_back_what_is_over() {
        let mut overrides = Overrides::default();
        let until = Asked { until: Some(Unix(100)), ..asked(1) };
        overrides.set(&room(), Subject::Rate, rate("10/s"), &until).unwrap();
        assert!(overrides.expire(Unix(99)).is_empty());
        set(&mut overrides, "20/s", 50);
        overrides.undo(&room(), None, "ann", Unix(60)).unwrap();
        assert!(overrides.is_anything_over(Unix(100)));
        let expired = overrides.expire(Unix(100));
        assert_eq!((expired.len(), expired[0].how, shown(&overrides)), (1, How::Expired, None));
        assert_eq!(overrides.undo(&room(), None, "ann", Unix(101)), Err(Refused::NothingToUndo));
        for until in [Unix(0), Unix(1), Unix(1) + LONGEST + Duration::from_secs(1)] {
            let asked = Asked { until: Some(until), ..asked(1) };
            assert_eq!(overrides.set(&room(), Subject::Rate, rate("1/s"), &asked), Err(Refused::Until));
        }
    }

    #[test]
    fn two_operators_hear_of_each_other() {
        let mut overrides = Overrides::default();
        let seen = overrides.revision();
        assert_eq!(overrides.check_seen(seen), Ok(()));
        let change = set(&mut overrides, "10/s", 1);
        let Err(Refused::Outdated { revision, changes, .. }) = overrides.check_seen(seen) else {
            panic!("not outdated")
        };
        assert_eq!((revision, changes), (1, vec![change]));
        assert_eq!(overrides.check_seen(revision), Ok(()));
        assert!(overrides.check_seen(77).is_err(), "a revision from another state");
    }

    #[test]
    fn the_same_again_is_no_change() {
        let mut overrides = Overrides::default();
        set(&mut overrides, "10/s", 1);
        assert_eq!(overrides.set(&room(), Subject::Rate, rate("10/s"), &asked(2)), Ok(None));
        assert_eq!(overrides.set(&room(), Subject::Message, None, &asked(2)), Ok(None));
        assert_eq!(overrides.revision(), 1);
    }

    #[test]
    fn what_is_said_of_a_room_that_is_gone_is_dropped_and_told() {
        let mut overrides = Overrides::default();
        set(&mut overrides, "10/s", 1);
        assert!(overrides.keep_rooms(|_| true, Unix(2)).is_empty());
        let dropped = overrides.keep_rooms(|room| room != "fair", Unix(3));
        assert_eq!((dropped.len(), dropped[0].how), (1, How::RoomGone));
        assert_eq!(overrides.undo(&room(), None, "ann", Unix(4)), Err(Refused::NothingToUndo));
    }

    #[test]
    fn what_all_nodes_were_told_is_not_undone_by_undoing_something_else() {
        let mut overrides = Overrides::default();
        set(&mut overrides, "20/s", 1);
        let seen = overrides.revision();
        overrides.told_to_all(&room(), Subject::State, "bob", Unix(2));
        assert!(overrides.check_seen(seen).is_err(), "the hold is a change that others see");
        assert_eq!(overrides.undo(&room(), None, "ann", Unix(3)), Err(Refused::ToldToAll));
        assert_eq!(shown(&overrides).as_deref(), Some("20/s"));
        overrides.undo(&room(), Some(Subject::Rate), "ann", Unix(4)).unwrap();
        assert_eq!(shown(&overrides), None);
    }

    #[test]
    fn messages_are_held_against_what_a_page_can_show() {
        let text =
            |language: Option<&str>, text: &str| Text { language: language.map(str::to_owned), text: text.to_owned() };
        let good = Message(vec![text(Some("it"), " Ciao "), text(Some("de"), "  ")]).checked().unwrap();
        assert_eq!(good.0, [text(Some("it"), "Ciao")]);
        let bad = |texts: Vec<Text>| Message(texts).checked().unwrap_err();
        assert_eq!(bad(vec![text(None, &"x".repeat(2001))]), Refused::MessageTooLong);
        assert_eq!(bad(vec![text(Some("Italian!"), "x")]), Refused::Language("Italian!".into()));
        assert_eq!(bad(vec![text(Some("it"), "x"), text(Some("it"), "y")]), Refused::Language("it".into()));
        assert_eq!(bad(vec![text(None, "a\u{1b}[31mb")]), Refused::Control);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut overrides = Overrides::default();
        set(&mut overrides, "6/min", 1);
        let message = Message(vec![Text { language: Some("it".into()), text: "Ciao".into() }]);
        overrides.set(&room(), Subject::Message, Some(Wish::Message(message)), &asked(2)).unwrap();
        overrides.set(&room(), Subject::Freeze, Some(Wish::Freeze), &asked(3)).unwrap();
        let text = serde_json::to_string(&overrides).unwrap();
        assert_eq!(serde_json::from_str::<Overrides>(&text).unwrap(), overrides, "{text}");
    }

    proptest! {
        #[test]
        fn undo_is_the_inverse_of_any_last_change(rates in prop::collection::vec(1u32..100, 1..20)) {
            let mut overrides = Overrides::default();
            let mut before = None;
            for (at, count) in rates.iter().enumerate() {
                before = shown(&overrides);
                let changed = overrides.set(&room(), Subject::Rate, rate(&format!("{count}/s")), &asked(at as u64)).unwrap();
                prop_assume!(changed.is_some());
            }
            overrides.undo(&room(), None, "ann", Unix(1000)).unwrap();
            prop_assert_eq!(shown(&overrides), before);
            prop_assert_eq!(overrides.revision(), rates.len() as u64 + 1);
        }
    }
}
