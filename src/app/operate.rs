//! What operators change while the program runs: an override on top of the configuration file, previewed from the live lines,
//! written down before it is in force.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Control, Named, raises_a_rate};
use crate::admin::{
    ChangeAnswer, ChangeOrder, ChangeResult, ChangeStatus, Diff, DiffAnswer, EffectStatus, KeyChange, Line,
    MessageStatus, Mode, NotChanged, OverrideStatus, ReloadAnswer, ReloadFault, RoomEffects, WantedChange,
};
use crate::config::{self, ByHandTerms, Config, LocalText};
use crate::domain::effect::{LaneNow, Moves, Terms, effect};
use crate::domain::file_diff;
use crate::domain::names::RoomName;
use crate::domain::orders::{FileSays, Order, Outcome, Says, outcome};
use crate::domain::overrides::{Asked, Change, How, InForce, Message, Overrides, Subject, Wanted, Wish};
use crate::domain::time::Now;
use crate::gateway::snapshot::{RoomInForce, Snapshot, Tenure};
use crate::room::LiveRoom;
use crate::telemetry::metrics::{StandstillReason, room_state_text};

/// The configuration file in force, without what operators changed.
#[derive(Clone, Debug)]
pub(super) struct FileInForce {
    /// What it says.
    pub(super) config: Arc<Config>,
    /// Its text.
    pub(super) text: String,
}

impl FileInForce {
    /// The first digits of the text's SHA-256.
    pub(super) fn revision(&self) -> String {
        Sha256::digest(&self.text).iter().take(6).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The text of a file in force; empty when there is none.
pub(super) fn text_of(path: Option<&Path>) -> String {
    path.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default()
}

/// A configuration with what operators changed on top of it.
pub(super) fn with_overrides(file: &Arc<Config>, overrides: &Overrides) -> Arc<Config> {
    if overrides.entries().next().is_none() {
        return file.clone();
    }
    let rooms = file.rooms.iter().map(|room| settings_with(room, &overrides.of(&room.name))).collect();
    Arc::new(Config { rooms, ..Config::clone(file) })
}

/// A room with what operators changed of it.
fn settings_with(room: &Arc<config::Room>, held: &InForce) -> Arc<config::Room> {
    if held.rate.is_none() && held.state.is_none() && held.message.is_none() {
        return room.clone();
    }
    let state = match held.state {
        Some(Wanted::Open) => config::RoomState::Open,
        Some(Wanted::Hold) => config::RoomState::Hold,
        None => room.state,
    };
    let by_hand = ByHandTerms { rate: held.rate, message: held.message.as_ref().map(local_text) };
    Arc::new(config::Room { state, by_hand, ..config::Room::clone(room) })
}

fn local_text(message: &Message) -> LocalText {
    LocalText::of(message.0.iter().map(|text| (text.language.clone(), text.text.clone())))
}

/// What the audit log says of changes.
fn lines_of(changes: &[Change]) -> Vec<Line> {
    let line = |change: &Change| {
        let what = match change.how {
            How::Set => "changed",
            How::Undone => "undone",
            How::Expired => "expired",
            How::RoomGone => "room_gone",
            How::ToldToAll => "said_to_all_nodes",
            How::Reloaded => "reloaded",
        };
        Line { what, details: serde_json::to_value(ChangeStatus::from(change)).unwrap_or(Value::Null) }
    };
    changes.iter().map(line).collect()
}

impl Control {
    /// What operators changed that is over, or is about rooms that are gone, is dropped before anything is in force.
    pub(super) async fn begin_with_overrides(desk: &crate::admin::Desk, config: &Config, now: Now) -> Arc<Overrides> {
        let mut next = Overrides::clone(&desk.overrides());
        let mut changes = next.expire(now.wall);
        changes.extend(next.keep_rooms(|name| config.rooms.iter().any(|room| room.name.as_str() == name), now.wall));
        tell_of_dropped(&changes);
        for entry in next.entries() {
            let by = entry.now.as_ref().map_or("", |now| now.by.as_str());
            tracing::warn!(room = entry.room, subject = ?entry.subject, by, "an operator's override is in force over the file");
        }
        if !changes.is_empty() {
            if let Err(error) = desk.commit(&next, lines_of(&changes), now.wall).await {
                tracing::error!(%error, "what operators changed is over, and that could not be written down");
            }
            desk.keep(next);
        }
        desk.overrides()
    }

    /// The file in force.
    pub(super) fn file(&self) -> FileInForce {
        self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Makes a change of a room, or says what it would do.
    pub(super) async fn change(&self, order: ChangeOrder) -> Result<ChangeAnswer, NotChanged> {
        let snapshot = self.snapshot.borrow().clone();
        let room = configured(&snapshot, &order.room).ok_or(NotChanged::UnknownRoom)?;
        let (current, file, now) = (self.desk.overrides(), self.file(), self.clock.now());
        if let Some(seen) = order.seen {
            current.check_seen(seen)?;
        }
        let of_file = file.config.rooms.iter().find(|room| room.name == order.room).ok_or(NotChanged::UnknownRoom)?;
        if let Some(said) = said_to_all_nodes(&room.live, &order.wanted) {
            return self.tell_all_nodes(room, said, &order, &current).await;
        }
        let mut next = Overrides::clone(&current);
        let change = wanted_change(&mut next, &order, of_file, now)?;
        let settings = settings_with(of_file, &next.of(&order.room));
        // Of a line that several nodes share the store knows what operators said, and no override.
        let (state, frozen) = match room.live.is_shared() {
            true => (room.live.state(), room.live.is_frozen()),
            false => (settings.state, next.of(&order.room).frozen),
        };
        let revision = if order.mode == Mode::Apply { next.revision() } else { current.revision() };
        let answer = ChangeAnswer {
            result: ChangeResult::Preview,
            room: order.room.as_str().to_owned(),
            state: room_state_text(state),
            frozen,
            rate: room.live.in_force_under(&settings, now).rate().to_string(),
            revision,
            change: change.as_ref().map(ChangeStatus::from),
            effects: effects(room, &settings, halted(state, frozen), now),
            warnings: self.warnings(room, &settings, now),
            message: self.message_shown(room, &settings, change.as_ref(), now),
        };
        let Some(change) = change else {
            if order.mode == Mode::Apply {
                self.take_over(with_overrides(&file.config, &current)).await.map_err(NotChanged::NotApplied)?;
            }
            return Ok(ChangeAnswer { result: ChangeResult::Unchanged, ..answer });
        };
        if order.mode == Mode::Preview {
            return Ok(answer);
        }
        self.put_in_force(&file, &current, next, change).await?;
        Ok(ChangeAnswer { result: ChangeResult::Applied, ..answer })
    }

    /// Writes a change down and puts it in force. What cannot be put in force is written down as taken back.
    async fn put_in_force(
        &self,
        file: &FileInForce,
        current: &Overrides,
        next: Overrides,
        change: Change,
    ) -> Result<(), NotChanged> {
        let now = self.clock.now();
        let (old, effective) = (self.snapshot.borrow().clone(), with_overrides(&file.config, &next));
        if raises_a_rate(&old.config, &effective) {
            self.leaks.ask_before_a_raise(&effective).await;
        }
        self.desk.commit(&next, lines_of(std::slice::from_ref(&change)), now.wall).await?;
        if let Err(why) = self.take_over(effective).await {
            let line = Line { what: "not_applied", details: json!({"revision": change.revision, "why": why}) };
            if let Err(error) = self.desk.commit(current, vec![line], now.wall).await {
                tracing::error!(%error, "a change that could not be put in force stands in the operators' directory");
            }
            return Err(NotChanged::NotApplied(why));
        }
        tracing::warn!(
            room = change.room.as_deref(), subject = ?change.subject, by = change.by, how = ?change.how,
            revision = change.revision, "an operator changed something"
        );
        self.keep(next).await;
        Ok(())
    }

    /// Puts what operators changed in force, if it is not.
    ///
    /// # Errors
    /// Why it could not be.
    async fn take_over(&self, effective: Arc<Config>) -> Result<(), String> {
        let old = self.snapshot.borrow().clone();
        if *effective == *old.config {
            return Ok(());
        }
        match self.apply(effective, Named::of(&old)).await {
            ReloadAnswer::Refused(faults) => {
                Err(faults.iter().map(|fault| fault.wrong.as_str()).collect::<Vec<_>>().join("; "))
            }
            _ => Ok(()),
        }
    }

    /// Holds or freezes a line that several nodes share, or lets it go on, at all of them. The store keeps that, not an
    /// override of this node.
    async fn tell_all_nodes(
        &self,
        room: &RoomInForce,
        said: Order,
        order: &ChangeOrder,
        current: &Overrides,
    ) -> Result<ChangeAnswer, NotChanged> {
        if order.until.is_some() {
            return Err(NotChanged::NoEnd);
        }
        let (now, live) = (self.clock.now(), &room.live);
        let Outcome { state, frozen, says } = outcome(said, live.orders(), room.settings.state)
            .map_err(|FileSays(state)| NotChanged::FileSays(room_state_text(state)))?;
        let result = match order.mode {
            Mode::Preview => ChangeResult::Preview,
            Mode::Apply if says == Says::Nothing => ChangeResult::Unchanged,
            Mode::Apply => ChangeResult::Applied,
        };
        let mut next = Overrides::clone(current);
        if result == ChangeResult::Applied {
            let subject = if matches!(said, Order::Freeze | Order::Thaw) { Subject::Freeze } else { Subject::State };
            next.told_to_all(&order.room, subject, &order.by, now.wall);
        }
        let mut answer = ChangeAnswer {
            result,
            room: order.room.as_str().to_owned(),
            state: room_state_text(state),
            frozen,
            rate: live.in_force().rate().to_string(),
            revision: next.revision(),
            change: None,
            effects: effects(room, &room.settings, halted(state, frozen), now),
            warnings: Vec::new(),
            message: None,
        };
        if order.mode == Mode::Apply {
            let details = json!({"room": answer.room, "by": order.by, "said": format!("{said:?}")});
            self.desk.commit(&next, vec![Line { what: "said_to_all_nodes", details }], now.wall).await?;
            self.desk.keep(next);
            tracing::warn!(room = answer.room, by = order.by, ?said, "an operator told all nodes");
            answer.warnings.extend(self.order(live, said).await);
        }
        Ok(answer)
    }

    /// Takes over what is in force, frozen rooms among it. Of a line that several nodes share the store knows whether it is
    /// frozen.
    pub(super) async fn keep(&self, next: Overrides) {
        let rooms = self.snapshot.borrow().rooms.clone();
        for room in rooms.iter().filter(|room| !room.live.is_shared()) {
            let wanted = next.of(&room.settings.name).frozen;
            if wanted != room.live.is_frozen() {
                self.order(&room.live, if wanted { Order::Freeze } else { Order::Thaw }).await;
            }
        }
        self.desk.keep(next);
    }

    /// What cannot be told to the other nodes now is as soon as the store is there again.
    async fn order(&self, room: &LiveRoom, order: Order) -> Option<String> {
        let error = room.order(order, self.clock.mono()).await.err()?;
        tracing::warn!(?order, %error, "the other nodes will hear of it when the store is there again");
        Some(format!("it holds at this node; the other nodes hear of it when the store is there again: {error}"))
    }

    /// Once a second: what is over is over.
    pub(super) async fn expire_overrides(&self) {
        let (current, now) = (self.desk.overrides(), self.clock.now());
        if !current.is_anything_over(now.wall) {
            return;
        }
        let mut next = Overrides::clone(&current);
        let changes = next.expire(now.wall);
        // What is not out of force is shown as what it is, and tried again in a second.
        if let Err(why) = self.take_over(with_overrides(&self.file().config, &next)).await {
            tracing::error!(why, "an override is over and cannot be taken out of force");
            return;
        }
        tell_of_dropped(&changes);
        // Its time is over whether or not that can be written down; after a restart it is over again.
        if let Err(error) = self.desk.commit(&next, lines_of(&changes), now.wall).await {
            tracing::error!(%error, "an override expired, and that could not be written down");
        }
        self.keep(next).await;
    }

    /// What operators changed goes on over a new file, except for rooms that are gone from it.
    pub(super) fn overrides_under(&self, config: &Config) -> (Overrides, Vec<Change>) {
        let (mut next, now) = (Overrides::clone(&self.desk.overrides()), self.clock.now());
        let mut changes = next.keep_rooms(|name| config.rooms.iter().any(|room| room.name.as_str() == name), now.wall);
        changes.push(next.reloaded("reload", now.wall));
        (next, changes)
    }

    /// A room that is gone from the file drains under what the file said last: an operator's hold would keep its line for ever.
    pub(super) async fn drain_as_the_file_says(&self, next: &Overrides, changes: &[Change]) {
        if changes.iter().any(|change| change.how == How::RoomGone) {
            let (old, last) = (self.snapshot.borrow().clone(), with_overrides(&self.file().config, next));
            self.apply(last, Named::of(&old)).await;
        }
    }

    /// What was in force before a reload that came to nothing is in force again.
    pub(super) async fn put_back(&self, before: &Snapshot) {
        if self.snapshot.borrow().config != before.config {
            self.apply(before.config.clone(), Named::of(before)).await;
        }
    }

    /// A new file is in force; what that did to overrides is written down and told.
    pub(super) async fn note_new_file(&self, file: FileInForce, next: Overrides, changes: &[Change]) {
        let now = self.clock.now();
        tell_of_dropped(changes);
        for entry in next.entries() {
            tracing::warn!(room = entry.room, subject = ?entry.subject, "an operator's override stays in force over the new file");
        }
        if let Err(error) = self.desk.commit(&next, lines_of(changes), now.wall).await {
            tracing::error!(%error, "the new configuration is in force, and that could not be written down");
        }
        self.desk.note_configuration(file.revision(), self.path.as_deref(), now.wall);
        *self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = file;
        self.keep(next).await;
    }

    /// What another configuration file would change.
    pub(super) fn diff(&self, text: &str) -> DiffAnswer {
        let base = self.path.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
        let new = match config::parse(text, base) {
            Ok(new) => Arc::new(new),
            Err(faults) => return DiffAnswer::Faulty(faults.iter().map(ReloadFault::from).collect()),
        };
        let (file, snapshot, now) = (self.file(), self.snapshot.borrow().clone(), self.clock.now());
        let overrides = self.desk.overrides();
        let effective = with_overrides(&new, &overrides);
        let needs_restart = config::restart_needed(&file.config, &new);
        let mut warnings: Vec<String> = new.warnings().iter().map(ToString::to_string).collect();
        let mut rooms = Vec::new();
        for room in snapshot.rooms.iter().filter(|room| room.tenure == Tenure::Configured) {
            let Some(settings) = effective.rooms.iter().find(|new| new.name == room.settings.name) else {
                warnings
                    .push(format!("room {} is gone: its line drains, nobody can join it", room.settings.name.as_str()));
                continue;
            };
            if *settings != room.settings {
                let halted = halted(settings.state, room.live.is_frozen());
                rooms.push(RoomEffects {
                    room: room.settings.name.as_str().to_owned(),
                    effects: effects(room, settings, halted, now),
                });
                warnings.extend(self.warnings(room, settings, now));
            }
        }
        let gone = |name: &str| new.rooms.iter().all(|room| room.name.as_str() != name);
        for entry in overrides.entries().filter(|entry| gone(&entry.room)) {
            warnings
                .push(format!("the override of {:?} in room {} is dropped with the room", entry.subject, entry.room));
        }
        let changes = key_changes(&file.text, text);
        let result = match (*new == *file.config, needs_restart.is_empty()) {
            (true, _) => "unchanged",
            (false, true) => "reloadable",
            (false, false) => "needs_restart",
        };
        let overrides = OverrideStatus::all(&overrides);
        DiffAnswer::Differs(Box::new(Diff { result, changes, needs_restart, rooms, overrides, warnings }))
    }

    /// What an operator should think of before a room's terms are these.
    fn warnings(&self, room: &RoomInForce, settings: &Arc<config::Room>, now: Now) -> Vec<String> {
        let (before, after) = (room.live.in_force().rate().per_second(), room.live.rate_under(settings, now));
        let mut warnings: Vec<String> = self.desk.warning_of_rate(&settings.name, before, after).into_iter().collect();
        if let Some(adaptive) = settings.adaptive.filter(|adaptive| adaptive.floor.per_second() > after) {
            let floor = adaptive.floor;
            warnings.push(format!(
                "the room's adaptive floor ({floor}) is above this rate: the rate is not lowered any further"
            ));
        }
        if room.live.is_shared() {
            warnings.push(
                "several nodes share this line, and a rate or message that is changed here holds on this node alone: do the same on every node"
                    .to_owned(),
            );
        }
        warnings
    }

    /// How pages say a message that was changed.
    fn message_shown(
        &self,
        room: &RoomInForce,
        settings: &Arc<config::Room>,
        change: Option<&Change>,
        now: Now,
    ) -> Option<Vec<MessageStatus>> {
        change.filter(|change| change.subject == Some(Subject::Message))?;
        let in_force = room.live.in_force_under(settings, now);
        let snapshot = self.snapshot.borrow().clone();
        let of_page = |page: &str| {
            let shown = in_force.message.in_language(page);
            let typed: String = shown.map(|(text, _)| percent(text)).unwrap_or_default();
            let name = settings.name.as_str();
            MessageStatus {
                page: page.to_owned(),
                text: shown.map(|(text, _)| text.to_owned()),
                language: shown.and_then(|(_, language)| language.map(str::to_owned)),
                preview: format!("/admin/v1/rooms/{name}/preview?scene=waiting&lang={page}&message={typed}"),
            }
        };
        Some(snapshot.assets.languages().iter().map(|catalogue| of_page(&catalogue.code)).collect())
    }
}

/// Applies what is wanted to overrides; `None` when it is so already. A state that the file says anyway needs no override.
fn wanted_change(
    next: &mut Overrides,
    order: &ChangeOrder,
    of_file: &config::Room,
    now: Now,
) -> Result<Option<Change>, NotChanged> {
    let asked = Asked { by: order.by.clone(), at: now.wall, until: order.until };
    match order.wanted.clone() {
        WantedChange::Undo(subject) => Ok(Some(next.undo(&order.room, subject, &order.by, now.wall)?)),
        WantedChange::Set(subject, wish) => {
            let wish = match wish {
                Some(Wish::State(wanted)) if says(of_file.state, wanted) => None,
                Some(Wish::State(Wanted::Open)) if of_file.state != config::RoomState::Hold => {
                    // Letting a room go on ends what an operator said of it; it does not open what the file closes.
                    if next.of(&order.room).state.is_none() {
                        return Err(NotChanged::FileSays(room_state_text(of_file.state)));
                    }
                    None
                }
                Some(Wish::Message(message)) => Some(Wish::Message(message.checked()?)),
                wish => wish,
            };
            Ok(next.set(&order.room, subject, wish, &asked)?)
        }
    }
}

/// What all nodes that share a line are told instead of changing it here alone.
fn said_to_all_nodes(room: &LiveRoom, wanted: &WantedChange) -> Option<Order> {
    let WantedChange::Set(subject, wish) = wanted else { return None };
    let order = match (subject, wish) {
        (Subject::Freeze, Some(_)) => Order::Freeze,
        (Subject::Freeze, None) => Order::Thaw,
        (Subject::State, Some(Wish::State(Wanted::Hold))) => Order::Hold,
        (Subject::State, _) => Order::GoOn,
        _ => return None,
    };
    room.is_shared().then_some(order)
}

fn says(state: config::RoomState, wanted: Wanted) -> bool {
    match wanted {
        Wanted::Open => state == config::RoomState::Open,
        Wanted::Hold => state == config::RoomState::Hold,
    }
}

fn configured<'a>(snapshot: &'a Snapshot, name: &RoomName) -> Option<&'a Arc<RoomInForce>> {
    snapshot.rooms.iter().find(|room| room.settings.name == *name && room.tenure == Tenure::Configured)
}

/// Whether a room in this state moves, as far as operators decide it.
fn halted(state: config::RoomState, frozen: bool) -> Moves {
    let is_held = matches!(state, config::RoomState::Hold | config::RoomState::Closed);
    if is_held || frozen { Moves::No } else { Moves::Yes }
}

/// What other settings do to those who wait in a room.
fn effects(room: &RoomInForce, settings: &Arc<config::Room>, after: Moves, now: Now) -> Vec<EffectStatus> {
    let before = halted(room.live.state(), room.live.is_frozen());
    let live: &LiveRoom = &room.live;
    // Before an opening, after the end, while the portal is unwell: nothing that an operator changes makes the lane move.
    let stands_anyway = |class| {
        use StandstillReason::{BeforeOpening, Closed, LeakGuard, PortalUnhealthy};
        let still = live.standstill_of(class, now).map(|(reason, _)| reason);
        // A frozen line stands as if the portal were unwell.
        let by_itself = !live.is_frozen() || still != Some(PortalUnhealthy);
        matches!(still, Some(BeforeOpening | Closed | LeakGuard | PortalUnhealthy)) && by_itself
    };
    let of = |forecast: crate::room::Forecast| {
        let stands = stands_anyway(forecast.class);
        let moves = |moves: Moves| if stands { Moves::No } else { moves };
        let class = live.class_name(forecast.class);
        let lane = LaneNow {
            class: class.as_str().to_owned(),
            waiting: forecast.waiting,
            calls: forecast.calls,
            movement: forecast.movement,
        };
        let stretches_before = live.outlook_under(&room.settings, forecast.class, now);
        let stretches_after = live.outlook_under(settings, forecast.class, now);
        let before = Terms { stretches: &stretches_before, moves: moves(before) };
        effect(&lane, before, Terms { stretches: &stretches_after, moves: moves(after) }).into()
    };
    live.forecasts(now).into_iter().map(of).collect()
}

/// Says loudly what operators wanted and is no more.
fn tell_of_dropped(changes: &[Change]) {
    for change in changes {
        match change.how {
            How::Expired => tracing::warn!(
                room = change.room.as_deref(), subject = ?change.subject,
                "an operator's override expired: the file holds again"
            ),
            How::RoomGone => tracing::error!(
                room = change.room.as_deref(), subject = ?change.subject,
                "an operator's override is dropped, because its room is gone from the file"
            ),
            _ => {}
        }
    }
}

fn key_changes(from: &str, to: &str) -> Vec<KeyChange> {
    let (Ok(from), Ok(to)) = (from.parse::<toml::Table>(), to.parse::<toml::Table>()) else { return Vec::new() };
    let of = |one: file_diff::Difference| KeyChange { key: one.key, from: one.from, to: one.to };
    file_diff::differences(&from, &to).into_iter().map(of).collect()
}

/// A text as it stands in a query (RFC 3986, section 2.1).
fn percent(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
