//! What a request sees of the configuration and the rooms: one snapshot from beginning to end.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock, TryLockError};

use bytes::Bytes;

use crate::classes::Classes;
use crate::config::{self, Config, LocalText, Proof};
use crate::domain::closing::Stage;
use crate::domain::cookie::RoomCookies;
use crate::domain::keyring::{Keyring, RoomKeys};
use crate::domain::line::Standstill;
use crate::domain::opening::Phase;
use crate::domain::schedule::{Hours, OpenNow};
use crate::domain::time::{Mono, Now};
use crate::room::{InForce, LiveRoom, NamedLane, Still, Why};
use crate::waiting_room::assets::{Assets, BrokenAssets};
use crate::waiting_room::board::{Board, LaneBoard};
use crate::waiting_room::page::{Code, Pages, Published, RoomFrame};
use crate::waiting_room::queue::{Reason, ReasonCode, Window};
use crate::waiting_room::words::Words;

/// A configuration and the rooms that live under it.
#[derive(Debug)]
pub struct Snapshot {
    /// The configuration.
    pub config: Arc<Config>,
    /// Its rooms, in the order of the file; after them those that are gone from the file and drain.
    pub rooms: Vec<Arc<RoomInForce>>,
    /// The signing keys.
    pub keyring: Arc<Keyring>,
    /// Templates and languages.
    pub assets: Arc<Assets>,
    /// Who belongs to which class.
    pub classes: Arc<Classes>,
}

/// Whether the configuration still has a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tenure {
    /// It does.
    Configured,
    /// It does not: the room goes on until its line is empty, so that nobody loses a place and the portal does not get
    /// a whole line at once.
    Draining,
}

/// A room as one configuration has it.
#[derive(Debug)]
pub struct RoomInForce {
    /// Whether the configuration still has it.
    pub tenure: Tenure,
    /// What the operator wrote.
    pub settings: Arc<config::Room>,
    /// The line and the seats, which outlive configurations.
    pub live: Arc<LiveRoom>,
    /// Signs and verifies the room's tokens.
    pub keys: RoomKeys,
    /// The names of its cookies.
    pub cookies: RoomCookies,
    /// What its pages have in common.
    pub frame: RoomFrame,
    shown: RwLock<Arc<Shown>>,
    rendering: Mutex<()>,
}

/// Compressed pages up to this size arrive with their headers in TCP's first flight (14,600 bytes).
const LARGEST_PAGE: usize = 10 * 1024;

/// What everybody may see of a room at this moment.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The waiting page and its siblings in every language.
    pub pages: Pages,
    /// The public board.
    pub board: Bytes,
    /// When the board was true.
    as_of: Mono,
    published: Published,
}

impl RoomInForce {
    /// Puts a room together and renders its pages.
    ///
    /// # Errors
    /// [`BrokenAssets`] when a template is at fault.
    pub fn new(
        settings: Arc<config::Room>,
        config: &Config,
        live: Arc<LiveRoom>,
        tenure: Tenure,
        keyring: &Keyring,
        assets: &Assets,
        now: Now,
    ) -> Result<RoomInForce, BrokenAssets> {
        let frame = frame(&settings, config, assets)?;
        let in_force = live.in_force_under(&settings, now);
        let published = published(&settings, &in_force, &live, now);
        let pages = Pages::render(assets, &frame, &published)?;
        if pages.largest() > LARGEST_PAGE {
            let (room, bytes) = (settings.name.as_str(), pages.largest());
            tracing::warn!(room, bytes, "the waiting page no longer arrives at once: shorten the room's texts");
        }
        let shown = Shown { pages, board: board(&settings, &in_force, &live, assets, now), as_of: now.mono, published };
        Ok(RoomInForce {
            tenure,
            keys: keyring.for_room(&settings.name),
            cookies: RoomCookies::new(&settings.name),
            settings,
            live,
            frame,
            shown: RwLock::new(Arc::new(shown)),
            rendering: Mutex::new(()),
        })
    }

    /// Whether it protects its paths: a draining room does only as long as somebody stands in its line.
    pub fn protects(&self) -> bool {
        self.tenure == Tenure::Configured || !self.live.is_empty()
    }

    /// What everybody may see.
    pub fn shown(&self) -> Arc<Shown> {
        self.shown.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Brings the board up to date at once, and then the pages if their published state changed. Once a second, on
    /// the control plane; rendering may take longer than that, so only one rendering goes on at a time. An earlier call
    /// that comes to its end later changes nothing.
    ///
    /// # Errors
    /// [`BrokenAssets`] when a template is at fault; the old pages stay.
    pub fn refresh(&self, assets: &Assets, now: Now) -> Result<(), BrokenAssets> {
        self.refresh_board(assets, now);
        let in_force = self.live.in_force();
        let published = published(&self.settings, &in_force, &self.live, now);
        if published == self.shown().published {
            return Ok(());
        }
        let alone = self.rendering.try_lock();
        if matches!(alone, Err(TryLockError::WouldBlock)) {
            return Ok(());
        }
        let pages = Pages::render(assets, &self.frame, &published)?;
        self.show(|old| Shown { pages, published, ..old });
        Ok(())
    }

    /// Brings the board up to date. An earlier call that comes to its end later changes nothing.
    pub fn refresh_board(&self, assets: &Assets, now: Now) {
        let board = board(&self.settings, &self.live.in_force(), &self.live, assets, now);
        self.show(|old| if old.as_of > now.mono { old } else { Shown { board, as_of: now.mono, ..old } });
    }

    fn show(&self, change: impl FnOnce(Shown) -> Shown) {
        let mut shown = self.shown.write().unwrap_or_else(PoisonError::into_inner);
        *shown = Arc::new(change(Shown::clone(&shown)));
    }

    /// The words of a language with the room's time zone.
    pub fn words<'a>(&'a self, catalogue: &'a crate::waiting_room::catalogue::Catalogue) -> Words<'a> {
        Words { catalogue, time_zone: &self.settings.time_zone }
    }
}

/// What a room's pages have in common. Without a name of the service's own, pages show the public host.
fn frame(settings: &config::Room, config: &Config, assets: &Assets) -> Result<RoomFrame, BrokenAssets> {
    let mut page = settings.page.clone();
    if let (true, Some(url)) = (page.service == LocalText::default(), &config.server.public_url) {
        page.service = LocalText::for_all(&url.authority);
    }
    Ok(RoomFrame {
        room: settings.name.clone(),
        own_path: config.server.own_path.clone(),
        start: settings.start.clone(),
        look: Some(assets.look(&page)?),
        page,
        codes: codes(config),
    })
}

/// The codes that visitors may enter: those that give a place back, and invitations where they prove a class.
fn codes(config: &Config) -> BTreeSet<Code> {
    let invitations = takes_invitations(config).then_some(Code::Invitation);
    invitations.into_iter().chain([Code::Recovery]).collect()
}

fn takes_invitations(config: &Config) -> bool {
    config.classes.iter().flat_map(|class| &class.proofs).any(|proof| matches!(proof, Proof::InvitationCode(_)))
}

/// The reason that is told to visitors.
pub fn reason_of(still: Still) -> Reason {
    let code = match still.why {
        Why::Standstill(Standstill::BeforeOpening) => ReasonCode::BeforeOpening,
        Why::Standstill(Standstill::OperatorHold) => ReasonCode::OperatorHold,
        Why::Standstill(Standstill::PortalUnhealthy) => ReasonCode::PortalUnhealthy,
        Why::Standstill(Standstill::LeakGuard) => ReasonCode::LeakGuard,
        Why::Standstill(Standstill::StoreUnreachable) => ReasonCode::StoreUnreachable,
        Why::Standstill(Standstill::RoomFull) => ReasonCode::RoomFull,
        Why::OutsideHours => ReasonCode::OutsideHours,
        Why::RampingUp => ReasonCode::RampingUp,
        Why::StoreFull => ReasonCode::StoreFull,
        Why::StoreUnreachable => ReasonCode::StoreUnreachable,
    };
    Reason { code, since: still.since }
}

fn published(settings: &config::Room, in_force: &InForce, live: &LiveRoom, now: Now) -> Published {
    // A full room has a seat free every now and then; pages are not rendered anew for that.
    let steady = |still: &Still| still.why != Why::Standstill(Standstill::RoomFull);
    Published {
        message: in_force.message.clone(),
        reason: live.told_to_everybody(now).filter(steady).map(|still| reason_of(still).code),
        closed: settings.state == config::RoomState::Closed,
        ended: live.stage() != Stage::Open,
    }
}

fn board(settings: &config::Room, in_force: &InForce, live: &LiveRoom, assets: &Assets, now: Now) -> Bytes {
    let lanes: Vec<LaneBoard> = live.lanes().iter().map(|lane| lane_board(lane, live, in_force)).collect();
    let words = Words { catalogue: assets.languages().default_language(), time_zone: &settings.time_zone };
    Board {
        room: &settings.name,
        state: live.state(),
        reason: live.told_to_everybody(now).map(reason_of),
        message: in_force.message.first(),
        rate: in_force.rate().lowered(live.still().1),
        closing: settings.closing.as_ref().map(|ending| (ending.closing, live.stage())),
        lanes: &lanes,
        updated_at: now.wall,
    }
    .to_json(&words)
}

fn lane_board(lane: &NamedLane, live: &LiveRoom, in_force: &InForce) -> LaneBoard {
    let view = live.lane_view(lane.class);
    // Before the hour nobody has a number, and none is shown.
    let is_open = live.phase() == Phase::Open;
    LaneBoard {
        class: lane.name.clone(),
        now_serving: is_open.then_some(view.now_serving),
        waiting: is_open.then_some(view.waiting),
        window: window_of(if is_open {
            live.until_the_end(in_force.hours(lane.class))
        } else {
            live.hours(lane.class)
        }),
    }
}

/// A class's hours as people are told.
pub fn window_of(hours: Hours) -> Window {
    Window { open: hours.now == OpenNow::Open, opens_at: hours.opens_at, closes_at: hours.closes_at }
}
