//! Lines that are brought to a real server: what is broken off is brought again, and what is in use is left alone.

use super::tests::Server;
use super::*;
use crate::domain::recent::Bounds;
use crate::store::contract::room;
use crate::store::transfer::{Lines, TransferError};
use crate::store::{NotesMark, Store};

async fn node(server: &Server) -> Valkey {
    Valkey::open(&server.settings(), Clock::system(), Box::new(|_, _| {})).await.unwrap()
}

async fn import(server: &Server) -> Result<(), TransferError> {
    let line = |room: &str, held: bool| {
        format!(
            r#"{{"room":"{room}","identity":5,"frozen_ms":0,"last_durable_ms":17,"lanes":[{{"class":7,"mark":3,"issued":3,
            "forgotten":0,"in_doubt":true,"pages":[]}}],"seats":[],"ended":[],"openings":[],"held":{held}}}"#
        )
    };
    let text = format!(r#"{{"format":1,"lines":[{},{}]}}"#, line("a", true), line("b", false));
    Lines::from_text(&text).unwrap().write(&config::Store::Valkey(Box::new(server.settings())), Clock::system()).await
}

#[tokio::test]
async fn an_import_that_broke_off_after_one_of_two_rooms_is_finished_by_the_next() {
    let server = Server::start_with(&["--port", "0"]);
    import(&server).await.unwrap();
    assert!(matches!(import(&server).await, Err(TransferError::NotEmpty(_))), "all is there already");
    server.cli(&["HSET", "anticamera:{b}:line", "format", "0"]);
    import(&server).await.unwrap();
    let node = node(&server).await;
    for name in ["a", "b"] {
        assert_eq!(node.open_line(&room(name), 9).await.unwrap().identity, 5, "{name}");
    }
    node.flush().await.unwrap();
    server.cli(&["HSET", "anticamera:{b}:line", "format", "0"]);
    let refused = import(&server).await;
    assert!(matches!(&refused, Err(TransferError::NotEmpty(used)) if *used == room("a")), "{refused:?}");
}

#[tokio::test]
async fn what_operators_ordered_moves_with_the_line() {
    let server = Server::start_with(&["--port", "0"]);
    // What an import that broke off has left does not count.
    server.cli(&["HSET", "anticamera:{b}:line", "format", "0", "by_hand:frozen", "1"]);
    import(&server).await.unwrap();
    let settings = config::Store::Valkey(Box::new(server.settings()));
    let lines = Lines::read(&settings, &[room("a"), room("b")], Clock::system()).await.unwrap();
    assert_eq!(
        lines.to_string(),
        "room a: 3 tickets, 0 seats, 0 ended sessions, held by an operator\n\
         room b: 3 tickets, 0 seats, 0 ended sessions\n"
    );
    assert_eq!(Lines::from_text(&lines.text()).unwrap(), lines);
    let embedded = config::Store::Embedded { path: server.directory.path().to_owned() };
    assert!(lines.not_kept_by(&embedded).starts_with("room a was held by an operator"));
    assert_eq!(lines.not_kept_by(&settings), "");
}

#[tokio::test]
async fn notes_go_with_the_lines_and_replace_none() {
    let server = Server::start_with(&["--port", "0"]);
    let bounds = Bounds { entries: 10_000, span: Duration::from_secs(7200) };
    let directory = tempfile::tempdir().unwrap();
    let embedded = |name: &str| config::Store::Embedded { path: directory.path().join(name) };
    let shared = config::Store::Valkey(Box::new(server.settings()));
    let open =
        async |settings: &config::Store| Store::open(settings, Clock::system(), Box::new(|_, _| {})).await.unwrap();
    let known = async |settings: &config::Store| {
        let store = open(settings).await;
        let (mut all, mut mark) = (Vec::new(), NotesMark::default());
        loop {
            let some = store.read_notes(mark).await.unwrap();
            if some.notes.is_empty() {
                store.close().await.unwrap();
                return all;
            }
            mark = some.mark;
            all.extend(some.notes);
        }
    };
    let store = open(&embedded("one")).await;
    store.open_line(&room("a"), 5).await.unwrap();
    let texts = (0..2500_u32).map(|number| number.to_be_bytes().to_vec()).collect();
    store.add_notes(texts, bounds).await.unwrap();
    store.close().await.unwrap();
    let before = known(&embedded("one")).await;
    assert_eq!(before.len(), 2500);
    let lines = Lines::read(&embedded("one"), &[room("a")], Clock::system()).await.unwrap();
    let lines = Lines::from_text(&lines.text()).unwrap();
    lines.write(&shared, Clock::system()).await.unwrap();
    assert_eq!(known(&shared).await, before, "with the time at which they came");
    let there = Lines::read(&shared, &[room("a")], Clock::system()).await.unwrap();
    there.write(&embedded("two"), Clock::system()).await.unwrap();
    assert_eq!(known(&embedded("two")).await, before);
    // What is there already stays.
    server.cli(&["DEL", "anticamera:{a}:line"]);
    open(&shared).await.add_notes(vec![b"later".to_vec()], bounds).await.unwrap();
    lines.write(&shared, Clock::system()).await.unwrap();
    assert_eq!(known(&shared).await.len(), 2501);
    assert_eq!(server.cli(&["KEYS", "*brought*"]), "");
}

#[tokio::test]
async fn of_two_imports_at_once_only_the_later_one_is_finished() {
    let server = Server::start_with(&["--port", "0"]);
    import(&server).await.unwrap();
    let (first, second) = (node(&server).await, node(&server).await);
    let line = first.read_unused(&room("a")).await.unwrap().unwrap();
    let format = || server.cli(&["HGET", "anticamera:{c}:line", "format"]);
    first.put_line(&room("c"), &line).await.unwrap();
    second.put_line(&room("c"), &line).await.unwrap();
    assert!(first.finish_line(&room("c"), &line).await.is_err());
    assert_eq!(format(), "0");
    second.finish_line(&room("c"), &line).await.unwrap();
    assert_eq!(format(), "1");
}

#[tokio::test]
async fn a_line_that_a_node_leads_is_not_exported() {
    let server = Server::start_with(&["--port", "0"]);
    import(&server).await.unwrap();
    server.cli(&["HSET", "anticamera:{a}:lease", "node", "7", "until", "9999999999999"]);
    let refused = node(&server).await.read_unused(&room("a")).await;
    assert!(matches!(refused, Err(TransferError::InUse(_))), "{refused:?}");
}
