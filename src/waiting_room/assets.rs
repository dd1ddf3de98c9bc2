//! What pages are made of: templates, style, script and catalogues, read and checked once.
//!
//! Style and script stand inline, so the content security policy names them by hash, and a page needs no second
//! request. Nothing a page shows can become markup: templates escape every value that is not one of our own files.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

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
use super::language::{BUILT_IN, Languages};
use crate::config::{self, Colours, PALETTE, RoomPage};

/// Everything but the catalogues, by file names.
const FILES: [(&str, &str); 10] = [
    ("frame.html", include_str!("../../waiting-room-assets/frame.html")),
    ("parts.html", include_str!("../../waiting-room-assets/parts.html")),
    ("waiting.html", include_str!("../../waiting-room-assets/waiting.html")),
    ("line.html", include_str!("../../waiting-room-assets/line.html")),
    ("notice.html", include_str!("../../waiting-room-assets/notice.html")),
    ("page.css", include_str!("../../waiting-room-assets/page.css")),
    ("page.js", include_str!("../../waiting-room-assets/page.js")),
    ("code.html", include_str!("../../waiting-room-assets/code.html")),
    ("draw.html", include_str!("../../waiting-room-assets/draw.html")),
    ("receipt.html", include_str!("../../waiting-room-assets/receipt.html")),
];
/// The script that solves challenges, on a path of its own: the few who need it load it.
pub const SOLVER: &str = include_str!("../../waiting-room-assets/solver.js");
/// The catalogue that others are held against.
const MODEL: &str = include_str!("../../waiting-room-assets/en.toml");
/// Bytes of a file at most.
const LARGEST_FILE: u64 = 256 * 1024;
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// Headers in the order in which they are sent. They say nothing of caching: that is the caller's one policy.
pub type Headers = Vec<(HeaderName, HeaderValue)>;

/// Everything that pages are made of.
#[derive(Debug)]
pub struct Assets {
    templates: Environment<'static>,
    languages: Languages,
    style: String,
    script: String,
    plain_look: Arc<Look>,
}

/// What is wrong with the assets.
#[derive(Debug, thiserror::Error)]
pub enum BrokenAssets {
    /// A catalogue is broken.
    #[error("catalogue {0}: {1}")]
    Catalogue(String, BrokenCatalogue),
    /// A language is offered without a catalogue.
    #[error("there is no catalogue {0}: add it to the folder, or leave the language out of page.languages")]
    NoCatalogue(String),
    /// The folder, or a file in it, cannot be read.
    #[error("cannot read {0}: {1}")]
    Unreadable(String, io::Error),
    /// The folder has some of the files but not this one.
    #[error("{0} is missing: templates, style and script replace the built-in ones together, so copy this file too")]
    Missing(&'static str),
    /// A file is too large.
    #[error("{0} is larger than 256 KiB")]
    TooLarge(String),
    /// A style or script would end before its end.
    #[error("{0} contains the end of its own element: write it in another way")]
    EndsItself(&'static str),
    /// A template is broken, or wants a text that no catalogue has.
    #[error("template: {0:#}")]
    Template(#[from] minijinja::Error),
    /// A page could not be compressed.
    #[error("compression: {0}")]
    Compression(io::Error),
    /// A hash or language is no header value.
    #[error("header: {0}")]
    Policy(#[from] http::header::InvalidHeaderValue),
}

/// A room's style and the policies that name it.
#[derive(Debug)]
pub struct Look {
    pub(super) style: String,
    scripted_policy: HeaderValue,
    plain_policy: HeaderValue,
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
    /// The assets compiled into the program, in all languages.
    ///
    /// # Errors
    /// [`BrokenAssets`] names the fault; a test makes sure that there is none.
    pub fn built_in() -> Result<Assets, BrokenAssets> {
        let languages = Languages::built_in().map_err(|fault| BrokenAssets::Catalogue("built in".to_owned(), fault))?;
        Assets::of(built_in_file, languages)
    }

    /// The assets that the configuration names: the folder's, where it has some, otherwise those compiled in. Reads
    /// files, and renders every page once, so that a fault shows now and not when a visitor comes.
    ///
    /// # Errors
    /// [`BrokenAssets`] names the file and what is wrong with it.
    pub fn load(page: &config::Page) -> Result<Assets, BrokenAssets> {
        let languages = languages(page)?;
        let Some(folder) = page.assets.as_deref() else { return Assets::of(built_in_file, languages) };
        let assets = match files_of(folder)? {
            None => Assets::of(built_in_file, languages)?,
            Some(files) => {
                let file = |name: &str| files.iter().find(|(known, _)| *known == name).map_or("", |(_, text)| text);
                Assets::of(file, languages)?
            }
        };
        super::preview::render_everything(&assets)?;
        Ok(assets)
    }

    fn of<'f>(file: impl Fn(&str) -> &'f str, languages: Languages) -> Result<Assets, BrokenAssets> {
        let mut templates = Environment::new();
        templates.set_auto_escape_callback(|_| AutoEscape::Html);
        templates.set_formatter(write_value);
        templates.set_undefined_behavior(UndefinedBehavior::Strict);
        for (name, _) in FILES.iter().filter(|(name, _)| name.ends_with(".html")) {
            templates.add_template_owned(*name, file(name).to_owned())?;
        }
        let style = inline("page.css", "</style", file("page.css"))?;
        let script = inline("page.js", "</script", file("page.js"))?;
        let script = script.lines().map(tight).collect::<Vec<_>>().join("\n");
        let plain_look = Arc::new(look(&style, &script, &RoomPage::default())?);
        Ok(Assets { templates, languages, style, script, plain_look })
    }

    /// The look of a room's pages.
    ///
    /// # Errors
    /// [`BrokenAssets::Policy`], which cannot happen: hashes are header values.
    pub fn look(&self, page: &RoomPage) -> Result<Arc<Look>, BrokenAssets> {
        Ok(Arc::new(look(&self.style, &self.script, page)?))
    }

    /// The look of pages that belong to no room.
    pub fn plain_look(&self) -> &Arc<Look> {
        &self.plain_look
    }

    pub(super) fn script(&self) -> &str {
        &self.script
    }

    /// The languages there are.
    pub fn languages(&self) -> &Languages {
        &self.languages
    }

    pub(super) fn render(&self, template: &str, context: &impl Serialize) -> Result<String, BrokenAssets> {
        Ok(self.templates.get_template(template)?.render(Value::from(Serde(context)))?)
    }
}

impl Look {
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

fn built_in_file(name: &str) -> &'static str {
    FILES.iter().find(|(known, _)| *known == name).map_or("", |(_, text)| text)
}

/// The catalogues of the languages on offer, in their order.
fn languages(page: &config::Page) -> Result<Languages, BrokenAssets> {
    let mut catalogues = Vec::new();
    for code in &page.languages {
        let file = format!("{code}.toml");
        let built_in = BUILT_IN.iter().find(|(name, _)| *name == file).map(|(_, text)| *text);
        let given = page.assets.as_deref().map(|folder| read(folder, &file)).transpose()?.flatten();
        let catalogue = match (given, built_in) {
            (Some(given), built_in) => Catalogue::parse_over(built_in, MODEL, &given),
            (None, Some(built_in)) => Catalogue::parse(built_in),
            (None, None) => return Err(BrokenAssets::NoCatalogue(file)),
        };
        let catalogue = catalogue.map_err(|fault| BrokenAssets::Catalogue(file.clone(), fault))?;
        if catalogue.code != *code {
            return Err(BrokenAssets::Catalogue(file, BrokenCatalogue::OtherLanguage(catalogue.code)));
        }
        catalogues.push(catalogue);
    }
    Languages::of(catalogues).ok_or_else(|| BrokenAssets::NoCatalogue("of any language".to_owned()))
}

/// Templates, style and script of the folder: all of them, or none when it has only catalogues.
fn files_of(folder: &Path) -> Result<Option<Vec<(&'static str, String)>>, BrokenAssets> {
    let unreadable = |error| BrokenAssets::Unreadable(folder.display().to_string(), error);
    let mut entries = std::fs::read_dir(folder).map_err(unreadable)?;
    entries.try_for_each(|entry| entry.map(drop)).map_err(unreadable)?;
    let (mut files, mut missing) = (Vec::new(), None);
    for (name, _) in FILES {
        match read(folder, name)? {
            Some(text) => files.push((name, text)),
            None => missing = missing.or(Some(name)),
        }
    }
    match missing {
        _ if files.is_empty() => Ok(None),
        Some(name) => Err(BrokenAssets::Missing(name)),
        None => Ok(Some(files)),
    }
}

/// A file of the folder; `None` when there is no such file.
fn read(folder: &Path, name: &str) -> Result<Option<String>, BrokenAssets> {
    let path = folder.join(name);
    let unreadable = |error| BrokenAssets::Unreadable(path.display().to_string(), error);
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let mut text = String::new();
    file.take(LARGEST_FILE + 1).read_to_string(&mut text).map_err(unreadable)?;
    if u64::try_from(text.len()).is_ok_and(|length| length > LARGEST_FILE) {
        return Err(BrokenAssets::TooLarge(name.to_owned()));
    }
    Ok(Some(text))
}

/// Style or script as it is sent: without indentation, lines that only comment and comments at the end of a line. Its
/// last line keeps its end, so that what is hashed is what stands between the tags.
fn inline(name: &'static str, end: &str, source: &str) -> Result<String, BrokenAssets> {
    if source.to_ascii_lowercase().contains(end) {
        return Err(BrokenAssets::EndsItself(name));
    }
    let mut lines = Vec::new();
    let mut in_comment = false;
    for line in source.lines().map(str::trim) {
        in_comment |= line.starts_with("/*");
        if !in_comment && !line.is_empty() && !line.starts_with("//") {
            lines.push(without_remark(line));
        }
        in_comment &= !line.ends_with("*/");
    }
    Ok(lines.join("\n"))
}

/// Without `  // ...` at the end. What has quotation marks in it may be part of a text and stays.
fn without_remark(line: &str) -> &str {
    match line.split_once("  // ") {
        Some((code, remark)) if !remark.contains(['\'', '"', '`']) => code.trim_end(),
        _ => line,
    }
}

/// A line of script without the blanks that only people need: outside texts, beside a sign that parts words anyway. What
/// may be a pattern, a comment or another kind of text stays as it is.
fn tight(line: &str) -> String {
    if line.contains(['"', '`', '/', '\\']) || line.matches('\'').count() % 2 == 1 {
        return line.to_owned();
    }
    let parts = |letter: char| "{}();,=?:&|+'".contains(letter);
    let (mut tight, mut in_text) = (String::with_capacity(line.len()), false);
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        in_text ^= letter == '\'';
        let (before, after) = (tight.chars().next_back(), letters.peek().copied());
        let is_sum = before == Some('+') && after == Some('+');
        // Checkers of HTML would take `&name` for a character.
        let is_kept = in_text || is_sum || before == Some('&');
        if letter != ' ' || is_kept || ![before, after].into_iter().flatten().any(parts) {
            tight.push(letter);
        }
    }
    tight
}

fn look(style: &str, script: &str, page: &RoomPage) -> Result<Look, BrokenAssets> {
    let style = format!("{style}{}", own_colours(page));
    Ok(Look {
        scripted_policy: content_security_policy(&style, Some(script))?,
        plain_policy: content_security_policy(&style, None)?,
        style,
    })
}

/// The colours that the operator set. The dark palette follows whole, because the light one would outlast it.
fn own_colours(page: &RoomPage) -> String {
    let (light, dark) = (&page.colours, &page.dark_colours);
    if light.is_empty() && dark.is_empty() {
        return String::new();
    }
    let set =
        |colours: &Colours| colours.iter().map(|(name, colour)| format!("--{name}:{colour};")).collect::<String>();
    let mut whole_dark: Colours = PALETTE.iter().map(|(name, _, colour)| (*name, (*colour).to_owned())).collect();
    whole_dark.extend(dark.clone());
    format!("\n:root{{{}}}\n@media (prefers-color-scheme: dark){{:root{{{}}}}}", set(light), set(&whole_dark))
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
fn content_security_policy(style: &str, script: Option<&str>) -> Result<HeaderValue, BrokenAssets> {
    // The worker that solves challenges; browsers that do not know worker-src look at child-src.
    let script = script.map_or(String::new(), |script| {
        format!("script-src '{}'; connect-src 'self'; worker-src 'self'; child-src 'self'; ", hash(script))
    });
    let policy = format!(
        "default-src 'none'; {script}style-src '{}'; img-src data:; base-uri 'none'; frame-ancestors 'self'",
        hash(style)
    );
    Ok(HeaderValue::from_str(&policy)?)
}

/// A hash source (Content Security Policy Level 3, section 2.3.1).
pub(super) fn hash(inline: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(inline)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn only_blanks_that_part_nothing_go() {
        for (line, wanted) in [
            ("if (a && b) { c = d + 'x  y' + e; }", "if(a&& b){c=d+'x  y'+e;}"),
            ("return a + +b;", "return a+ +b;"),
            ("var a = typeof b;", "var a=typeof b;"),
            ("a = / = /.test(b);", "a = / = /.test(b);"),
            ("a = `b = ${ c }`;", "a = `b = ${ c }`;"),
            ("a = 'b\\' = c';", "a = 'b\\' = c';"),
        ] {
            assert_eq!(tight(line), wanted);
        }
    }

    fn page(folder: &Path) -> config::Page {
        let languages = ["it", "en"].map(str::to_owned).to_vec();
        config::Page { assets: Some(folder.to_owned()), languages }
    }

    /// What is wrong with the folder, if anything is.
    fn fault(folder: &Path) -> Option<String> {
        Assets::load(&page(folder)).err().map(|fault| fault.to_string())
    }

    /// A folder with all files, and another text in one of them.
    fn folder(changed: &str, text: Option<&str>) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, built_in) in FILES {
            fs::write(folder.path().join(name), built_in).unwrap();
        }
        match text {
            Some(text) => fs::write(folder.path().join(changed), text).unwrap(),
            None => fs::remove_file(folder.path().join(changed)).unwrap(),
        }
        folder
    }

    #[test]
    fn comments_are_not_sent() {
        let source = "/* one\n   two */\n  var a = 1;   // three\n// four\nvar b = 'x  // y';\n/* five */\nb = a;\n";
        assert_eq!(inline("page.js", "</script", source).unwrap(), "var a = 1;\nvar b = 'x  // y';\nb = a;");
        let built_in = Assets::built_in().unwrap();
        assert!(!built_in.script.contains("/*") && !built_in.script.contains("//"), "{}", built_in.script);
    }

    #[test]
    fn an_empty_folder_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let assets = Assets::load(&page(folder.path())).unwrap();
        assert_eq!(assets.style, Assets::built_in().unwrap().style);
        let codes: Vec<_> = assets.languages().iter().map(|catalogue| catalogue.code.clone()).collect();
        assert_eq!(codes, ["it", "en"]);
    }

    #[test]
    fn a_missing_folder_or_file_is_a_fault() {
        assert!(fault(&PathBuf::from("/nowhere/at/all")).unwrap().starts_with("cannot read /nowhere"));
        for (name, _) in FILES {
            assert!(fault(folder(name, None).path()).unwrap().starts_with(&format!("{name} is missing")));
        }
    }

    #[test]
    fn a_broken_file_is_a_fault_that_names_it() {
        for (name, text, said) in [
            ("line.html", "{% if %}", "line.html"),
            (
                "waiting.html",
                "{% extends \"frame.html\" %}{% block main %}{{ text.page.nothing }}{% endblock %}",
                "waiting.html",
            ),
            ("notice.html", "{% include \"nowhere.html\" %}", "nowhere.html"),
            ("parts.html", "{% macro message() %}{% endmacro %}", "template"),
            ("page.css", "</STYLE><script>alert(1)</script>", "page.css contains the end"),
            ("page.js", "var a = '</script>';", "page.js contains the end"),
            ("it.toml", "[page]\nwhy = 3", "catalogue it.toml"),
            ("it.toml", "code = \"en\"", "catalogue it.toml: it says that it is `en`"),
            ("en.toml", "[page]\nno_such_text = \"x\"", "catalogue en.toml"),
            ("en.toml", "not toml", "catalogue en.toml"),
        ] {
            let fault = fault(folder(name, Some(text)).path()).unwrap_or_else(|| panic!("{name} {text}: no fault"));
            assert!(fault.contains(said), "{name}: {fault}");
        }
        let huge = folder("page.css", Some(&" ".repeat(300_000)));
        assert_eq!(fault(huge.path()).unwrap(), "page.css is larger than 256 KiB");
        let bytes = folder("page.css", Some(""));
        fs::write(bytes.path().join("page.css"), [0xff, 0xfe]).unwrap();
        assert!(fault(bytes.path()).unwrap().starts_with("cannot read"));
    }

    #[test]
    fn a_folder_may_bring_a_language_and_only_whole() {
        let folder = tempfile::tempdir().unwrap();
        let languages = ["it", "sq"].map(str::to_owned).to_vec();
        let page = config::Page { assets: Some(folder.path().to_owned()), languages };
        assert!(Assets::load(&page).is_ok(), "built in");
        let unknown = config::Page { languages: vec!["pt".to_owned()], ..page };
        assert!(Assets::load(&unknown).err().unwrap().to_string().starts_with("there is no catalogue pt.toml"));
    }

    #[test]
    fn what_is_sent_has_no_comments_and_no_indentation() {
        let sent =
            inline("page.js", "</script", "// a\r\n  /* b */\r\n\r\n  c(); // d\r\n    'x /* y */';\r\n").unwrap();
        assert_eq!(sent, "c(); // d\n'x /* y */';");
    }

    #[test]
    fn the_style_has_the_palette_that_contrast_is_checked_with() {
        for (name, light, dark) in PALETTE {
            for colour in [light, dark] {
                let short = if colour == "#ffffff" { "#fff" } else { colour };
                assert!(FILES[5].1.contains(&format!("--{name}: {short};")), "--{name}: {colour}");
            }
        }
    }

    #[test]
    fn own_colours_hold_in_light_and_dark_and_are_in_the_policy() {
        let assets = Assets::built_in().unwrap();
        let colours = Colours::from([("accent", "#006643".to_owned())]);
        let look = assets.look(&RoomPage { colours, ..RoomPage::default() }).unwrap();
        assert!(look.style.contains(":root{--accent:#006643;}"));
        assert!(look.style.contains("dark){:root{--accent:#9cc4ff;"));
        let policy = look.scripted_policy.to_str().unwrap();
        assert!(policy.contains(&hash(&look.style)) && policy.contains(&hash(assets.script())));
        assert_eq!(assets.look(&RoomPage::default()).unwrap().style, assets.plain_look().style);
    }
}
