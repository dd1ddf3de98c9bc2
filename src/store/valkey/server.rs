//! Where the server is, how to log in there, and whom to believe: what the configuration says, with its files read.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as Locked, PoisonError};
use std::time::Duration;

use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisError, TlsCertificates, TlsMode,
};
use tokio::sync::Mutex;

use super::super::StoreError;
use crate::certificates::{Wrong, certificates, private_key};
use crate::config::{self, Login, Servers};

/// How often the sentinels are asked whether another server has taken over. A server that was cut off does not say so.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How often a cluster's answer is followed elsewhere, or asked again, before that counts as a fault.
const CLUSTER_TRIES: u32 = 3;

/// Where the server is and how to open it.
#[derive(Clone)]
pub struct Server(Arc<Known>);

struct Known {
    place: Place,
    /// The addresses as they may be shown.
    shown: String,
    is_tls: bool,
    /// Where the sentinels saw the server last, and how often that was another place than before.
    seen_at: Locked<Option<ConnectionAddr>>,
    moves: AtomicU64,
}

/// Who keeps the lines.
pub enum Place {
    /// One server.
    One(Client),
    /// The one that sentinels name.
    Sentinels(Mutex<SentinelClient>),
    /// A cluster.
    Cluster(ClusterClient),
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("at", &self.0.shown).finish_non_exhaustive()
    }
}

impl Server {
    /// The server of the configuration.
    ///
    /// # Errors
    /// When one of its files cannot be read, or an address is none.
    pub fn of(settings: &config::SharedStore) -> Result<Server, StoreError> {
        let faulty = |error: RedisError| refused(error.to_string());
        let (urls, is_tls) = (settings.servers.urls(), settings.servers.are_tls());
        let infos = urls.iter().map(|url| url.as_str().into_connection_info()).collect::<Result<Vec<_>, _>>();
        let infos = infos.map_err(faulty)?;
        let login = Secret::read(&settings.login, "store.password_file")?;
        let tls = if is_tls { Some(tls_files(&settings.tls)?) } else { None };
        let place = match &settings.servers {
            Servers::One(_) => Place::One(one(infos, login, tls).map_err(faulty)?),
            Servers::Sentinels { primary, login: at_sentinels, .. } => {
                let at_sentinels = Secret::read(at_sentinels, "store.sentinel_password_file")?;
                let client = sentinels(infos, primary, login, at_sentinels, tls).map_err(faulty)?;
                Place::Sentinels(Mutex::new(client))
            }
            Servers::Cluster(_) => Place::Cluster(cluster(infos, login, tls).map_err(faulty)?),
        };
        let known =
            Known { place, shown: urls.join(", "), is_tls, seen_at: Locked::default(), moves: AtomicU64::new(0) };
        Ok(Server(Arc::new(known)))
    }

    /// Who keeps the lines.
    pub fn place(&self) -> &Place {
        &self.0.place
    }

    /// The addresses as they may be shown.
    pub fn shown(&self) -> &str {
        &self.0.shown
    }

    /// Whether TLS is spoken with it.
    pub fn is_tls(&self) -> bool {
        self.0.is_tls
    }

    /// How often the server was found in another place than before.
    pub fn moves(&self) -> u64 {
        self.0.moves.load(Ordering::Relaxed)
    }

    /// The server that the sentinels name, once it says that it is the primary.
    ///
    /// # Errors
    /// When no sentinel names one that does.
    pub async fn primary(&self) -> Result<Client, RedisError> {
        match &self.0.place {
            Place::One(client) => Ok(client.clone()),
            Place::Sentinels(client) => client.lock().await.async_get_client().await,
            Place::Cluster(_) => Err((redis::ErrorKind::Client, "a cluster has several primaries").into()),
        }
    }

    /// Notes where the server is. After a move all connections are opened anew.
    pub fn found_at(&self, address: &ConnectionAddr) {
        let before = self.0.seen_at.lock().unwrap_or_else(PoisonError::into_inner).replace(address.clone());
        if before.is_some_and(|before| before != *address) {
            tracing::warn!(server = %address, "another server of the shared store has taken over");
            self.0.moves.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Asks the sentinels again and again who the server is, if there are any.
    pub async fn follow_sentinels(self) {
        if !matches!(self.0.place, Place::Sentinels(_)) {
            return;
        }
        loop {
            tokio::time::sleep(ASK_AGAIN).await;
            if let Ok(client) = self.primary().await {
                self.found_at(client.get_connection_info().addr());
            }
        }
    }
}

/// A user's name and password, the latter read from its file.
#[derive(Default)]
struct Secret {
    user: Option<String>,
    password: Option<String>,
}

impl Secret {
    fn read(login: &Login, key: &str) -> Result<Secret, StoreError> {
        let read = |file: &Path| {
            let text = fs::read_to_string(file)
                .map_err(|error| refused(format!("{} cannot be read ({error}); correct {key}", file.display())))?;
            Ok(text.trim_end_matches(['\r', '\n']).to_owned())
        };
        let password = login.password_file.as_deref().map(read).transpose()?;
        Ok(Secret { user: login.user.clone(), password })
    }

    /// The same connection, logged in.
    fn on(&self, info: ConnectionInfo) -> ConnectionInfo {
        let mut login = info.redis_settings().clone();
        if let Some(user) = &self.user {
            login = login.set_username(user);
        }
        if let Some(password) = &self.password {
            login = login.set_password(password);
        }
        info.set_redis_settings(login)
    }
}

/// The only one of the addresses.
fn one(infos: Vec<ConnectionInfo>, login: Secret, tls: Option<TlsCertificates>) -> Result<Client, RedisError> {
    let none = || RedisError::from((redis::ErrorKind::InvalidClientConfig, "no address of a server"));
    let info = login.on(infos.into_iter().next().ok_or_else(none)?);
    match tls {
        Some(files) => Client::build_with_tls(info, files),
        None => Client::open(info),
    }
}

fn sentinels(
    infos: Vec<ConnectionInfo>,
    primary: &str,
    login: Secret,
    at_sentinels: Secret,
    tls: Option<TlsCertificates>,
) -> Result<SentinelClient, RedisError> {
    let addresses: Vec<ConnectionAddr> = infos.iter().map(|info| info.addr().clone()).collect();
    let mut builder = SentinelClientBuilder::new(addresses, primary, SentinelServerType::Master)?;
    if let Some(user) = login.user {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = login.password {
        builder = builder.set_client_to_redis_password(password);
    }
    if let Some(user) = at_sentinels.user {
        builder = builder.set_client_to_sentinel_username(user);
    }
    if let Some(password) = at_sentinels.password {
        builder = builder.set_client_to_sentinel_password(password);
    }
    if let Some(files) = tls {
        builder = builder
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_redis_certificates(files.clone())
            .set_client_to_sentinel_tls_mode(TlsMode::Secure)
            .set_client_to_sentinel_certificates(files);
    }
    builder.build()
}

fn cluster(
    infos: Vec<ConnectionInfo>,
    login: Secret,
    tls: Option<TlsCertificates>,
) -> Result<ClusterClient, RedisError> {
    let infos = infos.into_iter().map(|info| login.on(info));
    let mut builder = ClusterClientBuilder::new(infos).retries(CLUSTER_TRIES).max_retry_wait(100);
    if let Some(files) = tls {
        builder = builder.tls(TlsMode::Secure).certs(files);
    }
    builder.build()
}

/// Whom to believe and who we are, as the files say. They are looked at here, so that a fault names the key.
fn tls_files(settings: &config::StoreTls) -> Result<TlsCertificates, StoreError> {
    let faulty = |key: &'static str| move |wrong: Wrong| refused(format!("{wrong}; correct store.{key}"));
    let bytes = |file: &Path, key: &str| {
        fs::read(file)
            .map_err(|error| refused(format!("{} cannot be read ({error}); correct store.{key}", file.display())))
    };
    let root_cert = match &settings.ca {
        Some(file) => {
            certificates(file).map_err(faulty("ca"))?;
            Some(bytes(file, "ca")?)
        }
        None => None,
    };
    let client_tls = match &settings.client {
        Some((certificate, key)) => {
            certificates(certificate).map_err(faulty("client_certificate"))?;
            private_key(key).map_err(faulty("client_key"))?;
            Some(ClientTlsConfig {
                client_cert: bytes(certificate, "client_certificate")?,
                client_key: bytes(key, "client_key")?,
            })
        }
        None => None,
    };
    Ok(TlsCertificates { client_tls, root_cert })
}

fn refused(detail: String) -> StoreError {
    StoreError::Refused(detail.into())
}
