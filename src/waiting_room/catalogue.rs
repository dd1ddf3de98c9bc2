//! What visitors read, in one language: the catalogue file as a type, so that a missing or mistyped text is a fault
//! when it is loaded and never a hole in a page.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::plural::{Plural, PluralRule};
use super::queue::{QueueState, ReasonCode};

/// One language's texts, as its file has them and templates see them.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    /// BCP 47 language tag: `it`.
    pub code: String,
    /// The language's own name: `Italiano`.
    pub name: String,
    /// In which direction it is written.
    pub direction: Direction,
    /// What stands between groups of three digits.
    pub thousands: String,
    /// January to December as they stand in a date.
    pub months: [String; 12],
    /// Heading and first sentence for every state.
    pub states: BTreeMap<QueueState, Heading>,
    /// Why a line stands still, as half a sentence.
    pub reasons: BTreeMap<ReasonCode, String>,
    /// The visitor's figures as words.
    pub figures: Figures,
    /// Waits and spans of time as words.
    pub wait: Wait,
    /// Everything else on pages.
    pub page: PageTexts,
    /// What the page's script says by itself.
    pub script: ScriptTexts,
    /// The page that answers a form which was not sent.
    pub form: FormTexts,
    /// The page about a draw.
    pub draw: DrawTexts,
    /// What is said of a room that closes.
    pub closing: ClosingTexts,
    /// The proof of a place.
    pub receipt: ReceiptTexts,
    /// Pages that only say something.
    pub notices: BTreeMap<Notice, Heading>,
    #[serde(skip)]
    rule: Option<PluralRule>,
}

/// The direction in which a language is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Left to right.
    Ltr,
    /// Right to left.
    Rtl,
}

/// What stands at the top of a page.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Heading {
    /// The H1, which is also the title.
    pub heading: String,
    /// The sentence below it.
    pub lead: String,
}

/// `[figures]`
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// `{n}` visitors stand before this one.
    pub ahead: Forms,
    /// The same for none.
    pub nobody_ahead: String,
    /// `{n}` called visitors stand before this one at the gate.
    pub at_gate: Forms,
    /// Before the opening: one can join from `{at}` on.
    pub gather_from: String,
    /// Before the opening: places are given in the order of arrival.
    pub by_arrival: String,
    /// Before the opening: places are drawn by lot.
    pub by_lot: String,
    /// `{reason}` since `{clock}` of the same day.
    pub reason: String,
    /// `{reason}` since `{clock}` on `{day}` `{month}`.
    pub reason_dated: String,
    /// Exactly at a `{clock}` of the same day.
    pub at_today: String,
    /// Exactly at a `{clock}` on the next day.
    pub at_tomorrow: String,
    /// Exactly at a `{clock}` on `{day}` `{month}`.
    pub at_on_date: String,
    /// A later `{clock}` of the same day.
    pub today: String,
    /// A `{clock}` on the next day.
    pub tomorrow: String,
    /// A `{clock}` on `{day}` `{month}`.
    pub on_date: String,
}

/// `[page]`: labels, buttons and sentences that templates look up by their key.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PageTexts {
    why: String,
    languages: String,
    message: String,
    ahead: String,
    wait: String,
    expected_at: String,
    opens_at: String,
    opens_in: String,
    closes_at: String,
    now_serving: String,
    updated_at: String,
    reference: String,
    reference_hint: String,
    recovery: String,
    recovery_hint: String,
    enter_by: String,
    stay_ends: String,
    turn_kept: String,
    longer: String,
    progress: String,
    kept: String,
    hours: String,
    prepare: String,
    pub(super) by_hand_lead: String,
    by_hand_note: String,
    unknown: String,
    join: String,
    join_again: String,
    join_plain: String,
    enter: String,
    extend: String,
    update: String,
    pause: String,
    options: String,
    option_enter: String,
    option_sound: String,
    option_notify: String,
    code: String,
    code_label: String,
    code_send: String,
    recover: String,
    recover_label: String,
    recover_send: String,
    leave: String,
    leave_warning: String,
    try_again: String,
    reload_to_send: String,
    kept_inside: String,
    help: String,
    accessibility: String,
    privacy: String,
    request_id: String,
}

/// Labels of the page that its script repeats.
#[derive(Debug, Serialize)]
pub struct Labels<'a> {
    unknown: &'a str,
    longer: &'a str,
    wait: &'a str,
    pause: &'a str,
}

impl PageTexts {
    /// The labels that the page's script repeats.
    pub fn labels(&self) -> Labels<'_> {
        Labels { unknown: &self.unknown, longer: &self.longer, wait: &self.wait, pause: &self.pause }
    }
}

/// `[script]`: what the page's script says by itself.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptTexts {
    joining: String,
    joining_lead: String,
    entering: String,
    called: String,
    resume: String,
    pub(super) offline: String,
    pub(super) place_kept: String,
    online: String,
    pub(super) cookies: String,
    pub(super) lost: String,
    pub(super) new_place: String,
    pub(super) by_hand: String,
    no_notification: String,
    pub(super) no_more_time: String,
    pub(super) code_refused: String,
}

/// `[form]`
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FormTexts {
    pub(super) heading: String,
    pub(super) lead: String,
    plain: String,
    send_again: String,
    pub(super) turn: String,
}

/// `[draw]`
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DrawTexts {
    heading: String,
    pub(super) before: String,
    pub(super) arrival: String,
    pub(super) after: String,
    commitment: String,
    seed: String,
    gathered: String,
    facts: String,
}

/// `[closing]`: what becomes of those who wait when the room closes at `{at}`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ClosingTexts {
    /// Nobody new can join from then on, and those in the line are served.
    pub serve_before: String,
    /// The same afterwards.
    pub serve_after: String,
    /// The line ends then.
    pub end_before: String,
    /// It ends, perhaps before the visitor's turn.
    pub uncertain: String,
    /// It ends, most probably before the visitor's turn.
    pub unlikely: String,
    /// It ended before the visitor's turn.
    pub ended: String,
}

/// `[receipt]`
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptTexts {
    heading: String,
    pub(super) numbered: String,
    pub(super) unnumbered: String,
    made: String,
    keep: String,
    token: String,
}

/// `[wait]`
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Wait {
    /// Less than a minute.
    pub moment: String,
    /// Both ends of the range are `{high}`.
    pub about: String,
    /// From nothing to `{high}`.
    pub up_to: String,
    /// From `{low}` to `{high}`, each a span with its own unit.
    pub range: String,
    /// From `{low}` to `{n}` minutes.
    pub range_minutes: Forms,
    /// From `{low}` to `{n}` hours.
    pub range_hours: Forms,
    /// `{hours}` and `{minutes}`, both with their units.
    pub hours_minutes: String,
    /// `{n}` minutes.
    pub minutes: Forms,
    /// `{n}` hours.
    pub hours: Forms,
}

/// A text that changes with the number in it (Unicode CLDR plural categories).
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Forms {
    zero: Option<String>,
    one: Option<String>,
    two: Option<String>,
    few: Option<String>,
    many: Option<String>,
    other: String,
}

/// The pages that only say something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// 502, 504: the portal cannot be reached.
    Unreachable,
    /// The visitor gave up the place.
    Left,
    /// 400
    BadRequest,
    /// 403
    Forbidden,
    /// 404
    NotFound,
    /// 405
    WrongMethod,
    /// 413, 414, 431
    TooLarge,
    /// 429
    TooMany,
    /// 500, 503
    OurFault,
}

impl Notice {
    /// Every notice.
    pub const ALL: [Notice; 9] = [
        Notice::Unreachable,
        Notice::Left,
        Notice::BadRequest,
        Notice::Forbidden,
        Notice::NotFound,
        Notice::WrongMethod,
        Notice::TooLarge,
        Notice::TooMany,
        Notice::OurFault,
    ];
}

/// What is wrong with a catalogue file.
#[derive(Debug, thiserror::Error)]
pub enum BrokenCatalogue {
    /// It is no catalogue at all, or a text is missing, unknown or of the wrong kind.
    #[error("{0}")]
    Form(#[from] toml::de::Error),
    /// Nobody has written down how the language forms plurals.
    #[error("no plural rule for the language `{0}`: add one to the program")]
    UnknownLanguage(String),
    /// The file is called after another language.
    #[error("it says that it is `{0}`: call the file after its language")]
    OtherLanguage(String),
    /// A state, reason or notice has no text.
    #[error("no text for {0}: add it")]
    Missing(String),
    /// A text of the file does not have the placeholders that the program fills in.
    #[error("{key} has the placeholders {found}: use {expected}")]
    Placeholders {
        /// Which text.
        key: String,
        /// Those it has.
        found: String,
        /// Those it may have.
        expected: String,
    },
    /// A plural lacks a category that the language has.
    #[error("{key} has no `{category}`: the language needs it")]
    MissingForm {
        /// Which plural.
        key: &'static str,
        /// Which category.
        category: &'static str,
    },
}

impl Catalogue {
    /// Reads a catalogue file.
    ///
    /// # Errors
    /// [`BrokenCatalogue`] when a text is missing, unknown, or lacks a plural form.
    pub fn parse(text: &str) -> Result<Catalogue, BrokenCatalogue> {
        Catalogue::checked(toml::from_str(text)?)
    }

    /// Reads a catalogue file that may hold only some of the texts; the others come from `base`, if there is one. The
    /// texts must have the placeholders of those in `model`, a catalogue of any language.
    ///
    /// # Errors
    /// [`BrokenCatalogue`] when a text is missing, unknown, lacks a plural form or has other placeholders.
    pub fn parse_over(base: Option<&str>, model: &str, text: &str) -> Result<Catalogue, BrokenCatalogue> {
        let given: toml::Table = toml::from_str(text)?;
        check_placeholders(&given, &toml::from_str(model)?)?;
        let whole = match base {
            Some(base) => merged(toml::from_str(base)?, given),
            None => given,
        };
        Catalogue::checked(Catalogue::deserialize(whole)?)
    }

    fn checked(mut catalogue: Catalogue) -> Result<Catalogue, BrokenCatalogue> {
        let rule =
            PluralRule::of(&catalogue.code).ok_or_else(|| BrokenCatalogue::UnknownLanguage(catalogue.code.clone()))?;
        catalogue.rule = Some(rule);
        catalogue.check_completeness()?;
        catalogue.check_forms(rule)?;
        Ok(catalogue)
    }

    fn check_completeness(&self) -> Result<(), BrokenCatalogue> {
        fn all_in<K: Ord + std::fmt::Debug, V>(keys: &[K], texts: &BTreeMap<K, V>) -> Result<(), BrokenCatalogue> {
            let missing = keys.iter().find(|key| !texts.contains_key(key));
            missing.map_or(Ok(()), |key| Err(BrokenCatalogue::Missing(format!("{key:?}"))))
        }
        all_in(&QueueState::ALL, &self.states)?;
        all_in(&ReasonCode::ALL, &self.reasons)?;
        all_in(&Notice::ALL, &self.notices)
    }

    fn check_forms(&self, rule: PluralRule) -> Result<(), BrokenCatalogue> {
        for (key, forms) in self.plurals() {
            let missing = rule.categories().iter().find(|category| forms.given(**category).is_none());
            if let Some(category) = missing {
                return Err(BrokenCatalogue::MissingForm { key, category: category.name() });
            }
        }
        Ok(())
    }

    fn plurals(&self) -> [(&'static str, &Forms); 6] {
        [
            ("figures.ahead", &self.figures.ahead),
            ("figures.at_gate", &self.figures.at_gate),
            ("wait.minutes", &self.wait.minutes),
            ("wait.hours", &self.wait.hours),
            ("wait.range_minutes", &self.wait.range_minutes),
            ("wait.range_hours", &self.wait.range_hours),
        ]
    }

    /// Heading and first sentence of a state.
    pub fn state(&self, state: QueueState) -> Option<&Heading> {
        self.states.get(&state)
    }

    /// Why a line stands still, as half a sentence.
    pub fn reason(&self, code: ReasonCode) -> &str {
        self.reasons.get(&code).map_or("", String::as_str)
    }

    /// The form of a text that goes with the number `n`, with `{n}` still in it.
    pub fn form<'a>(&self, forms: &'a Forms, n: u64) -> &'a str {
        let category = self.rule.map_or(Plural::Other, |rule| rule.category(n));
        forms.given(category).unwrap_or(&forms.other)
    }
}

impl Forms {
    fn given(&self, category: Plural) -> Option<&str> {
        match category {
            Plural::Zero => self.zero.as_deref(),
            Plural::One => self.one.as_deref(),
            Plural::Two => self.two.as_deref(),
            Plural::Few => self.few.as_deref(),
            Plural::Many => self.many.as_deref(),
            Plural::Other => Some(&self.other),
        }
    }
}

/// The tables of `base` with what `over` has in its place.
fn merged(mut base: toml::Table, over: toml::Table) -> toml::Table {
    for (key, value) in over {
        let value = match (base.remove(&key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => toml::Value::Table(merged(old, new)),
            (_, value) => value,
        };
        base.insert(key, value);
    }
    base
}

fn check_placeholders(given: &toml::Table, model: &toml::Table) -> Result<(), BrokenCatalogue> {
    let known = placeholders(model);
    // A text may do without, as "one hour" does; it may not ask for what it is not given.
    for (key, found) in placeholders(given) {
        match known.get(&key) {
            Some(expected) if !found.is_subset(expected) => {
                let (found, expected) = (in_braces(&found), in_braces(expected));
                return Err(BrokenCatalogue::Placeholders { key, found, expected });
            }
            _ => {}
        }
    }
    Ok(())
}

fn in_braces(names: &BTreeSet<String>) -> String {
    if names.is_empty() { "none".to_owned() } else { names.iter().map(|name| format!("{{{name}}}")).collect() }
}

/// Every key with the placeholders of its text; the forms of a plural count as one text.
fn placeholders(catalogue: &toml::Table) -> BTreeMap<String, BTreeSet<String>> {
    let mut found = BTreeMap::new();
    note_placeholders("", catalogue, &mut found);
    found
}

fn note_placeholders(path: &str, table: &toml::Table, found: &mut BTreeMap<String, BTreeSet<String>>) {
    for (key, value) in table {
        let is_form = Plural::ALL.iter().any(|category| category.name() == key);
        let own = match (is_form, path) {
            (true, _) => path.to_owned(),
            (false, "") => key.clone(),
            (false, _) => format!("{path}.{key}"),
        };
        match value {
            toml::Value::Table(inner) => note_placeholders(&own, inner, found),
            toml::Value::String(text) => found.entry(own).or_default().extend(names_in_braces(text)),
            _ => {}
        }
    }
}

fn names_in_braces(text: &str) -> impl Iterator<Item = String> {
    text.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::waiting_room::language::BUILT_IN;

    const ITALIAN: &str = include_str!("../../waiting-room-assets/it.toml");
    const ENGLISH: &str = include_str!("../../waiting-room-assets/en.toml");

    #[test]
    fn the_compiled_in_catalogues_are_whole() {
        for (file, text) in BUILT_IN {
            let catalogue = Catalogue::parse(text).unwrap_or_else(|fault| panic!("{file}: {fault}"));
            assert_eq!(format!("{}.toml", catalogue.code), file);
        }
    }

    #[test]
    fn a_missing_text_is_a_fault() {
        let without = |line: &str| Catalogue::parse(&ENGLISH.replace(line, "")).is_err();
        assert!(without("moment = \"less than a minute\"\n"));
        assert!(without("ramping_up = \"the service is running slower than usual and lets people in slowly\"\n"));
    }

    #[test]
    fn a_missing_plural_form_is_a_fault() {
        let without = ITALIAN.replace("many = \"{n} di ore\"\n", "");
        let fault = Catalogue::parse(&without).expect_err("a fault").to_string();
        assert_eq!(fault, "wait.hours has no `many`: the language needs it");
    }

    #[test]
    fn a_language_without_a_plural_rule_is_a_fault() {
        let klingon = ENGLISH.replace("code = \"en\"", "code = \"tlh\"");
        assert!(matches!(Catalogue::parse(&klingon), Err(BrokenCatalogue::UnknownLanguage(code)) if code == "tlh"));
    }

    #[test]
    fn every_catalogue_has_the_same_keys_and_placeholders() {
        for (file, text) in BUILT_IN {
            assert_eq!(placeholders(&table(text)), placeholders(&table(ENGLISH)), "{file}");
        }
    }

    #[test]
    fn no_text_is_empty_or_left_in_english() {
        let english = texts(ENGLISH);
        let same_everywhere = ["hours_minutes", "code_label"];
        for (file, text) in BUILT_IN.iter().filter(|(file, _)| *file != "en.toml") {
            let mut here = texts(text);
            here.remove(".thousands").expect("a separator, which may be a space");
            assert_eq!(here.len(), here.values().filter(|text| !text.trim().is_empty()).count(), "{file}");
            let words = |text: &str| text.split('{').next().unwrap_or_default().chars().any(char::is_alphabetic);
            let untranslated: Vec<_> = here
                .iter()
                .filter(|(key, text)| english.get(*key) == Some(*text) && words(text) && text.contains(' '))
                .filter(|(key, _)| !same_everywhere.iter().any(|same| key.ends_with(same)))
                .collect();
            assert!(untranslated.is_empty(), "{file}: {untranslated:?}");
        }
    }

    #[test]
    fn a_file_may_change_some_texts_only() {
        let changed = "[page]\njoin = \"Prendi il numero\"\n[wait.hours]\none = \"un'ora\"";
        let catalogue = Catalogue::parse_over(Some(ITALIAN), ENGLISH, changed).expect("a whole catalogue");
        assert_eq!(catalogue.page.join, "Prendi il numero");
        assert_eq!(catalogue.page.enter, "Entra ora");
        assert_eq!(catalogue.form(&catalogue.wait.hours, 1), "un'ora");
        assert_eq!(catalogue.form(&catalogue.wait.hours, 2), "{n} ore");
    }

    #[test]
    fn a_changed_text_with_unknown_key_or_placeholder_is_a_fault() {
        let fault = |text: &str| Catalogue::parse_over(Some(ITALIAN), ENGLISH, text).expect_err("a fault").to_string();
        assert!(fault("[page]\njion = \"x\"").contains("jion"));
        assert!(fault("page = 3").contains("page"));
        let told = fault("[figures]\ntoday = \"alle {time}\"");
        assert_eq!(told, "figures.today has the placeholders {time}: use {clock}");
        assert!(Catalogue::parse_over(None, ENGLISH, "code = \"pt\"").is_err(), "a new language must be whole");
    }

    fn table(text: &str) -> toml::Table {
        text.parse().expect("TOML")
    }

    fn texts(file: &str) -> BTreeMap<String, String> {
        fn walk(path: &str, table: &toml::Table, found: &mut BTreeMap<String, String>) {
            for (key, value) in table {
                match value {
                    toml::Value::Table(inner) => walk(&format!("{path}.{key}"), inner, found),
                    toml::Value::String(text) => drop(found.insert(format!("{path}.{key}"), text.clone())),
                    _ => {}
                }
            }
        }
        let mut found = BTreeMap::new();
        walk("", &table(file), &mut found);
        found
    }
}
