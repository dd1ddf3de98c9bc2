//! What visitors read, in one language: the catalogue file as a type, so that a missing or mistyped text is a fault
//! when it is loaded and never a hole in a page.

use std::collections::BTreeMap;

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
    /// Everything else on the waiting page.
    pub page: PageTexts,
    /// The page that answers a form which was not sent.
    pub form: FormTexts,
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
    /// `{reason}` since `{clock}` of the same day.
    pub reason: String,
    /// `{reason}` since `{clock}` on `{day}` `{month}`.
    pub reason_dated: String,
    /// A later `{clock}` of the same day.
    pub today: String,
    /// A `{clock}` on the next day.
    pub tomorrow: String,
    /// A `{clock}` on `{day}` `{month}`.
    pub on_date: String,
}

/// `[page]`: labels, buttons and sentences that templates and script look up by their key.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PageTexts {
    why: String,
    languages: String,
    message: String,
    ahead: String,
    wait: String,
    expected_at: String,
    now_serving: String,
    updated_at: String,
    reference: String,
    enter_by: String,
    longer: String,
    progress: String,
    kept: String,
    pub(super) by_hand_lead: String,
    unknown: String,
    joining: String,
    joining_lead: String,
    join: String,
    join_again: String,
    join_plain: String,
    enter: String,
    entering: String,
    update: String,
    pause: String,
    resume: String,
    leave: String,
    leave_warning: String,
    try_again: String,
    offline: String,
    online: String,
    cookies: String,
    lost: String,
    by_hand: String,
    request_id: String,
}

/// `[form]`
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FormTexts {
    pub(super) heading: String,
    pub(super) lead: String,
    plain: String,
    send_again: String,
    turn: String,
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
    /// A state, reason or notice has no text.
    #[error("no text for {0}: add it")]
    Missing(String),
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
        let mut catalogue: Catalogue = toml::from_str(text)?;
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const ITALIAN: &str = include_str!("../../waiting-room-assets/it.toml");
    const ENGLISH: &str = include_str!("../../waiting-room-assets/en.toml");

    #[test]
    fn the_compiled_in_catalogues_are_whole() {
        for text in [ITALIAN, ENGLISH] {
            Catalogue::parse(text).expect("a whole catalogue");
        }
    }

    #[test]
    fn a_missing_text_is_a_fault() {
        let without = |line: &str| Catalogue::parse(&ENGLISH.replace(line, "")).is_err();
        assert!(without("moment = \"less than a minute\"\n"));
        assert!(without("ramping_up = \"the service is starting again and lets people in slowly\"\n"));
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
        assert_eq!(placeholders(ITALIAN), placeholders(ENGLISH));
    }

    /// Every key with the placeholders of its text; the forms of a plural count as one text.
    fn placeholders(file: &str) -> BTreeMap<String, BTreeSet<String>> {
        fn walk(path: &str, table: &toml::Table, found: &mut BTreeMap<String, BTreeSet<String>>) {
            for (key, value) in table {
                let own = if key == "other" || Plural::ALL.iter().any(|category| category.name() == key) {
                    path.to_owned()
                } else {
                    format!("{path}.{key}")
                };
                match value {
                    toml::Value::Table(inner) => walk(&own, inner, found),
                    toml::Value::String(text) => found.entry(own).or_default().extend(braces(text)),
                    _ => {}
                }
            }
        }
        let mut found = BTreeMap::new();
        walk("", &file.parse().expect("TOML"), &mut found);
        found
    }

    fn braces(text: &str) -> impl Iterator<Item = String> {
        text.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name.to_owned())
    }
}
