//! TLS, users, servers that are not what the configuration says, and a cluster; all with real servers.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::tests::{Server, until};
use super::*;
use crate::clock::Clock;
use crate::config::{Login, Servers, SharedStore, StoreTls};
use crate::domain::time::Unix;
use crate::store::contract::{self, CITIZEN, Subject, room};
use crate::store::{Drawn, Store};

/// A port that was free a moment ago.
fn free_port() -> String {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port().to_string()
}

async fn open(settings: &SharedStore) -> Result<Valkey, StoreError> {
    Valkey::open(settings, Clock::system(), Box::new(|_, _| {})).await
}

/// Why the server is no good, in words for the operator.
async fn refused(settings: &SharedStore) -> String {
    match open(settings).await {
        Err(StoreError::Refused(why)) => why.to_string(),
        other => panic!("{other:?}"),
    }
}

fn at(servers: Servers) -> SharedStore {
    SharedStore {
        servers,
        login: Login::default(),
        tls: StoreTls::default(),
        prefix: "anticamera".to_owned(),
        share_for: None,
    }
}

/// Certificates in a directory: of an authority, a server of this name, and a client.
struct Certificates {
    directory: tempfile::TempDir,
}

impl Certificates {
    fn of(name: &str) -> Certificates {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        let (authority, key) = (CertificateParams::default(), KeyPair::generate().unwrap());
        let mut authority = authority;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "authority");
        std::fs::write(file("ca.pem"), authority.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = Issuer::from_params(&authority, &key);
        for (who, names) in [("server", vec![name.to_owned()]), ("client", Vec::new())] {
            let (mut params, key) = (CertificateParams::new(names).unwrap(), KeyPair::generate().unwrap());
            params.distinguished_name.push(DnType::CommonName, who);
            std::fs::write(file(&format!("{who}.pem")), params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
            std::fs::write(file(&format!("{who}.key")), key.serialize_pem()).unwrap();
        }
        Certificates { directory }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A server that speaks TLS alone, and its port.
    fn server(&self, ask_clients: &str) -> (Server, String) {
        let port = free_port();
        let text = |file: &Path| file.display().to_string();
        let (certificate, key, ca) = (self.file("server.pem"), self.file("server.key"), self.file("ca.pem"));
        let server = Server::start_with(&[
            "--port",
            "0",
            "--tls-port",
            &port,
            "--bind",
            "127.0.0.1",
            "--tls-cert-file",
            &text(&certificate),
            "--tls-key-file",
            &text(&key),
            "--tls-ca-cert-file",
            &text(&ca),
            "--tls-auth-clients",
            ask_clients,
        ]);
        (server, port)
    }

    fn client(&self) -> Option<(PathBuf, PathBuf)> {
        Some((self.file("client.pem"), self.file("client.key")))
    }
}

#[tokio::test]
async fn a_line_is_kept_over_tls_with_a_client_certificate() {
    let certificates = Certificates::of("localhost");
    let (_server, port) = certificates.server("yes");
    let tls = StoreTls { ca: Some(certificates.file("ca.pem")), client: certificates.client() };
    let settings = SharedStore { tls, ..at(Servers::One(format!("rediss://localhost:{port}"))) };
    let node = open(&settings).await.unwrap();
    node.open_line(&room("r"), 7).await.unwrap();
    assert_eq!(node.take_number(&room("r"), CITIZEN, Drawn::ToEnter).await, Ok(1));
    let other = open(&settings).await.unwrap();
    assert_eq!(other.open_line(&room("r"), 8).await.unwrap().identity, 7);
}

#[tokio::test]
async fn what_is_wrong_with_tls_is_told_with_a_remedy() {
    let certificates = Certificates::of("localhost");
    let (_server, port) = certificates.server("yes");
    let (plain, plain_port) = {
        let port = free_port();
        (Server::start_with(&["--bind", "127.0.0.1", "--port", &port]), port)
    };
    let ca = || Some(certificates.file("ca.pem"));
    let with = |url: String, ca: Option<PathBuf>, client: Option<(PathBuf, PathBuf)>| SharedStore {
        tls: StoreTls { ca, client },
        ..at(Servers::One(url))
    };
    let stranger = Certificates::of("localhost");
    let key = std::fs::read_to_string(certificates.file("server.key")).unwrap();
    let secret = key.lines().nth(1).unwrap();
    let local = |port: &str| format!("rediss://localhost:{port}");
    for (settings, remedy) in [
        (with(local(&port), Some(stranger.file("ca.pem")), certificates.client()), "store.ca"),
        (with(local(&port), ca(), None), "store.client_certificate"),
        (with(local(&port), ca(), stranger.client()), "store.client_certificate"),
        (with(format!("rediss://127.0.0.1:{port}"), ca(), certificates.client()), "name that is in"),
        (with(local(&plain_port), ca(), certificates.client()), "redis:// instead of rediss://"),
        (with(local(&port), Some(certificates.file("server.key")), None), "store.ca"),
        (with(local(&port), Some(certificates.file("nowhere")), None), "store.ca"),
        (with(local(&port), ca(), Some((certificates.file("client.pem"), certificates.file("ca.pem")))), "client_key"),
    ] {
        let why = open(&settings).await.unwrap_err().to_string();
        assert!(why.contains(remedy), "{why}");
        assert!(!why.contains(secret), "{why}");
    }
    let why = open(&at(Servers::One(format!("redis://localhost:{port}")))).await.unwrap_err().to_string();
    assert!(why.contains("rediss:// instead of redis://"), "{why}");
    drop(plain);
}

#[tokio::test]
async fn a_user_of_its_own_is_logged_in_by_its_password_file_and_shown_nowhere() {
    let server = Server::start_with(&["--port", "0"]);
    server.cli(&["ACL", "SETUSER", "anticamera", "on", ">very-secret", "~anticamera:*", "+@all"]);
    server.cli(&["CONFIG", "SET", "requirepass", "another"]);
    let file = server.directory.path().join("password");
    std::fs::write(&file, "very-secret\n").unwrap();
    let login = Login { user: Some("anticamera".to_owned()), password_file: Some(file.clone()) };
    let settings = SharedStore { login: login.clone(), ..server.settings() };
    let node = open(&settings).await.unwrap();
    node.open_line(&room("r"), 1).await.unwrap();
    for shown in [format!("{settings:?}"), format!("{node:?}"), format!("{:?}", super::server::Server::of(&settings))] {
        assert!(!shown.contains("very-secret"), "{shown}");
    }
    let elsewhere = SharedStore { prefix: "others".to_owned(), ..settings.clone() };
    let why = match open(&elsewhere).await.unwrap().open_line(&room("r"), 1).await {
        Err(StoreError::Refused(why)) => why,
        other => panic!("{other:?}"),
    };
    assert!(why.contains("its keys"), "{why}");
    std::fs::remove_file(&file).unwrap();
    assert!(refused(&settings).await.contains("store.password_file"));
}

#[tokio::test]
async fn a_server_that_is_something_else_is_told_apart() {
    let (port, replica_port, cluster_port) = (free_port(), free_port(), free_port());
    let primary = Server::start_with(&["--bind", "127.0.0.1", "--port", &port]);
    let replica =
        Server::start_with(&["--bind", "127.0.0.1", "--port", &replica_port, "--replicaof", "127.0.0.1", &port]);
    let url = |port: &str| format!("redis://127.0.0.1:{port}");
    let why = refused(&at(Servers::One(url(&replica_port)))).await;
    assert!(why.contains("read-only replica"), "{why}");
    let (_cluster, _) = one_of_a_cluster(&cluster_port);
    let why = refused(&at(Servers::One(url(&cluster_port)))).await;
    assert!(why.contains("store.cluster"), "{why}");
    let why = refused(&at(Servers::Cluster(vec![url(&port)]))).await;
    assert!(why.contains("store.url"), "{why}");
    let sentinel =
        |port: &str| Servers::Sentinels { urls: vec![url(port)], primary: "line".to_owned(), login: Login::default() };
    let why = open(&at(sentinel(&port))).await.unwrap_err().to_string();
    assert!(why.contains("sentinel"), "{why}");
    drop((primary, replica));
}

#[test]
fn a_replica_behind_sentinels_or_in_a_cluster_is_not_blamed_on_the_address_of_one_server() {
    let url = || "redis://127.0.0.1:1".to_owned();
    let sentinels = Servers::Sentinels { urls: vec![url()], primary: "line".to_owned(), login: Login::default() };
    let read_only = redis::ErrorKind::Server(redis::ServerErrorKind::ReadOnly);
    for (servers, remedy) in [
        (Servers::One(url()), "name the primary in store.url"),
        (sentinels, "wait until the sentinels"),
        (Servers::Cluster(vec![url()]), "wait until the cluster"),
    ] {
        let server = super::server::Server::of(&at(servers)).unwrap();
        let why = server.in_words(&redis::RedisError::from((read_only, "READONLY"))).to_string();
        assert!(why.contains(remedy), "{why}");
    }
}

/// A server that keeps all slots of a cluster, once it says that it works.
fn one_of_a_cluster(port: &str) -> (Server, String) {
    let bus = free_port();
    let server = Server::start_with(&[
        "--bind",
        "127.0.0.1",
        "--port",
        port,
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        &bus,
    ]);
    server.cli(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    let mut waited = 0;
    while !server.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok") {
        assert!(waited < 1000, "no cluster");
        waited += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    (server, format!("redis://127.0.0.1:{port}"))
}

/// Lines under a prefix of their own in a cluster.
struct InCluster<'a> {
    server: &'a Server,
    settings: SharedStore,
}

impl Subject for InCluster<'_> {
    async fn open(&self) -> Store {
        let clock = Clock::Manual(self.server.clock.clone());
        Store::Valkey(Valkey::open(&self.settings, clock, Box::new(|_, _| {})).await.unwrap())
    }

    async fn kill(&self, store: Store) {
        let Store::Valkey(valkey) = store else { panic!("another store") };
        valkey.abandon();
    }

    fn now(&self) -> Unix {
        self.server.clock.now().unix
    }

    fn an_hour_passes(&self) {
        self.server.clock.advance(Duration::from_secs(3600));
    }
}

#[tokio::test]
async fn a_cluster_keeps_the_contract() {
    let (server, url) = one_of_a_cluster(&free_port());
    let mut number = 0;
    let mut subject = || {
        number += 1;
        let settings = SharedStore { prefix: format!("p{number}"), ..at(Servers::Cluster(vec![url.clone()])) };
        InCluster { server: &server, settings }
    };
    contract::a_new_line_is_empty_and_keeps_its_identity(&subject()).await;
    contract::numbers_are_unique_under_concurrency(&subject()).await;
    contract::lanes_and_rooms_count_by_themselves(&subject()).await;
    contract::no_number_is_drawn_twice_after_a_kill(&subject()).await;
    contract::flushed_facts_survive_a_kill(&subject()).await;
    contract::seats_come_and_go(&subject()).await;
    contract::ended_identities_are_forgotten_in_time(&subject()).await;
    contract::a_lifted_counter_stays_lifted(&subject()).await;
    contract::forgotten_tickets_take_no_room(&subject()).await;
    contract::a_reset_begins_a_new_line_and_leaves_the_others(&subject()).await;
    contract::an_opening_is_held_once_and_ends_with_its_line(&subject()).await;
    contract::notes_are_kept_in_order_and_survive_a_kill(&subject()).await;
    contract::no_more_notes_are_kept_than_wanted(&subject()).await;
    contract::a_closed_store_says_so(&subject()).await;
    let settings = SharedStore { prefix: "led".to_owned(), ..at(Servers::Cluster(vec![url.clone()])) };
    let (node, clock) = (open(&settings).await.unwrap(), Clock::system());
    node.open_line(&room("r"), 1).await.unwrap();
    let mut news = node.news(&room("r")).unwrap();
    node.take_number(&room("r"), CITIZEN, Drawn::ToEnter).await.unwrap();
    assert!(matches!(news.recv().await, Some(News::Entry(_))));
    until("the node leads", || node.role(&room("r"), clock.mono()) == Role::Leads).await;
}

#[tokio::test]
async fn nodes_share_the_rate_of_a_cluster_as_of_one_server() {
    let (server, url) = one_of_a_cluster(&free_port());
    let share_for = Some(Duration::from_mins(10));
    let settings = SharedStore { share_for, ..at(Servers::Cluster(vec![url])) };
    let (clock, name) = (Clock::system(), room("r"));
    let (one, other) = (open(&settings).await.unwrap(), open(&settings).await.unwrap());
    for node in [&one, &other] {
        node.open_line(&name, 1).await.unwrap();
    }
    let part = || one.part(&name, clock.mono());
    until("each has its share", || {
        server.cli(&["HVALS", "anticamera:{r}:alone"]).lines().filter(|claim| claim.ends_with(":500")).count() == 2
    })
    .await;
    assert_eq!(part(), Part::WithTheStore { permille: 1000 });
    other.abandon();
    until("the share of the silent one is left out", || part() == Part::WithTheStore { permille: 500 }).await;
}
