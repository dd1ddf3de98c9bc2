//! What pages are made of: templates, style, script and catalogues, read and checked once.
//!
//! Style and script stand inline, so the content security policy names them by hash, and a page needs no second
//! request. Nothing a page shows can become markup: templates escape every value that is not one of our own files.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONTENT_LANGUAGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, Output, State, UndefinedBehavior, escape_formatter};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::catalogue::{BrokenCatalogue, Catalogue};
use super::language::Languages;

const STYLE: &str = include_str!("../../waiting-room-assets/page.css");
const SCRIPT: &str = include_str!("../../waiting-room-assets/page.js");
const TEMPLATES: [(&str, &str); 5] = [
    ("frame.html", include_str!("../../waiting-room-assets/frame.html")),
    ("parts.html", include_str!("../../waiting-room-assets/parts.html")),
    ("waiting.html", include_str!("../../waiting-room-assets/waiting.html")),
    ("line.html", include_str!("../../waiting-room-assets/line.html")),
    ("notice.html", include_str!("../../waiting-room-assets/notice.html")),
];
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// Headers in the order in which they are sent. They say nothing of caching: that is the caller's one policy.
pub type Headers = Vec<(HeaderName, HeaderValue)>;

/// Everything that pages are made of.
#[derive(Debug)]
pub struct Assets {
    templates: Environment<'static>,
    languages: Languages,
    scripted_policy: HeaderValue,
    plain_policy: HeaderValue,
}

/// What is wrong with the assets.
#[derive(Debug, thiserror::Error)]
pub enum BrokenAssets {
    /// A catalogue is broken.
    #[error("catalogue: {0}")]
    Catalogue(#[from] BrokenCatalogue),
    /// A template is broken, or wants a text that no catalogue has.
    #[error("template: {0:#}")]
    Template(#[from] minijinja::Error),
    /// A page could not be compressed.
    #[error("compression: {0}")]
    Compression(std::io::Error),
    /// A hash or language is no header value.
    #[error("header: {0}")]
    Policy(#[from] http::header::InvalidHeaderValue),
}

/// Whether a page has our script on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scripting {
    /// It has.
    Script,
    /// It works without.
    Plain,
}

impl Assets {
    /// The assets compiled into the program.
    ///
    /// # Errors
    /// [`BrokenAssets`] names the fault; a test makes sure that there is none.
    pub fn built_in() -> Result<Assets, BrokenAssets> {
        let mut templates = Environment::new();
        templates.set_auto_escape_callback(|_| AutoEscape::Html);
        templates.set_formatter(write_value);
        templates.set_undefined_behavior(UndefinedBehavior::Strict);
        templates.add_global("style", STYLE);
        templates.add_global("script", SCRIPT);
        for (name, source) in TEMPLATES {
            templates.add_template(name, source)?;
        }
        Ok(Assets {
            templates,
            languages: Languages::built_in()?,
            scripted_policy: content_security_policy(Some(SCRIPT))?,
            plain_policy: content_security_policy(None)?,
        })
    }

    /// The languages there are.
    pub fn languages(&self) -> &Languages {
        &self.languages
    }

    pub(super) fn render(&self, template: &str, context: &impl Serialize) -> Result<String, BrokenAssets> {
        Ok(self.templates.get_template(template)?.render(Value::from(Serde(context)))?)
    }

    pub(super) fn headers(&self, catalogue: &Catalogue, scripting: Scripting) -> Result<Headers, BrokenAssets> {
        let policy = match scripting {
            Scripting::Script => &self.scripted_policy,
            Scripting::Plain => &self.plain_policy,
        };
        Ok(vec![
            (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
            (CONTENT_LANGUAGE, HeaderValue::from_str(&catalogue.code)?),
            (CONTENT_SECURITY_POLICY, policy.clone()),
            // With `no-referrer` our own forms would carry `Origin: null` and lose the wanted address.
            (REFERRER_POLICY, HeaderValue::from_static("same-origin")),
            (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (OPENER_POLICY, HeaderValue::from_static("same-origin")),
        ])
    }
}

/// Escapes texts as HTML wants it, for content and quoted attributes; unlike the engine's own way, addresses stay
/// readable.
fn write_value(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), minijinja::Error> {
    match value.as_str() {
        Some(text) if !value.is_safe() => Ok(out.write_str(&escaped(text))?),
        _ => escape_formatter(out, state, value),
    }
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + text.len() / 8);
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            letter => escaped.push(letter),
        }
    }
    escaped
}

/// There is no `form-action`: browsers apply it to the whole chain of redirects, and entering may lead to a login
/// provider on another site.
fn content_security_policy(script: Option<&str>) -> Result<HeaderValue, BrokenAssets> {
    let script = script.map_or(String::new(), |script| format!("script-src '{}'; connect-src 'self'; ", hash(script)));
    let policy = format!(
        "default-src 'none'; {script}style-src '{}'; img-src data:; base-uri 'none'; frame-ancestors 'self'",
        hash(STYLE)
    );
    Ok(HeaderValue::from_str(&policy)?)
}

/// A hash source (Content Security Policy Level 3, section 2.3.1).
pub(super) fn hash(inline: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(inline)))
}
