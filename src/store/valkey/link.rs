//! The connection to the server: opened when needed, opened again when lost, and every fault in words for the operator.

use std::fmt;
use std::fs;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, IntoConnectionInfo, RedisError, Script};
use redis::{ScriptInvocation, ServerErrorKind};
use tokio::sync::Mutex;

use super::super::StoreError;
use crate::config;

/// How long opening a connection may take.
const CONNECT: Duration = Duration::from_secs(2);

/// How long an answer may take, beyond what was asked for.
pub const ANSWER: Duration = Duration::from_secs(2);

/// The oldest version of the server that has what is used here.
const OLDEST: u32 = 6;

/// Where the server is and how to open it.
#[derive(Clone)]
pub struct Server {
    client: Client,
    /// The address as it may be shown.
    shown: String,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("at", &self.shown).finish_non_exhaustive()
    }
}

impl Server {
    /// The server of the configuration.
    ///
    /// # Errors
    /// When the password's file cannot be read, or the address is none.
    pub fn of(settings: &config::SharedStore) -> Result<Server, StoreError> {
        let refused = |detail: String| StoreError::Refused(detail.into());
        let info = settings.url.as_str().into_connection_info().map_err(|error| refused(error.to_string()))?;
        let mut login = info.redis_settings().clone();
        if let Some(user) = &settings.user {
            login = login.set_username(user);
        }
        if let Some(file) = &settings.password_file {
            let password = fs::read_to_string(file).map_err(|error| {
                refused(format!("{} cannot be read ({error}); correct store.password_file", file.display()))
            })?;
            login = login.set_password(password.trim_end_matches(['\r', '\n']));
        }
        let shown = info.addr().to_string();
        let client = Client::open(info.set_redis_settings(login)).map_err(|error| refused(error.to_string()))?;
        Ok(Server { client, shown })
    }

    /// Opens a connection on which an answer may take `longest`.
    async fn open(&self, longest: Duration) -> Result<Opened, StoreError> {
        let settings =
            AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(longest));
        let connecting = self.client.get_multiplexed_async_connection_with_config(&settings);
        let mut connection = connecting.await.map_err(|error| self.in_words(&error))?;
        let about: String = redis::cmd("INFO")
            .arg("server")
            .query_async(&mut connection)
            .await
            .map_err(|error| self.in_words(&error))?;
        let value = |key: &str| about.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap_or("");
        let version = value("redis_version");
        if version.split('.').next().and_then(|major| major.parse().ok()).is_none_or(|major: u32| major < OLDEST) {
            let what = format!("{} has version {version:?}; Valkey, or Redis {OLDEST} or newer, is needed", self.shown);
            return Err(StoreError::Refused(what.into()));
        }
        Ok(Opened { connection, run: value("run_id").trim().to_owned() })
    }

    /// What an error of the server's means for the operator.
    pub fn in_words(&self, error: &RedisError) -> StoreError {
        let at = &self.shown;
        let refused = |what: String| StoreError::Refused(what.into());
        match (error.kind(), error.code().unwrap_or_default()) {
            (ErrorKind::AuthenticationFailed, _) | (_, "NOAUTH" | "WRONGPASS") => refused(format!(
                "{at} refuses the user or password ({error}); correct store.user and store.password_file"
            )),
            (ErrorKind::Server(ServerErrorKind::NoPerm), _) => {
                refused(format!("{at} allows this user too little ({error}); let it use all commands on its keys"))
            }
            (ErrorKind::Server(ServerErrorKind::ReadOnly), _) => {
                refused(format!("{at} is a read-only replica; name the primary in store.url"))
            }
            (_, "WRONGTYPE") => refused(format!(
                "keys under the prefix belong to something else on {at} ({error}); choose another store.prefix"
            )),
            (_, "OOM") => StoreError::Full(format!("{at} has no memory left").into()),
            _ => StoreError::Unreachable(format!("{at}: {error}").into()),
        }
    }
}

/// An open connection.
#[derive(Clone)]
struct Opened {
    connection: MultiplexedConnection,
    /// The server's own word for the time since its start.
    run: String,
}

/// A connection that is opened when needed.
pub struct Link {
    server: Server,
    longest: Duration,
    open: Mutex<Option<Opened>>,
}

impl Link {
    /// A connection on which an answer may take `longest`.
    pub fn new(server: Server, longest: Duration) -> Link {
        Link { server, longest, open: Mutex::new(None) }
    }

    /// Makes sure that there is a connection. Returns what changes when the server starts anew or another takes over.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses us.
    pub async fn connect(&self) -> Result<String, StoreError> {
        Ok(self.opened().await?.run)
    }

    async fn opened(&self) -> Result<Opened, StoreError> {
        let mut open = self.open.lock().await;
        if let Some(opened) = open.as_ref() {
            return Ok(opened.clone());
        }
        let opened = self.server.open(self.longest).await?;
        *open = Some(opened.clone());
        Ok(opened)
    }

    /// Asks a command.
    ///
    /// # Errors
    /// In words for the operator; the connection is opened anew the next time unless the server itself answered.
    pub async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        let mut connection = self.opened().await?.connection;
        self.outcome(command.query_async(&mut connection).await).await
    }

    /// Asks several commands at once.
    ///
    /// # Errors
    /// See [`Link::ask`].
    pub async fn ask_all<T: FromRedisValue>(&self, pipeline: &redis::Pipeline) -> Result<T, StoreError> {
        let mut connection = self.opened().await?.connection;
        self.outcome(pipeline.query_async(&mut connection).await).await
    }

    /// Runs a script.
    ///
    /// # Errors
    /// See [`Link::ask`].
    pub async fn run<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, StoreError> {
        let mut connection = self.opened().await?.connection;
        self.outcome(script.invoke_async(&mut connection).await).await
    }

    async fn outcome<T>(&self, outcome: Result<T, RedisError>) -> Result<T, StoreError> {
        match outcome {
            Ok(answer) => Ok(answer),
            Err(error) => {
                let answered = matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension);
                let stale = error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly);
                if !answered || stale {
                    *self.open.lock().await = None;
                }
                Err(self.server.in_words(&error))
            }
        }
    }
}

/// The scripts, which the server keeps by their digest.
pub struct Scripts {
    /// Opens, begins or ends a line.
    pub open: Script,
    /// Everything a node has to say.
    pub commit: Script,
    /// Lifts counters, or begins a lost line again.
    pub lift: Script,
    /// Jumps ahead after the server's restart.
    pub jump: Script,
}

impl Default for Scripts {
    fn default() -> Scripts {
        Scripts {
            open: Script::new(include_str!("open.lua")),
            commit: Script::new(include_str!("commit.lua")),
            lift: Script::new(include_str!("lift.lua")),
            jump: Script::new(include_str!("jump.lua")),
        }
    }
}
