//! The private listener: metrics, health, and what operators may ask of the running program.
//!
//! What an operator wants of rooms and the configuration travels as a [`Command`] to the program's control plane, which answers
//! with what it does to those who wait; what an operator sees comes from a [`Status`] that the control plane publishes. The
//! [`Desk`] keeps both, and what has to last of them. Requests that another site's page could
//! have sent from an operator's browser are refused before anything else is looked at (see [`guard`]).

pub mod audit;
mod books;
mod command;
mod console;
mod desk;
mod events;
pub mod guard;
pub mod handouts;
mod history;
mod inputs;
mod listen;
mod openapi;
mod operators;
mod routes;
mod status;
mod token;
mod view;

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

pub use audit::Line;
pub use books::{Books, NotWritten, Unreadable};
pub use command::{
    ChangeAnswer, ChangeOrder, ChangeResult, ChangeStatus, Command, Diff, DiffAnswer, EffectStatus, KeyChange,
    MessageStatus, Mode, NotChanged, ReloadAnswer, ReloadFault, RoomEffects, WaitStatus, WantedChange,
};
pub use desk::{Desk, Scene};
pub use listen::{AdminListener, BindError};
pub use operators::{Operator, Operators};
pub use status::{
    CertificateStatus, ConfigurationStatus, LaneStatus, LeakStatus, OverrideStatus, PortalStatus, ReloadStatus,
    RoomStatus, SayingStatus, Stage, Standstill, Status, StoreState, WindowStatus,
};
pub use token::{AdminToken, AdminTokenError};

use crate::clock::Clock;
use crate::config;
use crate::gateway::snapshot::Snapshot;
use crate::leaks::Leaks;
use crate::telemetry::metrics::Metrics;
use crate::waiting_room::preview::Previews;

/// Connections at once; operators and Prometheus need few.
const MAX_CONNECTIONS: usize = 32;
/// From the first byte expected to the end of a request's head; also how long an unused connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes of a request's head at most.
const MAX_HEAD: usize = 16 << 10;
/// Header lines at most.
const MAX_HEADERS: usize = 64;
/// After this a connection answers what it has under way and closes, so that nobody holds one for ever.
const CONNECTION_LIFE: Duration = Duration::from_secs(120);
/// Time for answers under way once a connection is to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after the system refused to accept a connection, most often for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where the findings of the leak guard come from.
#[derive(Debug)]
pub struct LeakReports {
    /// What was found.
    pub leaks: Arc<Leaks>,
    /// The configuration and rooms in force.
    pub snapshot: watch::Receiver<Arc<Snapshot>>,
}

/// What the private listener needs of the program.
#[derive(Debug)]
pub struct Admin {
    settings: watch::Receiver<Arc<config::Admin>>,
    operators: watch::Receiver<Arc<Operators>>,
    desk: Arc<Desk>,
    metrics: Arc<Metrics>,
    status: watch::Receiver<Arc<Status>>,
    leaks: Option<LeakReports>,
    previews: watch::Receiver<Arc<Previews>>,
    commands: mpsc::Sender<Command>,
    clock: Clock,
    failures: Mutex<token::Failures>,
    listeners: Arc<Semaphore>,
}

/// Where the listener gets what it shows, and where it sends what operators want. The settings may change while it runs,
/// except for the address.
#[derive(Debug)]
pub struct Parts {
    /// The listener's settings.
    pub settings: watch::Receiver<Arc<config::Admin>>,
    /// Who may do what.
    pub operators: watch::Receiver<Arc<Operators>>,
    /// What operators see and changed.
    pub desk: Arc<Desk>,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// The picture of each second.
    pub status: watch::Receiver<Arc<Status>>,
    /// Pages to look at.
    pub previews: watch::Receiver<Arc<Previews>>,
    /// Where orders go.
    pub commands: mpsc::Sender<Command>,
    /// Time.
    pub clock: Clock,
}

impl Admin {
    /// Brings together what the listener shows and where it sends what operators want.
    pub fn new(parts: Parts) -> Admin {
        let Parts { settings, operators, desk, metrics, status, previews, commands, clock } = parts;
        Admin {
            settings,
            operators,
            desk,
            metrics,
            status,
            previews,
            leaks: None,
            commands,
            clock,
            failures: Mutex::default(),
            listeners: Arc::new(Semaphore::new(events::MOST)),
        }
    }

    /// The same with the findings of the leak guard.
    pub fn with_leaks(self, leaks: LeakReports) -> Admin {
        Admin { leaks: Some(leaks), ..self }
    }
}

/// Serves the private listener until `shutdown` is ready, then gives answers under way a few seconds.
pub async fn serve(listener: AdminListener, admin: Arc<Admin>, shutdown: impl Future<Output = ()>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let (close, closing) = watch::channel(());
    let mut connections = JoinSet::new();
    tokio::select! {
        () = accept(&listener, &admin, &slots, &closing, &mut connections) => {}
        () = shutdown => {}
    }
    drop(listener);
    drop(close);
    let all_closed = async { while connections.join_next().await.is_some() {} };
    // Whoever is not done by then is cut off when the set is dropped.
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, all_closed).await;
}

async fn accept(
    listener: &AdminListener,
    admin: &Arc<Admin>,
    slots: &Arc<Semaphore>,
    closing: &watch::Receiver<()>,
    connections: &mut JoinSet<()>,
) {
    // The semaphore is never closed.
    while let Ok(slot) = slots.clone().acquire_owned().await {
        while connections.try_join_next().is_some() {}
        let (admin, closing) = (admin.clone(), closing.clone());
        match listener.accept().await {
            Ok(stream) => {
                connections.spawn(async move {
                    serve_connection(stream, admin, closing).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the private listener could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    admin: Arc<Admin>,
    mut closing: watch::Receiver<()>,
) {
    let service = service_fn(|request| {
        let admin = admin.clone();
        async move { Ok::<_, Infallible>(routes::answer(&admin, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // What goes wrong on one operator's connection concerns nobody else.
        _ = connection.as_mut() => return,
        _ = closing.changed() => {}
        () = tokio::time::sleep(CONNECTION_LIFE) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, connection).await;
}

#[cfg(test)]
pub(crate) mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpStream, UnixStream};
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    use super::status::tests::status;
    use super::*;
    use crate::config::AdminListen;

    const ASK: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

    /// A listener's parts without a program behind them.
    pub(super) fn parts(
        settings: config::Admin,
        status: watch::Receiver<Arc<Status>>,
        commands: mpsc::Sender<Command>,
        clock: Clock,
    ) -> Parts {
        let operators = Operators::load_or_create(&settings).unwrap();
        let server = crate::config::parse(
            "server.listen = [\"127.0.0.1:1\"]\nportal.url = \"http://127.0.0.1:2\"\n\
             [[room]]\nname = \"bonus-600\"\npaths = [\"/**\"]\nadmission_rate = \"1/s\"",
            std::path::Path::new("/nowhere"),
        );
        let tls = crate::server::Tls::load(&server.unwrap().server, None, clock.now().wall).unwrap();
        let desk = Desk::open(&settings.state_dir, watch::channel(Arc::new(tls)).1).unwrap();
        Parts {
            settings: watch::channel(Arc::new(settings)).1,
            operators: watch::channel(Arc::new(operators)).1,
            desk: Arc::new(desk),
            metrics: Arc::new(Metrics::new().unwrap()),
            status,
            previews: watch::channel(Arc::new(crate::waiting_room::preview::tests::previews())).1,
            commands,
            clock,
        }
    }

    struct Running {
        shutdown: oneshot::Sender<()>,
        served: JoinHandle<()>,
        _directory: tempfile::TempDir,
    }

    fn run(listener: AdminListener) -> Running {
        let directory = tempfile::tempdir().unwrap();
        let token_file = directory.path().join("token");
        let settings = config::Admin {
            listen: AdminListen::Tcp(([127, 0, 0, 1], 0).into()),
            hosts: Vec::new(),
            token_file,
            view_needs_token: false,
            state_dir: directory.path().join("operators"),
            tokens: Vec::new(),
        };
        let admin = Admin::new(parts(
            settings,
            watch::channel(Arc::new(status(Stage::Serving))).1,
            mpsc::channel(1).0,
            Clock::system(),
        ));
        let (shutdown, asked) = oneshot::channel::<()>();
        let served = tokio::spawn(serve(listener, Arc::new(admin), async {
            let _ = asked.await;
        }));
        Running { shutdown, served, _directory: directory }
    }

    async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> String {
        stream.write_all(ASK).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn answers_over_tcp_and_closes_what_is_idle_when_it_ends() {
        let listener = AdminListener::bind(&AdminListen::Tcp("127.0.0.1:0".parse().unwrap())).await.unwrap();
        let address = listener.local_addr().unwrap();
        let running = run(listener);
        let answer = ask(TcpStream::connect(address).await.unwrap()).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");

        let mut idle = TcpStream::connect(address).await.unwrap();
        idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut first = [0; 12];
        idle.read_exact(&mut first).await.unwrap();
        running.shutdown.send(()).unwrap();
        running.served.await.unwrap();
        let mut rest = Vec::new();
        idle.read_to_end(&mut rest).await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn answers_over_a_unix_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let running = run(AdminListener::bind(&AdminListen::Unix(path.clone())).await.unwrap());
        let answer = ask(UnixStream::connect(&path).await.unwrap()).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        running.shutdown.send(()).unwrap();
        running.served.await.unwrap();
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn one_connection_too_many_waits_for_a_free_slot() {
        let listener = AdminListener::bind(&AdminListen::Tcp("127.0.0.1:0".parse().unwrap())).await.unwrap();
        let address = listener.local_addr().unwrap();
        let _running = run(listener);
        let mut held = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            held.push(TcpStream::connect(address).await.unwrap());
        }
        let late = tokio::spawn(async move { ask(TcpStream::connect(address).await.unwrap()).await });
        // All slots are taken by connections that ask nothing, so this one cannot have been answered.
        let early = tokio::time::timeout(Duration::from_millis(100), async { held[0].readable().await }).await;
        assert!(early.is_err() && !late.is_finished());
        held.clear();
        assert!(late.await.unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
    }
}
