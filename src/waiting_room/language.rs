//! Which language a visitor gets: chosen by link, then by cookie, then by the browser, then the first we have.

use std::sync::Arc;

use super::catalogue::{BrokenCatalogue, Catalogue};

/// Keeps the language that a visitor chose by link. No personal data, set by the page's script.
pub const LANGUAGE_COOKIE: &str = "anticamera-language";

/// The catalogues compiled into the program, by their file names; the first is for whoever asked for none of them.
pub(super) const BUILT_IN: [(&str, &str); 11] = [
    ("it.toml", include_str!("../../waiting-room-assets/it.toml")),
    ("de.toml", include_str!("../../waiting-room-assets/de.toml")),
    ("sl.toml", include_str!("../../waiting-room-assets/sl.toml")),
    ("fr.toml", include_str!("../../waiting-room-assets/fr.toml")),
    ("en.toml", include_str!("../../waiting-room-assets/en.toml")),
    ("es.toml", include_str!("../../waiting-room-assets/es.toml")),
    ("ro.toml", include_str!("../../waiting-room-assets/ro.toml")),
    ("sq.toml", include_str!("../../waiting-room-assets/sq.toml")),
    ("uk.toml", include_str!("../../waiting-room-assets/uk.toml")),
    ("ar.toml", include_str!("../../waiting-room-assets/ar.toml")),
    ("zh.toml", include_str!("../../waiting-room-assets/zh.toml")),
];

/// Every language we speak; the first is for whoever asked for none of them. Never empty.
#[derive(Clone, Debug)]
pub struct Languages {
    first: Arc<Catalogue>,
    others: Vec<Arc<Catalogue>>,
}

/// What a request says about languages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// The query's `lang`.
    pub link: Option<&'a str>,
    /// The value of [`LANGUAGE_COOKIE`].
    pub cookie: Option<&'a str>,
    /// The header `Accept-Language` (RFC 9110, section 12.5.4).
    pub accept: Option<&'a str>,
}

impl Languages {
    /// The catalogues compiled into the program.
    ///
    /// # Errors
    /// [`BrokenCatalogue`] names the fault; a test makes sure that there is none.
    pub fn built_in() -> Result<Languages, BrokenCatalogue> {
        let parsed: Result<Vec<Catalogue>, _> = BUILT_IN.iter().map(|(_, text)| Catalogue::parse(text)).collect();
        Languages::of(parsed?).ok_or_else(|| BrokenCatalogue::Missing("any language".to_owned()))
    }

    /// These catalogues in this order; `None` when there is not a single one.
    pub fn of(catalogues: Vec<Catalogue>) -> Option<Languages> {
        let mut catalogues = catalogues.into_iter().map(Arc::new);
        Some(Languages { first: catalogues.next()?, others: catalogues.collect() })
    }

    /// All of them, the first one first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Catalogue>> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The language for whoever asked for none.
    pub fn default_language(&self) -> &Arc<Catalogue> {
        &self.first
    }

    /// The best language for what was asked.
    pub fn choose(&self, asked: Asked<'_>) -> &Arc<Catalogue> {
        let named = |code: Option<&str>| code.and_then(|code| self.matching(code));
        named(asked.link)
            .or_else(|| named(asked.cookie))
            .or_else(|| asked.accept.and_then(|accept| self.preferred(accept)))
            .unwrap_or(&self.first)
    }

    /// The acceptable language with the highest quality; of equal ones, the one named first.
    fn preferred(&self, accept: &str) -> Option<&Arc<Catalogue>> {
        let mut best: Option<(u16, &Arc<Catalogue>)> = None;
        for (range, quality) in accept.split(',').take(32).filter_map(weighted) {
            let better = quality > best.map_or(0, |(highest, _)| highest);
            if let Some(catalogue) = self.matching(range).filter(|_| better) {
                best = Some((quality, catalogue));
            }
        }
        best.map(|(_, catalogue)| catalogue)
    }

    /// `de-AT` is served by `de` (lookup, RFC 4647, section 3.4, with one step).
    fn matching(&self, range: &str) -> Option<&Arc<Catalogue>> {
        let primary = range.split('-').next().unwrap_or(range);
        self.iter()
            .find(|catalogue| catalogue.code.eq_ignore_ascii_case(range))
            .or_else(|| self.iter().find(|catalogue| catalogue.code.eq_ignore_ascii_case(primary)))
    }
}

/// An element of an `Accept-…` header and its quality in thousandths (RFC 9110, section 12.4.2).
pub(super) fn weighted(element: &str) -> Option<(&str, u16)> {
    let mut parts = element.split(';').map(str::trim);
    let value = parts.next().filter(|value| !value.is_empty())?;
    let quality = match parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q="))) {
        Some(text) => thousandths(text)?,
        None => 1000,
    };
    Some((value, quality))
}

fn thousandths(text: &str) -> Option<u16> {
    let quality: f32 = text.trim().parse().ok()?;
    (0.0..=1.0).contains(&quality).then_some((quality * 1000.0).round() as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(asked: Asked<'_>) -> String {
        Languages::built_in().expect("whole catalogues").choose(asked).code.clone()
    }

    fn accepted(accept: &str) -> String {
        chosen(Asked { accept: Some(accept), ..Asked::default() })
    }

    #[test]
    fn link_before_cookie_before_browser() {
        let asked = Asked { link: Some("en"), cookie: Some("it"), accept: Some("it") };
        assert_eq!(chosen(asked), "en");
        assert_eq!(chosen(Asked { link: Some("xx"), ..asked }), "it");
        assert_eq!(chosen(Asked { cookie: Some("en"), accept: Some("it"), link: None }), "en");
    }

    #[test]
    fn the_browser_may_weigh_its_wishes() {
        assert_eq!(accepted("it;q=0.2, en-GB;q=0.9"), "en");
        assert_eq!(accepted("pt, EN ; q=0.5, it;q=0.5"), "en");
        assert_eq!(accepted("en;q=0, it;q=0.001"), "it");
        assert_eq!(accepted("zh-Hant-TW, de;q=0.9"), "zh");
        assert_eq!(accepted("de-AT"), "de");
    }

    #[test]
    fn nonsense_gets_the_first_language() {
        for accept in ["", "*", ",,;q=", "en;q=2", "en;q=NaN", "x-klingon", "\u{202e}en", &"en-".repeat(10_000)] {
            let language = accepted(accept);
            assert!(language == "it" || accept.starts_with("en-"), "{accept}");
        }
    }
}
