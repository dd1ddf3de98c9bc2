//! The shared store keeps the contract on a real server, and its nodes lead one after the other.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::clock::ManualClock;
use crate::config::{Login, Servers, StoreTls};
use crate::domain::line::Asks;
use crate::domain::opening::Gathered;
use crate::domain::time::Unix;
use crate::store::contract::{CITIZEN, Subject, announced, every_property_holds, room, ticket};
use crate::store::{Change, Noted, Own, Store, TicketState};

#[tokio::test]
async fn what_nodes_keep_in_common_is_replaced_only_by_whoever_saw_it() {
    let server = Server::start();
    let (one, other, room) = (server.open().await, server.open().await, room("r"));
    one.open_line(&room, 1).await.unwrap();
    other.open_line(&room, 1).await.unwrap();
    let keep = Duration::from_secs(60);
    let seen = |bytes: &[u8]| Exchanged::Other(bytes.to_vec());
    assert_eq!(one.exchange(&room, "x", (b"", b"\0a"), keep).await, Ok(Exchanged::Done));
    assert_eq!(other.exchange(&room, "x", (b"", b"b"), keep).await, Ok(seen(b"\0a")));
    assert_eq!(other.exchange(&room, "x", (b"\0a", b"b"), keep).await, Ok(Exchanged::Done));
    assert_eq!(one.exchange(&room, "x", (b"\0a", b"c"), keep).await, Ok(seen(b"b")));
    assert_eq!(one.exchange(&room, "y", (b"", b"c"), keep).await, Ok(Exchanged::Done), "another matter");
}

const WAITS: Drawn = Drawn::ToWait(Asks::Scripted);

/// A server of its own on a Unix socket, and a clock for what lasts that stands still.
pub struct Server {
    process: Child,
    pub directory: TempDir,
    words: Vec<String>,
    pub clock: ManualClock,
}

impl Server {
    fn start() -> Server {
        Server::start_with(&["--port", "0"])
    }

    /// Starts it with these words after its name.
    pub fn start_with(words: &[&str]) -> Server {
        let directory = tempfile::tempdir().unwrap();
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let process = start_in(&directory, &words);
        let clock = ManualClock::starting_at(Unix::from_seconds(1_800_000_000));
        let server = Server { process, directory, words, clock };
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

    pub fn cli(&self, words: &[&str]) -> String {
        let output = Command::new("redis-cli").arg("-s").arg(self.socket()).args(words).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    pub fn settings(&self) -> config::SharedStore {
        config::SharedStore {
            servers: Servers::One(format!("redis+unix://{}", self.socket().display())),
            login: Login::default(),
            tls: StoreTls::default(),
            prefix: "anticamera".to_owned(),
            share_for: None,
        }
    }

    async fn node(&self, clock: Clock) -> Valkey {
        Valkey::open(&self.settings(), clock, Box::new(|_, _| {})).await.unwrap()
    }

    fn restart(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.process = start_in(&self.directory, &self.words);
        self.wait();
    }
}

fn start_in(directory: &TempDir, words: &[String]) -> Child {
    let ours = ["--save", "", "--appendonly", "yes", "--appendfsync", "always", "--unixsocket", "socket"];
    let mut server = Command::new("redis-server");
    server.args(words).args(ours).current_dir(directory.path()).stdout(Stdio::null()).spawn().unwrap()
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

pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
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
async fn an_opening_is_announced_and_held_once_for_all_nodes() {
    let server = Server::start();
    let (clock, room) = (Clock::system(), room("r"));
    let (first, second) = (server.node(clock.clone()).await, server.node(clock.clone()).await);
    first.open_line(&room, 1).await.unwrap();
    until("the first node leads", || first.role(&room, clock.mono()) == Role::Leads).await;
    second.open_line(&room, 2).await.unwrap();
    let mut heard = [first.news(&room).unwrap(), second.news(&room).unwrap()];
    let (one, other) = (announced(1, 3), announced(1, 4));
    let Noted::Done(known) =
        first.change_opening(&room, Change::Announce { opening: &one, instead_of: None }).await.unwrap()
    else {
        panic!("nobody else announced one")
    };
    let late = second.change_opening(&room, Change::Announce { opening: &other, instead_of: None }).await.unwrap();
    assert_eq!(late, Noted::Otherwise(Some(known.clone())), "there is one seed");
    for node in [&first, &second] {
        node.take_number(&room, CITIZEN, WAITS).await.unwrap();
    }
    let withdrawn = known.clone().withdrawn(Unix(1));
    let withdraw = Change::Withdraw { opening: &withdrawn, instead_of: &known };
    assert_eq!(second.change_opening(&room, withdraw).await.unwrap(), Noted::Otherwise(Some(known.clone())));
    let hold = Change::Hold { opening: &known, at: Unix(1) };
    assert!(second.change_opening(&room, hold).await.is_err(), "it does not lead");
    let Noted::Done(held) = first.change_opening(&room, hold).await.unwrap() else { panic!("it leads") };
    second.take_number(&room, CITIZEN, WAITS).await.unwrap();
    assert_eq!(first.change_opening(&room, hold).await.unwrap(), Noted::Done(held.clone()), "it is held once");
    let gathered = Gathered { class: CITIZEN, after: 0, count: 2 };
    assert_eq!(held.held.as_ref().unwrap().lanes, [gathered]);
    for news in &mut heard {
        let mut drawn = Vec::new();
        loop {
            let News::Entry(entry) = next(news).await else { continue };
            drawn.extend(entry.items.iter().filter(|item| matches!(item, Item::Drawn { .. })).copied());
            if entry.opening.as_deref() == Some(&held) {
                break;
            }
        }
        assert_eq!(drawn.len(), 2, "all hear of it after those who gathered and before whoever came late");
    }
}

#[tokio::test]
async fn a_store_that_lost_an_opening_is_told_it_again() {
    let server = Server::start();
    let (clock, room) = (Clock::system(), room("r"));
    let node = server.node(clock.clone()).await;
    let line = node.open_line(&room, 1).await.unwrap();
    until("the node leads", || node.role(&room, clock.mono()) == Role::Leads).await;
    let one = announced(1, 3);
    let Noted::Done(known) =
        node.change_opening(&room, Change::Announce { opening: &one, instead_of: None }).await.unwrap()
    else {
        panic!("nobody else announced one")
    };
    let mut news = node.news(&room).unwrap();
    server.cli(&["FLUSHALL"]);
    while !matches!(next(&mut news).await, News::Doubtful) {}
    node.tell_again(&room, &Line { openings: vec![known.clone()], ..line }).await.unwrap();
    assert_eq!(node.open_line(&room, 2).await.unwrap().openings, [known]);
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
    server.process = start_in(&server.directory, &server.words);
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
    let with_password =
        config::SharedStore { login: Login { user: None, password_file: Some(file.clone()) }, ..server.settings() };
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
async fn what_a_killed_node_might_use_alone_is_left_out_and_what_a_closed_one_might_is_not() {
    let server = Server::start();
    let settings = config::SharedStore { share_for: Some(Duration::from_mins(10)), ..server.settings() };
    let (clock, room) = (Clock::system(), room("r"));
    let node = || async {
        let node = Valkey::open(&settings, clock.clone(), Box::new(|_, _| {})).await.unwrap();
        node.open_line(&room, 1).await.unwrap();
        node
    };
    let (first, second, third) = (node().await, node().await, node().await);
    let shares = || {
        let claims = server.cli(&["HVALS", "anticamera:{r}:alone"]);
        let mut shares: Vec<u32> =
            claims.lines().map(|claim| claim.rsplit(':').next().unwrap().parse().unwrap()).collect();
        shares.sort_unstable();
        shares
    };
    until("each has its share", || shares() == [333; 3]).await;
    let left = || first.part(&room, clock.mono());
    assert_eq!(left(), Part::WithTheStore { permille: 1000 });
    second.abandon();
    until("the share of the silent one is left out", || left() == Part::WithTheStore { permille: 667 }).await;
    third.close().await.unwrap();
    until("the share of the closed one is free", || shares() == [333, 500]).await;
    assert_eq!(left(), Part::WithTheStore { permille: 667 });
}

/// As a server leaves it that comes back with an older state: these commands, and another life.
fn comes_back_older(server: &Server, commands: &[&[&str]]) {
    commands.iter().for_each(|words| drop(server.cli(words)));
    server.cli(&["HSET", "anticamera:{r}:line", "run", "another"]);
}

#[tokio::test]
async fn what_others_may_use_alone_is_not_forgotten_with_an_older_state() {
    let server = Server::start();
    let settings = config::SharedStore { share_for: Some(Duration::from_mins(10)), ..server.settings() };
    let (clock, room) = (Clock::system(), room("r"));
    let node = || async {
        let node = Valkey::open(&settings, clock.clone(), Box::new(|_, _| {})).await.unwrap();
        node.open_line(&room, 1).await.unwrap();
        node
    };
    let (first, second) = (node().await, node().await);
    let shares = || server.cli(&["HVALS", "anticamera:{r}:alone"]);
    until("each has its share", || shares().matches(":500").count() == 2).await;
    let knows = |node: &Valkey| node.inner.room(&room).unwrap().others_who_may_go_on_alone();
    until("the first knows the other's", || knows(&first).iter().any(|claim| claim.permille == 500)).await;
    second.abandon();
    // It knows of none of the two, and of one that was heard of until just before.
    let gone = "1000:601000:250";
    comes_back_older(&server, &[&["DEL", "anticamera:{r}:alone"], &["HSET", "anticamera:{r}:alone", "77", gone]]);
    let left = || first.part(&room, clock.mono());
    until("both may go on somewhere", || left() == Part::WithTheStore { permille: 250 }).await;
    let claims = server.cli(&["HGETALL", "anticamera:{r}:alone"]);
    let now: u64 = server.cli(&["TIME"]).lines().next().unwrap().parse().unwrap();
    for node in ["77".to_owned(), second.node().0.to_string()] {
        let claim = claims.lines().skip_while(|line| **line != node).nth(1).unwrap();
        let until: u64 = claim.split(':').nth(1).unwrap().parse().unwrap();
        assert!((now + 590..now + 601).contains(&(until / 1000)), "{claim} at {now}");
    }
}

#[tokio::test]
async fn the_table_of_numbers_lasts_also_when_a_node_asks_for_it_that_let_nobody_in() {
    let server = Server::start();
    let (busy, idle) = (server.node(Clock::system()).await, server.node(Clock::system()).await);
    for node in [&busy, &idle] {
        node.open_line(&room("r"), 1).await.unwrap();
    }
    let there = |key: &str| server.cli(&["EXISTS", &format!("anticamera:{{r}}:late:{key}")]).trim() == "1";
    let issued = busy.issue(&room("r"), (CITIZEN, Asks::Scripted), Duration::from_hours(1), busy.inner.clock.mono());
    assert!(issued.is_some());
    until("it is reported", || there("waiting")).await;
    idle.inner.room(&room("r")).unwrap().late().begin_to_settle(idle.inner.clock.mono());
    until("it has a number", || there("rows")).await;
    let left: u64 = server.cli(&["PTTL", "anticamera:{r}:late:rows"]).trim().parse().unwrap();
    assert!(left > 3_000_000, "{left} ms");
}

#[tokio::test]
async fn numbers_that_an_older_state_does_not_know_are_not_given_again() {
    let server = Server::start();
    let (first, second) = (server.node(Clock::system()).await, server.node(Clock::system()).await);
    let line = first.open_line(&room("r"), 1).await.unwrap();
    second.open_line(&room("r"), 1).await.unwrap();
    let mut news = second.news(&room("r")).unwrap();
    first.lift(&room("r"), CITIZEN, 300_000).await.unwrap();
    assert_eq!(first.take_number(&room("r"), CITIZEN, WAITS).await, Ok(300_001));
    hear(&mut news, |item| matches!(item, Item::Drawn { .. })).await;
    comes_back_older(&server, &[&["HSET", "anticamera:{r}:marks", "7", "10"]]);
    let again = second.take_number(&room("r"), CITIZEN, WAITS).await.unwrap();
    assert_eq!(again, 300_001 + 65_536 + 1, "whoever draws next knows how far the counter was");
    // A node tells all that it knows, and others may have drawn on from there.
    let lane = crate::store::Lane { mark: 500_000, issued: 500_000, ..Default::default() };
    let known = crate::store::Line { lanes: vec![(CITIZEN, lane)], ..line };
    first.tell_again(&room("r"), &known).await.unwrap();
    let after = second.take_number(&room("r"), CITIZEN, WAITS).await.unwrap();
    assert_eq!(after, 500_000 + 65_536 + 1);
}

#[tokio::test]
async fn what_others_said_to_another_server_before_a_node_came_there_is_heard_too() {
    let server = Server::start();
    let node = server.node(Clock::system()).await;
    node.open_line(&room("r"), 1).await.unwrap();
    let mut news = node.news(&room("r")).unwrap();
    let mut drawn = Vec::new();
    for _ in 0..3 {
        drawn.push(node.take_number(&room("r"), CITIZEN, WAITS).await.unwrap());
    }
    let last = drawn[2];
    hear(&mut news, |item| matches!(item, Item::Drawn { first, .. } if *first == last)).await;
    // The last two entries are lost, and another node was first to write to the server that took over: by a clock that is
    // behind, so that its entry comes before those that are lost.
    let log = "anticamera:{r}:log";
    let entries = server.cli(&["XRANGE", log, "-", "+"]);
    let is_identity =
        |line: &&str| line.split('-').count() == 2 && line.split('-').all(|part| part.parse::<u64>().is_ok());
    let identities: Vec<&str> = entries.lines().filter(is_identity).collect();
    let [.., same, one_lost, other_lost] = identities.as_slice() else { panic!("{entries}") };
    let seq: u64 = server.cli(&["HGET", "anticamera:{r}:line", "seq"]).parse().unwrap();
    let (before, next) = ((seq - 2).to_string(), (seq - 1).to_string());
    assert!(before.parse::<u64>().unwrap() >= 1);
    let (same_at, same_nth) = same.split_once('-').unwrap();
    let theirs = format!("{same_at}-{}", same_nth.parse::<u64>().unwrap() + 1);
    comes_back_older(
        &server,
        &[
            &["XDEL", log, one_lost, other_lost],
            &["XSETID", log, same],
            &["XADD", log, &theirs, "n", "77", "s", &next, "f", "0", "j", "7:900:1:w", "b", ""],
            &["HSET", "anticamera:{r}:line", "seq", &next],
        ],
    );
    let entry = hear(&mut news, |item| matches!(item, Item::Drawn { first: 900, .. })).await;
    assert_eq!(entry.own, Own::Others);
    // And what comes after it, once.
    let after = node.take_number(&room("r"), CITIZEN, WAITS).await.unwrap();
    hear(&mut news, |item| matches!(item, Item::Drawn { first, .. } if *first == after)).await;
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

#[tokio::test]
async fn words_whose_answer_was_lost_are_said_again_and_count_once() {
    let server = Server::start();
    let node = server.node(Clock::system()).await;
    node.open_line(&room("r"), 1).await.unwrap();
    let mut news = node.news(&room("r")).unwrap();
    assert_eq!(node.take_number(&room("r"), CITIZEN, WAITS).await, Ok(1));
    // The server does what it is told at once, and answers only when the node has given up.
    server.cli(&["CLIENT", "PAUSE", "2600", "ALL"]);
    node.tell(&room("r"), Said::Extended { class: CITIZEN, number: 1 });
    let health = node.health();
    until("the server is missed", || matches!(*health.borrow(), Health::Unreachable { .. })).await;
    until("the server is back", || *health.borrow() == Health::Good).await;
    node.tell(&room("r"), Said::Extended { class: CITIZEN, number: 7 });
    let mut extended = Vec::new();
    while !extended.contains(&7) {
        let News::Entry(entry) = next(&mut news).await else { continue };
        extended.extend(entry.items.iter().filter_map(|item| match item {
            Item::Said(Said::Extended { number, .. }) => Some(*number),
            _ => None,
        }));
    }
    assert_eq!(extended, [1, 7]);
}

/// What the server knows of a ticket; 1 waiting, 2 called, 3 entered, 4 left, 5 absent.
fn known_of(server: &Server, number: u64) -> String {
    server.cli(&["BITFIELD", "anticamera:{r}:page:7:0", "GET", "u4", &format!("#{number}")])
}

#[tokio::test]
async fn what_was_decided_after_the_lease_was_lost_is_not_said_without_its_fence() {
    let server = Server::start();
    let clock = Clock::system();
    let node = server.node(clock.clone()).await;
    node.open_line(&room("r"), 1).await.unwrap();
    until("the node leads", || node.role(&room("r"), clock.mono()) == Role::Leads).await;
    let number = node.take_number(&room("r"), CITIZEN, WAITS).await.unwrap();
    let speaking = node.inner.room(&room("r")).unwrap();
    node.abandon();
    until("its tasks have ended", || Arc::strong_count(&speaking) == 1).await;
    speaking.say(Item::Fact(ticket(number, TicketState::Called)));
    speaking.say(Item::Fact(Fact::SeatGone { id: [3; 16], ended_until: Some(u32::MAX) }));
    super::room::step_back(&node.inner, &speaking, super::room::Outcome::Fenced).await.unwrap();
    assert_eq!(known_of(&server, number), "1", "the call is not written");
    assert_eq!(server.cli(&["ZCARD", "anticamera:{r}:ended"]), "1", "what anybody may say is");
}

#[tokio::test]
async fn a_call_that_is_said_again_after_the_entry_does_not_undo_it() {
    let server = Server::start();
    let node = server.node(Clock::system()).await;
    node.open_line(&room("r"), 1).await.unwrap();
    for (state, known) in [
        (TicketState::Waiting, "1"),
        (TicketState::Called, "2"),
        (TicketState::Entered, "3"),
        (TicketState::Called, "3"),
        (TicketState::Absent, "3"),
        (TicketState::Waiting, "3"),
    ] {
        node.record(&room("r"), ticket(5, state));
        node.flush().await.unwrap();
        assert_eq!(known_of(&server, 5), known, "{state:?}");
    }
    node.tell(&room("r"), Said::Unspent { class: CITIZEN, number: 5 });
    node.flush().await.unwrap();
    assert_eq!(known_of(&server, 5), "2", "whom the entry did not reach keeps the turn");
    node.record(&room("r"), ticket(5, TicketState::Left));
    node.tell(&room("r"), Said::Unspent { class: CITIZEN, number: 5 });
    node.flush().await.unwrap();
    assert_eq!(known_of(&server, 5), "4");
}

#[tokio::test]
async fn what_is_written_while_a_page_is_told_again_is_not_lost() {
    let server = Server::start();
    let (first, second) = (server.node(Clock::system()).await, server.node(Clock::system()).await);
    let mut line = first.open_line(&room("r"), 1).await.unwrap();
    let mut page = crate::store::TicketPage::blank();
    let record = |state| crate::store::TicketRecord { state, script: crate::store::Script::Runs };
    page.set(7, record(TicketState::Called));
    page.set(8, record(TicketState::Called));
    line.lanes =
        vec![(CITIZEN, crate::store::Lane { mark: 9, issued: 9, pages: vec![(0, page)], ..Default::default() })];
    let known = Room::new("anticamera", &room("r"), None);
    known.only_writes(line.identity);
    let write = |number: u64| {
        let mut command = redis::cmd("BITFIELD");
        command.arg("anticamera:{r}:page:7:0").arg("SET").arg("u4").arg(format!("#{number}")).arg(3);
        command
    };
    let told_again = async {
        for _ in 0..200 {
            first.inner.write_pages(&known, &line).await.unwrap();
        }
    };
    let written = async {
        for number in 8..300 {
            let _: Vec<u64> = second.inner.link.ask(&write(number)).await.unwrap();
        }
    };
    tokio::join!(told_again, written);
    assert_eq!(known_of(&server, 7), "2", "what the server does not know is filled in");
    for number in 8..300 {
        assert_eq!(known_of(&server, number), "3", "{number}");
    }
    known.only_writes(77);
    assert!(first.inner.write_pages(&known, &line).await.is_err(), "the pages are of another line");
}

#[tokio::test]
async fn a_server_that_another_stood_in_for_meanwhile_is_told_again() {
    let server = Server::start();
    let node = server.node(Clock::system()).await;
    node.open_line(&room("r"), 1).await.unwrap();
    let mut news = node.news(&room("r")).unwrap();
    assert_eq!(node.take_number(&room("r"), CITIZEN, WAITS).await, Ok(1));
    // As a replica leaves it that was the primary for a while.
    server.cli(&["HSET", "anticamera:{r}:line", "run", "another"]);
    while !matches!(next(&mut news).await, News::Doubtful) {}
    assert_eq!(node.take_number(&room("r"), CITIZEN, WAITS).await, Ok(65_538));
}

#[tokio::test]
async fn a_node_that_has_not_heard_of_a_freeze_does_not_undo_it_when_it_tells_the_line_again() {
    let server = Server::start();
    let (first, second) = (server.node(Clock::system()).await, server.node(Clock::system()).await);
    let line = first.open_line(&room("r"), 1).await.unwrap();
    second.open_line(&room("r"), 2).await.unwrap();
    let by_hand = |what: &str| server.cli(&["HGET", "anticamera:{r}:line", &format!("by_hand:{what}")]);
    second.flush().await.unwrap();
    first.record(&room("r"), Fact::Ordered(crate::store::Order::Freeze));
    first.flush().await.unwrap();
    second.tell_again(&room("r"), &line).await.unwrap();
    assert_eq!((by_hand("frozen"), by_hand("held")), ("1".to_owned(), String::new()));
    // The server comes back without the orders: whoever knows of some says so.
    server.cli(&["HDEL", "anticamera:{r}:line", "by_hand:frozen"]);
    let orders = crate::store::Orders { frozen: false, held: true };
    second.tell_again(&room("r"), &crate::store::Line { orders, ..line.clone() }).await.unwrap();
    assert_eq!((by_hand("frozen"), by_hand("held")), (String::new(), "1".to_owned()));
}

#[tokio::test]
async fn a_line_that_stays_lost_shows_in_health_and_holds_nobody_up() {
    let server = Server::start();
    let node = server.node(Clock::system()).await;
    node.open_line(&room("r"), 1).await.unwrap();
    let health = node.health();
    node.flush_room(&room("r")).await.unwrap();
    server.cli(&["FLUSHALL"]);
    assert!(matches!(node.flush_room(&room("r")).await, Err(StoreError::Unreachable(_))));
    until("it shows", || matches!(*health.borrow(), Health::Unreachable { .. })).await;
}
