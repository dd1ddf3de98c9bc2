//! A day of a real portal: two Tomcats that do not know each other's sessions, behind a HAProxy that keeps visitors with
//! one of them by a cookie of its own, and the program in front. People log in, work, log out, log in as somebody else on
//! the same computer, use two devices, lose our cookie, and have their sessions renewed. No detector may fire.

use super::caches::cache::Cache;
use super::support::process::{Proxy, Setup};
use super::support::tomcat::Tomcat;
use super::support::wire::{Reply, Visitor};

/// Logs in: the session gets a new id, and a token against forged forms is set that is the same for everybody.
const LOGIN: &str = r#"<%@ page session="false" %><%
jakarta.servlet.http.HttpSession session = request.getSession(true);
if (!session.isNew()) { request.changeSessionId(); }
session.setAttribute("who", request.getParameter("user"));
response.addHeader("Set-Cookie", "XSRF-TOKEN=constant; Path=/portal");
response.sendRedirect("me.jsp");
%>"#;

/// A provider's callback by GET that nobody listed, in a portal that keeps the session's id.
const CALLBACK: &str = r#"<%@ page session="true" %><%
session.setAttribute("who", request.getParameter("user"));
response.sendRedirect("me.jsp");
%>"#;

/// A personal page; the portal says whose.
const ME: &str = r#"<%@ page session="false" %><%
jakarta.servlet.http.HttpSession session = request.getSession(false);
String who = session == null ? null : (String) session.getAttribute("who");
if (who != null) { response.setHeader("Waiting-Room-Identity", who); }
%>page of-<%= who %>"#;

const LOGOUT: &str = r#"<%@ page session="false" %><%
jakarta.servlet.http.HttpSession session = request.getSession(false);
if (session != null) { session.invalidate(); }
response.sendRedirect("me.jsp");
%>"#;

const PAGES: [(&str, &str); 5] =
    [("login.jsp", LOGIN), ("callback.jsp", CALLBACK), ("me.jsp", ME), ("logout.jsp", LOGOUT), ("style.css", "a{}\n")];

/// The lines of `/metrics` about findings of detectors, those that count something.
fn findings(proxy: &Proxy) -> Vec<String> {
    let mut operator = Visitor::new(proxy.admin);
    operator.host = "localhost";
    let text = operator.get("/metrics");
    let detectors = [
        "session_reissued",
        "cache_hit",
        "identity_mismatch",
        "session_identities",
        "identity_sessions",
        "session_presented",
    ];
    let is_one = |line: &&str| {
        line.starts_with("anticamera_leak_guard_total{")
            && !line.ends_with(" 0")
            && detectors.iter().any(|detector| line.contains(&format!("rule=\"{detector}\"")))
    };
    text.text().lines().filter(is_one).map(str::to_owned).collect()
}

/// Sees the own page, and nobody else's.
#[track_caller]
fn sees_own_page(visitor: &mut Visitor, name: &str) {
    let page = visitor.get("/portal/me.jsp");
    assert_eq!((page.status, page.text()), (200, format!("page of-{name}").as_str()), "{page:?}");
    assert_eq!(page.header("waiting-room-identity"), None);
    page.assert_personal();
}

fn log_in(visitor: &mut Visitor, name: &str) -> Reply {
    let reply = visitor.post("/portal/login.jsp", &format!("user={name}"));
    assert_eq!(reply.status, 302, "{reply:?}");
    reply
}

/// Somebody works: pages, and the files that belong to them.
fn work(visitor: &mut Visitor, name: &str) {
    for _ in 0..3 {
        sees_own_page(visitor, name);
        assert_eq!(visitor.get("/portal/style.css").status, 200);
    }
}

#[test]
fn a_day_of_two_tomcats_behind_a_balancer_is_silent() {
    let tomcats = ["n1", "n2"].map(|name| Tomcat::start_with_pages(name, &PAGES));
    let balancer = Cache::start_sticky_balancer([tomcats[0].address(), tomcats[1].address()]);
    let proxy = Setup { paths: "/portal/**", ..Setup::in_front_of(&[balancer.address]) }.start();
    let inside = || Visitor::inside(proxy.address, "/portal/me.jsp");

    // One computer in an office; each of the people has a phone as well.
    let mut desk = inside();
    for name in ["anna", "bruno", "carla"] {
        let first = log_in(&mut desk, name);
        assert!(first.cookie("JSESSIONID").is_some_and(|id| id.contains(".n")), "a session with its node: {first:?}");
        work(&mut desk, name);
        let mut phone = inside();
        log_in(&mut phone, name);
        work(&mut phone, name);
        work(&mut desk, name);
        // The session is renewed while they work.
        let renewed = log_in(&mut desk, name);
        assert_ne!(renewed.cookie("JSESSIONID"), first.cookie("JSESSIONID"));
        work(&mut desk, name);
        // Our own cookie is lost, the portal's is not.
        desk.cookies.remove("anticamera-pass-r");
        work(&mut desk, name);
        if name != "bruno" {
            assert_eq!(desk.get("/portal/logout.jsp").status, 302);
            sees_own_page(&mut desk, "null");
        }
    }
    assert_eq!(findings(&proxy), [""; 0], "carla logged in as herself after bruno had forgotten to log out");

    // A portal that keeps the session through a login that nobody listed: reported, and nobody is stopped.
    log_in(&mut desk, "anna");
    work(&mut desk, "anna");
    let login = "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";
    assert_eq!(desk.ask("GET", "/portal/callback.jsp?user=bruno", login, b"").status, 302);
    work(&mut desk, "bruno");
    let expected = ["anticamera_leak_guard_total{action=\"alarmed\",rule=\"session_identities\"} 1"];
    assert_eq!(findings(&proxy), expected);
}
