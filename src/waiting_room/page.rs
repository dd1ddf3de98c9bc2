//! The pages: the waiting page, which is the same for everybody who asks for it, and the few that are written for one
//! visitor.
//!
//! The waiting page depends on room, language, method and published room state, never on the visitor, so it is
//! rendered and compressed once and kept. A cache that stores it by mistake gives away nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use serde::Serialize;

use super::assets::{Assets, BrokenAssets, Headers, Look, Scripting};
use super::catalogue::{Catalogue, Direction, Heading, Labels, Notice, ScriptTexts};
use super::encoding::{Coding, Encoded};
use super::language::LANGUAGE_COOKIE;
use super::queue::{Gathering, QueueState, ReasonCode, Standing, Text};
use super::words::Words;
use crate::config::{LocalText, RoomPage};
use crate::domain::leak_guard::personal_head;
use crate::domain::names::RoomName;
use crate::domain::paths::query_value;
use crate::domain::time::Unix;

/// The page's script reads the board every so many seconds, up to twice that.
const BOARD_SECONDS: u32 = 6;

/// What pages say of a room that never changes between reloads.
#[derive(Clone, Debug)]
pub struct RoomFrame {
    /// Which room.
    pub room: RoomName,
    /// Prefix of our own paths, without a slash at the end.
    pub own_path: String,
    /// Where a visitor goes who wanted no page in particular.
    pub start: String,
    /// The operator's texts and links. Without a service's name the script shows the address's host.
    pub page: RoomPage,
    /// The room's colours; `None` for the built-in ones.
    pub look: Option<Arc<Look>>,
    /// The codes that visitors may enter.
    pub codes: BTreeSet<Code>,
}

/// A code that a visitor may type in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// Proves that the visitor was invited.
    Invitation,
    /// Gives a place back on another device.
    Recovery,
}

impl RoomFrame {
    pub(super) fn look<'a>(&'a self, assets: &'a Assets) -> &'a Look {
        self.look.as_ref().unwrap_or_else(|| assets.plain_look())
    }
}

/// What the operator and the line make known to everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// What the operator wants everybody to read.
    pub message: LocalText,
    /// Why the room stands still, if it does.
    pub reason: Option<ReasonCode>,
    /// Whether the room is closed for everybody.
    pub closed: bool,
    /// Whether nobody new can join any more.
    pub ended: bool,
}

/// Which of a room's pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PageKind {
    /// Answers a navigation that was not admitted.
    Waiting,
    /// Answers a form that was not sent on.
    FormNotSent,
    /// Answers everybody while the room is closed.
    Maintenance,
}

impl PageKind {
    /// Every kind.
    pub const ALL: [PageKind; 3] = [PageKind::Waiting, PageKind::FormNotSent, PageKind::Maintenance];

    /// What templates and script call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            PageKind::Waiting => "waiting",
            PageKind::FormNotSent => "form",
            PageKind::Maintenance => "maintenance",
        }
    }
}

/// A page that is ready to be sent.
#[derive(Debug)]
pub struct Page {
    head: HeaderMap,
    body: Encoded,
}

impl Page {
    /// Media type, language, security policy and cache policy; nothing of length and content coding.
    pub fn head(&self) -> &HeaderMap {
        &self.head
    }

    /// The body in this coding; cheap to clone.
    pub fn body(&self, coding: Coding) -> &Bytes {
        self.body.body(coding)
    }
}

/// A page written for one request.
#[derive(Debug)]
pub struct PlainPage {
    /// Media type, language and security policy.
    pub headers: Headers,
    /// The HTML.
    pub body: Bytes,
}

/// A room's pages in every language, for one published state.
#[derive(Clone, Debug)]
pub struct Pages {
    by_language: BTreeMap<String, BTreeMap<PageKind, Arc<Page>>>,
}

impl Pages {
    /// Renders and compresses all of a room's pages. Takes tens of milliseconds: for the control plane.
    ///
    /// # Errors
    /// [`BrokenAssets`] when a template wants what it is not given.
    pub fn render(assets: &Assets, frame: &RoomFrame, published: &Published) -> Result<Pages, BrokenAssets> {
        let mut by_language = BTreeMap::new();
        for catalogue in assets.languages().iter() {
            let mut kinds = BTreeMap::new();
            for kind in PageKind::ALL {
                kinds.insert(kind, Arc::new(render_page(assets, frame, published, catalogue, kind)?));
            }
            by_language.insert(catalogue.code.clone(), kinds);
        }
        Ok(Pages { by_language })
    }

    /// Bytes of the largest page as it is sent to browsers that take only gzip.
    pub fn largest(&self) -> usize {
        let pages = self.by_language.values().flat_map(BTreeMap::values);
        pages.map(|page| page.body(Coding::Gzip).len()).max().unwrap_or_default()
    }

    /// The page of this kind in this language; there is one for every language of the assets it was rendered with.
    pub fn get(&self, catalogue: &Catalogue, kind: PageKind) -> Option<&Arc<Page>> {
        self.by_language.get(&catalogue.code)?.get(&kind)
    }
}

fn render_page(
    assets: &Assets,
    frame: &RoomFrame,
    published: &Published,
    catalogue: &Catalogue,
    kind: PageKind,
) -> Result<Page, BrokenAssets> {
    let links = match kind {
        // In the same tab a link would throw away the form that was not sent; its address is no page to enter at.
        PageKind::FormNotSent => Links::to_line(frame, Some(&frame.start)).in_another_tab(),
        PageKind::Waiting | PageKind::Maintenance => Links::to_line(frame, None),
    };
    let html = waiting_html(assets, frame, published, catalogue, kind, None, &links)?;
    let body = Encoded::new(html).map_err(BrokenAssets::Compression)?;
    let mut head = personal_head();
    head.extend(frame.look(assets).headers(catalogue, Scripting::Script)?);
    Ok(Page { head, body })
}

/// A waiting page; with a made-up state, one that shows it and asks nothing.
pub(super) fn waiting_html(
    assets: &Assets,
    frame: &RoomFrame,
    published: &Published,
    catalogue: &Catalogue,
    kind: PageKind,
    made_up: Option<serde_json::Value>,
    links: &Links,
) -> Result<String, BrokenAssets> {
    assets.render(
        "waiting.html",
        &WaitingContext {
            frame: FrameContext::of(assets, Some(frame), None, catalogue, links),
            kind: kind.name(),
            join_to: if kind == PageKind::FormNotSent { &frame.start } else { "" },
            heading: page_heading(catalogue, kind, published),
            ended: published.ended,
            message: OwnText::of(&published.message, catalogue),
            reason: published.reason.map(|code| catalogue.reason(code)),
            closed: closed_heading(catalogue, kind, published),
            settings: Settings::of(frame, catalogue, kind, form_lead(catalogue, published), made_up),
            script: assets.script(),
        },
    )
}

fn page_heading<'a>(catalogue: &'a Catalogue, kind: PageKind, published: &Published) -> HeadingContext<'a> {
    match kind {
        PageKind::Waiting if published.ended => HeadingContext::of(catalogue.state(QueueState::Ended)),
        PageKind::Waiting => HeadingContext::of(catalogue.state(QueueState::None)),
        PageKind::Maintenance => HeadingContext::of(catalogue.state(QueueState::Maintenance)),
        PageKind::FormNotSent => {
            HeadingContext { heading: &catalogue.form.heading, lead: form_lead(catalogue, published) }
        }
    }
}

/// What whoever sent a form is told to do; once the line has ended no turn comes any more.
fn form_lead<'a>(catalogue: &'a Catalogue, published: &Published) -> &'a str {
    let ended = catalogue.state(QueueState::Ended).filter(|_| published.ended);
    ended.map_or(catalogue.form.lead.as_str(), |text| text.heading.as_str())
}

/// What a form is told besides while the room is closed for everybody.
fn closed_heading<'a>(catalogue: &'a Catalogue, kind: PageKind, published: &Published) -> Option<&'a str> {
    let is_told = published.closed && kind == PageKind::FormNotSent;
    catalogue.state(QueueState::Maintenance).filter(|_| is_told).map(|text| text.heading.as_str())
}

/// What a page for one visitor says besides the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remark {
    /// Too many questions came from the visitor's connection.
    TooMany,
    /// The turn was extended as often as it may be.
    NoMoreTime,
    /// The code is none, or no longer good.
    CodeRefused,
    /// Too many joined from the visitor's connection; from this instant on the form is taken.
    JoinFrom(Unix),
}

impl Remark {
    fn text(self, words: &Words<'_>, now: Unix) -> String {
        let catalogue = words.catalogue;
        let too_many = || catalogue.notices.get(&Notice::TooMany).map_or("", |notice| &notice.lead);
        match self {
            Remark::TooMany => too_many().to_owned(),
            Remark::NoMoreTime => catalogue.script.no_more_time.clone(),
            Remark::CodeRefused => catalogue.script.code_refused.clone(),
            Remark::JoinFrom(at) => {
                let from = words.gathering(Gathering::From(next_minute(at)), now);
                format!("{} ({from})", too_many())
            }
        }
    }
}

/// The clock shows no seconds: whoever comes by what it shows does not come too early.
fn next_minute(at: Unix) -> Unix {
    Unix(at.0.div_ceil(60_000) * 60_000)
}

/// One visitor's place as a page that works without script.
#[derive(Clone, Copy, Debug)]
pub struct LinePage<'a> {
    /// The visitor's standing.
    pub standing: &'a Standing,
    /// Where the visitor wants to go: a path and query of this origin that the caller has checked.
    pub to: &'a str,
    /// A fresh random text that makes the next address unlike any that a cache has seen.
    pub n: &'a str,
    /// What there is to say besides.
    pub remark: Option<Remark>,
    /// The challenge that the form to join brings along.
    pub challenge: Option<&'a str>,
    /// The host that the visitor asked, to name a service that has no name of its own.
    pub host: Option<&'a str>,
}

impl LinePage<'_> {
    /// Renders the page.
    ///
    /// # Errors
    /// [`BrokenAssets`] when a template wants what it is not given.
    pub fn render(self, assets: &Assets, frame: &RoomFrame, words: &Words<'_>) -> Result<PlainPage, BrokenAssets> {
        self.render_with_links(assets, frame, words, &Links::to_line(frame, Some(self.to)))
    }

    pub(super) fn render_with_links(
        self,
        assets: &Assets,
        frame: &RoomFrame,
        words: &Words<'_>,
        links: &Links,
    ) -> Result<PlainPage, BrokenAssets> {
        let (standing, text) = (self.standing, words.catalogue);
        let figures = Text::of(standing, words);
        let waits = has_place(standing.state) && standing.state != QueueState::YourTurn;
        let state = standing.state_to_tell();
        let is_too_late = standing.closing.is_some_and(|told| told.comes_too_early());
        let context = LineContext {
            frame: FrameContext::of(assets, Some(frame), self.host, text, links),
            heading: line_heading(state, &figures, text),
            remark: self.remark.map(|remark| remark.text(words, standing.updated_at)),
            challenge: self.challenge,
            message: OwnText::of(&standing.message, text),
            figures: &figures,
            offer: if may_gather(standing) { Offer::Join } else { Offer::to(state) },
            join_label: if standing.state == QueueState::None || may_gather(standing) { "join" } else { "join_again" },
            has_place: has_place(standing.state),
            is_kept: standing.reference.is_some(),
            opens_in: opens_in(standing, words),
            waits,
            moves: standing.state == QueueState::Waiting && !standing.nobody_enters() && !is_too_late,
            changes_by_hand: matches!(state, QueueState::BeforeOpening | QueueState::ClosedHours | QueueState::Held),
            says_all: matches!(state, QueueState::BeforeOpening | QueueState::ClosedHours),
            enter_by: standing.enter_by.filter(|_| state == QueueState::YourTurn).map(|at| words.clock(at)),
            stay_ends: standing.session.map(|session| words.clock(session.ends_at)),
            reference: standing.reference.as_deref(),
            recovery_code: standing.recovery_code.as_deref(),
            progress: waits
                .then_some(standing.progress)
                .flatten()
                .map(|progress| format!("{:.3}", progress.clamp(0.0, 1.0))),
            shown_ahead: standing.ahead,
            to: self.to,
            n: self.n,
        };
        plain(frame.look(assets), text, assets.render("line.html", &context)?)
    }
}

/// Whether the visitor can draw a ticket before the opening, and has none.
fn may_gather(standing: &Standing) -> bool {
    let has_begun = matches!(standing.gathering, Some(Gathering::ByArrival | Gathering::ByLot));
    standing.state == QueueState::BeforeOpening && standing.reference.is_none() && has_begun
}

/// How long it is until the room opens.
fn opens_in(standing: &Standing, words: &Words<'_>) -> Option<String> {
    let at = standing.window.opens_at.filter(|_| standing.state == QueueState::BeforeOpening)?;
    Some(words.until(at, standing.updated_at))
}

/// Whoever waits without script is not told to do nothing.
fn line_heading<'a>(state: QueueState, figures: &'a Text<'a>, text: &'a Catalogue) -> HeadingContext<'a> {
    let lead = if state == QueueState::Waiting { text.page.by_hand_lead.as_str() } else { &figures.lead };
    HeadingContext { heading: figures.heading, lead }
}

fn has_place(state: QueueState) -> bool {
    use QueueState::{BeforeOpening, ClosedHours, Held, Waiting, YourTurn};
    matches!(state, BeforeOpening | ClosedHours | Held | Waiting | YourTurn)
}

/// A page that only says something: an error, or good-bye.
#[derive(Clone, Copy, Debug)]
pub struct NoticePage<'a> {
    /// What it says.
    pub notice: Notice,
    /// What to mention when reporting it.
    pub request_id: Option<&'a str>,
    /// What the visitor can do.
    pub way_on: WayOn,
    /// Where the visitor wants to go: a path and query of this origin that the caller has checked. Without it there are
    /// no links to other languages.
    pub to: Option<&'a str>,
    /// What is known of the visitor.
    pub whereabouts: Whereabouts,
    /// The host that the visitor asked, to name a service that has no name of its own.
    pub host: Option<&'a str>,
}

impl NoticePage<'_> {
    /// A notice from which nothing leads on.
    pub fn only(notice: Notice) -> Self {
        NoticePage {
            notice,
            request_id: None,
            way_on: WayOn::Nothing,
            to: None,
            whereabouts: Whereabouts::Unknown,
            host: None,
        }
    }
}

/// What can be done on a page that only says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WayOn {
    /// Nothing but going back.
    Nothing,
    /// Asking again for the same address, or for the wanted one if it is known.
    TryAgain,
    /// Drawing a ticket.
    Join,
    /// Reloading the page, which sends again what was sent: a link would throw it away.
    SendAgain,
}

/// What is known of a visitor who is told of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// Nothing: nobody is promised a place that there may not be.
    Unknown,
    /// The visitor is inside, and stays so.
    Inside,
}

impl NoticePage<'_> {
    /// Renders the page; `frame` is the room's, if the request met one.
    ///
    /// # Errors
    /// [`BrokenAssets`] when a template wants what it is not given.
    pub fn render(
        self,
        assets: &Assets,
        frame: Option<&RoomFrame>,
        catalogue: &Catalogue,
    ) -> Result<PlainPage, BrokenAssets> {
        let links = frame.zip(self.to).map_or(Links::none(), |(frame, to)| Links::to_line(frame, Some(to)));
        self.render_with_links(assets, frame, catalogue, &links)
    }

    pub(super) fn render_with_links(
        self,
        assets: &Assets,
        frame: Option<&RoomFrame>,
        catalogue: &Catalogue,
        links: &Links,
    ) -> Result<PlainPage, BrokenAssets> {
        let context = NoticeContext {
            frame: FrameContext::of(assets, frame, self.host, catalogue, links),
            heading: HeadingContext::of(catalogue.notices.get(&self.notice)),
            kept_inside: self.notice == Notice::Unreachable && self.whereabouts == Whereabouts::Inside,
            offer: self.way_on,
            to: self.to.unwrap_or_default(),
            request_id: self.request_id,
        };
        let look = frame.map_or(assets.plain_look().as_ref(), |frame| frame.look(assets));
        plain(look, catalogue, assets.render("notice.html", &context)?)
    }
}

/// The page on which an invitation code is used: what a link with a code leads to, so that only a visitor's own click uses
/// it, and where a code is typed in again that was not accepted.
#[derive(Clone, Copy, Debug)]
pub struct CodePage<'a> {
    /// The code so far.
    pub code: &'a str,
    /// Whether it was not accepted.
    pub refused: bool,
    /// Where the visitor wants to go.
    pub to: &'a str,
    /// Names a service that has no name of its own.
    pub host: Option<&'a str>,
}

impl CodePage<'_> {
    /// Renders the page.
    ///
    /// # Errors
    /// [`BrokenAssets`] when a template wants what it is not given.
    pub fn render(self, assets: &Assets, frame: &RoomFrame, text: &Catalogue) -> Result<PlainPage, BrokenAssets> {
        let before = format!("{}/code?room={}&lang=", frame.own_path, frame.room);
        let after = format!("&code={}&to={}", query_value(self.code), query_value(self.to));
        let links = Links::around(before, after);
        let context = CodeContext {
            frame: FrameContext::of(assets, Some(frame), self.host, text, &links),
            code: self.code,
            refused: self.refused,
            to: self.to,
        };
        plain(frame.look(assets), text, assets.render("code.html", &context)?)
    }
}

#[derive(Serialize)]
struct CodeContext<'a> {
    #[serde(flatten)]
    frame: FrameContext<'a>,
    code: &'a str,
    refused: bool,
    to: &'a str,
}

pub(super) fn plain(look: &Look, catalogue: &Catalogue, html: String) -> Result<PlainPage, BrokenAssets> {
    Ok(PlainPage { headers: look.headers(catalogue, Scripting::Plain)?, body: html.into() })
}

/// An operator's text without control characters; line breaks stay.
fn readable(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control() || *letter == '\n').collect()
}

/// Where the links to other languages lead.
pub(super) struct Links {
    /// What stands before and after the language's tag; `None` where there is no page in another language.
    around: Option<(String, String)>,
    tab: Tab,
}

/// Where a link opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Tab {
    Same,
    Another,
}

impl Links {
    fn none() -> Links {
        Links { around: None, tab: Tab::Same }
    }

    /// To a page that does not need script, with the wanted address where the page's own address does not say it.
    fn to_line(frame: &RoomFrame, to: Option<&str>) -> Links {
        let to = to.map(|to| format!("&to={}", query_value(to))).unwrap_or_default();
        Links::around(format!("{}/line?room={}&lang=", frame.own_path, frame.room), to)
    }

    /// To an address that begins and ends like this.
    pub(super) fn around(before: String, after: String) -> Links {
        Links { around: Some((before, after)), tab: Tab::Same }
    }

    fn in_another_tab(self) -> Links {
        Links { tab: Tab::Another, ..self }
    }
}

#[derive(Serialize)]
pub(super) struct FrameContext<'a> {
    text: &'a Catalogue,
    style: &'a str,
    room: &'a str,
    own_path: &'a str,
    service: Option<OwnText<'a>>,
    hours: Option<OwnText<'a>>,
    prepare: Option<OwnText<'a>>,
    help: Option<OwnText<'a>>,
    help_url: Option<&'a str>,
    accessibility_url: Option<&'a str>,
    privacy_url: Option<&'a str>,
    codes: Vec<Code>,
    languages: Vec<LanguageLink<'a>>,
    languages_open_in: Tab,
}

/// A text of the operator's, and its language where that is another one than the page's.
#[derive(Serialize)]
struct OwnText<'a> {
    text: String,
    lang: Option<&'a str>,
}

impl<'a> OwnText<'a> {
    fn of(text: &'a LocalText, page: &Catalogue) -> Option<OwnText<'a>> {
        let (text, lang) = text.in_language(&page.code)?;
        Some(OwnText { text: readable(text), lang })
    }
}

#[derive(Serialize)]
struct LanguageLink<'a> {
    code: &'a str,
    name: &'a str,
    direction: Direction,
    href: String,
}

impl<'a> FrameContext<'a> {
    /// `host` names a service that has no name of its own.
    pub(super) fn of(
        assets: &'a Assets,
        frame: Option<&'a RoomFrame>,
        host: Option<&str>,
        text: &'a Catalogue,
        links: &Links,
    ) -> FrameContext<'a> {
        let host = host.filter(|host| !host.is_empty()).map(|host| OwnText { text: readable(host), lang: None });
        let link = |catalogue: &'a Arc<Catalogue>| {
            let (before, after) = links.around.as_ref()?;
            Some(LanguageLink {
                code: &catalogue.code,
                name: &catalogue.name,
                direction: catalogue.direction,
                href: format!("{before}{}{after}", catalogue.code),
            })
        };
        let page = frame.map(|frame| &frame.page);
        let own = |choose: fn(&RoomPage) -> &LocalText| OwnText::of(choose(page?), text);
        FrameContext {
            text,
            style: frame.map_or(&assets.plain_look().style, |frame| &frame.look(assets).style),
            room: frame.map_or("", |frame| frame.room.as_str()),
            own_path: frame.map_or("", |frame| &frame.own_path),
            service: own(|page| &page.service).or(host),
            hours: own(|page| &page.hours),
            prepare: own(|page| &page.prepare),
            help: own(|page| &page.help),
            help_url: page.and_then(|page| page.help_url.as_deref()),
            accessibility_url: page.and_then(|page| page.accessibility_url.as_deref()),
            privacy_url: page.and_then(|page| page.privacy_url.as_deref()),
            codes: frame.map_or(Vec::new(), |frame| frame.codes.iter().copied().collect()),
            languages: assets.languages().iter().filter_map(link).collect(),
            languages_open_in: links.tab,
        }
    }
}

#[derive(Serialize)]
struct HeadingContext<'a> {
    heading: &'a str,
    lead: &'a str,
}

impl<'a> HeadingContext<'a> {
    fn of(heading: Option<&'a Heading>) -> HeadingContext<'a> {
        heading.map_or(HeadingContext { heading: "", lead: "" }, |text| HeadingContext {
            heading: &text.heading,
            lead: &text.lead,
        })
    }
}

#[derive(Serialize)]
struct WaitingContext<'a> {
    #[serde(flatten)]
    frame: FrameContext<'a>,
    kind: &'static str,
    join_to: &'a str,
    heading: HeadingContext<'a>,
    message: Option<OwnText<'a>>,
    reason: Option<&'a str>,
    closed: Option<&'a str>,
    ended: bool,
    settings: Settings<'a>,
    script: &'a str,
}

/// What the page's script is told.
#[derive(Serialize)]
struct Settings<'a> {
    kind: &'static str,
    room: &'a str,
    own_path: &'a str,
    language: &'a str,
    language_cookie: &'static str,
    board_seconds: u32,
    states: BTreeMap<QueueState, &'a Heading>,
    text: serde_json::Value,
    form: Option<FormSettings<'a>>,
    too_many: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    preview: Option<serde_json::Value>,
}

#[derive(Serialize)]
struct SettingsText<'a> {
    #[serde(flatten)]
    script: &'a ScriptTexts,
    #[serde(flatten)]
    labels: Labels<'a>,
    thousands: &'a str,
}

/// What the script says by itself, without an answer that has the words.
const UNSAID_STATES: [QueueState; 3] = [QueueState::Expired, QueueState::Left, QueueState::None];

/// What the script says only where a visitor enters without a form.
const NOT_ON_FORMS: [&str; 5] = ["joining", "joining_lead", "entering", "called", "no_notification"];

impl<'a> SettingsText<'a> {
    fn of(catalogue: &'a Catalogue) -> SettingsText<'a> {
        let labels = catalogue.page.labels();
        SettingsText { script: &catalogue.script, labels, thousands: &catalogue.thousands }
    }

    /// A page has ten thousand bytes: no text is sent that cannot be shown.
    fn for_kind(&self, kind: PageKind) -> serde_json::Value {
        let mut texts = serde_json::to_value(self).unwrap_or_default();
        if let (PageKind::FormNotSent, Some(texts)) = (kind, texts.as_object_mut()) {
            texts.retain(|name, _| !NOT_ON_FORMS.contains(&name.as_str()));
        }
        texts
    }
}

#[derive(Serialize)]
struct FormSettings<'a> {
    heading: &'a str,
    lead: &'a str,
    turn: &'a str,
}

impl<'a> Settings<'a> {
    fn of(
        frame: &'a RoomFrame,
        catalogue: &'a Catalogue,
        kind: PageKind,
        form_lead: &'a str,
        preview: Option<serde_json::Value>,
    ) -> Settings<'a> {
        let form = &catalogue.form;
        let form = FormSettings { heading: &form.heading, lead: form_lead, turn: &form.turn };
        Settings {
            kind: kind.name(),
            room: frame.room.as_str(),
            own_path: &frame.own_path,
            language: &catalogue.code,
            language_cookie: LANGUAGE_COOKIE,
            board_seconds: BOARD_SECONDS,
            states: UNSAID_STATES.iter().filter_map(|state| Some((*state, catalogue.state(*state)?))).collect(),
            text: SettingsText::of(catalogue).for_kind(kind),
            form: (kind == PageKind::FormNotSent).then_some(form),
            too_many: catalogue.notices.get(&Notice::TooMany).map_or("", |notice| &notice.lead),
            preview,
        }
    }
}

#[derive(Serialize)]
struct LineContext<'a> {
    #[serde(flatten)]
    frame: FrameContext<'a>,
    heading: HeadingContext<'a>,
    remark: Option<String>,
    challenge: Option<&'a str>,
    message: Option<OwnText<'a>>,
    figures: &'a Text<'a>,
    offer: Offer,
    join_label: &'static str,
    has_place: bool,
    /// Whether there is a ticket, so that the place is kept.
    is_kept: bool,
    opens_in: Option<String>,
    waits: bool,
    moves: bool,
    /// Whether it has to be said that the page does not change by itself.
    changes_by_hand: bool,
    /// Whether the heading is the reason already.
    says_all: bool,
    enter_by: Option<String>,
    /// Of visitors inside.
    stay_ends: Option<String>,
    reference: Option<&'a str>,
    recovery_code: Option<&'a str>,
    progress: Option<String>,
    shown_ahead: Option<u64>,
    to: &'a str,
    n: &'a str,
}

#[derive(Serialize)]
struct NoticeContext<'a> {
    #[serde(flatten)]
    frame: FrameContext<'a>,
    heading: HeadingContext<'a>,
    kept_inside: bool,
    offer: WayOn,
    to: &'a str,
    request_id: Option<&'a str>,
}

/// The main thing to do on a page without script.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Offer {
    Nothing,
    Join,
    Enter,
}

impl Offer {
    fn to(state: QueueState) -> Offer {
        match state {
            QueueState::None | QueueState::Expired | QueueState::Left => Offer::Join,
            QueueState::YourTurn | QueueState::Inside => Offer::Enter,
            QueueState::Maintenance
            | QueueState::BeforeOpening
            | QueueState::Held
            | QueueState::ClosedHours
            | QueueState::Ended
            | QueueState::Waiting => Offer::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::tz::TimeZone;

    use super::*;
    use crate::domain::names::ClassName;
    use crate::domain::time::Unix;
    use crate::domain::wait_estimate::WaitRange;
    use crate::waiting_room::queue::Reason;

    const HOSTILE: &str =
        "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'`{{ 7*7 }}\u{202e}evil\u{2069}\u{0}\u{1b}";

    fn frame() -> RoomFrame {
        RoomFrame {
            room: RoomName::new("bonus-600").expect("a name"),
            own_path: "/.waiting-room".to_owned(),
            start: "/bonus-600/".to_owned(),
            page: RoomPage { service: LocalText::for_all("portal.example"), ..RoomPage::default() },
            look: None,
            codes: BTreeSet::from([Code::Invitation, Code::Recovery]),
        }
    }

    fn assets() -> Assets {
        Assets::built_in().expect("whole assets")
    }

    fn waiting() -> Standing {
        Standing {
            class: Some(ClassName::citizen()),
            reference: Some("K7-44M".to_owned()),
            ahead: Some(1234),
            wait: Some(WaitRange { low: Duration::from_secs(1500), high: Duration::from_secs(2000) }),
            progress: Some(0.25),
            ..Standing::only(QueueState::Waiting, Duration::from_secs(900), Unix(1_793_701_330_000))
        }
    }

    fn html(assets: &Assets, published: &Published, kind: PageKind) -> String {
        let pages = Pages::render(assets, &frame(), published).expect("pages");
        let page = pages.get(assets.languages().default_language(), kind).expect("a page");
        String::from_utf8(page.body(Coding::Identity).to_vec()).expect("UTF-8")
    }

    fn line(assets: &Assets, standing: &Standing, to: &str) -> String {
        let words = Words { catalogue: assets.languages().default_language(), time_zone: &TimeZone::UTC };
        let page = line_page(standing, to).render(assets, &frame(), &words).expect("a page");
        String::from_utf8(page.body.to_vec()).expect("UTF-8")
    }

    fn line_page<'a>(standing: &'a Standing, to: &'a str) -> LinePage<'a> {
        LinePage { standing, to, n: "abc", remark: None, challenge: None, host: None }
    }

    fn saying(message: &str) -> Published {
        Published { message: LocalText::for_all(message), ..Published::default() }
    }

    /// The text of every element with this start tag.
    fn between<'a>(html: &'a str, start: &str, end: &str) -> Vec<&'a str> {
        html.split(start).skip(1).filter_map(|rest| rest.split_once(end)).map(|(inner, _)| inner).collect()
    }

    #[test]
    fn the_policy_names_the_inline_blocks_and_nothing_else() {
        let assets = assets();
        let pages = Pages::render(&assets, &frame(), &Published::default()).expect("pages");
        let page = pages.get(assets.languages().default_language(), PageKind::Waiting).expect("a page");
        let html = html(&assets, &Published::default(), PageKind::Waiting);
        let policy = page.head().get("content-security-policy").expect("a policy");
        let policy = policy.to_str().expect("text");
        for (start, end, directive) in [("<script>", "</script>", "script-src"), ("<style>", "</style>", "style-src")] {
            let blocks = between(&html, start, end);
            let [block] = blocks.as_slice() else { panic!("one {start}, not {}", blocks.len()) };
            let hash = super::super::assets::hash(block);
            assert!(policy.contains(&format!("{directive} '{hash}'")), "{policy}");
        }
        assert!(policy.starts_with("default-src 'none'; "));
        assert!(policy.ends_with("; base-uri 'none'; frame-ancestors 'self'"));
        assert!(!policy.contains("form-action"));
        assert_eq!(html.matches("<script").count(), 2, "settings and script");
        assert!(!html.contains(" style=") && !html.contains(" onclick="));
    }

    #[test]
    fn every_page_renders_in_every_language() {
        let assets = assets();
        let pages = Pages::render(&assets, &frame(), &Published::default()).expect("pages");
        for catalogue in assets.languages().iter() {
            for kind in PageKind::ALL {
                let page = pages.get(catalogue, kind).expect("a page");
                let sizes = [Coding::Identity, Coding::Gzip, Coding::Brotli].map(|coding| page.body(coding).len());
                println!("{} {kind:?}: {sizes:?} bytes plain, gzip, brotli", catalogue.code);
                assert!(page.body(Coding::Gzip).len() <= 10 * 1024, "{} {sizes:?}", catalogue.code);
            }
            let words = Words { catalogue, time_zone: &TimeZone::UTC };
            for state in QueueState::ALL {
                let standing = Standing { state, ..waiting() };
                line_page(&standing, "/").render(&assets, &frame(), &words).expect("a page");
            }
            for notice in Notice::ALL {
                let page = NoticePage { request_id: Some("7f3a"), to: Some("/"), ..NoticePage::only(notice) };
                page.render(&assets, Some(&frame()), catalogue).expect("a page");
                page.render(&assets, None, catalogue).expect("a page");
            }
        }
    }

    #[test]
    fn no_page_asks_anybody_else() {
        let assets = assets();
        let published = Published {
            message: LocalText::for_all("ciao"),
            reason: Some(ReasonCode::RoomFull),
            ..Published::default()
        };
        for kind in PageKind::ALL {
            let html = html(&assets, &published, kind);
            assert!(!html.contains("://") && !html.contains("=\"//") && !html.contains(" src="));
            assert!(!html.contains("http-equiv") && !html.contains("@import") && !html.contains("url("));
        }
    }

    #[test]
    fn hostile_texts_stay_texts() {
        let assets = assets();
        let published = saying(HOSTILE);
        let own = || LocalText::for_all(HOSTILE);
        let page = RoomPage { service: own(), hours: own(), prepare: own(), help: own(), ..RoomPage::default() };
        let hostile_frame = RoomFrame { page, ..frame() };
        let pages = Pages::render(&assets, &hostile_frame, &published).expect("pages");
        let page = pages.get(assets.languages().default_language(), PageKind::Waiting).expect("a page");
        let standing =
            Standing { message: published.message.clone(), reference: Some(HOSTILE.to_owned()), ..waiting() };
        let waiting = String::from_utf8(page.body(Coding::Identity).to_vec()).expect("UTF-8");
        let words = Words { catalogue: assets.languages().default_language(), time_zone: &TimeZone::UTC };
        let line = LinePage { host: Some(HOSTILE), ..line_page(&standing, HOSTILE) };
        let line = line.render(&assets, &hostile_frame, &words);
        let line = String::from_utf8(line.expect("a page").body.to_vec()).expect("UTF-8");
        for html in [waiting, line] {
            assert!(html.matches("&lt;/script&gt;&lt;script&gt;alert(1)").count() >= 4, "{html}");
            assert!(!html.contains("<script>alert") && !html.contains("<img"));
            assert!(!html.contains("\"'`") && !html.contains("49"));
        }
    }

    #[test]
    fn marks_of_direction_end_with_the_message() {
        let html = html(&assets(), &saying(HOSTILE), PageKind::Waiting);
        assert!(html.contains("<p id=\"message\" class=\"own\" dir=\"auto\">&lt;/script&gt;"));
        assert!(!html.contains('\0') && !html.contains('\u{1b}'));
    }

    #[test]
    fn a_message_of_ten_kilobytes_is_shown_whole() {
        let message = "<&>".repeat(3_500);
        let html = html(&assets(), &saying(&message), PageKind::Maintenance);
        assert_eq!(html.matches("&lt;&amp;&gt;").count(), 3_500);
    }

    #[test]
    fn the_waiting_page_works_without_script() {
        let html = html(&assets(), &Published::default(), PageKind::Waiting);
        assert!(html.contains("<form method=\"post\" action=\"/.waiting-room/join?room=bonus-600&amp;lang=it\">"));
        assert!(html.contains("<div id=\"plain\">"));
        assert!(!html.to_lowercase().contains("refresh\""), "no page reloads itself");
    }

    #[test]
    fn the_line_page_shows_the_place_and_keeps_the_address() {
        let html = line(&assets(), &waiting(), "/bonus-600/?a=1&b=2");
        assert!(html.contains("hai 1.234 persone davanti"));
        assert!(html.contains("Questa pagina non si aggiorna da sola") && !html.contains("Non devi fare nulla"));
        assert!(html.contains("circa da 25 a 35 minuti"));
        assert!(html.contains("name=\"to\" value=\"/bonus-600/?a=1&amp;b=2\""));
        assert!(html.contains("name=\"shown_ahead\" value=\"1234\""));
        assert!(html.contains("&amp;lang=en&amp;to=/bonus-600/%3Fa%3D1%26b%3D2\""), "the other language keeps it too");
        assert!(!html.contains("/enter?room"));
    }

    #[test]
    fn every_action_of_the_line_page_keeps_the_address() {
        for state in [QueueState::Waiting, QueueState::YourTurn, QueueState::None] {
            let enter_by = Some(Unix(1_793_702_400_000));
            let html = line(&assets(), &Standing { state, enter_by, ..waiting() }, "/bonus-600/?a=1");
            let forms = between(&html, "<form", "</form>");
            assert!(forms.len() >= 3);
            for form in forms {
                assert!(form.contains("name=\"to\" value=\"/bonus-600/?a=1\""), "{form}");
            }
        }
        let left = NoticePage { way_on: WayOn::Join, to: Some("/bonus-600/?a=1"), ..NoticePage::only(Notice::Left) };
        let page = left.render(&assets(), Some(&frame()), assets().languages().default_language()).expect("a page");
        let html = String::from_utf8(page.body.to_vec()).expect("UTF-8");
        assert!(html.contains("name=\"to\" value=\"/bonus-600/?a=1\""), "{html}");
        assert!(html.contains("&amp;lang=en&amp;to=/bonus-600/%3Fa%3D1\""));
    }

    #[test]
    fn nobody_is_promised_a_place_that_there_may_not_be() {
        let said = |notice, whereabouts| {
            let page = NoticePage { whereabouts, ..NoticePage::only(notice) };
            let page = page.render(&assets(), Some(&frame()), assets().languages().default_language());
            String::from_utf8(page.expect("a page").body.to_vec()).expect("UTF-8")
        };
        for notice in Notice::ALL {
            assert!(!said(notice, Whereabouts::Unknown).contains("posto resta"), "{notice:?}");
        }
        assert!(said(Notice::Unreachable, Whereabouts::Inside).contains("posto all&#39;interno resta tuo"));
    }

    #[test]
    fn what_was_sent_is_not_thrown_away_by_a_link() {
        let unreachable = NoticePage { way_on: WayOn::SendAgain, ..NoticePage::only(Notice::Unreachable) };
        let page = unreachable.render(&assets(), Some(&frame()), assets().languages().default_language());
        let html = String::from_utf8(page.expect("a page").body.to_vec()).expect("UTF-8");
        assert!(html.contains("ricarica questa pagina per inviarlo di nuovo") && !html.contains("<a href"), "{html}");
        let form = self::html(&assets(), &Published::default(), PageKind::FormNotSent);
        assert_eq!(form.matches("hreflang=").count(), form.matches("hreflang=\"").count());
        for link in between(&form, "<a href", ">").iter().filter(|link| link.contains("hreflang")) {
            assert!(link.contains("target=\"_blank\""), "{link}");
        }
        assert!(form.contains("name=\"to\" value=\"/bonus-600/\""), "nobody enters at the address of a form");
        assert!(!self::html(&assets(), &Published::default(), PageKind::Waiting).contains(" target=\""));
    }

    #[test]
    fn a_form_sent_during_maintenance_is_told_of_both() {
        let closed = Published { closed: true, ..Published::default() };
        let html = html(&assets(), &closed, PageKind::FormNotSent);
        assert!(html.contains("<h1 id=\"heading\" tabindex=\"-1\">Il tuo modulo non è stato inviato</h1>"));
        assert!(html.contains("<p id=\"reason\" class=\"note\">Il servizio è chiuso per manutenzione</p>"), "{html}");
    }

    #[test]
    fn a_form_sent_after_the_end_of_the_line_is_not_promised_a_turn() {
        let said = |ended| {
            let published = Published { ended, ..Published::default() };
            html(&assets(), &published, PageKind::FormNotSent).contains("quando sarà il tuo turno, potrai inviarlo")
        };
        assert_eq!([said(false), said(true)], [true, false]);
        let published = Published { ended: true, ..Published::default() };
        let html = html(&assets(), &published, PageKind::FormNotSent);
        assert!(html.contains("Il tuo modulo non è stato inviato") && html.contains("La fila è chiusa"), "{html}");
    }

    #[test]
    fn a_service_without_a_name_is_called_after_the_host() {
        let page = NoticePage { host: Some("portal.example"), ..NoticePage::only(Notice::NotFound) };
        let page = page.render(&assets(), None, assets().languages().default_language()).expect("a page");
        let html = String::from_utf8(page.body.to_vec()).expect("UTF-8");
        assert!(html.contains("<bdi>portal.example</bdi>"));
    }

    #[test]
    fn the_line_page_offers_what_the_state_allows() {
        let assets = assets();
        let offers = |state| {
            let html = line(&assets, &Standing { state, ..waiting() }, "/");
            ["/enter?room", "/join?room", "/leave?room"].map(|action| html.contains(action))
        };
        assert_eq!(offers(QueueState::Waiting), [false, false, true]);
        assert_eq!(offers(QueueState::YourTurn), [true, false, true]);
        assert_eq!(offers(QueueState::Inside), [true, false, false]);
        assert_eq!(offers(QueueState::None), [false, true, false]);
        assert_eq!(offers(QueueState::Maintenance), [false, false, false]);
    }

    #[test]
    fn a_turn_at_a_busy_gate_names_those_who_enter_before() {
        let turn = Standing { state: QueueState::YourTurn, ahead_at_gate: Some(3), ..waiting() };
        let html = line(&assets(), &turn, "/");
        assert!(html.contains("<p class=\"lead\">3 persone stanno entrando prima di te</p>"));
        assert!(!html.contains("Ora puoi entrare"));
    }

    #[test]
    fn a_turn_while_nobody_enters_is_no_invitation() {
        let turn = |code| {
            let reason = Some(Reason { code, since: Unix(1_793_701_200_000) });
            let enter_by = Some(Unix(1_793_702_400_000));
            line(&assets(), &Standing { state: QueueState::YourTurn, reason, enter_by, ..waiting() }, "/")
        };
        let stopped = turn(ReasonCode::PortalUnhealthy);
        assert!(stopped.contains("La fila è in pausa") && stopped.contains("il servizio non risponde"));
        assert!(!stopped.contains("/enter?room") && !stopped.contains("Entra prima delle"));
        assert!(turn(ReasonCode::RampingUp).contains("/enter?room"));
        assert!(turn(ReasonCode::RoomFull).contains("/enter?room"));
    }

    #[test]
    fn a_standstill_is_explained() {
        let reason = Some(Reason { code: ReasonCode::PortalUnhealthy, since: Unix(1_793_701_200_000) });
        let html = line(&assets(), &Standing { reason, ..waiting() }, "/");
        assert!(html.contains("Perché ci vuole di più: il servizio non risponde come dovrebbe (dalle 10:20)"));
    }
}
