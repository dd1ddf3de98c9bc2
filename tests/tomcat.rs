//! The portal that other tests stand in front of is a real one: Tomcat keeps a session by its cookie.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/tomcat.rs"]
mod tomcat;

use std::io::{Read, Write};
use std::net::TcpStream;

use tomcat::Tomcat;

/// Asks for the session example and returns head and body.
fn session_example(tomcat: &Tomcat, cookie: &str) -> (String, String) {
    let mut stream = TcpStream::connect(tomcat.address()).unwrap();
    write!(
        stream,
        "GET /examples/servlets/servlet/SessionExample HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{cookie}\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// The value of `JSESSIONID` that an answer sets.
fn session_set(head: &str) -> Option<&str> {
    let (_, rest) = head.split_once("Set-Cookie: JSESSIONID=")?;
    rest.split(';').next()
}

#[test]
fn tomcat_keeps_a_session_by_its_cookie() {
    let tomcat = Tomcat::start();
    let (head, body) = session_example(&tomcat, "");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let session = session_set(&head).expect("a new session");
    assert!(body.contains(session), "{body}");

    let (head, body) = session_example(&tomcat, &format!("Cookie: JSESSIONID={session}\r\n"));
    assert_eq!(session_set(&head), None, "the session goes on: {head}");
    assert!(body.contains(session), "{body}");

    let (head, _) = session_example(&tomcat, "");
    assert_ne!(session_set(&head), Some(session), "somebody else gets another session");
}
