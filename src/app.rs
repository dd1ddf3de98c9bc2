//! The wiring: from a configuration to a running program, reloads, and the order of stopping.

mod operate;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, net::SocketAddr};

use tokio::sync::{mpsc, oneshot, watch};

use crate::admin::{
    self, Admin, AdminListener, AdminTokenError, BindError as AdminBindError, Command, Desk, LeakReports, Operators,
    Parts, PortalStatus, ReloadAnswer, ReloadFault, ReloadStatus, Stage, Status, StoreState,
};
use crate::certificates;
use crate::classes::{self, ClassFault, Classes, HeldTickets};
use crate::clock::Clock;
use crate::config::{self, Config, Limits, Reload};
use crate::domain::keyring::Keyring;
use crate::domain::names::{ClassName, RoomName};
use crate::domain::overrides::Overrides;
use crate::domain::rate::Rate;
use crate::domain::time::{Now, Unix};
use crate::entropy;
use crate::gateway::snapshot::{RoomInForce, Snapshot, Tenure};
use crate::gateway::{Gateway, Ids, Shared};
use crate::keys::{self, KeyFaults};
use crate::leaks::{self, Leaks};
use crate::pacer::Pacer;
use crate::proxy::Portal;
use crate::proxy::tls::PortalTls;
use crate::room::{Asked, LiveRoom, NoOpening, NoRoom, ask_login_providers};
use crate::server::{BindError, Connections, Door, Inherited, Listeners, Serving, Tls};
use crate::staff::{self, StaffPasses};
use crate::store::{Operation, Store, StoreError};
use crate::telemetry::log::Log;
use crate::telemetry::metrics::{Metrics, MetricsError, ReloadResult, StoreOperation};
use crate::waiting_room::assets::{Assets, BrokenAssets};
use crate::waiting_room::preview::{PreviewedRoom, Previews};
use operate::{FileInForce, with_overrides};

/// Why the program could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A visitors' listener.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The private listener.
    #[error(transparent)]
    AdminBind(#[from] AdminBindError),
    /// What operators changed.
    #[error(transparent)]
    Overrides(#[from] admin::Unreadable),
    /// The private listener's token.
    #[error(transparent)]
    AdminToken(#[from] AdminTokenError),
    /// The signing keys.
    #[error("{0}")]
    Keys(KeyFaults),
    /// The certificates.
    #[error(transparent)]
    Certificates(#[from] certificates::Faults),
    /// The state.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A room's line.
    #[error(transparent)]
    Room(#[from] NoRoom),
    /// The waiting page.
    #[error(transparent)]
    Assets(#[from] BrokenAssets),
    /// The metrics.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The leak guard's key.
    #[error(transparent)]
    LeakKey(#[from] leaks::KeyFault),
    /// The proofs of a class.
    #[error(transparent)]
    Classes(#[from] ClassFault),
    /// Randomness.
    #[error(transparent)]
    Entropy(#[from] entropy::NoEntropy),
    /// A thread or a runtime.
    #[error("the system gives no thread: {0}")]
    Thread(#[from] io::Error),
}

/// A program that runs.
#[derive(Debug)]
pub struct App {
    /// The visitors' addresses in fact listened on, without TLS.
    pub addresses: Vec<SocketAddr>,
    /// Those with TLS.
    pub tls_addresses: Vec<SocketAddr>,
    /// Those that only send visitors to HTTPS.
    pub redirect_addresses: Vec<SocketAddr>,
    /// The private listener's address, unless it is a Unix socket.
    pub admin_address: Option<SocketAddr>,
    /// Ticks done by the pacer so far.
    pub ticks: watch::Receiver<u64>,
    control: Arc<Control>,
    commands: mpsc::Sender<Command>,
    drain: watch::Sender<bool>,
    stage: watch::Sender<Stage>,
    threads: Vec<JoinHandle<()>>,
    tasks: tokio::task::JoinSet<()>,
}

/// Between two looks whether what operators changed is over.
const OVERRIDES_LOOKED_AT_EVERY: Duration = Duration::from_secs(1);

/// Faults of a reload that operators see at a glance.
const FAULTS_SHOWN: usize = 20;

/// What a reload works on.
#[derive(Debug)]
struct Control {
    path: Option<PathBuf>,
    clock: Clock,
    store: Arc<Store>,
    portal: Arc<Portal>,
    metrics: Arc<Metrics>,
    shared: Arc<Shared>,
    leaks: Arc<Leaks>,
    snapshot: watch::Sender<Arc<Snapshot>>,
    limits: watch::Sender<Limits>,
    admin: watch::Sender<Arc<config::Admin>>,
    previews: watch::Sender<Arc<Previews>>,
    tls: watch::Sender<Arc<Tls>>,
    operators: watch::Sender<Arc<Operators>>,
    desk: Arc<Desk>,
    file: Mutex<FileInForce>,
    /// Whether an operator wants the program to stop.
    leaving: watch::Sender<bool>,
}

/// What the configuration names in files besides itself.
struct Files {
    keyring: Arc<Keyring>,
    assets: Arc<Assets>,
    tls: Arc<Tls>,
    portal_tls: Option<PortalTls>,
    operators: Arc<Operators>,
}

/// What rooms and classes need of those files.
struct Named {
    keyring: Arc<Keyring>,
    assets: Arc<Assets>,
    classes: Arc<Classes>,
}

impl Named {
    /// As they are in force: what operators change has nothing to do with them.
    fn of(snapshot: &Snapshot) -> Named {
        let Snapshot { keyring, assets, classes, .. } = snapshot;
        Named { keyring: keyring.clone(), assets: assets.clone(), classes: classes.clone() }
    }
}

impl App {
    /// Starts the program: state, keys, rooms, listeners, threads. The configuration's file, when given, is what
    /// reloads read. To be called on a tokio runtime, which becomes the control plane's.
    ///
    /// # Errors
    /// [`StartError`], in words for the operator.
    pub async fn start(
        config: Config,
        path: Option<&Path>,
        clock: Clock,
        log: Log,
        metrics: Arc<Metrics>,
    ) -> Result<App, StartError> {
        let doors = Doors::open(&config).await?;
        let control = Control::open(config, path, clock, log, metrics).await?;
        App::run(control, doors)
    }

    /// Starts the tasks and threads of a program whose parts are there.
    fn run(control: Control, doors: Doors) -> Result<App, StartError> {
        let control = Arc::new(control);
        let (drain, stage) = (watch::Sender::new(false), watch::Sender::new(Stage::Serving));
        let (status, ticks) = (watch::Sender::new(Arc::new(starting(&control.clock))), watch::Sender::new(0));
        let (commands, orders) = mpsc::channel(16);
        let addresses =
            |kind: fn(&Door) -> bool| doors.visitors.first().map(|set| set.addresses(kind)).unwrap_or_default();
        let plain_addresses = addresses(|door| *door == Door::Plain);
        let tls_addresses = addresses(|door| matches!(door, Door::Tls(_)));
        let redirect_addresses = addresses(|door| *door == Door::Redirect);
        let admin_address = doors.admin.local_addr();
        let seen_ticks = ticks.subscribe();
        let admin = control.admin(status.subscribe(), commands.clone());
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(admin::serve(doors.admin, Arc::new(admin), shortly_after(drain.subscribe())));
        tasks.spawn(control.portal.clone().probe_while_unhealthy(control.clock.clone()));
        let health = control.portal.clone();
        let config_of = |snapshot: &Arc<Snapshot>| snapshot.config.clone();
        tasks.spawn(health.ask_after_health(control.snapshot.subscribe(), config_of, control.clock.clone()));
        tasks.spawn(staff::look_after(control.shared.staff.clone(), control.snapshot.subscribe()));
        let rooms_of = |snapshot: &Arc<Snapshot>| Asked {
            probes: snapshot.config.portal.probes.clone(),
            rooms: snapshot.rooms.iter().map(|room| (room.settings.clone(), room.live.clone())).collect(),
        };
        tasks.spawn(ask_login_providers(control.snapshot.subscribe(), rooms_of, control.clock.clone()));
        tasks.spawn(control.pacer(status, stage.subscribe(), ticks).run());
        tasks.spawn(obey(control.clone(), orders));
        tasks.spawn(control.desk.clone().look_after(control.snapshot.subscribe(), control.clock.clone()));
        tasks.spawn(control.leaks.clone().look_after(control.snapshot.subscribe()));
        tasks.spawn(control.leaks.clone().share(control.store.clone(), control.snapshot.subscribe()));
        tasks.spawn(control.leaks.clone().ask_at_the_edge(control.snapshot.subscribe()));
        tasks.spawn(classes::look_after(control.snapshot.subscribe(), control.clock.clone()));
        let serving = ServingParts {
            shared: control.shared.clone(),
            tls: control.tls.subscribe(),
            limits: control.limits.subscribe(),
            drain: drain.subscribe(),
        };
        let threads = serving.spawn(doors.visitors)?;
        Ok(App {
            addresses: plain_addresses,
            tls_addresses,
            redirect_addresses,
            admin_address,
            ticks: seen_ticks,
            control,
            commands,
            drain,
            stage,
            threads,
            tasks,
        })
    }

    /// Waits until an operator wants the program to stop.
    pub fn asked_to_stop(&self) -> impl Future<Output = ()> + use<> {
        let mut leaving = self.control.leaving.subscribe();
        async move {
            // The sender lives as long as the program.
            let _ = leaving.wait_for(|leaving| *leaving).await;
        }
    }

    /// Where to send what an operator wants.
    pub fn commands(&self) -> mpsc::Sender<Command> {
        self.commands.clone()
    }

    /// Reads the configuration file again.
    pub async fn reload(&self) -> ReloadAnswer {
        reload(&self.commands).await
    }

    /// Stops: health checks fail, and once balancers had time to notice nothing new is accepted, what is under way ends,
    /// the state is made durable.
    ///
    /// # Errors
    /// When not everything could be made durable.
    pub async fn stop(mut self) -> Result<(), StoreError> {
        self.stage.send_replace(Stage::Draining);
        self.control.shared.draining.store(true, Ordering::Relaxed);
        for room in &self.control.snapshot.borrow().rooms {
            room.live.release_polls();
        }
        let notice = self.control.snapshot.borrow().config.server.limits.drain_notice;
        tokio::time::sleep(notice).await;
        self.drain.send_replace(true);
        let threads = std::mem::take(&mut self.threads);
        // A request thread that panicked has been logged; the others end all the same.
        let _ = tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join()))).await;
        self.tasks.shutdown().await;
        self.control.desk.write_history().await;
        let last = self.control.snapshot.borrow().clone();
        self.control.desk.write_sums(&last, self.control.clock.now().wall).await;
        self.control.leaks.tell_all(&self.control.store, &last.config.leak_guard).await;
        let leaks = self.control.leaks.clone();
        // A writer that panicked has been logged.
        let _ = tokio::task::spawn_blocking(move || leaks.close()).await;
        self.control.store.close().await
    }

    /// Ends at once without making anything durable, as a crash does; for tests of what a crash leaves behind.
    pub fn abandon(mut self) {
        self.drain.send_replace(true);
        self.tasks.abort_all();
    }
}

/// The sockets of a program, open, and what opens the private one.
struct Doors {
    visitors: Vec<Listeners>,
    admin: AdminListener,
}

impl Doors {
    async fn open(config: &Config) -> Result<Doors, StartError> {
        let threads = if config.server.threads == 0 { cores() } else { config.server.threads };
        Ok(Doors {
            visitors: Listeners::bind(&config.server, threads, &Inherited::from_environment())?,
            admin: AdminListener::bind(&config.admin.listen).await?,
        })
    }
}

/// Operators and balancers want to see the drain, so the private listener outlasts it a little.
async fn shortly_after(mut drain: watch::Receiver<bool>) {
    let _ = drain.wait_for(|drain| *drain).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
}

/// Asks the control plane for a reload.
pub async fn reload(commands: &mpsc::Sender<Command>) -> ReloadAnswer {
    let (sender, answer) = oneshot::channel();
    if commands.send(Command::Reload(sender)).await.is_err() {
        return ReloadAnswer::Unchanged;
    }
    answer.await.unwrap_or(ReloadAnswer::Unchanged)
}

/// What every request thread gets.
struct ServingParts {
    shared: Arc<Shared>,
    tls: watch::Receiver<Arc<Tls>>,
    limits: watch::Receiver<Limits>,
    drain: watch::Receiver<bool>,
}

impl ServingParts {
    /// One thread with a runtime of its own for each set of listeners.
    fn spawn(self, listeners: Vec<Listeners>) -> Result<Vec<JoinHandle<()>>, io::Error> {
        let connections = Arc::new(Connections::default());
        let mut threads = Vec::new();
        for (number, set) in listeners.into_iter().enumerate() {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let serving = Serving {
                gateway: Arc::new(Gateway::new(self.shared.clone())),
                tls: self.tls.clone(),
                limits: self.limits.clone(),
                connections: connections.clone(),
                drain: self.drain.clone(),
            };
            let thread = std::thread::Builder::new().name(format!("requests-{number}"));
            threads.push(thread.spawn(move || {
                if let Err(error) = runtime.block_on(serving.run(set)) {
                    tracing::error!(%error, "a request thread could not serve");
                }
            })?);
        }
        Ok(threads)
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn observer(metrics: &Arc<Metrics>) -> crate::store::Observer {
    let metrics = metrics.clone();
    Box::new(move |operation, took| {
        let operation = match operation {
            Operation::Open => StoreOperation::Open,
            Operation::Commit => StoreOperation::Commit,
            Operation::Number => StoreOperation::Number,
        };
        metrics.store_operation_seconds.of(operation).observe(took.as_secs_f64());
    })
}

fn starting(clock: &Clock) -> Status {
    let now = clock.now();
    Status {
        taken_at: now.mono,
        updated_at: now.wall,
        stage: Stage::Starting,
        store: StoreState::Works,
        portal: PortalStatus {
            healthy: true,
            in_flight: 0,
            max_in_flight: 0,
            answers_per_second: 0.0,
            latency_p50_ms: None,
            latency_p95_ms: None,
            errors_percent: 0.0,
        },
        revision: 0,
        configuration: Default::default(),
        leak_guard: Default::default(),
        certificates: Vec::new(),
        audit: serde_json::Value::Null,
        overrides: Vec::new(),
        rooms: Vec::new(),
    }
}

/// Puts a snapshot together; rooms that live already go on living.
async fn snapshot(
    config: &Arc<Config>,
    old: Option<&Snapshot>,
    named: Named,
    store: &Arc<Store>,
    metrics: &Arc<Metrics>,
    clock: &Clock,
) -> Result<Snapshot, StartError> {
    let Named { keyring, assets, classes } = named;
    let old_rooms = old.map(|old| old.rooms.as_slice()).unwrap_or_default();
    let mut rooms = Vec::new();
    for settings in &config.rooms {
        let known = old_rooms.iter().find(|room| room.settings.name == settings.name);
        let live = match known {
            Some(room) => room.live.clone(),
            None => LiveRoom::open(settings.clone(), store.clone(), metrics, clock.now()).await?,
        };
        let room = RoomSource { settings: settings.clone(), live, tenure: Tenure::Configured };
        rooms.push(room.put_in_force(config, &keyring, &assets, clock.now()).await?);
    }
    let gone = old_rooms.iter().filter(|old| config.rooms.iter().all(|room| room.name != old.settings.name));
    for old in gone {
        let room = RoomSource { settings: old.settings.clone(), live: old.live.clone(), tenure: Tenure::Draining };
        rooms.push(room.put_in_force(config, &keyring, &assets, clock.now()).await?);
    }
    Ok(Snapshot { config: config.clone(), rooms, keyring, assets, classes })
}

/// Reads what the proofs of classes need, on a thread of its own.
async fn classes(
    config: &Arc<Config>,
    old: Option<Arc<Classes>>,
    metrics: Arc<Metrics>,
) -> Result<Arc<Classes>, StartError> {
    let config = config.clone();
    let load = move || Classes::load(&config.classes, &config.leak_guard.audit.key, metrics, old.as_deref());
    Ok(Arc::new(tokio::task::spawn_blocking(load).await.map_err(io::Error::other)??))
}

/// Made-up pages of the rooms that are configured.
fn previews(snapshot: &Snapshot) -> Previews {
    let rooms = snapshot.rooms.iter().filter(|room| room.tenure == Tenure::Configured);
    let rooms = rooms.map(|room| PreviewedRoom {
        frame: room.frame.clone(),
        message: room.settings.by_hand.message.clone().unwrap_or_else(|| room.settings.message.clone()),
        time_zone: room.settings.time_zone.clone(),
    });
    let rooms = rooms.collect();
    Previews::new(snapshot.assets.clone(), rooms)
}

/// Lets every room that shares its line hear the other nodes, if it does not yet.
fn listen(snapshot: &Snapshot, store: &Store, portal: &Arc<Portal>, clock: &Clock) {
    for room in &snapshot.rooms {
        if let Some(news) = store.news(&room.settings.name) {
            tokio::spawn(room.live.clone().listen(news, portal.clone(), clock.clone()));
        }
    }
}

/// What a room in force is made of.
struct RoomSource {
    settings: Arc<config::Room>,
    live: Arc<LiveRoom>,
    tenure: Tenure,
}

impl RoomSource {
    /// Puts the room together on a thread of its own: rendering and compressing its pages would hold up the tick.
    async fn put_in_force(
        self,
        config: &Arc<Config>,
        keyring: &Arc<Keyring>,
        assets: &Arc<Assets>,
        now: Now,
    ) -> Result<Arc<RoomInForce>, StartError> {
        let (config, keyring, assets) = (config.clone(), keyring.clone(), assets.clone());
        let RoomSource { settings, live, tenure } = self;
        let build = move || RoomInForce::new(settings, &config, live, tenure, &keyring, &assets, now);
        Ok(Arc::new(tokio::task::spawn_blocking(build).await.map_err(io::Error::other)??))
    }
}

/// Carries out what operators want, one thing after the other.
async fn obey(control: Arc<Control>, mut orders: mpsc::Receiver<Command>) {
    loop {
        let order = tokio::select! {
            order = orders.recv() => order,
            () = control.clock.sleep(OVERRIDES_LOOKED_AT_EVERY) => {
                control.expire_overrides().await;
                continue;
            }
        };
        let Some(order) = order else { return };
        // However many orders come, what is over is over.
        control.expire_overrides().await;
        // Whoever asked may have gone; what was asked is done all the same.
        match order {
            Command::Reload(answer) => {
                let _ = answer.send(control.reload().await);
            }
            Command::Change(order, answer) => {
                let _ = answer.send(control.change(*order).await);
            }
            Command::Diff { text, answer } => {
                let _ = answer.send(control.diff(&text));
            }
            Command::Drain(answer) => {
                let _ = answer.send(());
                control.leaving.send_replace(true);
            }
        }
    }
}

impl Control {
    /// Opens what lasts (keys, state, rooms) and puts together what all threads share.
    async fn open(
        config: Config,
        path: Option<&Path>,
        clock: Clock,
        log: Log,
        metrics: Arc<Metrics>,
    ) -> Result<Control, StartError> {
        let (key_dir, activate_after) = (&config.tokens.key_dir, config.tokens.activate_after);
        let keyring = Arc::new(keys::load_or_create(key_dir, activate_after).map_err(StartError::Keys)?);
        let operators = Operators::load_or_create(&config.admin)?;
        let tls = Arc::new(Tls::load(&config.server, None, clock.now().wall)?);
        metrics.set_certificate_expiries(tls.expiries());
        let portal_tls = PortalTls::load(&config.portal).map_err(certificates::Faults::of_portal)?;
        let store = Arc::new(Store::open(&config.store, clock.clone(), observer(&metrics)).await?);
        let assets = Arc::new(Assets::load(&config.page)?);
        let tls = watch::Sender::new(tls);
        let desk = Arc::new(Desk::open(&config.admin.state_dir, tls.subscribe())?);
        let file = FileInForce { config: Arc::new(config), text: operate::text_of(path) };
        desk.note_configuration(file.revision(), path, clock.now().wall);
        let overrides = Control::begin_with_overrides(&desk, &file.config, clock.now()).await;
        let config = with_overrides(&file.config, &overrides);
        let classes = classes(&config, None, metrics.clone()).await?;
        let first = snapshot(&config, None, Named { keyring, assets, classes }, &store, &metrics, &clock).await?;
        let previews = watch::Sender::new(Arc::new(previews(&first)));
        let snapshot = watch::Sender::new(Arc::new(first));
        let portal = Portal::new(&config.portal, portal_tls);
        let staff = Arc::new(StaffPasses::default());
        staff.look(&config.tokens.pass_dir);
        let leaks = Arc::new(Leaks::open(&config.leak_guard.audit, metrics.clone(), clock.clone())?);
        leaks.recall(&store, &config.leak_guard).await;
        let shared = Arc::new(Shared {
            snapshot: snapshot.subscribe(),
            portal: portal.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            leaks: leaks.clone(),
            log,
            draining: AtomicBool::new(false),
            held: HeldTickets::default(),
            staff,
            ids: Ids::starting_at(u64::from_be_bytes(entropy::bytes()?)),
        });
        listen(&snapshot.borrow(), &store, &portal, &clock);
        let control = Control {
            path: path.map(Path::to_owned),
            clock,
            store,
            portal,
            metrics,
            shared,
            leaks,
            snapshot,
            leaving: watch::Sender::new(false),
            limits: watch::Sender::new(config.server.limits.clone()),
            admin: watch::Sender::new(Arc::new(config.admin.clone())),
            previews,
            tls,
            operators: watch::Sender::new(Arc::new(operators)),
            desk,
            file: Mutex::new(file),
        };
        control.keep(Overrides::clone(&overrides)).await;
        Ok(control)
    }

    fn admin(&self, status: watch::Receiver<Arc<Status>>, commands: mpsc::Sender<Command>) -> Admin {
        let reports = LeakReports { leaks: self.leaks.clone(), snapshot: self.snapshot.subscribe() };
        let parts = Parts {
            settings: self.admin.subscribe(),
            operators: self.operators.subscribe(),
            desk: self.desk.clone(),
            metrics: self.metrics.clone(),
            status,
            previews: self.previews.subscribe(),
            commands,
            clock: self.clock.clone(),
        };
        Admin::new(parts).with_leaks(reports)
    }

    fn pacer(
        &self,
        status: watch::Sender<Arc<Status>>,
        stage: watch::Receiver<Stage>,
        ticks: watch::Sender<u64>,
    ) -> Pacer {
        Pacer {
            snapshot: self.snapshot.subscribe(),
            portal: self.portal.clone(),
            store: self.store.health(),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            leaks: self.leaks.clone(),
            desk: self.desk.clone(),
            status,
            stage,
            ticks,
        }
    }

    async fn reload(&self) -> ReloadAnswer {
        let Some(path) = &self.path else { return ReloadAnswer::Unchanged };
        let in_force = self.snapshot.borrow().clone();
        let (loaded, text) = match config::load_with_text(path) {
            Ok((loaded, text)) => (Ok(loaded), text),
            Err(faults) => (Err(faults), String::new()),
        };
        let outcome = Reload::of(&self.file().config, loaded);
        let answer = match outcome {
            Reload::Applied(config) => {
                let (overrides, changes) = self.overrides_under(&config);
                let effective = with_overrides(&config, &overrides);
                if raises_a_rate(&in_force.config, &effective) {
                    self.leaks.ask_before_a_raise(&effective).await;
                }
                let answer = match self.read_files(effective.clone()).await {
                    Ok(files) => {
                        self.drain_as_the_file_says(&overrides, &changes).await;
                        self.apply_with(effective, files).await
                    }
                    Err(refused) => refused,
                };
                if answer == ReloadAnswer::Applied {
                    self.note_new_file(FileInForce { config, text }, overrides, &changes).await;
                } else {
                    self.put_back(&in_force).await;
                }
                answer
            }
            Reload::Unchanged => match self.read_files(in_force.config.clone()).await {
                Ok(files) => self.apply_with(in_force.config.clone(), files).await.unchanged(),
                Err(refused) => refused,
            },
            Reload::Refused(faults) => ReloadAnswer::Refused(faults.iter().map(ReloadFault::from).collect()),
            Reload::NeedsRestart(keys) => ReloadAnswer::NeedsRestart(keys),
        };
        self.tell(&answer);
        answer
    }

    fn tell(&self, answer: &ReloadAnswer) {
        let (result, details) = match answer {
            ReloadAnswer::Applied => ("applied", Vec::new()),
            ReloadAnswer::Unchanged => ("unchanged", Vec::new()),
            ReloadAnswer::Refused(faults) => {
                let shown = |fault: &ReloadFault| format!("{}: {}; {}", fault.key, fault.wrong, fault.remedy);
                ("refused", faults.iter().take(FAULTS_SHOWN).map(shown).collect())
            }
            ReloadAnswer::NeedsRestart(keys) => ("needs_restart", keys.clone()),
        };
        self.desk.note_reload(ReloadStatus { at: self.clock.now().wall, result, details });
        self.metrics.count_reload(match answer {
            ReloadAnswer::Applied | ReloadAnswer::Unchanged => ReloadResult::Applied,
            ReloadAnswer::Refused(_) => ReloadResult::Refused,
            ReloadAnswer::NeedsRestart(_) => ReloadResult::NeedsRestart,
        });
        match answer {
            ReloadAnswer::Applied => tracing::info!("the new configuration is in force"),
            ReloadAnswer::Unchanged => tracing::info!("the configuration is unchanged"),
            ReloadAnswer::Refused(faults) => {
                for fault in faults {
                    let (key, wrong, remedy) = (&fault.key, &fault.wrong, &fault.remedy);
                    tracing::error!(
                        key,
                        line = fault.line,
                        wrong,
                        remedy,
                        "the configuration has a fault; the old one stays in force"
                    );
                }
            }
            ReloadAnswer::NeedsRestart(keys) => {
                tracing::error!(
                    keys = keys.join(", "),
                    "these keys need a restart; the old configuration stays in force"
                );
            }
        }
    }

    /// Reads what the configuration names: keys, certificates, what pages are made of, and what proofs of classes need.
    ///
    /// # Errors
    /// The answer to the reload: refused.
    async fn read_files(&self, config: Arc<Config>) -> Result<(Files, Arc<Classes>), ReloadAnswer> {
        let (named, old, now) = (config.clone(), self.tls.borrow().clone(), self.clock.now().wall);
        let files = match tokio::task::spawn_blocking(move || Files::read(&named, &old, now)).await {
            Ok(files) => files.map_err(ReloadAnswer::Refused)?,
            Err(error) => return Err(refused("", error.to_string())),
        };
        let old = self.snapshot.borrow().classes.clone();
        match classes(&config, Some(old), self.metrics.clone()).await {
            Ok(classes) => Ok((files, classes)),
            Err(error) => Err(refused("class", error.to_string())),
        }
    }

    /// Puts a configuration and its files in force. All or nothing.
    async fn apply_with(&self, config: Arc<Config>, (files, classes): (Files, Arc<Classes>)) -> ReloadAnswer {
        let portal = config.portal.clone();
        let answer = self.apply(config, Named { keyring: files.keyring, assets: files.assets, classes }).await;
        if answer == ReloadAnswer::Applied {
            self.portal.reload(&portal, files.portal_tls);
            for doubt in files.tls.warnings() {
                tracing::warn!(key = doubt.key, "{}", doubt.text);
            }
            self.metrics.set_certificate_expiries(files.tls.expiries());
            self.tls.send_replace(files.tls);
            self.operators.send_replace(files.operators);
        }
        answer
    }

    /// Puts a configuration in force: rooms are reconfigured, pages rendered. All or nothing.
    async fn apply(&self, config: Arc<Config>, named: Named) -> ReloadAnswer {
        let old = self.snapshot.borrow().clone();
        let new = match snapshot(&config, Some(&old), named, &self.store, &self.metrics, &self.clock).await {
            Ok(new) => new,
            Err(error) => return refused("room", error.to_string()),
        };
        if let Err((room, why)) = self.prepare_openings(&new).await {
            return refused(&format!("room \"{room}\".opening"), why.to_string());
        }
        for room in &new.rooms {
            let now = self.clock.now();
            room.live.reconfigure(room.settings.clone(), now);
            // Putting the room together took a while.
            room.refresh_board(&new.assets, now);
        }
        self.limits.send_replace(config.server.limits.clone());
        self.admin.send_replace(Arc::new(config.admin.clone()));
        let rooms = config.rooms.clone();
        let of = |name: &RoomName| rooms.iter().find(|room| room.name == *name);
        let known_class =
            |room: &RoomName, class: &ClassName| of(room).is_some_and(|room| room.classes.contains(class));
        self.metrics.retain(|room| of(room).is_some(), known_class);
        self.previews.send_replace(Arc::new(previews(&new)));
        listen(&new, &self.store, &self.portal, &self.clock);
        self.snapshot.send_replace(Arc::new(new));
        ReloadAnswer::Applied
    }

    /// Writes down what has to be known of openings before a configuration is in force: all or nothing.
    async fn prepare_openings(&self, new: &Snapshot) -> Result<(), (RoomName, NoOpening)> {
        let now = self.clock.now();
        for room in &new.rooms {
            room.live.check_opening(&room.settings, now).map_err(|why| (room.settings.name.clone(), why))?;
        }
        for room in &new.rooms {
            if let Err(why) = room.live.prepare_opening(&room.settings, now).await {
                for room in &new.rooms {
                    room.live.take_back_opening(now).await;
                }
                return Err((room.settings.name.clone(), why));
            }
        }
        Ok(())
    }
}

impl From<&config::Fault> for ReloadFault {
    fn from(fault: &config::Fault) -> ReloadFault {
        ReloadFault {
            key: fault.key.clone(),
            line: fault.place.map(|place| place.line),
            wrong: fault.wrong.clone(),
            remedy: fault.remedy.clone(),
        }
    }
}

/// Whether a room lets in more visitors under the new configuration.
fn raises_a_rate(old: &Config, new: &Config) -> bool {
    new.rooms.iter().any(|room| {
        let before = old.rooms.iter().find(|before| before.name == room.name);
        before.is_some_and(|before| largest_rate(room) > largest_rate(before))
    })
}

/// Entries per second in the window that lets in most.
fn largest_rate(room: &config::Room) -> f64 {
    if let Some(rate) = room.by_hand.rate {
        return rate.per_second();
    }
    let rates = room.schedule.rates().chain([room.admission_rate]);
    rates.map(Rate::per_second).fold(0.0, f64::max)
}

impl ReloadAnswer {
    /// The file says what was in force already; keys may have changed all the same.
    fn unchanged(self) -> ReloadAnswer {
        if self == ReloadAnswer::Applied { ReloadAnswer::Unchanged } else { self }
    }
}

impl Files {
    /// Reads everything anew.
    fn read(config: &Config, old: &Tls, now: Unix) -> Result<Files, Vec<ReloadFault>> {
        let one = |key: &str, wrong: String| vec![fault(key, wrong)];
        let keyring = keys::load(&config.tokens.key_dir, config.tokens.activate_after)
            .map_err(|faults| one("tokens.key_dir", faults.to_string()))?;
        let assets = Assets::load(&config.page).map_err(|fault| one("page.assets", fault.to_string()))?;
        let all = |faults: certificates::Faults| -> Vec<ReloadFault> {
            faults.iter().map(|found| fault(&found.key, found.wrong.to_string())).collect()
        };
        let tls = Tls::load(&config.server, Some(old), now).map_err(all)?;
        let portal_tls = PortalTls::load(&config.portal).map_err(|wrong| one("portal", wrong.to_string()))?;
        let operators =
            Operators::load_or_create(&config.admin).map_err(|wrong| one("admin.token", wrong.to_string()))?;
        let (keyring, assets, tls) = (Arc::new(keyring), Arc::new(assets), Arc::new(tls));
        Ok(Files { keyring, assets, tls, portal_tls, operators: Arc::new(operators) })
    }
}

fn refused(key: &str, wrong: String) -> ReloadAnswer {
    ReloadAnswer::Refused(vec![fault(key, wrong)])
}

fn fault(key: &str, wrong: String) -> ReloadFault {
    let remedy = "mend it and reload; nothing was changed".to_owned();
    ReloadFault { key: key.to_owned(), line: None, wrong, remedy }
}
