//! Every page in every state with made-up figures: for operators to look at before their visitors do, for tests, and to
//! find out whether templates render at all.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::assets::{Assets, BrokenAssets, Headers, Look, Scripting};
use super::catalogue::{Catalogue, Notice};
use super::page::{
    Code, LinePage, Links, NoticePage, PageKind, Published, Remark, RoomFrame, WayOn, Whereabouts, waiting_html,
};
use super::queue::{ClosingTold, Gathering, QueueState, Reason, ReasonCode, Standing, Window};
use super::words::Words;
use crate::config::{LocalText, RoomPage};
use crate::domain::closing::{Closing, Reach, Rest, Stage};
use crate::domain::names::{ClassName, RoomName};
use crate::domain::time::Unix;
use crate::domain::wait_estimate::WaitRange;

/// 3 November 2026, 10:22:10 UTC: made-up figures are always of the same moment.
const MOMENT: Unix = Unix(1_793_701_330_000);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// What a scene shows.
#[derive(Clone, Debug)]
enum Scene {
    /// The waiting page with this standing.
    Page(PageKind, Standing),
    /// The waiting page in something else than a standing.
    Moment(PageKind, Moment),
    /// The page for browsers without script.
    Line(Standing, Option<Remark>),
    /// A page that only says something.
    Notice(Notice, WayOn, Whereabouts),
}

/// What the waiting page shows besides standings.
#[derive(Clone, Copy, Debug)]
enum Moment {
    Joining,
    CookiesBlocked,
    Lost,
    NewPlace,
    ByHand,
    Offline,
    TooOld,
}

/// A room's pages with made-up figures.
#[derive(Debug)]
pub struct Previews {
    assets: Arc<Assets>,
    rooms: Vec<PreviewedRoom>,
}

/// What is not made up.
#[derive(Clone, Debug)]
pub struct PreviewedRoom {
    /// The room's words, links and colours.
    pub frame: RoomFrame,
    /// What the operator wants everybody to read.
    pub message: LocalText,
    /// Where the visitors' clocks are.
    pub time_zone: TimeZone,
}

/// A page to look at.
#[derive(Debug)]
pub struct Preview {
    /// Media type, language and security policy.
    pub headers: Headers,
    /// The HTML.
    pub body: Bytes,
}

impl Previews {
    /// Of these rooms.
    pub fn new(assets: Arc<Assets>, rooms: Vec<PreviewedRoom>) -> Previews {
        Previews { assets, rooms }
    }

    /// A list of all scenes of a room, or one of them in one language; `None` when there is no such room or scene.
    /// `path` is the address of the list; `typed` is a message to be looked at instead of the operator's.
    ///
    /// # Errors
    /// [`BrokenAssets`] when a template wants what it is not given.
    pub fn page(
        &self,
        room: &RoomName,
        scene: Option<&str>,
        language: Option<&str>,
        typed: Option<&str>,
        path: &str,
    ) -> Result<Option<Preview>, BrokenAssets> {
        let Some(PreviewedRoom { frame, message, time_zone }) =
            self.rooms.iter().find(|known| known.frame.room == *room)
        else {
            return Ok(None);
        };
        let typed = typed.map(LocalText::for_all);
        let message = typed.as_ref().unwrap_or(message);
        let languages = self.assets.languages();
        let Some(name) = scene else { return list(&self.assets, frame, path).map(Some) };
        let known = languages.iter().find(|catalogue| Some(catalogue.code.as_str()) == language);
        let words = Words { catalogue: known.unwrap_or(languages.default_language()), time_zone };
        let Some((_, scene)) = scenes().into_iter().find(|(known, _)| known == name) else { return Ok(None) };
        let links = Links::around(format!("{path}?scene={name}&lang="), String::new());
        // Codes belong to features that a room may not have; here they can be looked at all the same.
        let frame = match name {
            "codes" | "line-codes" => {
                RoomFrame { codes: BTreeSet::from([Code::Invitation, Code::Recovery]), ..frame.clone() }
            }
            _ => frame.clone(),
        };
        scene.render(&self.assets, &frame, &words, &links, message).map(Some)
    }
}

/// Renders every scene in every language, and forgets it.
pub(super) fn render_everything(assets: &Assets) -> Result<(), BrokenAssets> {
    let frame = RoomFrame {
        room: RoomName::new("room").map_err(|_| BrokenAssets::Missing("a name"))?,
        own_path: "/.waiting-room".to_owned(),
        start: "/".to_owned(),
        page: RoomPage::default(),
        look: None,
        codes: BTreeSet::from([Code::Invitation, Code::Recovery]),
    };
    for catalogue in assets.languages().iter() {
        let words = Words { catalogue, time_zone: &TimeZone::UTC };
        for (_, scene) in scenes() {
            let links = Links::around(String::new(), String::new());
            scene.render(assets, &frame, &words, &links, &LocalText::default())?;
        }
        for notice in Notice::ALL {
            NoticePage::only(notice).render(assets, None, catalogue)?;
        }
    }
    Ok(())
}

impl Scene {
    /// `message` is what the scene says that has no message of its own.
    fn render(
        self,
        assets: &Assets,
        frame: &RoomFrame,
        words: &Words<'_>,
        links: &Links,
        message: &LocalText,
    ) -> Result<Preview, BrokenAssets> {
        let text = words.catalogue;
        let (kind, message, made_up) = match self {
            Scene::Page(kind, standing) => {
                let standing = saying(message, standing);
                (kind, standing.message.clone(), queue_of(&standing, words))
            }
            Scene::Moment(kind, moment) => (kind, message.clone(), moment.made_up(words, &saying(message, waiting()))),
            Scene::Line(standing, remark) => {
                let standing = saying(message, standing);
                let page = LinePage { standing: &standing, to: "/", n: "0", remark, challenge: None, host: None };
                let page = page.render_with_links(assets, frame, words, links)?;
                return Ok(Preview { headers: page.headers, body: page.body });
            }
            Scene::Notice(notice, way_on, whereabouts) => {
                let page = NoticePage {
                    request_id: Some("7f3a9c0d12e45b68"),
                    way_on,
                    whereabouts,
                    to: Some("/"),
                    ..NoticePage::only(notice)
                };
                let page = page.render_with_links(assets, Some(frame), text, links)?;
                return Ok(Preview { headers: page.headers, body: page.body });
            }
        };
        let published = Published { message, ..Published::default() };
        let html = waiting_html(assets, frame, &published, text, kind, Some(made_up), links)?;
        let look: &Look = frame.look.as_ref().unwrap_or_else(|| assets.plain_look());
        Ok(Preview { headers: look.headers(text, Scripting::Script)?, body: html.into() })
    }
}

impl Moment {
    /// What the page's script is told to show; `waiting` is the standing of somebody who waits.
    fn made_up(self, words: &Words<'_>, waiting: &Standing) -> Value {
        let in_trouble = |note: &str| in_trouble(note, queue_of(waiting, words));
        let script = &words.catalogue.script;
        match self {
            Moment::Joining => json!({}),
            Moment::CookiesBlocked => json!({"given_up": script.cookies}),
            Moment::Lost => json!({"given_up": script.lost}),
            Moment::NewPlace => in_trouble(&script.new_place),
            Moment::ByHand => json!({"by_hand": true}),
            Moment::TooOld => json!({"plain": true}),
            Moment::Offline => in_trouble(&format!("{} {}", script.offline, script.place_kept)),
        }
    }
}

/// The standing with the room's message, unless it has one of its own.
fn saying(message: &LocalText, standing: Standing) -> Standing {
    if standing.message != LocalText::default() {
        return standing;
    }
    Standing { message: message.clone(), ..standing }
}

/// What is shown, with a note.
fn in_trouble(note: &str, mut shown: Value) -> Value {
    if let Some(shown) = shown.as_object_mut() {
        shown.insert("trouble".to_owned(), Value::from(note));
    }
    shown
}

fn queue_of(standing: &Standing, words: &Words<'_>) -> Value {
    serde_json::from_slice(&standing.to_json(words)).unwrap_or_default()
}

/// Every scene and its name.
fn scenes() -> Vec<(String, Scene)> {
    let mut scenes = Vec::new();
    let mut add = |name: &str, scene: Scene| scenes.push((name.to_owned(), scene));
    for (name, standing) in standings() {
        let kind = if name == "maintenance" { PageKind::Maintenance } else { PageKind::Waiting };
        add(&name, Scene::Page(kind, standing.clone()));
        add(&format!("line-{name}"), Scene::Line(standing, None));
    }
    for (name, moment) in [
        ("joining", Moment::Joining),
        ("offline", Moment::Offline),
        ("cookies-blocked", Moment::CookiesBlocked),
        ("lost", Moment::Lost),
        ("new-place", Moment::NewPlace),
        ("by-hand", Moment::ByHand),
        ("too-old-browser", Moment::TooOld),
    ] {
        add(name, Scene::Moment(PageKind::Waiting, moment));
    }
    add("form-not-sent", Scene::Page(PageKind::FormNotSent, waiting()));
    add("form-turn", Scene::Page(PageKind::FormNotSent, your_turn()));
    add("form-too-old-browser", Scene::Moment(PageKind::FormNotSent, Moment::TooOld));
    add("form-maintenance", Scene::Page(PageKind::FormNotSent, ended(QueueState::Maintenance)));
    add("line-too-many", Scene::Line(ended(QueueState::None), Some(Remark::TooMany)));
    add("line-no-more-time", Scene::Line(your_turn(), Some(Remark::NoMoreTime)));
    for notice in Notice::ALL {
        let way_on = match notice {
            Notice::Left => WayOn::Join,
            Notice::Unreachable | Notice::OurFault | Notice::TooMany => WayOn::TryAgain,
            _ => WayOn::Nothing,
        };
        add(&format!("notice-{}", name_of(&notice)), Scene::Notice(notice, way_on, Whereabouts::Unknown));
    }
    add("notice-form", Scene::Notice(Notice::Unreachable, WayOn::SendAgain, Whereabouts::Inside));
    scenes
}

/// Every standing that a visitor can be in.
fn standings() -> Vec<(String, Standing)> {
    let all = in_line().into_iter().chain(not_yet()).chain(before_the_end()).chain(past_the_line());
    let mut standings: Vec<(String, Standing)> = all.map(|(name, standing)| (name.to_owned(), standing)).collect();
    for code in ReasonCode::ALL {
        standings.push((format!("still-{}", name_of(&code)), stopped(QueueState::Waiting, code)));
    }
    standings
}

/// In a line that moves.
fn in_line() -> Vec<(&'static str, Standing)> {
    let own_hours = Window { open: true, opens_at: None, closes_at: Some(MOMENT + 4 * HOUR) };
    vec![
        ("waiting", waiting()),
        ("waiting-without-estimate", Standing { wait: None, ..waiting() }),
        ("waiting-long", Standing { ahead: Some(653_452), wait: range(290, 345), progress: Some(0.02), ..waiting() }),
        ("waiting-own-hours", Standing { window: own_hours, ..waiting() }),
        (
            "waiting-with-message",
            Standing { message: LocalText::for_all("Il servizio è lento: 3 < 5 & \"grazie\"."), ..waiting() },
        ),
        ("codes", Standing { recovery_code: Some("7F3K-92QX-M4TD".to_owned()), ..waiting() }),
    ]
}

/// Before anybody's turn can come: held, before an opening, outside the class's hours.
fn not_yet() -> Vec<(&'static str, Standing)> {
    let opens = |after: Duration| Window { open: false, opens_at: Some(MOMENT + after), closes_at: None };
    vec![
        ("held", Standing { wait: None, ..stopped(QueueState::Held, ReasonCode::OperatorHold) }),
        (
            "before-opening",
            Standing {
                window: opens(95 * MINUTE),
                ahead: None,
                wait: None,
                progress: None,
                gathering: Some(Gathering::ByLot),
                ..stopped(QueueState::BeforeOpening, ReasonCode::BeforeOpening)
            },
        ),
        (
            "before-gathering",
            Standing {
                window: opens(26 * HOUR),
                reason: Some(reason(ReasonCode::BeforeOpening)),
                gathering: Some(Gathering::From(MOMENT + 25 * HOUR)),
                ..ended(QueueState::BeforeOpening)
            },
        ),
        (
            "closed-hours",
            Standing {
                window: opens(22 * HOUR),
                wait: None,
                ..stopped(QueueState::ClosedHours, ReasonCode::OutsideHours)
            },
        ),
    ]
}

/// When the line is to end, and after it ended.
fn before_the_end() -> Vec<(&'static str, Standing)> {
    vec![
        ("closes-and-serves", Standing { closing: closes(Rest::Serve, Stage::Open, None), ..waiting() }),
        ("closed-and-serves", Standing { closing: closes(Rest::Serve, Stage::LastOnes, None), ..waiting() }),
        ("closes-and-ends", Standing { closing: closes(Rest::End, Stage::Open, Some(Reach::Likely)), ..waiting() }),
        (
            "closes-perhaps-before",
            Standing { closing: closes(Rest::End, Stage::Open, Some(Reach::Uncertain)), ..waiting() },
        ),
        (
            "closes-before",
            Standing { wait: None, closing: closes(Rest::End, Stage::Open, Some(Reach::Unlikely)), ..waiting() },
        ),
        (
            "ended-before",
            Standing {
                reference: waiting().reference,
                closing: closes(Rest::End, Stage::Ended, Some(Reach::Unlikely)),
                ..ended(QueueState::Ended)
            },
        ),
        ("ended", Standing { closing: closes(Rest::Serve, Stage::LastOnes, None), ..ended(QueueState::Ended) }),
    ]
}

/// Called, inside, or without a place.
fn past_the_line() -> Vec<(&'static str, Standing)> {
    vec![
        ("your-turn", your_turn()),
        ("at-the-gate", Standing { ahead_at_gate: Some(3), ..your_turn() }),
        ("turn-standing-still", Standing { reason: Some(reason(ReasonCode::PortalUnhealthy)), ..your_turn() }),
        ("inside", ended(QueueState::Inside)),
        ("expired", ended(QueueState::Expired)),
        ("left", ended(QueueState::Left)),
        ("none", ended(QueueState::None)),
        ("maintenance", ended(QueueState::Maintenance)),
    ]
}

/// A state's, reason's or notice's name as JSON has it, with hyphens.
fn name_of(named: &impl serde::Serialize) -> String {
    let name = serde_json::to_value(named).unwrap_or_default();
    name.as_str().unwrap_or_default().replace('_', "-")
}

fn waiting() -> Standing {
    Standing {
        class: Some(ClassName::citizen()),
        reference: Some("K7M2-44XD".to_owned()),
        ahead: Some(1234),
        wait: range(25, 33),
        progress: Some(0.4),
        ..Standing::only(QueueState::Waiting, MINUTE, MOMENT)
    }
}

fn closes(then: Rest, stage: Stage, reach: Option<Reach>) -> Option<ClosingTold> {
    Some(ClosingTold { closing: Closing { at: MOMENT + 20 * MINUTE, then }, stage, reach })
}

fn your_turn() -> Standing {
    Standing {
        state: QueueState::YourTurn,
        ahead: None,
        wait: None,
        progress: Some(1.0),
        enter_by: Some(MOMENT + 20 * MINUTE),
        ..waiting()
    }
}

fn stopped(state: QueueState, code: ReasonCode) -> Standing {
    Standing { state, reason: Some(reason(code)), ..waiting() }
}

fn ended(state: QueueState) -> Standing {
    Standing::only(state, MINUTE, MOMENT)
}

fn reason(code: ReasonCode) -> Reason {
    Reason { code, since: Unix(MOMENT.0 - 22 * 60_000) }
}

fn range(low: u32, high: u32) -> Option<WaitRange> {
    Some(WaitRange { low: low * MINUTE, high: high * MINUTE })
}

/// The list of a room's scenes, in every language.
fn list(assets: &Assets, frame: &RoomFrame, path: &str) -> Result<Preview, BrokenAssets> {
    let look = assets.plain_look();
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"><title>Preview of {room}</title><style>{}</style></head><body>\
         <main><h1>Preview of {room}</h1><p>Every page with made-up figures. Nothing is asked or sent.</p><dl>\n",
        look.style,
        room = frame.room,
    );
    for (name, _) in scenes() {
        let mut links = String::new();
        for Catalogue { code, .. } in assets.languages().iter().map(Arc::as_ref) {
            // Writing into a text cannot fail.
            let _ = write!(links, " <a href=\"{path}?scene={name}&amp;lang={code}\">{code}</a>");
        }
        let _ = writeln!(html, "<div><dt>{name}</dt><dd>{links}</dd></div>");
    }
    html.push_str("</dl></main></body></html>\n");
    let mut headers = look.headers(assets.languages().default_language(), Scripting::Plain)?;
    // It is in English, whatever the pages are in.
    headers.retain(|(name, _)| *name != http::header::CONTENT_LANGUAGE);
    Ok(Preview { headers, body: html.into() })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Of one room with the built-in assets.
    pub(crate) fn previews() -> Previews {
        let frame = RoomFrame {
            room: RoomName::new("bonus-600").expect("a name"),
            own_path: "/.waiting-room".to_owned(),
            start: "/".to_owned(),
            page: RoomPage::default(),
            look: None,
            codes: BTreeSet::new(),
        };
        let room = PreviewedRoom { frame, message: LocalText::for_all("Rows & columns"), time_zone: TimeZone::UTC };
        Previews::new(Arc::new(Assets::built_in().expect("whole assets")), vec![room])
    }

    fn shown(scene: Option<&str>, language: Option<&str>) -> Option<String> {
        let room = RoomName::new("bonus-600").expect("a name");
        let page = previews().page(&room, scene, language, None, "/preview").expect("a page")?;
        Some(String::from_utf8(page.body.to_vec()).expect("UTF-8"))
    }

    #[test]
    fn every_state_and_reason_can_be_looked_at() {
        let states: BTreeSet<QueueState> = standings().into_iter().map(|(_, standing)| standing.state).collect();
        assert_eq!(states.len(), QueueState::ALL.len());
        let reasons: BTreeSet<ReasonCode> =
            standings().into_iter().filter_map(|(_, standing)| Some(standing.reason?.code)).collect();
        assert_eq!(reasons.len(), ReasonCode::ALL.len());
        let names: BTreeSet<String> = scenes().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), scenes().len(), "names are unique");
    }

    #[test]
    fn the_list_names_every_scene_and_its_links_lead_there() {
        let list = shown(None, None).expect("a list");
        for (name, _) in scenes() {
            assert!(list.contains(&format!("/preview?scene={name}&amp;lang=ar")), "{name}");
            assert!(shown(Some(&name), Some("ar")).expect("a page").contains("<html lang=\"ar\" dir=\"rtl\">"));
        }
    }

    #[test]
    fn the_made_up_figures_are_in_the_page() {
        let html = shown(Some("waiting"), Some("en")).expect("a page");
        assert!(html.contains("1,234 people are ahead of you") && html.contains("\"preview\""));
        assert!(html.contains("href=\"/preview?scene=waiting&amp;lang=it\""));
        assert!(shown(Some("before-opening"), Some("it")).expect("a page").contains("alle 11:57"));
        assert!(shown(Some("line-closed-hours"), Some("it")).expect("a page").contains("domani alle 08:22"));
    }

    #[test]
    fn the_rooms_own_message_is_in_every_scene_that_has_one() {
        for scene in ["waiting", "line-waiting", "your-turn", "form-not-sent"] {
            let html = shown(Some(scene), Some("en")).expect("a page");
            assert!(html.contains("Rows &amp; columns") || html.contains("Rows \\u0026 columns"), "{scene}: {html}");
        }
        assert!(!shown(Some("waiting-with-message"), Some("en")).expect("a page").contains("Rows &amp; columns"));
    }

    #[test]
    fn unknown_scenes_and_rooms_are_nothing_and_unknown_languages_the_first() {
        assert_eq!(shown(Some("nothing"), None), None);
        assert!(shown(Some("left"), Some("<script>")).expect("a page").contains("<html lang=\"it\""));
        let elsewhere = RoomName::new("elsewhere").expect("a name");
        assert!(previews().page(&elsewhere, None, None, None, "/preview").expect("no fault").is_none());
    }

    #[test]
    fn everything_renders() {
        render_everything(&Assets::built_in().expect("whole assets")).expect("whole templates");
    }
}
