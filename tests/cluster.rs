//! Three nodes, one line: behind a plain balancer, with a real Redis server, killed and started at will.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::caches::cache;
use crate::classes::{claims, class_with, sign_on};
use crate::support::app::number_of;
use crate::support::crowd::{
    Client, Crowd, PROVISIONAL, Portal, free_address, no_number_twice, overtaken_by_nobody, worst_excess,
};
use crate::support::portal::{FakePortal, Script, Step};
use crate::support::process::{Proxy, Setup, program};
use crate::support::redis::{Family, Redis};
use crate::support::wire::{self, Reply, Wire};

const RATE: f64 = 40.0;
const NODES: usize = 3;

/// What it takes to hear of a call and to come, and to find another node when one is gone: another leads after a second.
const MOMENTS: Duration = Duration::from_secs(6);

/// The same, and until another server has taken over from one that was killed.
const OUTAGE: Duration = Duration::from_secs(15);

/// The nodes and what they share.
struct Cluster<S = Redis> {
    nodes: Vec<Proxy>,
    redis: S,
    balancer: SocketAddr,
    _keys: tempfile::TempDir,
}

impl Cluster {
    async fn start(portal: &Portal) -> Cluster {
        Cluster::with(portal, Wishes::default()).await
    }

    async fn with(portal: &Portal, wishes: Wishes<'_>) -> Cluster {
        let redis = Redis::start();
        let store = format!("url = \"redis://{}\"", redis.address);
        Cluster::made(redis, &Wishes { store: &store, ..wishes }, portal, |_| program()).await
    }
}

impl<S> Cluster<S> {
    /// The nodes on a store of which these lines tell.
    async fn on(redis: S, store: &str, portal: &Portal) -> Cluster<S> {
        Cluster::of(redis, store, portal, |_| program()).await
    }

    /// The same, each started by a command of its own.
    async fn of(redis: S, store: &str, portal: &Portal, command: impl Fn(usize) -> Command) -> Cluster<S> {
        Cluster::made(redis, &Wishes { store, ..Wishes::default() }, portal, command).await
    }

    async fn made(redis: S, wishes: &Wishes<'_>, portal: &Portal, command: impl Fn(usize) -> Command) -> Cluster<S> {
        let keys = tempfile::tempdir().unwrap();
        let configuration = configuration(portal.address, wishes, keys.path());
        let configuration = |node: usize| {
            let text = configuration.replace("LISTEN", &free_address().to_string());
            wishes.detour.iter().filter(|_| node == 0).fold(text, |text, (from, to)| text.replace(from, to))
        };
        let nodes = (0..NODES).map(|node| Proxy::start_as(&configuration(node), command(node))).collect::<Vec<_>>();
        let balancer = balance(nodes.iter().map(|node| node.address).collect()).await;
        Cluster { nodes, redis, balancer, _keys: keys }
    }

    /// The node that leads, as the store has it.
    async fn leader(&self) -> usize {
        for _ in 0..400 {
            for (index, node) in self.nodes.iter().enumerate() {
                if metric(node.admin, "anticamera_leads{room=\"r\"}").await == Some(1.0) {
                    return index;
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("nobody leads");
    }
}

/// What the configuration of a cluster's nodes says.
#[derive(Default)]
struct Wishes<'a> {
    /// Where the store is.
    store: &'a str,
    /// Lines of `[server.limits]`.
    limits: &'a str,
    /// Lines of the room.
    room: &'a str,
    /// Whole tables.
    more: &'a str,
    /// What the first node finds in the place of something else.
    detour: Option<(String, String)>,
}

fn configuration(portal: SocketAddr, wishes: &Wishes<'_>, keys: &std::path::Path) -> String {
    let room = format!("joins_per_client = \"unlimited\"\n{}", wishes.room);
    let leak_guard = format!("audit_key = \"{}\"", keys.join("guard/key").display());
    let setup = Setup {
        rate: "40/s",
        listen: "LISTEN".to_owned(),
        room,
        leak_guard,
        limits: wishes.limits.to_owned(),
        ..Setup::in_front_of(&[portal])
    };
    let store = format!("[store]\nkind = \"valkey\"\n{}\n", wishes.store);
    format!("{}\n{store}\n[tokens]\nkey_dir = \"{}\"\n{}", setup.text(), keys.display(), wishes.more)
}

/// A balancer that knows nothing: each connection goes to the next node that accepts it.
async fn balance(nodes: Vec<SocketAddr>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let next = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        while let Ok((mut visitor, _)) = listener.accept().await {
            let (nodes, next) = (nodes.clone(), next.clone());
            tokio::spawn(async move {
                for _ in 0..nodes.len() {
                    let node = nodes[next.fetch_add(1, Ordering::Relaxed) % nodes.len()];
                    if let Ok(mut node) = TcpStream::connect(node).await {
                        let _ = tokio::io::copy_bidirectional(&mut visitor, &mut node).await;
                        return;
                    }
                }
            });
        }
    });
    address
}

async fn metric(admin: SocketAddr, name: &str) -> Option<f64> {
    let text = Client::to(admin).get("/metrics").await.ok()?.text();
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// The crowd's and the portal's view of what happened, held against what was promised.
fn judge(crowd: &Crowd, portal: &Portal, moments: Duration) {
    let findings = crowd.findings();
    let excess = worst_excess(&portal.entries(), RATE);
    println!(
        "{} joined, {} entered, {} requests answered, {} connections broke, worst excess over rate x (T + tick) + burst: \
         {excess:.1} entries",
        findings.numbers.len(),
        portal.entries().len(),
        findings.answered,
        findings.broken
    );
    findings.breaks.iter().take(20).for_each(|how| println!("{how}"));
    assert_eq!(findings.faults, Vec::<String>::new());
    no_number_twice(&findings.numbers);
    // The stand-in portal and the nodes share the machine with a crowd: a request may be seen late by some tenths.
    assert!(excess <= RATE * 0.2, "more entries than the rate allows: {excess}");
    overtaken_by_nobody(&findings.numbers, &portal.entries(), moments);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_keep_one_line() {
    let portal = Portal::start().await;
    let cluster = Cluster::start(&portal).await;
    let crowd = Crowd::new(cluster.balancer);
    let arriving = crowd.clone().arrive(60.0);
    tokio::time::sleep(Duration::from_secs(8)).await;
    arriving.abort();
    crowd.settle(Duration::from_secs(60)).await;
    judge(&crowd, &portal, MOMENTS);
    for node in &cluster.nodes {
        assert_eq!(metric(node.admin, "anticamera_nodes{room=\"r\"}").await, Some(3.0));
        assert!(metric(node.admin, "anticamera_admissions_total{class=\"citizen\",room=\"r\"}").await > Some(0.0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_killed_and_started_at_will_lose_nobodys_place() {
    let portal = Portal::start().await;
    let mut cluster = Cluster::start(&portal).await;
    let crowd = Crowd::new(cluster.balancer);
    let arriving = crowd.clone().arrive(60.0);
    for kill in 0..3 {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let leader = cluster.leader().await;
        let victim = if kill == 1 { (leader + 1) % NODES } else { leader };
        cluster.nodes[victim].kill();
        tokio::time::sleep(Duration::from_millis(700)).await;
        cluster.nodes[victim].restart();
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    arriving.abort();
    crowd.settle(Duration::from_secs(60)).await;
    judge(&crowd, &portal, MOMENTS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_restarted_one_after_the_other_cost_nobody_the_place() {
    let portal = Portal::start().await;
    let mut cluster = Cluster::start(&portal).await;
    let crowd = Crowd::new(cluster.balancer);
    let arriving = crowd.clone().arrive(60.0);
    // As many as wait and read on while all nodes are restarted; how long that takes depends on the machine.
    tokio::time::sleep(Duration::from_secs(8)).await;
    arriving.abort();
    for node in 0..NODES {
        cluster.nodes[node].signal("TERM");
        let ended = tokio::task::block_in_place(|| cluster.nodes[node].ended());
        assert!(ended.success());
        cluster.nodes[node].restart();
    }
    crowd.settle(Duration::from_secs(60)).await;
    judge(&crowd, &portal, MOMENTS);
}

/// HAProxy in front of the nodes, configured as the documentation says; dropping it ends it.
struct Haproxy {
    address: SocketAddr,
    child: Child,
    _directory: tempfile::TempDir,
}

impl Haproxy {
    async fn start(nodes: &[Proxy]) -> Haproxy {
        let example = include_str!("../docs/cluster.md").split("```haproxy\n").nth(1).unwrap();
        let example = example.split("```").next().unwrap();
        let address = free_address();
        let places = ["10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080"].into_iter().zip(nodes);
        let text = places.fold(example.replace("bind :80", &format!("bind {address}")), |text, (place, node)| {
            assert!(text.contains(place), "{place} stands in the example");
            text.replace(place, &node.address.to_string())
        });
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("haproxy.cfg");
        std::fs::write(&file, text).unwrap();
        let mut command = cache::program("haproxy");
        let child = command.args(["-db", "-f"]).arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Haproxy { address, child, _directory: directory }
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How many connections broke while all nodes behind HAProxy were restarted one after the other, with these limits.
async fn broken_while_restarted_behind_haproxy(limits: &str) -> u64 {
    let portal = Portal::start().await;
    let wishes = Wishes { limits, ..Wishes::default() };
    let mut cluster = Cluster::with(&portal, wishes).await;
    let balancer = Haproxy::start(&cluster.nodes).await;
    let crowd = Crowd::new(balancer.address);
    let arriving = crowd.clone().arrive(60.0);
    tokio::time::sleep(Duration::from_secs(8)).await;
    arriving.abort();
    for node in 0..NODES {
        cluster.nodes[node].signal("TERM");
        let ended = tokio::task::block_in_place(|| cluster.nodes[node].ended());
        assert!(ended.success());
        cluster.nodes[node].restart();
        // Who restarts nodes waits until the balancer has seen the last one come back.
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    crowd.settle(Duration::from_secs(60)).await;
    judge(&crowd, &portal, MOMENTS);
    crowd.findings().broken
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_all_nodes_behind_haproxy_are_restarted_one_after_the_other() {
    assert_eq!(broken_while_restarted_behind_haproxy("drain_notice = \"5s\"").await, 0, "connections broke");
}

/// The same without a notice, for comparison: whatever breaks, nobody loses the place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_notice_a_restart_behind_haproxy_costs_connections_and_no_place() {
    if std::env::var_os("ANTICAMERA_FULL").is_some() {
        println!("{} broke without a notice", broken_while_restarted_behind_haproxy("").await);
    }
}

/// The program with a clock that is wrong by so much.
fn with_a_wrong_clock(by: &str) -> Command {
    let libraries = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let library = libraries.map(|entry| entry.path().join("faketime/libfaketime.so.1")).find(|path| path.exists());
    let mut command = program();
    command.env("LD_PRELOAD", library.expect("the package faketime is installed"));
    command.env("FAKETIME", by).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_that_differ_by_minutes_change_nothing() {
    let (portal, redis) = (Portal::start().await, Redis::start());
    let store = format!("url = \"redis://{}\"", redis.address);
    let wrong = ["+600s", "-600s", "+0s"];
    let cluster = Cluster::of(redis, &store, &portal, |node| with_a_wrong_clock(wrong[node])).await;
    let crowd = Crowd::new(cluster.balancer);
    let arriving = crowd.clone().arrive(60.0);
    tokio::time::sleep(Duration::from_secs(6)).await;
    arriving.abort();
    crowd.settle(Duration::from_secs(60)).await;
    judge(&crowd, &portal, MOMENTS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_goes_away_and_comes_back_costs_nobody_a_place() {
    let portal = Portal::start().await;
    let mut cluster = Cluster::start(&portal).await;
    let crowd = Crowd::new(cluster.balancer);
    let arriving = crowd.clone().arrive(50.0);
    tokio::time::sleep(Duration::from_secs(3)).await;
    cluster.redis.ask(&["CLIENT", "PAUSE", "3000", "ALL"]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    cluster.redis.kill_and_start();
    tokio::time::sleep(Duration::from_secs(4)).await;
    cluster.redis.ask(&["FLUSHALL"]);
    tokio::time::sleep(Duration::from_secs(4)).await;
    arriving.abort();
    crowd.settle(Duration::from_secs(60)).await;
    // While the store is away nobody is called; those told just before wait as long as it takes.
    judge(&crowd, &portal, MOMENTS);
}

#[expect(clippy::disallowed_methods, reason = "the crowd lives in real time")]
fn this_moment() -> Instant {
    Instant::now()
}

/// How many entered from then on until now.
fn entered_since(portal: &Portal, since: Instant) -> usize {
    portal.entries().iter().filter(|(_, at)| *at >= since).count()
}

/// Going on alone: from five seconds after the store is gone, with the rate as far as the machine carries the crowd.
fn went_on(entered: usize, away: Duration) {
    let expected = (away.as_secs_f64() - 5.0) * RATE;
    println!("{entered} entered while the store was away for {away:.1?}");
    assert!(entered as f64 > expected * 0.5, "{entered} entered while the store was away, {expected:.0} could");
}

const SHARING: &str = "on_store_loss = \"share\"";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_share_the_rate_go_on_while_the_store_is_away_and_nobody_loses_a_place() {
    let portal = Portal::start().await;
    let redis = Redis::start();
    let store = format!("url = \"redis://{}\"\n{SHARING}", redis.address);
    let mut cluster = Cluster::on(redis, &store, &portal).await;
    let crowd = Crowd::new(cluster.balancer);
    let arriving = crowd.clone().arrive(90.0);
    tokio::time::sleep(Duration::from_secs(10)).await;
    arriving.abort();
    cluster.redis.kill();
    let killed = this_moment();
    tokio::time::sleep(Duration::from_secs(14)).await;
    went_on(entered_since(&portal, killed), killed.elapsed());
    cluster.redis.start_again();
    crowd.settle(Duration::from_secs(60)).await;
    judge(&crowd, &portal, OUTAGE);
    for node in &cluster.nodes {
        assert!(node.log().text().contains("goes on alone"), "every node did");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn newcomers_enter_while_the_store_is_away_as_long_as_nobody_waits() {
    let portal = Portal::start().await;
    let redis = Redis::start();
    let store = format!("url = \"redis://{}\"\n{SHARING}", redis.address);
    let mut cluster = Cluster::on(redis, &store, &portal).await;
    cluster.leader().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    cluster.redis.kill();
    for node in &cluster.nodes {
        let enters = async {
            let mut visitor = Client::to(node.address);
            while visitor.get("/r/?v=1").await.unwrap().status != 200 {
                visitor.forget_tokens();
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            visitor
        };
        let mut visitor = tokio::time::timeout(Duration::from_secs(30), enters).await.expect("somebody enters");
        assert_eq!(visitor.get("/r/?v=1").await.unwrap().status, 200, "the pass is good");
    }
    cluster.redis.start_again();
    cluster.leader().await;
    // A number that only one node knew is no ticket of anybody's.
    let mut visitor = Client::to(cluster.nodes[0].address);
    let joined = async {
        while visitor.number().is_none() {
            visitor.post("/.waiting-room/join?room=r").await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), joined).await.expect("somebody joins");
    assert!(visitor.number() < Some(200_000), "{:?}", visitor.number());
}

/// Asks until the ticket has a number.
async fn numbered(visitor: &mut Client) -> u64 {
    let asking = async {
        loop {
            let answer = visitor.post("/.waiting-room/status?room=r").await.unwrap();
            match visitor.number() {
                Some(number) if number < PROVISIONAL => return number,
                _ => assert_eq!(answer.json()["queue"]["state"], "waiting", "{}", answer.text()),
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), asking).await.expect("the number follows")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_joins_while_the_store_is_away_has_a_place_in_order_of_arrival_afterwards() {
    joining_while_the_store_is_away(Redis::start_again).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_joins_while_the_store_is_away_has_a_place_also_when_it_comes_back_empty() {
    joining_while_the_store_is_away(Redis::start_again_empty).await;
}

async fn joining_while_the_store_is_away(comes_back: fn(&mut Redis)) {
    let portal = Portal::start().await;
    let mut cluster = Cluster::start(&portal).await;
    cluster.leader().await;
    let mut before = Client::to(cluster.nodes[0].address);
    before.post("/.waiting-room/join?room=r").await.unwrap();
    let before = before.number().expect("the store is there");
    cluster.redis.kill();
    // Until a node has missed the server, joining takes two seconds.
    for node in &cluster.nodes {
        let mut visitor = Client::to(node.address);
        visitor.post("/.waiting-room/join?room=r").await.unwrap();
        assert!(visitor.number() >= Some(PROVISIONAL), "{:?}", visitor.number());
    }
    let mut holders = Vec::new();
    for arrival in 0..24 {
        let node = arrival % NODES;
        let mut visitor = Client::to(cluster.nodes[node].address);
        let queue = visitor.post("/.waiting-room/join?room=r").await.unwrap().json()["queue"].clone();
        assert_eq!((queue["state"].as_str(), queue["ahead"].as_u64()), (Some("waiting"), None), "{queue}");
        assert_eq!(queue["reason"]["code"], "store_unreachable");
        assert!(queue["reference"].is_string() && visitor.number() >= Some(PROVISIONAL), "{queue}");
        let ticket = visitor.token("waiting-room-ticket").unwrap().clone();
        holders.push((node, ticket));
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    cluster.nodes[2].kill();
    comes_back(&mut cluster.redis);
    let mut newcomer = Client::to(cluster.nodes[0].address);
    let joined = async {
        while newcomer.number().is_none_or(|number| number >= PROVISIONAL) {
            newcomer.forget_tokens();
            newcomer.post("/.waiting-room/join?room=r").await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), joined).await.expect("somebody joins");
    let (mut in_order, mut all) = (Vec::new(), Vec::new());
    for (arrival, (node, ticket)) in holders.iter().enumerate() {
        let number = numbered(&mut Client::with_ticket(cluster.nodes[arrival / 2 % 2].address, ticket)).await;
        all.push(number);
        if *node != 2 {
            in_order.push(number);
        }
    }
    assert!(in_order.is_sorted(), "{in_order:?}");
    assert!(in_order.iter().all(|number| *number > before && Some(*number) < newcomer.number()), "{in_order:?}");
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), holders.len(), "no number twice");
    for (arrival, (_, ticket)) in holders.iter().enumerate() {
        let other = &cluster.nodes[(arrival / 2 + 1) % 2];
        let again = numbered(&mut Client::with_ticket(other.address, ticket)).await;
        assert!(all.contains(&again), "a copy has no place of its own: {again}");
    }
}

/// A way to the store that can be cut.
struct Detour {
    address: SocketAddr,
    open: watch::Sender<bool>,
}

async fn detour(to: SocketAddr) -> Detour {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (open, is_open) = watch::channel(true);
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let mut is_open = is_open.clone();
            tokio::spawn(async move {
                let _ = is_open.wait_for(|open| *open).await;
                let Ok(mut to) = TcpStream::connect(to).await else { return };
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut from, &mut to) => {}
                    _ = is_open.wait_for(|open| !open) => {}
                }
            });
        }
    });
    Detour { address, open }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_off_goes_on_with_its_share_and_the_others_with_the_rest() {
    let portal = Portal::start().await;
    let redis = Redis::start();
    let way = detour(redis.address).await;
    let store = format!("url = \"redis://{}\"\n{SHARING}", redis.address);
    let detour = Some((redis.address.to_string(), way.address.to_string()));
    let wishes = Wishes { store: &store, detour, ..Wishes::default() };
    let cluster = Cluster::made(redis, &wishes, &portal, |_| program()).await;
    let crowd = Crowd::new(cluster.balancer);
    let arriving = crowd.clone().arrive(90.0);
    tokio::time::sleep(Duration::from_secs(10)).await;
    arriving.abort();
    way.open.send_replace(false);
    let cut = this_moment();
    tokio::time::sleep(Duration::from_secs(12)).await;
    went_on(entered_since(&portal, cut), cut.elapsed());
    assert!(cluster.nodes[0].log().text().contains("goes on alone"));
    assert!(!cluster.nodes[1].log().text().contains("goes on alone"));
    way.open.send_replace(true);
    crowd.settle(Duration::from_secs(60)).await;
    judge(&crowd, &portal, OUTAGE);
}

/// The list of these servers, as it stands in a configuration.
fn urls(ports: &[u16]) -> String {
    let urls: Vec<String> = ports.iter().map(|port| format!("\"redis://127.0.0.1:{port}\"")).collect();
    format!("[{}]", urls.join(", "))
}

/// The server that keeps the line is killed under load; another takes over, and the nodes go on with it.
async fn fail_over(family: Family, store: &str) {
    let portal = Portal::start().await;
    let mut cluster = Cluster::on(family, store, &portal).await;
    let crowd = Crowd::new(cluster.balancer);
    let arriving = crowd.clone().arrive(50.0);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(cluster.redis.primaries_with_keys(), 1, "one room, one server");
    let keeper = cluster.redis.keeper();
    cluster.redis.kill(keeper);
    let successor = cluster.redis.wait_for_another_keeper_than(keeper);
    cluster.leader().await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    arriving.abort();
    crowd.settle(Duration::from_secs(60)).await;
    let highest = crowd.findings().numbers.values().copied().max();
    assert!(highest > Some(65_536), "the counters did not jump: {highest:?}");
    let written = cluster.redis.ask(successor, &["HGET", "anticamera:{r}:marks", &class(&cluster.redis, successor)]);
    assert!(written.parse::<u64>().unwrap() > 65_536, "{written}");
    judge(&crowd, &portal, OUTAGE);
}

fn class(family: &Family, port: u16) -> String {
    family.ask(port, &["HKEYS", "anticamera:{r}:marks"]).lines().next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_name_another_server_and_nobody_loses_a_place() {
    let family = Family::with_sentinels();
    let store = format!("sentinels = {}\nprimary = \"line\"", urls(&family.ports));
    fail_over(family, &store).await;
}

/// The server that keeps the leak guard's notes is killed; a node that starts afterwards reads them from the next one.
async fn notes_outlast_a_failover(mut family: Family, store: &str) {
    const NOTES: &str = "anticamera:notes";
    let portal = FakePortal::start().await;
    let keys = tempfile::tempdir().unwrap();
    let configuration = configuration(portal.address, &Wishes { store, ..Wishes::default() }, keys.path());
    let start = || Proxy::start(&configuration.replace("LISTEN", &free_address().to_string()));
    let (one, mut other) = (start(), start());
    portal.script("/r/login", [Script::answer(200, "Set-Cookie: JSESSIONID=A1; Path=/\r\n", "a page")]);
    let (owner, thief) = (Insider::at(&one, 1), Insider::at(&other, 2));
    assert_eq!(owner.get(&one, "/r/login", ""), 200);
    other.kill();
    // What one node saw is told, and reaches the replica, a moment later.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let keeper = family.keeper_of(NOTES);
    family.kill(keeper);
    family.wait_for_another_keeper_of(NOTES, keeper);
    other.restart();
    assert_eq!(thief.get(&other, "/r/login", ""), 502, "it was issued to somebody else before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_leak_guard_noted_outlasts_a_server_that_sentinels_replace() {
    let family = Family::with_sentinels();
    let store = format!("sentinels = {}\nprimary = \"line\"", urls(&family.ports));
    notes_outlast_a_failover(family, &store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_leak_guard_noted_outlasts_a_server_of_a_cluster() {
    let family = Family::cluster();
    let store = format!("cluster = {}", urls(&family.ports));
    notes_outlast_a_failover(family, &store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_replaces_a_server_and_nobody_loses_a_place() {
    let family = Family::cluster();
    let store = format!("cluster = {}", urls(&family.ports));
    fail_over(family, &store).await;
}

/// What a node answers when it is to put the room into another state.
fn state(node: &Proxy, state: &str) -> u16 {
    ask_operator(node, "state", format!("{{\"state\":\"{state}\"}}").as_bytes()).0
}

/// What a node answers to an order about the room, and the text of it.
fn order(node: &Proxy, what: &str) -> (u16, String) {
    ask_operator(node, what, b"")
}

fn ask_operator(node: &Proxy, what: &str, body: &[u8]) -> (u16, String) {
    let token = std::fs::read_to_string(node.file().with_file_name("state").join("admin-token")).unwrap();
    let bearer = format!("Authorization: Bearer {}\r\n", token.trim());
    let mut operator = wire::Visitor::new(node.admin);
    operator.host = "localhost";
    let answer = operator.ask("POST", &format!("/admin/v1/rooms/r/{what}"), &bearer, body);
    (answer.status, answer.text().to_owned())
}

/// Waits until this node shows it so. An adaptive rate takes a while to fall.
async fn shows(node: &Proxy, name: &str, value: f64) {
    for _ in 0..600 {
        if metric(node.admin, name).await == Some(value) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not {value}: {name}");
}

const FROZEN: &str = "anticamera_room_frozen{room=\"r\"}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_freeze_is_in_force_everywhere_and_outlives_the_leader() {
    let portal = Portal::start().await;
    let mut cluster = Cluster::start(&portal).await;
    let leader = cluster.leader().await;
    let (follower, third) = ((leader + 1) % NODES, (leader + 2) % NODES);
    assert_eq!(order(&cluster.nodes[follower], "freeze").0, 200);
    for node in &cluster.nodes {
        shows(node, FROZEN, 1.0).await;
    }
    cluster.nodes[leader].kill();
    cluster.nodes[follower].kill();
    cluster.nodes[leader].restart();
    shows(&cluster.nodes[leader], FROZEN, 1.0).await;
    cluster.leader().await;
    let mut visitor = Client::to(cluster.balancer);
    assert_eq!(visitor.get("/r/?v=1").await.unwrap().status, 503, "nobody new enters");
    assert_eq!(order(&cluster.nodes[third], "thaw").0, 200);
    shows(&cluster.nodes[leader], FROZEN, 0.0).await;
    let entered = async {
        while visitor.get("/r/?v=1").await.unwrap().status != 200 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), entered).await.expect("somebody enters");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_set_at_run_time_holds_on_all_nodes_until_somebody_lifts_it() {
    let portal = Portal::start().await;
    let mut cluster = Cluster::start(&portal).await;
    let leader = cluster.leader().await;
    let (follower, third) = ((leader + 1) % NODES, (leader + 2) % NODES);
    assert_eq!(state(&cluster.nodes[follower], "hold"), 200);
    for node in &cluster.nodes {
        shows(node, "anticamera_room_state{room=\"r\",state=\"hold\"}", 1.0).await;
    }
    let (status, preview) = ask_operator(&cluster.nodes[third], "rate?dry_run=true", b"{\"rate\": \"50/s\"}");
    assert!(status == 200 && preview.contains("\"state\":\"hold\""), "a preview knows of it: {preview}");
    cluster.nodes[leader].kill();
    let mut visitor = Client::to(cluster.nodes[third].address);
    let joined = visitor.post("/.waiting-room/join?room=r").await.unwrap();
    assert_eq!(joined.json()["queue"]["state"], "held", "{}", joined.text());
    cluster.nodes[leader].restart();
    let told = Client::to(cluster.nodes[leader].address).get("/.waiting-room/board/r").await.unwrap().json();
    assert!(told["state"] == "hold" && told["reason"]["code"] == "operator_hold", "{told}");
    assert_eq!(state(&cluster.nodes[leader], "open"), 200);
    let entered = async {
        while visitor.get("/r/?v=1").await.unwrap().status != 200 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), entered).await.expect("somebody enters");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_only_the_leader_has_heard_of_is_said_again() {
    let portal = Portal::start().await;
    let cluster = Cluster::start(&portal).await;
    let leader = &cluster.nodes[cluster.leader().await];
    let mut others = cluster.nodes.iter().filter(|node| node.address != leader.address);
    let [follower, third] = [others.next().unwrap(), others.next().unwrap()];
    third.signal("STOP");
    assert_eq!(state(leader, "hold"), 200);
    shows(follower, "anticamera_room_state{room=\"r\",state=\"hold\"}", 1.0).await;
    let mut visitor = Client::to(follower.address);
    visitor.post("/.waiting-room/join?room=r").await.unwrap();
    shows(leader, "anticamera_waiting{class=\"citizen\",room=\"r\"}", 1.0).await;
    follower.signal("STOP");
    // Those who are stopped find nothing in their sockets that the server said meanwhile.
    cluster.redis.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    let (log, line) = ("anticamera:{r}:log", "anticamera:{r}:line");
    let entries = || -> Vec<(String, u64)> {
        let text = cluster.redis.ask(&["XRANGE", log, "-", "+"]);
        let lines: Vec<&str> = text.lines().collect();
        let is_id = |line: &&str| {
            line.split_once('-').is_some_and(|(a, b)| a.parse::<u64>().is_ok() && b.parse::<u64>().is_ok())
        };
        let at = |n: usize| lines[n..].iter().skip_while(|line| **line != "s").nth(1).unwrap().parse().unwrap();
        (0..lines.len()).filter(|n| is_id(&lines[*n])).map(|n| (lines[n].to_owned(), at(n))).collect()
    };
    let says_more = async || {
        let so_far = entries().pop().unwrap();
        loop {
            match entries().pop().unwrap() {
                last if last != so_far => break last,
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    let known = says_more().await;
    assert_eq!(state(leader, "open"), 200);
    shows(leader, "anticamera_calls_total{class=\"citizen\",room=\"r\"}", 1.0).await;
    // The call, and the server's answer to it.
    says_more().await;
    says_more().await;
    leader.signal("STOP");
    // Another server takes over that has not heard of the call, nor of the order.
    let lost: Vec<String> = entries().into_iter().filter(|(_, seq)| *seq > known.1).map(|(id, _)| id).collect();
    assert!(!lost.is_empty());
    let lost: Vec<&str> = ["XDEL", log].into_iter().chain(lost.iter().map(String::as_str)).collect();
    cluster.redis.ask(&lost);
    cluster.redis.ask(&["HSET", line, "seq", &known.1.to_string(), "run", "another"]);
    let fence = || cluster.redis.ask(&["HGET", "anticamera:{r}:lease", "fence"]);
    let before = fence();
    leader.signal("CONT");
    let leads_anew = async {
        while fence() == before {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), leads_anew).await.expect("it leads again");
    follower.signal("CONT");
    third.signal("CONT");
    let called = async {
        while visitor.post("/.waiting-room/status?room=r").await.unwrap().json()["queue"]["state"] != "your_turn" {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), called).await.expect("the visitor hears of the turn");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_the_other_nodes_did_not_hear_says_so() {
    let portal = Portal::start().await;
    let mut cluster = Cluster::start(&portal).await;
    let leader = cluster.leader().await;
    cluster.redis.kill();
    let (status, told) = order(&cluster.nodes[leader], "freeze");
    assert!(status == 200 && told.contains("the other nodes hear of it when the store is there again"), "{told}");
    shows(&cluster.nodes[leader], FROZEN, 1.0).await;
    cluster.redis.start_again();
    for node in &cluster.nodes {
        shows(node, FROZEN, 1.0).await;
    }
}

/// Asks a node as a script would, from an address, with a ticket.
fn ask(node: &Proxy, from: Ipv4Addr, name: &str, ticket: Option<&str>) -> Reply {
    let cookie = ticket.map(|ticket| format!("Cookie: anticamera-ticket-r={ticket}\r\n")).unwrap_or_default();
    ask_with(node.address, from, name, &cookie)
}

/// The same with these header lines.
fn ask_with(node: SocketAddr, from: Ipv4Addr, name: &str, lines: &str) -> Reply {
    let mut wire = Wire::connect_from(from, node);
    wire.send(format!(
        "POST /.waiting-room/{name}?room=r HTTP/1.1\r\nHost: {}\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\n\
         Sec-Fetch-Dest: empty\r\nAccept: application/json\r\n{lines}Content-Length: 0\r\n\r\n",
        node
    ));
    wire.reply()
}

/// The class and the state that an answer tells, and the ticket that it gives.
fn told(reply: &Reply) -> (String, String, Option<String>) {
    let queue = &serde_json::from_slice::<serde_json::Value>(&reply.body).unwrap()["queue"];
    let text = |member: &str| queue[member].as_str().unwrap_or_default().to_owned();
    (text("class"), text("state"), reply.cookie("anticamera-ticket-r").map(str::to_owned))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_to_a_move_into_a_better_class_costs_nothing_at_another_node() {
    let portal = Portal::start().await;
    let office = "state = \"hold\"";
    let class = "[[class]]\nname = \"office\"\n\
                 proof = [ { kind = \"network\", ranges = [\"127.0.0.2/32\"], sufficient = true } ]\n";
    let cluster = Cluster::with(&portal, Wishes { room: office, more: class, ..Wishes::default() }).await;
    cluster.leader().await;
    let (home, bureau) = (Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2));
    let [first, second, third] = &cluster.nodes[..] else { panic!("three nodes") };
    let (class, _, old) = told(&ask(first, home, "join", None));
    assert_eq!(class, "citizen");
    // This answer is lost: the visitor goes on with the old ticket.
    let (class, _, new) = told(&ask(first, bureau, "join", old.as_deref()));
    assert_eq!(class, "office");
    // Whoever draws behind another elsewhere has heard of all that was said before.
    for node in [first, second, third] {
        ask(node, bureau, "join", None);
    }
    let (class, _, again) = told(&ask(second, bureau, "join", old.as_deref()));
    let number = |ticket: &Option<String>| number_of(ticket.as_deref().expect("a ticket"));
    assert_eq!((class.as_str(), number(&again)), ("office", number(&new)), "the same place");
    // Once the new ticket is seen, at whichever node, the old place is nobody's.
    let (class, state, _) = told(&ask(third, bureau, "status", again.as_deref()));
    assert_eq!((class.as_str(), state.as_str()), ("office", "held"));
    assert_eq!(told(&ask(third, home, "status", old.as_deref())).1, "left");
}

/// Before, each node counted for itself: as many tickets as there were nodes times the quota.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_proof_shown_at_several_nodes_at_the_same_instant_gets_no_more_tickets_than_its_quota() {
    const AT_ONCE: usize = 24;
    let portal = Portal::start().await;
    let (_keys, issuing, jwt) = sign_on();
    let class = class_with(&format!("max_tickets = 2\n{jwt}"));
    let cluster = Cluster::with(&portal, Wishes { room: "state = \"hold\"", more: &class, ..Wishes::default() }).await;
    cluster.leader().await;
    let token_of = |office: &str| {
        let mut claims = claims();
        claims["sub"] = office.into();
        format!("Authorization: Bearer {}\r\n", issuing.token(&claims))
    };
    let nodes: Vec<SocketAddr> = cluster.nodes.iter().map(|node| node.address).collect();
    for office in 1..=3 {
        let proof = token_of(&format!("office {office}"));
        let together = Arc::new(std::sync::Barrier::new(AT_ONCE));
        let joins: Vec<_> = (0..AT_ONCE)
            .map(|which| {
                let (together, proof, node) = (together.clone(), proof.clone(), nodes[which % NODES]);
                std::thread::spawn(move || {
                    together.wait();
                    told(&ask_with(node, Ipv4Addr::LOCALHOST, "join", &proof)).0
                })
            })
            .collect();
        let classes: Vec<String> = joins.into_iter().map(|join| join.join().unwrap()).collect();
        let offices = classes.iter().filter(|class| *class == "office").count();
        assert_eq!(
            (offices, classes.iter().filter(|class| *class == "citizen").count()),
            (2, AT_ONCE - 2),
            "{classes:?}"
        );
        for node in &nodes {
            assert_eq!(told(&ask_with(*node, Ipv4Addr::LOCALHOST, "join", &proof)).0, "citizen");
        }
    }
    // What a node has drawn, and the others count, outlasts the node.
    let mut cluster = cluster;
    cluster.nodes[0].kill();
    cluster.nodes[0].restart();
    let again = ask_with(cluster.nodes[0].address, Ipv4Addr::LOCALHOST, "join", &token_of("office 1"));
    assert_eq!(told(&again).0, "citizen");
    let another = ask_with(cluster.nodes[0].address, Ipv4Addr::LOCALHOST, "join", &token_of("office 4"));
    assert_eq!(told(&another).0, "office");
}

/// Before, each node went by its own visitors' answers alone, and the leader's rate by those of the leader's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_rate_goes_by_how_slow_the_portal_is_for_the_visitors_of_any_node() {
    const RATE: &str = "anticamera_admission_rate{room=\"r\"}";
    let portal = FakePortal::start().await;
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_vec();
    portal.script("/r/", [Script::new([Step::Pause(Duration::from_millis(400)), Step::Send(answer)])]);
    let redis = Redis::start();
    let keys = tempfile::tempdir().unwrap();
    let store = format!("url = \"redis://{}\"", redis.address);
    let room = "adaptive = { floor = \"20/s\", target_p95 = \"50ms\" }";
    let text = configuration(portal.address, &Wishes { store: &store, room, ..Wishes::default() }, keys.path());
    let start = || Proxy::start_as(&text.replace("LISTEN", &free_address().to_string()), program());
    let cluster =
        Cluster { nodes: (0..NODES).map(|_| start()).collect(), redis, balancer: portal.address, _keys: keys };
    let mut cluster = cluster;
    let leader = cluster.leader().await;
    let (follower, third) = ((leader + 1) % NODES, (leader + 2) % NODES);
    for node in &cluster.nodes {
        shows(node, RATE, 40.0).await;
    }
    // Nobody asks the leader anything.
    let mut inside = 0;
    for round in 0..8 {
        let node = cluster.nodes[follower].address;
        let enters =
            |who: u8| std::thread::spawn(move || page_at(node, Ipv4Addr::new(127, 1, round, who), "/r/", "").status);
        let entering: Vec<_> = (1..=8).map(enters).collect();
        inside += entering.into_iter().filter_map(|one| one.join().ok()).filter(|status| *status == 200).count();
    }
    assert!(inside >= 30, "{inside}");
    for node in &cluster.nodes {
        shows(node, RATE, 20.0).await;
    }
    cluster.nodes[leader].kill();
    let another = async {
        loop {
            for node in [follower, third] {
                let rate = metric(cluster.nodes[node].admin, RATE).await.unwrap();
                assert!(rate <= 20.0, "{rate} at node {node}");
                if metric(cluster.nodes[node].admin, "anticamera_leads{room=\"r\"}").await == Some(1.0) {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), another).await.expect("another leads");
    shows(&cluster.nodes[third], RATE, 20.0).await;
}

/// Somebody at a node, let in from this address, with the portal's session if there is one.
struct Insider {
    from: Ipv4Addr,
    pass: String,
}

impl Insider {
    fn at(node: &Proxy, last: u8) -> Insider {
        let from = Ipv4Addr::new(127, 0, last, 1);
        let reply = page(node, from, "/r/", "");
        assert_eq!(reply.status, 200, "{}", reply.text());
        Insider { from, pass: reply.cookie("anticamera-pass-r").unwrap().to_owned() }
    }

    fn get(&self, node: &Proxy, path: &str, session: &str) -> u16 {
        page(node, self.from, path, &format!("Cookie: anticamera-pass-r={}; {session}\r\n", self.pass)).status
    }
}

fn page(node: &Proxy, from: Ipv4Addr, path: &str, lines: &str) -> Reply {
    page_at(node.address, from, path, lines)
}

fn page_at(node: SocketAddr, from: Ipv4Addr, path: &str, lines: &str) -> Reply {
    let mut wire = Wire::connect_from(from, node);
    let host = "portal.example";
    wire.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/html\r\n{lines}\r\n"));
    wire.reply()
}

fn guard_counted(rule: &str, action: &str) -> String {
    format!("anticamera_leak_guard_total{{action=\"{action}\",rule=\"{rule}\"}}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leak_guard_knows_at_one_node_what_another_saw() {
    const STOPPED: &str = "anticamera_leak_guard_breaker_open{room=\"r\"}";
    let portal = FakePortal::start().await;
    let redis = Redis::start();
    let keys = tempfile::tempdir().unwrap();
    let store = format!("url = \"redis://{}\"", redis.address);
    let configuration = configuration(portal.address, &Wishes { store: &store, ..Wishes::default() }, keys.path());
    let start = || Proxy::start(&configuration.replace("LISTEN", &free_address().to_string()));
    let (mut one, other) = (start(), start());
    portal.script("/r/login", [Script::answer(200, "Set-Cookie: JSESSIONID=A1; Path=/\r\n", "a page")]);
    let (owner, thief) = (Insider::at(&one, 1), Insider::at(&other, 2));
    assert_eq!(owner.get(&one, "/r/login", ""), 200);
    // What one node saw is heard by the other a moment later.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(owner.get(&other, "/r/", "JSESSIONID=A1"), 200);
    assert_eq!(metric(other.admin, &guard_counted("session_presented", "alarmed")).await.unwrap_or(0.0), 0.0);
    assert_eq!(thief.get(&other, "/r/", "JSESSIONID=A1"), 200);
    shows(&other, &guard_counted("session_presented", "alarmed"), 1.0).await;
    assert_eq!(thief.get(&other, "/r/login", ""), 502, "it is issued to a second visitor, at another node");

    // Two more are blocked, at the first node: together that is too much.
    for last in 3..5 {
        assert_eq!(Insider::at(&one, last).get(&one, "/r/login", ""), 502);
    }
    shows(&one, STOPPED, 1.0).await;
    shows(&other, STOPPED, 1.0).await;
    assert_eq!(page(&other, Ipv4Addr::new(127, 0, 7, 1), "/r/", "").status, 503, "nobody new enters");
    one.kill();
    one.restart();
    shows(&one, STOPPED, 1.0).await;
    assert_eq!(thief.get(&one, "/r/login", ""), 502, "a restart forgets no session");

    let token = std::fs::read_to_string(one.file().with_file_name("state").join("admin-token")).unwrap();
    let mut operator = wire::Visitor::new(one.admin);
    operator.host = "localhost";
    let bearer = format!("Authorization: Bearer {}\r\n", token.trim());
    assert_eq!(operator.ask("POST", "/admin/v1/leak-guard/reset", &bearer, b"").status, 200);
    shows(&one, STOPPED, 0.0).await;
    shows(&other, STOPPED, 0.0).await;
    assert_eq!(redis.ask(&["EXISTS", "anticamera:notes"]), "1");
}
