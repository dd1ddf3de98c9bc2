//! What becomes of tokens that are not what they seem: they are none, are counted by reason, and never an error.

use crate::support::app::{self, Running, number_of, room_of};
use anticamera::admin::ReloadAnswer;

const OTHER_ROOM: &str =
    "[[room]]\nname = \"other\"\npaths = [\"/other/**\"]\nadmission_rate = \"10/s\"\nentry = \"page\"";

/// A room with a line, somebody inside it and a stranger's tokens.
async fn running() -> Running {
    room_of("10/s").with("entry = \"page\"").with_more(OTHER_ROOM).start().await
}

/// A navigation with this cookie gets the waiting page, as if there were none.
async fn is_no_token(running: &Running, kind: &str, value: &str) {
    let visitor = running.visitor();
    visitor.hold(kind, value);
    let page = visitor.navigate("/fair/").send().await;
    assert_eq!(page.status, 503, "{kind} {value}: {page:?}");
    assert!(page.text().contains("<html"), "the waiting page: {}", page.text());
    let status = visitor.poll().send().await;
    assert_eq!((status.status, status.state().as_str()), (200, "none"), "{kind} {value}");
    let joined = visitor.join().await;
    assert_eq!((joined.status, joined.state().as_str()), (200, "waiting"), "{kind} {value}");
    assert_eq!(running.entered(), 0, "{kind} {value}");
}

#[tokio::test]
async fn invented_altered_and_truncated_tokens_are_none() {
    let running = running().await;
    let visitor = running.visitor();
    visitor.join().await;
    let ticket = visitor.token("ticket").unwrap();
    assert_eq!(ticket.len(), 104);
    for kind in ["ticket", "turn", "pass"] {
        let before = running.rejected("malformed");
        for invented in [
            "x",
            "AAAA",
            "null",
            "../../etc",
            &ticket[..103],
            &ticket[1..],
            &format!("{ticket}A"),
            &format!("{}=", &ticket[..103]),
        ] {
            is_no_token(&running, kind, invented).await;
        }
        assert!(running.rejected("malformed") >= before + 8.0);
    }
    let before = running.rejected("bad_signature");
    for at in [12, 30, 45, 55, 70, 103] {
        let mut altered = ticket.clone().into_bytes();
        altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
        is_no_token(&running, "ticket", std::str::from_utf8(&altered).unwrap()).await;
    }
    assert!(running.rejected("bad_signature") >= before + 6.0, "{}", running.metrics.encode().unwrap());
    let mut other_version = ticket.clone();
    other_version.replace_range(0..1, "_");
    is_no_token(&running, "ticket", &other_version).await;
    assert!(running.rejected("version") >= 1.0);
}

#[tokio::test]
async fn one_kind_is_not_another() {
    let running = running().await;
    let visitor = running.visitor();
    visitor.join().await;
    let (turn, _) = running.until(visitor.poll().begin(), app::PATIENCE).await;
    assert_eq!(turn.state(), "your_turn");
    let (ticket, turn) = (visitor.token("ticket").unwrap(), visitor.token("turn").unwrap());
    for (kind, value) in [("pass", &ticket), ("pass", &turn), ("turn", &ticket), ("ticket", &turn)] {
        is_no_token(&running, kind, value).await;
    }
    assert!(running.rejected("other_kind") >= 4.0);
    // Under its own name it is good: the turn alone enters.
    let bare = running.visitor();
    bare.hold("turn", &turn);
    assert!(bare.navigate("/fair/").send().await.is_the_portals());
    let pass = bare.token("pass").unwrap();
    let before = running.entered();
    for kind in ["ticket", "turn"] {
        let other = running.visitor();
        other.hold(kind, &pass);
        assert_eq!(other.navigate("/fair/").send().await.status, 503);
    }
    assert_eq!(running.entered(), before);
}

#[tokio::test]
async fn one_rooms_token_is_not_anothers() {
    let running = running().await;
    let visitor = running.visitor();
    let joined = visitor.script("POST", "/.waiting-room/join?room=other").send().await;
    let foreign = joined.header("set-cookie").unwrap().split(['=', ';']).nth(1).unwrap().to_owned();
    assert_eq!(foreign.len(), 104, "{joined:?}");
    is_no_token(&running, "ticket", &foreign).await;
    assert!(running.rejected("other_room") >= 1.0);
}

#[tokio::test]
async fn an_expired_ticket_is_no_place_but_is_called_expired() {
    let running =
        room_of("1/min").with("entry = \"page\"\nclaim_window = \"1m\"\nticket_lifetime = \"2m\"").start().await;
    let visitor = running.visitor();
    visitor.join().await;
    running.seconds(125).await;
    let status = visitor.poll().send().await;
    assert_eq!((status.status, status.state().as_str()), (200, "expired"));
    assert!(running.rejected("expired") >= 1.0);
    assert_eq!(visitor.navigate("/fair/").send().await.status, 503);
    assert_eq!(visitor.join().await.state(), "waiting");
    assert_eq!(number_of(&visitor.token("ticket").unwrap()), 2);
}

#[tokio::test]
async fn another_lines_ticket_is_none() {
    let first = running().await;
    let visitor = first.visitor();
    visitor.join().await;
    let ticket = visitor.token("ticket").unwrap();
    // The state is wiped, the keys stay.
    let app::Running { app, clock, portal, directory, setup, .. } = first;
    app.stop().await.unwrap();
    let state = directory.path().join("state");
    let keys = directory.path().join("kept");
    std::fs::rename(state.join("keys"), &keys).unwrap();
    std::fs::remove_dir_all(&state).unwrap();
    std::fs::create_dir(&state).unwrap();
    std::fs::rename(keys, state.join("keys")).unwrap();
    let second = setup.start_on(directory, portal, clock).await;
    second.seconds(1).await;
    is_no_token(&second, "ticket", &ticket).await;
    assert!(second.rejected("other_line") >= 1.0);
}

#[tokio::test]
async fn keys_are_rotated_by_a_reload() {
    let running = running().await;
    let visitor = running.visitor();
    visitor.join().await;
    let old_ticket = visitor.token("ticket").unwrap();
    let keys = running.directory.path().join("state/keys");
    let old_key = std::fs::read_dir(&keys).unwrap().next().unwrap().unwrap().path();
    let new_key = keys.join("77.key");
    std::fs::write(&new_key, [7; 32]).unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&new_key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let _ = running.app.reload().await;

    // Old tokens verify, new ones are signed by the new key.
    assert!(["waiting", "your_turn"].contains(&visitor.join().await.state().as_str()));
    assert_eq!(visitor.token("ticket").unwrap(), old_ticket);
    let newcomer = running.visitor();
    newcomer.join().await;
    let new_ticket = newcomer.token("ticket").unwrap();
    assert_ne!(app::fields_of(&new_ticket)[1], app::fields_of(&old_ticket)[1], "the key id");

    std::fs::remove_file(old_key).unwrap();
    let answer = running.app.reload().await;
    assert!(matches!(answer, ReloadAnswer::Unchanged | ReloadAnswer::Applied), "{answer:?}");
    is_no_token(&running, "ticket", &old_ticket).await;
    assert!(running.rejected("unknown_key") >= 1.0);
    assert!(["waiting", "your_turn"].contains(&newcomer.join().await.state().as_str()));
    assert_eq!(newcomer.token("ticket").unwrap(), new_ticket);
}
