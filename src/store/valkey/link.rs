//! The connection to the server: opened when needed, opened again when lost, and every fault in words for the operator.
//!
//! There is one server, or one that sentinels name and replace when it is gone, or a cluster of which each part has some of
//! the rooms. What differs between them ends here.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterConfig;
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, RedisError, Script, ScriptInvocation, ServerErrorKind, Value,
};
use tokio::sync::Mutex;

use super::super::StoreError;
use super::server::{Place, Server};

/// How long opening a connection may take.
const CONNECT: Duration = Duration::from_secs(2);

/// How long an answer may take, beyond what was asked for.
pub const ANSWER: Duration = Duration::from_secs(2);

/// The oldest version of the server that has what is used here.
const OLDEST: u32 = 6;

impl Server {
    /// Opens a connection on which an answer may take `longest`.
    async fn open(&self, longest: Duration) -> Result<Opened, StoreError> {
        let moves = self.moves();
        let settings =
            AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(longest));
        let opened = match self.place() {
            Place::One(client) => {
                client.get_multiplexed_async_connection_with_config(&settings).await.map(Connection::One)
            }
            Place::Sentinels(_) => {
                let client = self.primary().await.map_err(|error| self.in_words(&error))?;
                self.found_at(client.get_connection_info().addr());
                client.get_multiplexed_async_connection_with_config(&settings).await.map(Connection::One)
            }
            Place::Cluster(client) => {
                let settings = ClusterConfig::new().set_connection_timeout(CONNECT).set_response_timeout(longest);
                client.get_async_connection_with_config(settings).await.map(Connection::Cluster)
            }
        };
        let mut connection = opened.map_err(|error| self.in_words(&error))?;
        let about: Value = connection.ask(&redis::cmd("INFO")).await.map_err(|error| self.in_words(&error))?;
        let mut answers = Vec::new();
        texts(about, &mut answers);
        answers.iter().filter(|text| text.contains("redis_version:")).try_for_each(|about| self.is_fit(about))?;
        Ok(Opened { connection, moves })
    }

    /// Whether a server that says this of itself can keep lines.
    fn is_fit(&self, about: &str) -> Result<(), StoreError> {
        let value = |key: &str| {
            about.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap_or_default().trim()
        };
        let refused = |what: String| Err(StoreError::Refused(format!("{} {what}", self.shown()).into()));
        let version = value("redis_version");
        let is_old =
            version.split('.').next().and_then(|major| major.parse().ok()).is_none_or(|major: u32| major < OLDEST);
        let is_cluster = matches!(self.place(), Place::Cluster(_));
        match value("redis_mode") {
            "sentinel" => {
                refused("is a sentinel; name it in store.sentinels, and in store.primary what it watches".to_owned())
            }
            "cluster" if !is_cluster => refused("is part of a cluster; name its servers in store.cluster".to_owned()),
            _ if is_old => refused(format!("has version {version:?}; Valkey, or Redis {OLDEST} or newer, is needed")),
            // A cluster is asked as a whole, and its replicas are in their place.
            _ if value("role") == "slave" && !is_cluster => {
                refused(format!("is a read-only replica; {}", self.instead_of_a_replica()))
            }
            _ if value("maxmemory_policy").starts_with("allkeys-") => {
                refused("may drop any key when its memory is full; set its maxmemory-policy to noeviction".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// What an error of the server's means for the operator.
    pub fn in_words(&self, error: &RedisError) -> StoreError {
        let at = self.shown();
        let refused = |what: String| StoreError::Refused(what.into());
        let text = error.to_string();
        match (error.kind(), error.code().unwrap_or_default()) {
            _ if self.tls_remedy(&text).is_some() => {
                refused(format!("{at}: {text}; {}", self.tls_remedy(&text).unwrap_or_default()))
            }
            (ErrorKind::AuthenticationFailed, _) | (_, "NOAUTH" | "WRONGPASS") => refused(format!(
                "{at} refuses the user or password ({error}); correct store.user and store.password_file"
            )),
            (ErrorKind::Server(ServerErrorKind::NoPerm), _) => {
                refused(format!("{at} allows this user too little ({error}); let it use all commands on its keys"))
            }
            (ErrorKind::Server(ServerErrorKind::ReadOnly), _) => {
                refused(format!("{at} is a read-only replica; {}", self.instead_of_a_replica()))
            }
            (ErrorKind::MasterNameNotFoundBySentinel, _) => refused(format!(
                "{at}: no sentinel knows a primary of the name in store.primary, or none of it answers; correct the name, or \
                 wait until one was chosen"
            )),
            (_, "WRONGTYPE") => refused(format!(
                "keys under the prefix belong to something else on {at} ({error}); choose another store.prefix"
            )),
            (_, "OOM") => StoreError::Full(format!("{at} has no memory left").into()),
            _ if text.contains("cluster support disabled") => {
                refused(format!("{at} is no cluster; name the server in store.url"))
            }
            _ => StoreError::Unreachable(format!("{at}: {text}{}", self.perhaps_tls(&text)).into()),
        }
    }

    /// What to do when a replica was found where the primary should be.
    fn instead_of_a_replica(&self) -> &'static str {
        match self.place() {
            Place::One(_) => "name the primary in store.url",
            Place::Sentinels(_) => "wait until the sentinels have agreed on a primary",
            Place::Cluster(_) => "wait until the cluster has agreed on a primary",
        }
    }

    /// What to do about a connection that could not be made safe.
    fn tls_remedy(&self, text: &str) -> Option<&'static str> {
        let says = |part: &str| text.contains(part);
        if says("UnknownIssuer") || says("BadSignature") {
            Some("name the certificate of whoever issued the server's in store.ca")
        } else if says("NotValidForName") || says("not valid for name") {
            Some("write the address with a name that is in the server's certificate")
        } else if says("invalid peer certificate") {
            Some("renew the server's certificate")
        } else if ["CertificateRequired", "CertificateUnknown", "UnknownCA", "BadCertificate", "DecryptError"]
            .into_iter()
            .any(says)
        {
            Some("show the server a certificate that it accepts: store.client_certificate and store.client_key")
        } else if says("InvalidContentType") || says("corrupt message") {
            Some("nobody speaks TLS there: write redis:// instead of rediss://, or the port for TLS")
        } else {
            None
        }
    }

    /// A server that hears something else than it expects hangs up, or waits for more.
    fn perhaps_tls(&self, text: &str) -> &'static str {
        let hung_up = ["unexpected end of file", "broken pipe", "Broken pipe", "reset by peer", "closed by the server"];
        if self.is_tls() && text.contains("timed out") {
            "; where nobody speaks TLS, write redis:// instead of rediss://, or the port for TLS"
        } else if !self.is_tls() && hung_up.into_iter().any(|part| text.contains(part)) {
            "; where only TLS is spoken, write rediss:// instead of redis://, or the port without TLS"
        } else {
            ""
        }
    }
}

/// Every text in an answer: a cluster answers with those of all its servers.
fn texts(value: Value, into: &mut Vec<String>) {
    match value {
        Value::BulkString(bytes) => into.push(String::from_utf8_lossy(&bytes).into_owned()),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => into.push(text),
        Value::Array(values) => values.into_iter().for_each(|value| texts(value, into)),
        Value::Map(pairs) => pairs.into_iter().for_each(|(_, value)| texts(value, into)),
        _ => {}
    }
}

/// A connection to one server, or to all of a cluster.
#[derive(Clone)]
enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    async fn ask<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, RedisError> {
        match self {
            Connection::One(connection) => command.query_async(connection).await,
            Connection::Cluster(connection) => command.query_async(connection).await,
        }
    }

    async fn ask_all<T: FromRedisValue>(&mut self, pipeline: &redis::Pipeline) -> Result<T, RedisError> {
        match self {
            Connection::One(connection) => pipeline.query_async(connection).await,
            Connection::Cluster(connection) => pipeline.query_async(connection).await,
        }
    }

    async fn run<T: FromRedisValue>(&mut self, script: &ScriptInvocation<'_>) -> Result<T, RedisError> {
        match self {
            Connection::One(connection) => script.invoke_async(connection).await,
            Connection::Cluster(connection) => script.invoke_async(connection).await,
        }
    }
}

/// An open connection.
#[derive(Clone)]
struct Opened {
    connection: Connection,
    /// How often the server had moved by then.
    moves: u64,
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

    /// Makes sure that there is a connection.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses us.
    pub async fn connect(&self) -> Result<(), StoreError> {
        self.opened().await.map(drop)
    }

    async fn opened(&self) -> Result<Connection, StoreError> {
        let mut open = self.open.lock().await;
        if let Some(opened) = open.as_ref().filter(|opened| opened.moves == self.server.moves()) {
            return Ok(opened.connection.clone());
        }
        let opened = self.server.open(self.longest).await?;
        *open = Some(opened.clone());
        Ok(opened.connection)
    }

    /// Asks a command.
    ///
    /// # Errors
    /// In words for the operator; the connection is opened anew the next time unless the server itself answered.
    pub async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        let mut connection = self.opened().await?;
        self.outcome(connection.ask(command).await).await
    }

    /// Asks several commands at once.
    ///
    /// # Errors
    /// See [`Link::ask`].
    pub async fn ask_all<T: FromRedisValue>(&self, pipeline: &redis::Pipeline) -> Result<T, StoreError> {
        let mut connection = self.opened().await?;
        self.outcome(connection.ask_all(pipeline).await).await
    }

    /// Runs a script.
    ///
    /// # Errors
    /// See [`Link::ask`].
    pub async fn run<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, StoreError> {
        let mut connection = self.opened().await?;
        self.outcome(connection.run(script).await).await
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
    /// Fills in what is not known of a page of tickets.
    pub merge: Script,
    /// Begins a line that is brought from another store.
    pub bring: Script,
    /// Lets nodes open a line that was brought.
    pub finish: Script,
    /// Writes down an opening.
    pub opening: Script,
    /// Numbers those who joined while the server was away.
    pub late: Script,
    /// Replaces what is kept under a key, unless it is another thing by now.
    pub exchange: Script,
}

impl Default for Scripts {
    fn default() -> Scripts {
        Scripts {
            open: Script::new(include_str!("open.lua")),
            commit: Script::new(include_str!("commit.lua")),
            lift: Script::new(include_str!("lift.lua")),
            merge: Script::new(include_str!("merge.lua")),
            bring: Script::new(include_str!("bring.lua")),
            finish: Script::new(include_str!("finish.lua")),
            opening: Script::new(include_str!("opening.lua")),
            late: Script::new(include_str!("late.lua")),
            exchange: Script::new(include_str!("exchange.lua")),
        }
    }
}
