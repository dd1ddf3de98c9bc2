//! No spelling of a protected path gets round the room, our own paths never reach the portal, and what is judged is what
//! is forwarded.

use crate::support::app::room_of;

const SPELLINGS: [&str; 38] = [
    "/fair",
    "/fair/",
    "/FAIR/",
    "/Fair/x",
    "//fair/",
    "///fair//x",
    "/./fair/",
    "/x/../fair/",
    "/x/..//fair",
    "/fair/../fair/",
    "/%66air/",
    "/%66%61%69%72/",
    "/%46AIR/",
    "/f%61ir/x",
    "/fair%2f",
    "/fair%2Fx",
    "/%2ffair/",
    "/%2Ffair%2Fx",
    "/%2e/fair/",
    "/x/%2e%2e/fair/",
    "/%252e/fair",
    "/%2566air/",
    "/fair;a=b/",
    "/fair;x",
    "/;a/fair/",
    "/fair/;jsessionid=1",
    "/x;y/../fair/",
    "/fair%5c",
    "/%5cfair/",
    "/fair%00",
    "/fair%20",
    "/fair.",
    "/fair./",
    "/fair%3fx",
    "/fair%23x",
    "/fair?x",
    "/x/.%2e/fair/x",
    "/fair/..;/fair/x",
];

#[tokio::test]
async fn no_spelling_of_a_protected_path_gets_round_the_room() {
    let running = room_of("10/s").with("state = \"hold\"").start().await;
    for spelling in SPELLINGS {
        for asking in [
            running.visitor().navigate(spelling),
            running.visitor().app("GET", spelling),
            running.visitor().script("POST", spelling),
        ] {
            let answer = asking.send().await;
            assert!([400, 503].contains(&answer.status), "{spelling}: {answer:?}");
        }
    }
    // Backslashes as they are, and the absolute form.
    for raw in ["/fair\\x", "/\\fair/", "/x/..\\fair\\", "http://portal.example/fair/", "http://portal.example/%66air/"]
    {
        let answer = running.visitor().navigate(raw).send().await;
        assert!([400, 503].contains(&answer.status), "{raw}: {answer:?}");
    }
    assert_eq!(running.portal.seen().len(), 0, "{:?}", running.portal.seen());
}

#[tokio::test]
async fn a_room_of_one_host_is_not_left_by_writing_the_host_otherwise() {
    let running = room_of("10/s").with("state = \"hold\"\nhosts = [\"portal.example\"]").start().await;
    for host in ["portal.example", "PORTAL.example", "portal.example:80", "portal.example.", "portal.example.:8080"] {
        let answer = running.visitor().navigate("/fair/").header("Host", host).send().await;
        assert!([400, 503].contains(&answer.status), "{host}: {answer:?}");
    }
    for (target, host) in [("http://portal.example/fair/", "other.example"), ("http://PORTAL.EXAMPLE./fair/", "x")] {
        let answer = running.visitor().navigate(target).header("Host", host).send().await;
        assert!([400, 503].contains(&answer.status), "{target}: {answer:?}");
    }
    let doubled = running
        .visitor()
        .navigate("/fair/")
        .header("Host", "other.example")
        .header("Host", "portal.example")
        .send()
        .await;
    assert_eq!(doubled.status, 400);
    let user = running.visitor().navigate("/fair/").header("Host", "portal.example@other.example").send().await;
    assert_eq!(user.status, 400);
    assert_eq!(running.portal.seen().len(), 0);
    assert!(running.visitor().navigate("/fair/").header("Host", "other.example").send().await.is_the_portals());
}

#[tokio::test]
async fn our_own_paths_are_never_forwarded() {
    for own in ["/.waiting-room", "/Attesa"] {
        let running = room_of("10/s").with_server(&format!("own_path = \"{own}\"")).start().await;
        let name = own.trim_start_matches('/');
        let first = format!("%{:02x}{}", name.as_bytes()[0], &name[1..]);
        for spelling in [
            own.to_owned(),
            format!("{own}/"),
            format!("{own}/nothing"),
            format!("/{own}/join"),
            format!("/.{own}/status"),
            format!("/x/..{own}/join"),
            format!("/{first}/status"),
            format!("{own}%2fjoin"),
            format!("{own};x/join"),
            own.to_uppercase() + "/join",
            own.to_lowercase() + "/join",
            format!("{own}%5cjoin"),
            format!("/%2e{own}/join"),
        ] {
            let answer = running.visitor().navigate(&spelling).send().await;
            assert!([400, 404, 405].contains(&answer.status), "{spelling}: {answer:?}");
        }
        assert_eq!(running.portal.seen().len(), 0, "{:?}", running.portal.seen());
    }
}

#[tokio::test]
async fn what_was_judged_is_what_is_forwarded() {
    let running = room_of("100/s").with("bypass = [\"/fair/open\"]").start().await;
    let visitor = running.visitor();
    assert!(visitor.navigate("/fair/").send().await.is_the_portals());
    for target in [
        "/fair/a%20b?c=%2F&d=e;f",
        "/fair/%C3%A8",
        "/fair/A/b/",
        "/fair/a//b",
        "/fair/?q=/../x",
        "/fair/x;jsessionid=1?y",
        "/other/%7Euser?a=b&&c",
        "/fair/a+b",
        "/fair/%2e%2e/fair/x",
        "/",
    ] {
        assert!(visitor.navigate(target).send().await.is_the_portals(), "{target}");
        running.portal.one(target);
    }
}

#[tokio::test]
async fn privileges_are_for_plain_spellings_only() {
    let lines = "state = \"hold\"\nbypass = [\"/fair/open/**\"]\nlogin_callbacks = [\"/spid/acs\"]";
    let public = "[leak_guard]\npublic = [\"/fair/static/**\"]";
    let running = room_of("10/s").with(lines).with_more(public).start().await;
    for open in ["/fair/open", "/fair/open/x", "/fair/open/x?y=../..", "/fair/static/a.css"] {
        assert!(running.visitor().navigate(open).send().await.is_the_portals(), "{open}");
    }
    for tricky in [
        "/fair/open/../secret",
        "/fair/open/%2e%2e/secret",
        "/fair/open/..;/secret",
        "/fair/open%2f..%2fsecret",
        "/fair/open/..%5csecret",
        "/fair/open//../secret",
        "/fair/static/../secret",
        "/fair/static/%2e%2e/secret",
        "/fair/static/..;/secret",
        "/fair/static/..%2fsecret",
        "/fair/static/a.css;/../../secret",
        "/fair/open;/x",
        "/FAIR/OPEN/x",
        "/fair/OPEN",
    ] {
        let before = running.portal.seen().len();
        let answer = running.visitor().navigate(tricky).send().await;
        assert!([400, 503].contains(&answer.status), "{tricky}: {answer:?}");
        assert_eq!(running.portal.seen().len(), before, "{tricky}");
    }
}
