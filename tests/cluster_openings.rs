//! Openings of a line that three nodes share, with a real Redis server: one gathering, one draw, whoever is killed or paused
//! at the hour.

use std::collections::BTreeSet;
use std::time::Duration;

use anticamera::domain::draw_proof::DrawDocument;

use crate::support::crowd::{Client, Portal, free_address};
use crate::support::process::{Proxy, Setup};
use crate::support::redis::Redis;

const NODES: usize = 3;

/// Long enough for nodes to start and for visitors to gather on any machine.
const FAR: Duration = Duration::from_secs(3600);

/// Long enough for all nodes to hear that the hour was moved, and for what happens just before it.
const SOON: Duration = Duration::from_secs(8);

struct Cluster {
    nodes: Vec<Proxy>,
    redis: Redis,
    hour: jiff::Timestamp,
    _portal: Portal,
    _keys: tempfile::TempDir,
}

impl Cluster {
    async fn start(order: &str) -> Cluster {
        let (portal, redis, keys) = (Portal::start().await, Redis::start(), tempfile::tempdir().unwrap());
        let hour = now() + FAR;
        let text = |_| {
            let room = format!(
                "joins_per_client = \"unlimited\"\n\n[room.opening]\nat = \"{}\"\norder = \"{order}\"",
                in_the_file(hour)
            );
            let listen = free_address().to_string();
            let setup = Setup { rate: "2/s", listen, room, ..Setup::in_front_of(&[portal.address]) };
            let store = format!("[store]\nkind = \"valkey\"\nurl = \"redis://{}\"\n", redis.address);
            format!("{}\n{store}\n[tokens]\nkey_dir = \"{}\"\n", setup.text(), keys.path().display())
        };
        let nodes = (0..NODES).map(|node| Proxy::start(&text(node))).collect();
        Cluster { nodes, redis, hour, _portal: portal, _keys: keys }
    }

    /// Visitors join, one at each node in turn.
    async fn gather(&self, count: usize) -> Vec<Client> {
        let mut visitors = Vec::new();
        for visitor in 0..count {
            let mut client = Client::to(self.nodes[visitor % NODES].address);
            let queue = client.post("/.waiting-room/join?room=r").await.unwrap().json()["queue"].clone();
            assert_eq!(queue["state"], "before_opening", "{queue}");
            assert_eq!(number(&mut client).await, None, "no number before the hour");
            visitors.push(client);
        }
        visitors
    }

    /// One more visitor joins, as soon as the store takes it.
    async fn gather_one_more(&self) {
        let mut client = Client::to(self.nodes[1].address);
        let mut tries = 0;
        while client.number().is_none() {
            tries += 1;
            assert!(tries < 300, "nobody can join");
            let _ = client.post("/.waiting-room/join?room=r").await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn leader(&self) -> usize {
        for _ in 0..400 {
            for (index, node) in self.nodes.iter().enumerate() {
                let figures = Client::to(node.admin).get("/metrics").await;
                if figures.is_ok_and(|figures| figures.text().contains("anticamera_leads{room=\"r\"} 1")) {
                    return index;
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("nobody leads");
    }

    /// The facts, which are the same at each of these nodes.
    async fn draw(&self, nodes: &[usize]) -> DrawDocument {
        let mut all = Vec::new();
        for node in nodes {
            let answer = Client::to(self.nodes[*node].address).get("/.waiting-room/draw/r").await.unwrap();
            all.push(serde_json::from_str::<DrawDocument>(&answer.text()).unwrap_or_else(|_| panic!("{answer:?}")));
        }
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{all:?}");
        all.swap_remove(0)
    }

    /// Moves the hour by a reload at one node: for all of them.
    async fn comes_soon(&mut self, node: usize) {
        let (before, hour) = (in_the_file(self.hour), now() + SOON);
        let file = self.nodes[node].file();
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace(&before, &in_the_file(hour))).unwrap();
        self.nodes[node].signal("HUP");
        self.hour = in_the_file(hour).parse().unwrap();
        for node in &self.nodes {
            let mut tries = 0;
            loop {
                let facts = Client::to(node.address).get("/.waiting-room/draw/r").await.unwrap().json();
                let at = facts["at"].as_str().and_then(|at| at.parse::<jiff::Timestamp>().ok());
                if at == Some(self.hour) {
                    break;
                }
                tries += 1;
                assert!(tries < 600, "the hour was not moved: {facts}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// Waits until so long before the hour.
    async fn until(&self, before_the_hour: Duration) {
        let left = (self.hour - before_the_hour).duration_since(now());
        if left.is_positive() {
            tokio::time::sleep(left.unsigned_abs()).await;
        }
    }

    /// Waits until these nodes have opened.
    async fn opened(&self, nodes: &[usize]) {
        for node in nodes {
            let mut tries = 0;
            loop {
                let answer = Client::to(self.nodes[*node].address).get("/.waiting-room/draw/r").await;
                if answer.is_ok_and(|answer| answer.json()["held_at"].is_string()) {
                    break;
                }
                tries += 1;
                assert!(tries < 600, "node {node} does not open");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Moves a visitor to another node, which knows the same.
    fn elsewhere(&self, visitor: Client, node: usize) -> Client {
        visitor.at(self.nodes[node].address)
    }
}

fn in_the_file(hour: jiff::Timestamp) -> String {
    hour.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[allow(clippy::disallowed_methods, reason = "the nodes go by real time")]
fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// The number that a visitor's receipt says.
async fn number(visitor: &mut Client) -> Option<u64> {
    visitor.get("/.waiting-room/receipt?room=r").await.unwrap().json()["receipt"]["number"].as_u64()
}

async fn reference(visitor: &mut Client) -> String {
    let now = serde_json::json!({ "now": "1" });
    let queue = visitor.post_json("/.waiting-room/status?room=r", &now).await.unwrap().json()["queue"].clone();
    queue["reference"].as_str().unwrap_or_else(|| panic!("no reference: {queue}")).to_owned()
}

/// The numbers that the visitors are told at this node.
async fn numbers_at(cluster: &Cluster, visitors: Vec<Client>, node: usize) -> (Vec<Client>, Vec<u64>) {
    let (mut there, mut numbers) = (Vec::new(), Vec::new());
    for visitor in visitors {
        let mut visitor = cluster.elsewhere(visitor, node);
        numbers.push(number(&mut visitor).await.expect("a number"));
        there.push(visitor);
    }
    (there, numbers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_is_killed_at_the_hour_and_the_draw_is_made_once() {
    let mut cluster = Cluster::start("lottery").await;
    let mut visitors = cluster.gather(24).await;
    let promised = cluster.draw(&[0, 1, 2]).await;
    assert!(promised.commitment.is_some() && promised.seed.is_none(), "{promised:?}");
    let mut references = Vec::new();
    for visitor in &mut visitors {
        references.push(reference(visitor).await);
    }
    let leader = cluster.leader().await;
    let (second, third) = ((leader + 1) % NODES, (leader + 2) % NODES);
    cluster.comes_soon(second).await;
    cluster.until(Duration::from_millis(200)).await;
    cluster.nodes[leader].kill();
    cluster.opened(&[second, third]).await;
    let mut late = Client::to(cluster.nodes[second].address);
    late.post("/.waiting-room/join?room=r").await.unwrap();
    assert_eq!(number(&mut late).await, Some(25), "whoever comes late stands behind");
    let (visitors, drawn) = numbers_at(&cluster, visitors, second).await;
    assert_eq!(
        drawn.iter().copied().collect::<BTreeSet<_>>(),
        (1..=24).collect(),
        "nobody has two places, nobody none"
    );
    assert!(!drawn.is_sorted(), "drawn, not in the order of arrival");
    // Its file still has the hour as it was before: it changes nothing.
    cluster.nodes[leader].restart();
    let after = cluster.draw(&[0, 1, 2]).await;
    for (reference, number) in references.iter().zip(&drawn) {
        assert_eq!(after.prove(&promised, reference).unwrap().number, *number);
    }
    let (visitors, at_third) = numbers_at(&cluster, visitors, third).await;
    let (visitors, at_the_one_killed) = numbers_at(&cluster, visitors, leader).await;
    assert_eq!((&at_third, &at_the_one_killed), (&drawn, &drawn), "the same at each node");
    let first = visitors.into_iter().zip(&drawn).find(|(_, number)| **number == 1).map(|(visitor, _)| visitor);
    let mut first = cluster.elsewhere(first.expect("somebody is the first"), third);
    let entered = async {
        while first.get("/r/?v=1").await.unwrap().status != 200 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), entered).await.expect("the first of the draw enters, at any node");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_paused_over_the_hour_and_a_node_killed_at_it_lose_nobodys_place() {
    let mut cluster = Cluster::start("arrival").await;
    let visitors = cluster.gather(18).await;
    let gathered: Vec<u64> = visitors.iter().map(|visitor| visitor.number().unwrap()).collect();
    assert_eq!(gathered, (1..=18).collect::<Vec<u64>>(), "handed out in the order of arrival by whichever node");
    assert!(cluster.draw(&[0, 1, 2]).await.commitment.is_none());
    let victim = (cluster.leader().await + 1) % NODES;
    cluster.comes_soon(victim).await;
    cluster.until(Duration::from_secs(3)).await;
    cluster.redis.ask(&["CLIENT", "PAUSE", "8000", "ALL"]);
    cluster.nodes[victim].kill();
    cluster.until(Duration::from_millis(1)).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let early = Client::to(cluster.nodes[(victim + 1) % NODES].address).get("/.waiting-room/draw/r").await.unwrap();
    assert!(early.json()["held_at"].is_null(), "nothing is final that is not written down");
    cluster.opened(&[(victim + 1) % NODES, (victim + 2) % NODES]).await;
    cluster.nodes[victim].restart();
    cluster.opened(&[victim]).await;
    let after = cluster.draw(&[0, 1, 2]).await;
    assert_eq!(after.lanes.unwrap()[0].count, 18);
    let mut visitors = visitors;
    for node in 0..NODES {
        let (there, told) = numbers_at(&cluster, visitors, node).await;
        assert_eq!(told, gathered, "each keeps the place at each node");
        visitors = there;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_comes_back_empty_before_the_hour_is_told_the_promise_again() {
    let mut cluster = Cluster::start("lottery").await;
    let mut visitors = cluster.gather(9).await;
    let before = cluster.draw(&[0, 1, 2]).await;
    let mut references = Vec::new();
    for visitor in &mut visitors {
        references.push(reference(visitor).await);
    }
    cluster.redis.ask(&["FLUSHALL"]);
    // Once a number can be drawn again, the store has been told the line.
    cluster.gather_one_more().await;
    cluster.comes_soon(0).await;
    cluster.opened(&[0, 1, 2]).await;
    let after = cluster.draw(&[0, 1, 2]).await;
    let (_, drawn) = numbers_at(&cluster, visitors, 1).await;
    assert_eq!(drawn.iter().collect::<BTreeSet<_>>().len(), 9, "no place twice: {drawn:?}");
    for (reference, number) in references.iter().zip(&drawn) {
        assert_eq!(after.prove(&before, reference).unwrap().number, *number);
    }
}
