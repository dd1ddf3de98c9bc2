//! `[page]` and `[room.page]`: what operators set of the pages that visitors see. Texts are texts and never markup, links
//! lead only where an allow-list lets them, and colours that cannot be read are refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::de::DeValue;

use super::fault::Wrong;
use super::section::Section;
use super::value::{self, Read};

/// Characters of a text at most.
const LONGEST_TEXT: usize = 2000;
/// Contrast of text at least (WCAG 2.2, success criterion 1.4.3).
const LEAST_CONTRAST: f64 = 4.5;

/// `[page]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// A folder whose templates, style, script and catalogues replace those of the program.
    pub assets: Option<PathBuf>,
    /// The languages that are offered, by their tags; the first is for whoever asks for none of them.
    pub languages: Vec<String>,
}

/// `[room.page]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomPage {
    /// Whose service it is.
    pub service: LocalText,
    /// Who can enter when.
    pub hours: LocalText,
    /// What to have ready.
    pub prepare: LocalText,
    /// Where help is to be had.
    pub help: LocalText,
    /// A page, address or number for help.
    pub help_url: Option<String>,
    /// The accessibility statement.
    pub accessibility_url: Option<String>,
    /// What is done with personal data.
    pub privacy_url: Option<String>,
    /// Colours that differ from the built-in ones, by name, as `#rrggbb`.
    pub colours: Colours,
    /// The same for browsers that prefer dark pages.
    pub dark_colours: Colours,
}

/// Colours by the names of the style's variables.
pub type Colours = BTreeMap<&'static str, String>;

/// An operator's text: the same for everybody, or one for each language.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalText {
    /// Each with its language, if it has one, in the order in which they were written.
    texts: Vec<(Option<String>, String)>,
}

impl LocalText {
    /// A text without a language; a blank one is none.
    pub fn for_all(text: &str) -> LocalText {
        let text = text.trim();
        let texts = if text.is_empty() { Vec::new() } else { vec![(None, text.to_owned())] };
        LocalText { texts }
    }

    /// Texts that were checked already, each with its language, if it has one.
    pub fn of(texts: impl IntoIterator<Item = (Option<String>, String)>) -> LocalText {
        LocalText { texts: texts.into_iter().collect() }
    }

    /// The texts in the order in which they were written.
    pub fn texts(&self) -> impl Iterator<Item = (Option<&str>, &str)> {
        self.texts.iter().map(|(language, text)| (language.as_deref(), text.as_str()))
    }

    /// The text for a page in `language`, and the text's own language if it is known to be another one: where there is
    /// no text in that language, the one that was written first does for it.
    pub fn in_language<'a>(&'a self, language: &str) -> Option<(&'a str, Option<&'a str>)> {
        let own = self.texts.iter().find(|(code, _)| code.as_deref() == Some(language));
        match (own, self.texts.first()) {
            (Some((_, text)), _) => Some((text, None)),
            (None, first) => first.map(|(code, text)| (text.as_str(), code.as_deref())),
        }
    }

    /// The text that was written first.
    pub fn first(&self) -> Option<&str> {
        self.texts.first().map(|(_, text)| text.as_str())
    }
}

/// The style's colours that may be set, with those that the built-in style has for light and dark pages.
pub const PALETTE: [(&str, &str, &str); 7] = [
    ("text", "#1a1d21", "#e8eaed"),
    ("quiet", "#4b535d", "#b4bbc4"),
    ("paper", "#ffffff", "#15181c"),
    ("line", "#c3c9d1", "#444c56"),
    ("accent", "#0a4a9c", "#9cc4ff"),
    ("on-accent", "#ffffff", "#0b1a2e"),
    ("note", "#eef3fa", "#1e2732"),
];

/// What is written in one colour on the other.
const READ_ON: [(&str, &str); 6] = [
    ("text", "paper"),
    ("quiet", "paper"),
    ("accent", "paper"),
    ("on-accent", "accent"),
    ("text", "note"),
    ("accent", "note"),
];

/// Light or dark pages.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Light,
    Dark,
}

pub(super) fn page(section: &Section<'_>, base: &Path) -> Option<Page> {
    let assets = section.read("assets", value::unless_empty(value::file_path(base)));
    let languages = section.list_of_some("languages", language);
    if let Some(twice) = languages.as_deref().and_then(first_repeated) {
        let what = format!("{} stands there twice", value::shown(twice));
        section.fault("languages", Wrong::new(what, "name each language once"));
        return None;
    }
    Some(Page { assets: assets?, languages: languages? })
}

fn first_repeated(languages: &[String]) -> Option<&String> {
    languages
        .iter()
        .enumerate()
        .find(|(index, one)| languages.iter().take(*index).any(|other| other == *one))
        .map(|(_, one)| one)
}

pub(super) fn room_page(section: &Section<'_>) -> Option<RoomPage> {
    let service = section.read("service", local_text);
    let hours = section.read("hours", local_text);
    let prepare = section.read("prepare", local_text);
    let help = section.read("help", local_text);
    let help_url = section.read("help_url", value::unless_empty(link));
    let accessibility_url = section.read("accessibility_url", value::unless_empty(link));
    let privacy_url = section.read("privacy_url", value::unless_empty(link));
    let colours = colours(section, "colours", Scheme::Light);
    let dark_colours = self::colours(section, "dark_colours", Scheme::Dark);
    Some(RoomPage {
        service: service?,
        hours: hours?,
        prepare: prepare?,
        help: help?,
        help_url: help_url?,
        accessibility_url: accessibility_url?,
        privacy_url: privacy_url?,
        colours: colours?,
        dark_colours: dark_colours?,
    })
}

/// A language tag as catalogues have it.
fn language(value: &DeValue<'_>) -> Read<String> {
    let remedy = "write a language as its catalogue is called, such as \"it\" or \"de\"";
    match value.as_str() {
        Some(text) if is_language(text) => Ok(text.to_owned()),
        Some(text) => Err(Wrong::new(format!("{}: not a language", value::shown(text)), remedy)),
        None => Err(Wrong::new(format!("expected a text, found {}", value::kind(value)), remedy)),
    }
}

fn is_language(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (2..=12).contains(&text.len())
        && text.bytes().all(plain)
        && text.starts_with(|first: char| first.is_ascii_lowercase())
}

/// A text, or a table with one for each language.
pub(super) fn local_text(value: &DeValue<'_>) -> Read<LocalText> {
    let remedy = "write a text, or one for each language: { it = \"...\", en = \"...\" }";
    match value {
        DeValue::String(text) => Ok(LocalText::for_all(&bounded(text)?)),
        DeValue::Table(table) => {
            let mut written: Vec<_> = table.iter().collect();
            written.sort_by_key(|(code, _)| code.span().start);
            let mut texts = Vec::new();
            for (code, text) in written {
                let code = code.get_ref();
                let text = text.get_ref().as_str().ok_or_else(|| Wrong::new("a text is missing", remedy))?;
                if !is_language(code) {
                    return Err(Wrong::new(format!("{}: not a language", value::shown(code)), remedy));
                }
                if !text.trim().is_empty() {
                    texts.push((Some(code.to_string()), bounded(text)?));
                }
            }
            Ok(LocalText { texts })
        }
        other => Err(Wrong::new(format!("expected a text, found {}", value::kind(other)), remedy)),
    }
}

fn bounded(text: &str) -> Read<String> {
    let text = text.trim();
    if text.chars().count() > LONGEST_TEXT {
        return Err(Wrong::new("too long", format!("write at most {LONGEST_TEXT} characters of text")));
    }
    Ok(text.to_owned())
}

/// Where a link of a page may lead: `https://`, `mailto:`, `tel:`, or a path of the same site.
fn link(value: &DeValue<'_>) -> Read<String> {
    let remedy = "write an address that begins with https://, mailto:, tel: or a path such as \"/accessibility\"";
    let Some(text) = value.as_str() else {
        return Err(Wrong::new(format!("expected a text, found {}", value::kind(value)), remedy));
    };
    let clean = text.bytes().all(|byte| byte.is_ascii_graphic()) && !text.contains(['"', '\'', '<', '>', '\\', '`']);
    let own = text.starts_with('/') && !text.starts_with("//");
    let after = |scheme: &str| text.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'));
    let leads = own || after("https://") || after("mailto:") || after("tel:");
    if clean && leads && text.len() <= 500 {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(format!("{}: not an address that a page may link to", value::shown(text)), remedy))
}

fn colours(section: &Section<'_>, name: &str, scheme: Scheme) -> Option<Colours> {
    let colours = section.read(name, colour_table)?;
    match unreadable(&colours, scheme) {
        None => Some(colours),
        Some((front, back, contrast)) => {
            let what = format!("{front} on {back} has a contrast of {contrast:.1} to 1");
            section.fault(
                name,
                Wrong::new(what, "choose colours with at least 4.5 to 1, or everybody has trouble reading"),
            );
            None
        }
    }
}

fn colour_table(value: &DeValue<'_>) -> Read<Colours> {
    let names: Vec<&str> = PALETTE.iter().map(|(name, ..)| *name).collect();
    let remedy = format!("write {{ accent = \"#0a4a9c\" }}; there are {}", names.join(", "));
    let Some(table) = value.as_table() else {
        return Err(Wrong::new(format!("expected a table, found {}", value::kind(value)), remedy));
    };
    let mut colours = Colours::new();
    for (name, colour) in table {
        let Some((known, ..)) = PALETTE.iter().find(|(known, ..)| *known == name.get_ref().as_ref()) else {
            return Err(Wrong::new(format!("{}: no colour of the page", value::shown(name.get_ref())), remedy));
        };
        match colour.get_ref().as_str().filter(|colour| luminance(colour).is_some()) {
            Some(colour) => drop(colours.insert(known, colour.to_ascii_lowercase())),
            None => return Err(Wrong::new(format!("{known} is no colour"), "write it as \"#rrggbb\"")),
        }
    }
    Ok(colours)
}

/// The first pair of colours that cannot be read on one another.
fn unreadable(colours: &Colours, scheme: Scheme) -> Option<(&'static str, &'static str, f64)> {
    let shade = |name: &str| {
        let built_in = PALETTE.iter().find(|(known, ..)| *known == name);
        let built_in = built_in.map(|(_, light, dark)| if scheme == Scheme::Light { *light } else { *dark });
        luminance(colours.get(name).map(String::as_str).or(built_in).unwrap_or_default()).unwrap_or_default()
    };
    let pairs = READ_ON.iter().map(|(front, back)| (*front, *back, contrast(shade(front), shade(back))));
    pairs.into_iter().find(|(_, _, contrast)| *contrast < LEAST_CONTRAST)
}

/// Contrast of two relative luminances (WCAG 2.2, definition of contrast ratio).
fn contrast(one: f64, other: f64) -> f64 {
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

/// Relative luminance of `#rrggbb` (WCAG 2.2, definition of relative luminance).
fn luminance(colour: &str) -> Option<f64> {
    let digits = colour.strip_prefix('#').filter(|digits| digits.len() == 6 && digits.is_ascii())?;
    let part = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok().map(f64::from);
    let linear = |part: f64| {
        let part = part / 255.0;
        if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
    };
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    Some(0.2126 * linear(part(0)?) + 0.7152 * linear(part(2)?) + 0.0722 * linear(part(4)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn room_page(text: &str) -> Result<RoomPage, String> {
        let file = format!(
            "server.listen = [\"127.0.0.1:8080\"]\nportal.url = \"http://127.0.0.1:9000\"\n[[room]]\nname = \"a\"\n\
             paths = [\"/a/**\"]\nadmission_rate = \"1/s\"\n[room.page]\n{text}"
        );
        parse(&file, Path::new("/etc")).map(|config| config.rooms[0].page.clone()).map_err(|faults| faults.to_string())
    }

    #[test]
    fn black_and_white_have_the_greatest_contrast() {
        let of = |one: &str, other: &str| contrast(luminance(one).unwrap(), luminance(other).unwrap());
        assert!((of("#000000", "#ffffff") - 21.0).abs() < 1e-9);
        assert!((of("#777777", "#ffffff") - 4.48).abs() < 0.005, "the well-known grey that just fails");
        assert_eq!(luminance("#12345"), None);
        assert_eq!(luminance("#+12345"), None);
        assert_eq!(luminance("red"), None);
    }

    #[test]
    fn the_built_in_colours_can_be_read() {
        assert!(unreadable(&Colours::new(), Scheme::Light).is_none());
        assert!(unreadable(&Colours::new(), Scheme::Dark).is_none());
    }

    #[test]
    fn colours_that_cannot_be_read_are_refused() {
        assert_eq!(room_page("colours = { accent = \"#006643\" }").unwrap().colours["accent"], "#006643");
        let fault = room_page("colours = { accent = \"#ffcc00\" }").unwrap_err();
        assert!(fault.contains("accent on paper has a contrast of 1.5 to 1"), "{fault}");
        assert!(room_page("dark_colours = { paper = \"#ffffff\" }").unwrap_err().contains("dark_colours"));
        for wrong in ["{ accent = \"red\" }", "{ accent = \"#fff;}*{display:none\" }", "{ nothing = \"#000000\" }", "3"]
        {
            assert!(room_page(&format!("colours = {wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn links_lead_only_where_pages_may_link_to() {
        for good in ["https://portal.example/help?a=1#b", "mailto:help@portal.example", "tel:+39803164", "/help"] {
            let page = room_page(&format!("help_url = \"{good}\"")).unwrap();
            assert_eq!(page.help_url.as_deref(), Some(good));
        }
        for bad in [
            "javascript:alert(1)",
            "JavaScript:alert(1)",
            "data:text/html,x",
            "//evil.example",
            "http://portal.example",
            "https://",
            "https:///x",
            "help",
            "/a b",
            "/\\\\evil.example",
            "/<script>",
            "mailto:",
            "tel:",
            "vbscript:x",
        ] {
            assert!(room_page(&format!("help_url = \"{bad}\"")).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_text_is_for_everybody_or_for_each_language() {
        let page = room_page("service = \" INPS \"\nhelp = { it = \"Chiama\", en = \"Call\", de = \"\" }").unwrap();
        assert_eq!(page.service.in_language("sl"), Some(("INPS", None)));
        assert_eq!(page.help.in_language("en"), Some(("Call", None)));
        assert_eq!(page.help.in_language("de"), Some(("Chiama", Some("it"))), "the first that was written");
        assert_eq!(page.help.first(), Some("Chiama"));
        assert_eq!(page.prepare.in_language("it"), None);
        assert_eq!(page.prepare, LocalText::for_all("  "));
        assert!(room_page("help = { it = 3 }").is_err());
        assert!(room_page("help = { \"<b>\" = \"x\" }").is_err());
        assert!(room_page(&format!("help = \"{}\"", "x".repeat(2001))).unwrap_err().contains("too long"));
    }
}
