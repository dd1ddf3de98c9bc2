//! The demonstration's stand-in portal: a welcome page for everybody, and behind the waiting room a made-up application
//! form. It knows nothing of the waiting room, asks for no login and keeps nothing.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

/// Bytes of a form at most.
const LARGEST_FORM: usize = 8 << 10;
/// After the system would give no connection.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers visitors until the task is dropped.
pub(super) async fn serve(listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(
            TokioIo::new(stream),
            service_fn(async |request| Ok::<_, Infallible>(answer(request).await)),
        );
        // How a connection ends is of no interest here.
        tokio::spawn(async move { drop(connection.await) });
    }
}

async fn answer(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    match (parts.method, parts.uri.path()) {
        (Method::GET | Method::HEAD, "/") => page(StatusCode::OK, WELCOME),
        (Method::GET | Method::HEAD, "/bonus" | "/bonus/") => page(StatusCode::OK, FORM),
        (Method::POST, "/bonus/summary") => match Limited::new(body, LARGEST_FORM).collect().await {
            Ok(form) => page(StatusCode::OK, &summary(&form.to_bytes())),
            Err(_) => page(StatusCode::BAD_REQUEST, NOT_READ),
        },
        (Method::GET | Method::HEAD, "/bonus/done") => page(StatusCode::OK, DONE),
        (Method::GET | Method::HEAD, "/bonus/leave") => page(StatusCode::OK, LEFT),
        (Method::GET | Method::HEAD, "/style.css") => with_type("text/css", STYLE.to_owned()),
        (_, "/" | "/bonus" | "/bonus/" | "/bonus/done" | "/bonus/leave" | "/style.css") => {
            method_not_allowed("GET, HEAD")
        }
        (_, "/bonus/summary") => method_not_allowed("POST"),
        _ => page(StatusCode::NOT_FOUND, NOTHING),
    }
}

fn method_not_allowed(allowed: &'static str) -> Response<Full<Bytes>> {
    let mut response = page(StatusCode::METHOD_NOT_ALLOWED, NOTHING);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

fn page(status: StatusCode, main: &str) -> Response<Full<Bytes>> {
    let mut response = with_type("text/html; charset=utf-8", format!("{HEAD}{main}{FOOT}"));
    *response.status_mut() = status;
    response
}

fn with_type(media_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

fn summary(form: &[u8]) -> String {
    let value = |name: &[u8]| {
        let sent = form_value(form, name).unwrap_or_default();
        if sent.trim().is_empty() { "–".to_owned() } else { escaped(&sent) }
    };
    format!(
        r#"<h1>Riepilogo <span lang="en">Summary</span></h1>
<dl><dt>Nome <span lang="en">Name</span></dt><dd>{}</dd>
<dt>Persone in famiglia <span lang="en">People in the household</span></dt><dd>{}</dd></dl>
<p><a class="main" href="/bonus/done">Conferma <span lang="en">Confirm</span></a></p>"#,
        value(b"name"),
        value(b"household")
    )
}

/// A value of `application/x-www-form-urlencoded` text.
fn form_value(form: &[u8], name: &[u8]) -> Option<String> {
    let pair = form.split(|byte| *byte == b'&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix(b"="))?;
    let mut value = Vec::with_capacity(pair.len());
    let mut rest = pair;
    while let Some((first, others)) = rest.split_first() {
        rest = others;
        match (first, others) {
            (b'+', _) => value.push(b' '),
            (b'%', [high, low, others @ ..]) => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                value.push(u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?);
                rest = others;
            }
            (byte, _) => value.push(*byte),
        }
    }
    Some(String::from_utf8_lossy(&value).into_owned())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

const HEAD: &str = r#"<!doctype html>
<html lang="it">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Portale dimostrativo – Demonstration portal</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/style.css">
</head>
<body>
<header><strong>Dimostrazione</strong>: questo portale non è vero. <span lang="en">A demonstration: this portal is not
real.</span></header>
<main>
"#;

const STYLE: &str = r#":root { color-scheme: light dark; }
body { margin: 0 auto; max-width: 40rem; padding: 1rem; font: 1.0625rem/1.5 system-ui, sans-serif; }
header, footer { border-block: 1px solid #888; padding: .5rem 0; }
footer { margin-top: 2rem; }
[lang=en] { opacity: .75; font-style: italic; font-weight: 400; }
input { display: block; font: inherit; padding: .5rem; width: 100%; box-sizing: border-box; }
button, .main {
  display: inline-block; font: inherit; font-weight: 600; margin: 1rem 0; padding: .5rem 1.25rem; border: 0;
  border-radius: .25rem; background: #0a6e3c; color: #fff; text-decoration: none; cursor: pointer;
}
"#;

const FOOT: &str = r#"
</main>
<footer>Quello che scrivi qui non viene conservato. <span lang="en">Nothing you write here is kept.</span></footer>
</body>
</html>
"#;

const WELCOME: &str = r#"<h1>Benvenuti <span lang="en">Welcome</span></h1>
<p>Questa pagina la vedono tutti subito. La domanda per il «bonus» invece è protetta da una sala d'attesa: si entra uno
alla volta, in ordine di arrivo.</p>
<p lang="en">Everybody sees this page at once. The application for the “bonus” is protected by a waiting room: people
enter one after the other, in the order of arrival.</p>
<p><a class="main" href="/bonus/">Fai domanda <span lang="en">Apply</span></a></p>"#;

const FORM: &str = r#"<h1>Sei dentro <span lang="en">You are inside</span></h1>
<p>La sala d'attesa ti ha fatto entrare: da qui in poi non fai più fila.</p>
<p lang="en">The waiting room has let you in: from here on you need not wait again.</p>
<form method="post" action="/bonus/summary">
<p><label>Nome <span lang="en">Name</span> <input name="name" autocomplete="off" maxlength="100"></label></p>
<p><label>Persone in famiglia <span lang="en">People in the household</span>
<input name="household" type="number" min="1" max="20" value="3"></label></p>
<button>Avanti <span lang="en">Next</span></button>
</form>
<p><a href="/bonus/leave">Esci <span lang="en">Leave</span></a></p>"#;

const DONE: &str = r#"<h1>Fatto <span lang="en">Done</span></h1>
<p>La domanda (finta) è arrivata. Se esci e torni, ti rimetti in fila.</p>
<p lang="en">The (made-up) application has arrived. If you leave and come back, you join the line again.</p>
<p><a class="main" href="/bonus/leave">Esci <span lang="en">Leave</span></a></p>"#;

const LEFT: &str = r#"<h1>Arrivederci <span lang="en">Good-bye</span></h1>
<p>Sei uscito: il tuo posto dentro è libero. <span lang="en">You have left: your place inside is free.</span></p>
<p><a href="/">Torna all'inizio <span lang="en">Back to the beginning</span></a></p>"#;

const NOT_READ: &str = r#"<h1>Il modulo è troppo lungo <span lang="en">The form is too long</span></h1>"#;

const NOTHING: &str = r#"<h1>Qui non c'è niente <span lang="en">There is nothing here</span></h1>
<p><a href="/">Torna all'inizio <span lang="en">Back to the beginning</span></a></p>"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_shown_as_text() {
        let html = summary(b"household=4&name=Anna+%3Cb%3E%26%C3%A8");
        assert!(html.contains("<dd>Anna &lt;b&gt;&amp;è</dd>") && html.contains("<dd>4</dd>"));
    }

    #[test]
    fn broken_forms_are_empty_ones() {
        for form in [b"name=%zz".as_slice(), b"name=%4", b"", b"name", b"&&=&"] {
            assert!(!summary(form).is_empty());
        }
    }
}
