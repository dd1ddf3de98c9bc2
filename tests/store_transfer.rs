//! A line moves from a file to a shared store and back: everybody keeps the ticket, the pass and the place.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::crowd::{Answer, Client, Portal, free_address};
use crate::support::process::{Finished, Proxy, Setup, run};
use crate::support::redis::Redis;

/// How long somebody may wait to be let in at two a second.
const PATIENCE: Duration = Duration::from_secs(30);

/// The program's configuration, and the same with other stores.
struct Stores {
    head: String,
    shared: String,
}

impl Stores {
    fn new(portal: &Portal, redis: &Redis) -> Stores {
        let room = "entry = \"page\"\njoins_per_client = \"unlimited\"".to_owned();
        let listen = free_address().to_string();
        let head = Setup { rate: "30/min", listen, room, ..Setup::in_front_of(&[portal.address]) }.text();
        Stores { head, shared: format!("[store]\nkind = \"valkey\"\nurl = \"redis://{}\"\n", redis.address) }
    }

    fn embedded(&self, path: &str) -> String {
        format!("{}\n[store]\npath = \"{path}\"\n", self.head)
    }

    /// Nobody is called: none of those who wait comes, and whoever is called is told of nobody before.
    fn held(&self) -> String {
        self.head.replace("entry = \"page\"", "entry = \"page\"\nstate = \"hold\"")
    }

    fn shared(&self) -> String {
        format!("{}\n{}", self.held(), self.shared)
    }

    fn elsewhere(&self) -> String {
        format!("{}\n[store]\npath = \"elsewhere\"\n", self.held())
    }
}

/// Somebody of each kind.
struct People {
    inside: Client,
    left: Client,
    waiting: Vec<Client>,
}

const STATUS: &str = "/.waiting-room/status?room=r";

async fn joined(proxy: &Proxy) -> Client {
    let mut client = Client::to(proxy.address);
    let answer = client.post("/.waiting-room/join?room=r").await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    client
}

/// A connection to a program that was stopped is found broken at its next use.
async fn again(client: &mut Client, target: &str) -> Answer {
    match client.get(target).await {
        Ok(answer) => answer,
        Err(_) => client.get(target).await.unwrap(),
    }
}

async fn state(client: &mut Client) -> String {
    let queue = again(client, STATUS).await.json()["queue"].clone();
    queue["state"].as_str().unwrap_or_default().to_owned()
}

/// Where somebody who has a ticket stands. Joining again says so at once; the answer to a poll may be held back.
async fn place(client: &mut Client) -> (String, Option<u64>) {
    let answer = match client.post("/.waiting-room/join?room=r").await {
        Ok(answer) => answer,
        Err(_) => client.post("/.waiting-room/join?room=r").await.unwrap(),
    };
    let queue = answer.json()["queue"].clone();
    (queue["state"].as_str().unwrap_or_default().to_owned(), queue["ahead"].as_u64())
}

async fn people(proxy: &Proxy) -> People {
    let mut inside = joined(proxy).await;
    let entered = async {
        loop {
            let _ = state(&mut inside).await;
            let answer = inside.get("/r/?v=1").await.unwrap();
            if answer.status == 200 && inside.token("waiting-room-pass").is_some() {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, entered).await.expect("somebody enters");
    let mut waiting = Vec::new();
    for _ in 0..30 {
        waiting.push(joined(proxy).await);
    }
    let mut left = joined(proxy).await;
    left.post("/.waiting-room/leave?room=r").await.unwrap();
    People { inside, left, waiting }
}

/// Everybody is where they were.
async fn all_is_as_before(proxy: &Proxy, people: &mut People) {
    let answer = again(&mut people.inside, "/r/?v=1").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "inside"), "the pass is good");
    assert_eq!(state(&mut people.left).await, "left");
    let mut newcomer = joined(proxy).await;
    let (mut before, mut numbers) = (None, Vec::new());
    for visitor in &mut people.waiting {
        let number = visitor.number().unwrap();
        let (state, ahead) = place(visitor).await;
        assert!(["held", "your_turn"].contains(&state.as_str()), "{number}: {state}");
        assert_eq!(visitor.number(), Some(number), "no new ticket");
        assert!(ahead.is_none() || ahead >= before, "the order changed");
        before = ahead.or(before);
        numbers.push(number);
    }
    assert!(numbers.is_sorted() && newcomer.number() > numbers.last().copied(), "{numbers:?} {:?}", newcomer.number());
    let (state, ahead) = place(&mut newcomer).await;
    assert!(state == "held" && ahead > before, "the newcomer stands behind: {state} {ahead:?} {before:?}");
    people.waiting.push(newcomer);
}

fn export(file: &Path, to: &Path) -> Finished {
    run(&["store", "export", "--config", file.to_str().unwrap(), "--to", to.to_str().unwrap()])
}

fn import(file: &Path, from: &Path) -> Finished {
    run(&["store", "import", "--config", file.to_str().unwrap(), "--from", from.to_str().unwrap()])
}

fn stop(proxy: &mut Proxy) {
    proxy.signal("TERM");
    assert!(proxy.ended().success(), "{}", proxy.log().text());
}

#[tokio::test]
async fn a_line_moves_to_a_shared_store_and_back_with_everybody_in_it() {
    let (portal, redis) = (Portal::start().await, Redis::start());
    let stores = Stores::new(&portal, &redis);
    let mut proxy = Proxy::start(&stores.embedded("state"));
    let mut everybody = people(&proxy).await;
    let file = proxy.file();
    let lines = |name: &str| -> PathBuf { file.with_file_name(name) };

    let refused = export(&file, &lines("early"));
    assert!(refused.code == 1 && refused.errors.contains("in use by another process"), "{refused:?}");
    assert!(!lines("early").exists());
    stop(&mut proxy);
    let done = export(&file, &lines("lines"));
    assert!(done.code == 0 && done.output.contains("32 tickets, 1 seats"), "{done:?}");
    let again = export(&file, &lines("lines"));
    assert!(again.code == 1 && again.errors.contains("name a new file"), "{again:?}");

    fs::write(&file, stores.shared()).unwrap();
    assert_eq!(import(&file, &lines("lines")).code, 0);
    let again = import(&file, &lines("lines"));
    assert!(again.code == 1 && again.errors.contains("has a line of room r already"), "{again:?}");
    proxy.restart();
    all_is_as_before(&proxy, &mut everybody).await;
    let refused = export(&file, &lines("early"));
    assert!(refused.code == 1 && refused.errors.contains("stop all nodes"), "{refused:?}");

    stop(&mut proxy);
    let done = export(&file, &lines("back"));
    assert!(done.code == 0, "{done:?}");
    fs::write(&file, stores.elsewhere()).unwrap();
    assert_eq!(import(&file, &lines("back")).code, 0);
    let again = import(&file, &lines("back"));
    assert!(again.code == 1 && again.errors.contains("has a line of room r already"), "{again:?}");
    proxy.restart();
    all_is_as_before(&proxy, &mut everybody).await;
}

#[tokio::test]
async fn what_is_no_line_is_not_imported_and_an_unfinished_one_is_not_used() {
    let (portal, redis) = (Portal::start().await, Redis::start());
    let stores = Stores::new(&portal, &redis);
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("config.toml"), stores.shared()).unwrap();
    let empty = export(&path("config.toml"), &path("lines"));
    assert!(empty.code == 1 && empty.errors.contains("no line"), "{empty:?}");
    for (text, why) in [
        ("{}", "missing field"),
        ("not even JSON", "expected"),
        ("{\"format\":2}", "its format is 2"),
        (
            "{\"format\":1,\"lines\":[{\"room\":\"other\",\"identity\":1,\"frozen_ms\":0,\"last_durable_ms\":null,\
          \"lanes\":[],\"seats\":[],\"ended\":[],\"openings\":[]}]}",
            "no room other",
        ),
    ] {
        fs::write(path("wrong"), text).unwrap();
        let refused = import(&path("config.toml"), &path("wrong"));
        assert!(refused.code == 1 && refused.errors.contains(why), "{refused:?}");
    }
    assert_eq!(redis.ask(&["DBSIZE"]), "0");
    // As an import that was killed leaves it.
    redis.ask(&["HSET", "anticamera:{r}:line", "format", "0", "identity", "5", "frozen", "0", "seq", "0"]);
    let refused = run(&["run", "--config", path("config.toml").to_str().unwrap()]);
    assert!(refused.code == 1 && refused.errors.contains("store import again"), "{refused:?}");
}
