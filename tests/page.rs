//! The pages as anybody may ask for them: hostile languages, queries and texts, headers on every page, the operator's
//! folder, previews, and the description of the API.

use crate::support::app::{Answer, ROOM, own, room_of};
use crate::support::portal::{Script, Step};
use anticamera::admin::ReloadAnswer;

const SCRIPT: &str = "<script>alert(1)</script>";
const LANGUAGES: [&str; 11] = ["it", "de", "sl", "fr", "en", "es", "ro", "sq", "uk", "ar", "zh"];

/// Whatever is asked, a page is a page of ours: strict headers, nothing of the request in it unescaped, no cookie.
fn assert_harmless(page: &Answer, what: &str) {
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"), "{what}");
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; ") && policy.contains("base-uri 'none'"), "{what}: {policy}");
    assert!(!policy.contains("form-action") && !policy.contains("unsafe"), "{what}: {policy}");
    assert_eq!(page.header("referrer-policy"), Some("same-origin"), "{what}");
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"), "{what}");
    assert_eq!(page.header("cross-origin-opener-policy"), Some("same-origin"), "{what}");
    assert!(page.header("set-cookie").is_none(), "{what}");
    assert!(page.is_personal(), "{what}");
    assert!(!page.text().contains(SCRIPT), "{what}");
}

#[tokio::test]
async fn every_language_is_spoken() {
    let running = room_of("1/min").with("entry = \"page\"").start().await;
    for code in LANGUAGES {
        let page = running.visitor().navigate("/fair/").header("Accept-Language", code).send().await;
        assert_eq!((page.status, page.header("content-language")), (503, Some(code)));
        let direction = if code == "ar" { "rtl" } else { "ltr" };
        assert!(page.text().contains(&format!("<html lang=\"{code}\" dir=\"{direction}\">")), "{code}");
        let line = running.visitor().navigate(&format!("{}&lang={code}", own("line"))).send().await;
        assert_eq!((line.status, line.header("content-language")), (200, Some(code)));
        let queue = running.visitor().script("POST", &format!("{}&lang={code}", own("join"))).send().await.queue();
        assert!(queue["text"]["ahead"].as_str().is_some_and(|words| !words.contains('{')), "{queue}");
    }
}

#[tokio::test]
async fn hostile_languages_get_the_default_and_are_not_repeated() {
    let running = room_of("1/min").with("entry = \"page\"").start().await;
    let long = "it-".repeat(4000);
    for language in ["../../etc/passwd", SCRIPT, "\"><img src=x>", "%00", "\u{fffd}", "xx;q=9,*;q=0", ",,,;;;", &long] {
        let visitor = running.visitor();
        let page = visitor.navigate("/fair/").header("Accept-Language", language).send().await;
        assert_eq!(page.status, 503, "{language:.20}");
        assert_harmless(&page, language);
        let page = visitor.navigate("/fair/").header("Cookie", &format!("anticamera-language={language}")).send().await;
        assert_harmless(&page, language);
        let escaped: String = language.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let page = visitor.navigate(&format!("{}&lang={escaped}", own("line"))).send().await;
        assert_harmless(&page, language);
        let posted = visitor.form(&format!("{}&lang={escaped}", own("join")), "to=/fair/").send().await;
        let location = posted.header("location").unwrap();
        assert!(location.bytes().all(|byte| byte.is_ascii_graphic()) && !location.contains(['<', '"']), "{location}");
    }
}

#[tokio::test]
async fn hostile_queries_are_not_repeated_and_lead_nowhere_else() {
    let running = room_of("1/min").with("entry = \"page\"").start().await;
    for to in [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "/fair/%0d%0aX: y",
        SCRIPT,
        "\"><b>",
        "/.waiting-room/leave",
    ] {
        let escaped: String = to.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let page = running.visitor().navigate(&format!("{}&to={escaped}&n={escaped}", own("line"))).send().await;
        assert_eq!(page.status, 200, "{to}");
        assert_harmless(&page, to);
        assert!(!page.text().contains("evil.example") && !page.text().contains("\"><b>"), "{to}");
        let entered = running.visitor().form(&own("enter"), &format!("to={escaped}")).send().await;
        assert_eq!((entered.status, entered.header("location")), (303, Some("/fair/")), "{to}");
    }
    let page = running.visitor().navigate(&format!("/fair/?a={SCRIPT}&b=%3Cscript%3E")).send().await;
    if page.status == 503 {
        assert_harmless(&page, "query");
    }
    let missing = running.visitor().navigate(&format!("/.waiting-room/line?room={ROOM}%3Cscript%3E")).send().await;
    assert_eq!(missing.status, 404);
    assert_harmless(&missing, "room");
}

#[tokio::test]
async fn the_operators_words_are_on_every_page_as_text() {
    let words = format!(
        "entry = \"page\"\nmessage = {{ it = '''{SCRIPT} \u{202e}&amp;''', en = \"Hello\" }}\n[room.page]\nservice = {{ it = '''Ente {SCRIPT}''', en = \"Office\" }}\n\
         hours = '''{SCRIPT}'''\nprepare = '''{{{{ 7 * 7 }}}}'''\nhelp = '''</p>{SCRIPT}'''\nprivacy_url = \"https://ente.example/?a=1&b=2\""
    );
    let running = room_of("1/min").with(&words).start().await;
    for (path, status) in [("/fair/".to_owned(), 503), (own("line"), 200)] {
        let page = running.visitor().navigate(&path).send().await;
        assert_eq!(page.status, status);
        assert_harmless(&page, &path);
        let html = page.text();
        assert!(html.contains("Ente &lt;script&gt;alert(1)&lt;/script&gt;"), "{html}");
        assert!(html.contains("{{ 7 * 7 }}") && html.contains("href=\"https://ente.example/?a=1&amp;b=2\""));
        let english = running.visitor().navigate(&path).header("Accept-Language", "en").send().await;
        assert!(english.text().contains("<bdi>Office</bdi>") && english.text().contains(">Hello</p>"));
    }
    let read =
        async |lang| running.visitor().script("POST", &format!("{}&lang={lang}", own("join"))).send().await.queue();
    assert_eq!(read("en").await["message"], "Hello");
    assert!(read("sl").await["message"].as_str().unwrap().starts_with(SCRIPT), "the first that was written");
    let unreadable = room_of("1/min").with("[room.page]\ncolours = { text = \"#eeeeee\" }");
    let ReloadAnswer::Refused(faults) = running.reload(&unreadable).await else { panic!("not refused") };
    assert_eq!(faults[0].key, "room[1] \"fair\".page.colours");
}

#[tokio::test]
async fn a_faulty_folder_refuses_the_reload_whole_and_the_old_page_stays() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("it.toml"), "[states.none]\nheading = \"Prendi il numero\"").unwrap();
    let with = |rate: &str| {
        let page = format!("[page]\nassets = {:?}\nlanguages = [\"it\", \"de\"]", folder.path().to_str().unwrap());
        room_of(rate).with("entry = \"page\"").with_more(&page)
    };
    let running = with("1/min").start().await;
    let shown = async || running.visitor().navigate("/fair/").send().await.text();
    assert!(shown().await.contains("Prendi il numero"));
    assert!(!shown().await.contains("hreflang=\"fr\""), "only the languages on offer");

    std::fs::write(folder.path().join("it.toml"), "[states.none]\nheading = \"Attendi\"").unwrap();
    std::fs::write(folder.path().join("de.toml"), "[states.none]\nheadline = \"Warten\"").unwrap();
    let ReloadAnswer::Refused(faults) = running.reload(&with("2/min")).await else { panic!("not refused") };
    assert_eq!(faults[0].key, "page.assets");
    assert!(faults[0].wrong.starts_with("catalogue de.toml"), "{}", faults[0].wrong);
    assert!(shown().await.contains("Prendi il numero"));
    assert_eq!(running.board().await["rate"], "1/min", "nothing of a refused reload counts");

    std::fs::remove_file(folder.path().join("de.toml")).unwrap();
    assert_eq!(running.reload(&with("2/min")).await, ReloadAnswer::Applied);
    assert!(shown().await.contains("Attendi"));
    std::fs::write(folder.path().join("it.toml"), "[states.none]\nheading = \"Ancora\"").unwrap();
    running.reload(&with("2/min")).await;
    assert!(shown().await.contains("Ancora"), "a changed folder counts although the file is the same");
}

#[tokio::test]
async fn the_description_is_for_everybody_and_may_be_kept() {
    let running = room_of("1/min").start().await;
    let answer = running.visitor().script("GET", "/.waiting-room/openapi.json").send().await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    assert_eq!(answer.header("cache-control"), Some("public, max-age=300"));
    assert!(answer.header("set-cookie").is_none());
    assert_eq!(answer.json()["servers"][0]["url"], "/.waiting-room");
    let wrong = running.visitor().script("POST", "/.waiting-room/openapi.json").send().await;
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("GET, HEAD")));
}

#[tokio::test]
async fn clients_that_only_say_how_they_fetch_get_their_tokens_in_headers() {
    let running = room_of("1/min").with("entry = \"page\"").start().await;
    let app = running.visitor();
    // Node.js's fetch sends this and nothing else of a browser's; it keeps no cookies.
    let joined = app.app("POST", &own("join")).header("Sec-Fetch-Mode", "cors").send().await;
    assert_eq!(joined.header("waiting-room-ticket").map(str::len), Some(104));
    let browser =
        app.request("POST", &own("join")).header("Sec-Fetch-Mode", "cors").header("Sec-Fetch-Site", "same-origin");
    assert!(browser.send().await.header("waiting-room-ticket").is_none());
}

#[tokio::test]
async fn errors_bear_the_services_name_and_say_only_what_is_so() {
    let words =
        "[room.page]\nservice = \"Ente di prova\"\nprivacy_url = \"/privacy\"\ncolours = { accent = \"#006643\" }";
    let running = room_of("10/s").with(words).start().await;
    for path in ["/fair/broken", "/elsewhere"] {
        running.portal.script(path, [Script::new([Step::Reset])]);
    }
    let visitor = running.visitor();
    let broken = visitor.navigate("/fair/broken?x=1").send().await;
    assert!(broken.status >= 500 && broken.sets("pass").is_some(), "{broken:?}");
    let page = broken.text();
    assert!(page.contains("<bdi>Ente di prova</bdi>") && page.contains("href=\"/privacy\""), "{page}");
    assert!(page.contains("#006643") && page.contains("posto all&#39;interno resta tuo"), "{page}");
    assert!(page.contains("href=\"/fair/broken?x=1\">Riprova</a>"), "{page}");
    assert!(page.contains("&amp;lang=en&amp;to=/fair/broken%3Fx%3D1\""), "{page}");

    let sent = visitor.form("/fair/broken", "text=twelve+lines").send().await.text();
    assert!(
        sent.contains("ricarica questa pagina") && !sent.contains("hreflang") && !sent.contains(">Riprova</a>"),
        "{sent}"
    );

    // Nobody is inside where there is no room.
    let open = running.visitor().navigate("/elsewhere").send().await.text();
    assert!(open.contains("<bdi>Ente di prova</bdi>") && !open.contains("posto"), "{open}");
    let wrong = running.visitor().navigate(&format!("{}&to=/fair/wanted", own("join"))).send().await;
    assert_eq!(wrong.status, 405);
    assert!(wrong.text().contains("href=\"/fair/wanted\">Riprova</a>"), "no dead end: {}", wrong.text());
}

#[tokio::test]
async fn a_form_during_maintenance_is_told_that_it_was_not_sent() {
    let running = room_of("10/s").with("state = \"closed\"").start().await;
    let visitor = running.visitor();
    let form = visitor.form("/fair/apply", "text=twelve+lines").send().await;
    assert_eq!(form.status, 503);
    assert_harmless(&form, "form");
    let page = form.text();
    assert!(
        page.contains("Il tuo modulo non è stato inviato") && page.contains("chiuso per manutenzione</p>"),
        "{page}"
    );
    assert!(visitor.navigate("/fair/").send().await.text().contains("chiuso per manutenzione</h1>"));
    assert!(running.portal.seen().iter().all(|seen| seen.method != "POST"), "nothing was sent");
}
