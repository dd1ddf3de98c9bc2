//! The shared store keeps the contract on a real server, and its nodes lead one after the other.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::clock::ManualClock;
use crate::domain::line::Asks;
use crate::domain::time::Unix;
use crate::store::contract::{CITIZEN, Subject, every_property_holds, room, ticket};
use crate::store::{Own, Store, TicketState};

const WAITS: Drawn = Drawn::ToWait(Asks::Scripted);

/// A server of its own on a Unix socket, and a clock for what lasts that stands still.
pub struct Server {
    process: Child,
    directory: TempDir,
    clock: ManualClock,
}

impl Server {
    fn start() -> Server {
        let directory = tempfile::tempdir().unwrap();
        let process = start_in(&directory);
        let clock = ManualClock::starting_at(Unix::from_seconds(1_800_000_000));
        let server = Server { process, directory, clock };
        server.wait();
        server
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    /// Waits until the server answers.
    fn wait(&self) {
        let until = std::time::Duration::from_secs(20);
        let answers =
            || std::os::unix::net::UnixStream::connect(self.socket()).is_ok() && self.cli(&["PING"]) == "PONG";
        let mut waited = Duration::ZERO;
        while !answers() {
            assert!(waited < until, "redis-server does not answer");
            waited += Duration::from_millis(20);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn cli(&self, words: &[&str]) -> String {
        let output = Command::new("redis-cli").arg("-s").arg(self.socket()).args(words).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn settings(&self) -> config::SharedStore {
        config::SharedStore {
            url: format!("redis+unix://{}", self.socket().display()),
            user: None,
            password_file: None,
            prefix: "anticamera".to_owned(),
        }
    }

    async fn node(&self, clock: Clock) -> Valkey {
        Valkey::open(&self.settings(), clock, Box::new(|_, _| {})).await.unwrap()
    }

    fn restart(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.process = start_in(&self.directory);
        self.wait();
    }
}

fn start_in(directory: &TempDir) -> Child {
    let words =
        ["--port", "0", "--save", "", "--appendonly", "yes", "--appendfsync", "always", "--unixsocket", "socket"];
    Command::new("redis-server").args(words).current_dir(directory.path()).stdout(Stdio::null()).spawn().unwrap()
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Subject for Server {
    async fn open(&self) -> Store {
        Store::Valkey(self.node(Clock::Manual(self.clock.clone())).await)
    }

    async fn kill(&self, store: Store) {
        let Store::Valkey(valkey) = store else { panic!("another store") };
        valkey.abandon();
    }

    fn now(&self) -> Unix {
        self.clock.now().unix
    }

    fn an_hour_passes(&self) {
        self.clock.advance(Duration::from_secs(3600));
    }
}

every_property_holds!(Server::start());

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let patience = tokio::time::timeout(Duration::from_secs(20), async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(patience.await.is_ok(), "{what}");
}

async fn next(news: &mut mpsc::UnboundedReceiver<News>) -> News {
    tokio::time::timeout(Duration::from_secs(20), news.recv()).await.unwrap().unwrap()
}

/// The next entry that holds an item for which `wanted` says so.
async fn hear(news: &mut mpsc::UnboundedReceiver<News>, wanted: impl Fn(&Item) -> bool) -> crate::store::Entry {
    loop {
        if let News::Entry(entry) = next(news).await
            && entry.items.iter().any(&wanted)
        {
            return entry;
        }
    }
}

#[tokio::test]
async fn one_node_leads_and_the_next_one_after_it_is_killed() {
    let server = Server::start();
    let clock = Clock::system();
    let (first, second) = (server.node(clock.clone()).await, server.node(clock.clone()).await);
    first.open_line(&room("r"), 1).await.unwrap();
    until("the first node leads", || first.role(&room("r"), clock.mono()) == Role::Leads).await;
    second.open_line(&room("r"), 2).await.unwrap();
    second.flush().await.unwrap();
    assert_eq!(second.role(&room("r"), clock.mono()), Role::Follows);
    first.abandon();
    until("the second node leads", || second.role(&room("r"), clock.mono()) == Role::Leads).await;
}

#[tokio::test]
async fn a_leader_that_stops_in_order_gives_the_lease_back() {
    let server = Server::start();
    let clock = Clock::system();
    let first = server.node(clock.clone()).await;
    first.open_line(&room("r"), 1).await.unwrap();
    until("the first node leads", || first.role(&room("r"), clock.mono()) == Role::Leads).await;
    first.close().await.unwrap();
    assert_eq!(server.cli(&["HGET", "anticamera:{r}:lease", "node"]), "");
}

#[tokio::test]
async fn what_a_stopped_leader_decided_is_refused_when_it_wakes_up() {
    let server = Server::start();
    let clock = Clock::system();
    let node = server.node(clock.clone()).await;
    node.open_line(&room("r"), 1).await.unwrap();
    until("the node leads", || node.role(&room("r"), clock.mono()) == Role::Leads).await;
    let mut news = node.news(&room("r")).unwrap();
    let number = node.take_number(&room("r"), CITIZEN, WAITS).await.unwrap();
    // As if the node had been stopped for long: another has taken the lease meanwhile.
    server.cli(&["HSET", "anticamera:{r}:lease", "node", "7", "fence", "99", "until", "9999999999999"]);
    node.record(&room("r"), ticket(number, TicketState::Called));
    node.record(&room("r"), Fact::SeatGone { id: [3; 16], ended_until: Some(u32::MAX) });
    loop {
        match next(&mut news).await {
            News::Anew(line) => {
                let record = line.lanes[0].1.tickets().find(|(of, _)| *of == number).unwrap().1;
                assert_eq!(record.state, TicketState::Waiting, "the call was refused");
                break;
            }
            News::Entry(_) => {}
            News::Doubtful => panic!("nothing was lost"),
        }
    }
    node.flush().await.unwrap();
    assert_eq!(server.cli(&["ZCARD", "anticamera:{r}:ended"]), "1", "what anybody may say is not lost");
    assert_eq!(node.role(&room("r"), clock.mono()), Role::Follows);
}

#[tokio::test]
async fn all_nodes_hear_the_same_in_one_order() {
    let server = Server::start();
    let clock = Clock::system();
    let (first, second) = (server.node(clock.clone()).await, server.node(clock.clone()).await);
    first.open_line(&room("r"), 1).await.unwrap();
    second.open_line(&room("r"), 2).await.unwrap();
    let (mut at_first, mut at_second) = (first.news(&room("r")).unwrap(), second.news(&room("r")).unwrap());
    for node in [&first, &second, &second, &first] {
        node.take_number(&room("r"), CITIZEN, WAITS).await.unwrap();
    }
    second.tell(&room("r"), Said::Extended { class: CITIZEN, number: 2 });
    let is_extended = |item: &Item| matches!(item, Item::Said(Said::Extended { .. }));
    let drawn = |items: &[Item]| -> Vec<u64> {
        items.iter().filter_map(|item| if let Item::Drawn { first, .. } = item { Some(*first) } else { None }).collect()
    };
    let mut heard = Vec::new();
    for news in [&mut at_first, &mut at_second] {
        let mut numbers = Vec::new();
        loop {
            let News::Entry(entry) = next(news).await else { panic!("an entry") };
            numbers.extend(drawn(&entry.items));
            if entry.items.iter().any(is_extended) {
                assert_eq!(entry.from, second.node());
                heard.push((numbers, entry.own));
                break;
            }
        }
    }
    assert_eq!(heard, [(vec![1, 2, 3, 4], Own::Others), (vec![1, 2, 3, 4], Own::AsFollower)]);
}

#[tokio::test]
async fn a_store_that_comes_back_empty_is_told_again_and_gives_no_number_twice() {
    let server = Server::start();
    let node = server.node(Clock::system()).await;
    let line = node.open_line(&room("r"), 1).await.unwrap();
    let mut news = node.news(&room("r")).unwrap();
    for _ in 0..5 {
        node.take_number(&room("r"), CITIZEN, WAITS).await.unwrap();
    }
    server.cli(&["FLUSHALL"]);
    while !matches!(next(&mut news).await, News::Doubtful) {}
    let known = crate::store::Line {
        lanes: vec![(CITIZEN, crate::store::Lane { mark: 5, issued: 5, ..Default::default() })],
        ..line.clone()
    };
    node.tell_again(&room("r"), &known).await.unwrap();
    let next = node.take_number(&room("r"), CITIZEN, WAITS).await.unwrap();
    assert!(next > 5, "{next}");
    assert_eq!(server.node(Clock::system()).await.open_line(&room("r"), 9).await.unwrap().identity, line.identity);
}

#[tokio::test]
async fn after_the_servers_restart_the_counters_jump() {
    let mut server = Server::start();
    let node = server.node(Clock::system()).await;
    node.open_line(&room("r"), 1).await.unwrap();
    let mut news = node.news(&room("r")).unwrap();
    assert_eq!(node.take_number(&room("r"), CITIZEN, WAITS).await, Ok(1));
    server.restart();
    while !matches!(next(&mut news).await, News::Doubtful) {}
    let after = node.take_number(&room("r"), CITIZEN, WAITS).await.unwrap();
    assert_eq!(after, 65_538);
}

#[tokio::test]
async fn a_server_that_is_away_is_said_to_be_and_nothing_said_is_lost() {
    let mut server = Server::start();
    let node = server.node(Clock::system()).await;
    node.open_line(&room("r"), 1).await.unwrap();
    let health = node.health();
    let _ = server.process.kill();
    let _ = server.process.wait();
    node.record(&room("r"), Fact::SeatGone { id: [3; 16], ended_until: Some(u32::MAX) });
    until("the server is missed", || matches!(*health.borrow(), Health::Unreachable { .. })).await;
    assert!(matches!(node.take_number(&room("r"), CITIZEN, WAITS).await, Err(StoreError::Unreachable(_))));
    server.process = start_in(&server.directory);
    server.wait();
    until("the server is back", || *health.borrow() == Health::Good).await;
    node.flush().await.unwrap();
    assert_eq!(server.cli(&["ZCARD", "anticamera:{r}:ended"]), "1");
}

#[tokio::test]
async fn who_may_not_enter_is_told_why() {
    let server = Server::start();
    server.cli(&["CONFIG", "SET", "requirepass", "secret"]);
    let refused = |settings: config::SharedStore| async move {
        match Valkey::open(&settings, Clock::system(), Box::new(|_, _| {})).await {
            Err(StoreError::Refused(why)) => why.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let why = refused(server.settings()).await;
    assert!(why.contains("store.password_file"), "{why}");
    let file = server.directory.path().join("password");
    std::fs::write(&file, "wrong\n").unwrap();
    let with_password = config::SharedStore { password_file: Some(file.clone()), ..server.settings() };
    let why = refused(with_password.clone()).await;
    assert!(why.contains("store.password_file") && !why.contains("wrong\n"), "{why}");
    std::fs::write(&file, "secret\n").unwrap();
    Valkey::open(&with_password, Clock::system(), Box::new(|_, _| {})).await.unwrap();
}

#[tokio::test]
async fn another_applications_keys_are_left_alone() {
    let server = Server::start();
    server.cli(&["SET", "anticamera:{r}:line", "something else"]);
    let node = server.node(Clock::system()).await;
    let Err(StoreError::Refused(why)) = node.open_line(&room("r"), 1).await else { panic!("refused") };
    assert!(why.contains("store.prefix"), "{why}");
    assert_eq!(server.cli(&["GET", "anticamera:{r}:line"]), "something else");
}

#[tokio::test]
async fn a_line_of_a_newer_version_is_left_alone() {
    let server = Server::start();
    server.cli(&[
        "HSET",
        "anticamera:{r}:line",
        "format",
        "2",
        "identity",
        "5",
        "frozen",
        "0",
        "seq",
        "0",
        "last",
        "0",
    ]);
    let node = server.node(Clock::system()).await;
    let Err(StoreError::Refused(why)) = node.open_line(&room("r"), 1).await else { panic!("refused") };
    assert!(why.contains("format 2"), "{why}");
}

#[tokio::test]
async fn a_nodes_time_line_is_the_servers() {
    let server = Server::start();
    let clock = Clock::system();
    // As if this machine's clock were two hours ahead: the time line was set by it.
    clock.follow(Unix(clock.now().wall.0 + 7_200_000), Steer::AtOnce);
    assert!(clock.unix().0 > clock.now().wall.0 + 7_000_000);
    let _node = server.node(clock.clone()).await;
    assert!(clock.unix().0.abs_diff(clock.now().wall.0) < 60_000, "{:?} {:?}", clock.unix(), clock.now().wall);
}

#[tokio::test]
async fn words_of_one_node_reach_another_within_its_tick() {
    let server = Server::start();
    let (first, second) = (server.node(Clock::system()).await, server.node(Clock::system()).await);
    first.open_line(&room("r"), 1).await.unwrap();
    second.open_line(&room("r"), 2).await.unwrap();
    let mut news = second.news(&room("r")).unwrap();
    first.tell(&room("r"), Said::Here { definition: 4 });
    let entry = hear(&mut news, |item| *item == Item::Said(Said::Here { definition: 4 })).await;
    assert_eq!((entry.from, entry.own), (first.node(), Own::Others));
}
