//! What a visitor's browser keeps: the ticket, turn and pass of one room, and nothing else.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{HeaderMap, SET_COOKIE};

use crate::ticket;

/// The three cookies of a room, by the names the visitor was given.
#[derive(Clone, Debug, Default)]
pub struct Cookies {
    ticket: Option<Box<str>>,
    turn: Option<Box<str>>,
    pass: Option<Box<str>>,
}

/// Which of the three a cookie is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ticket,
    Turn,
    Pass,
}

impl Cookies {
    /// A ticket, a turn and a pass that nobody signed, of the right shape.
    pub fn forged(room: &str, number: u64) -> Cookies {
        use rand::{Rng, SeedableRng};
        let mut chance = rand::rngs::SmallRng::seed_from_u64(number);
        let mut cookie = |kind: &str| {
            let mut token = [0; ticket::TOKEN_BYTES];
            chance.fill(&mut token[..]);
            token[0] = 1;
            Some(format!("anticamera-{kind}-{room}={}", URL_SAFE_NO_PAD.encode(token)).into())
        };
        Cookies { ticket: cookie("ticket"), turn: cookie("turn"), pass: cookie("pass") }
    }

    /// Keeps, replaces and deletes what an answer's `Set-Cookie` lines say (RFC 6265, 5.3).
    pub fn take(&mut self, headers: &HeaderMap, room: &str) {
        for line in headers.get_all(SET_COOKIE) {
            let Some((kind, pair, kept)) = line.to_str().ok().and_then(|line| cookie(line, room)) else { continue };
            let place = match kind {
                Kind::Ticket => &mut self.ticket,
                Kind::Turn => &mut self.turn,
                Kind::Pass => &mut self.pass,
            };
            *place = kept.then(|| pair.into());
        }
    }

    /// The value of the `Cookie` header, if there is any cookie.
    pub fn header(&self) -> Option<String> {
        let pairs: Vec<&str> =
            [&self.ticket, &self.turn, &self.pass].into_iter().filter_map(Option::as_deref).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }

    /// The ticket's token.
    pub fn ticket(&self) -> Option<&str> {
        value(&self.ticket)
    }

    /// The pass's token.
    pub fn pass(&self) -> Option<&str> {
        value(&self.pass)
    }

    /// Whether there is a ticket or a turn to come back with.
    pub fn in_line(&self) -> bool {
        self.ticket.is_some() || self.turn.is_some()
    }
}

fn value(pair: &Option<Box<str>>) -> Option<&str> {
    pair.as_deref()?.split_once('=').map(|(_, value)| value)
}

/// Takes a `Set-Cookie` line apart: which cookie, its `name=value`, and whether it is to be kept.
fn cookie<'l>(line: &'l str, room: &str) -> Option<(Kind, &'l str, bool)> {
    let mut parts = line.split(';').map(str::trim);
    let pair = parts.next()?;
    let (name, value) = pair.split_once('=')?;
    let kind = kind(name, room)?;
    let deleted = parts.any(|attribute| attribute.eq_ignore_ascii_case("max-age=0"));
    Some((kind, pair, !deleted && !value.is_empty()))
}

fn kind(name: &str, room: &str) -> Option<Kind> {
    let name = name.strip_prefix("__Host-").unwrap_or(name).strip_prefix("anticamera-")?;
    match name.strip_suffix(room)? {
        "ticket-" => Some(Kind::Ticket),
        "turn-" => Some(Kind::Turn),
        "pass-" => Some(Kind::Pass),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(lines: &[&'static str]) -> Cookies {
        let mut cookies = Cookies::default();
        for line in lines {
            let mut headers = HeaderMap::new();
            headers.append(SET_COOKIE, http::HeaderValue::from_static(line));
            cookies.take(&headers, "bonus-600");
        }
        cookies
    }

    #[test]
    fn keeps_the_rooms_three_and_nothing_else() {
        let cookies = after(&[
            "anticamera-ticket-bonus-600=T; Path=/; HttpOnly",
            "__Host-anticamera-pass-bonus-600=P; Max-Age=60",
            "anticamera-ticket-other=X",
            "JSESSIONID=Y",
        ]);
        assert_eq!(cookies.header().unwrap(), "anticamera-ticket-bonus-600=T; __Host-anticamera-pass-bonus-600=P");
        assert_eq!((cookies.ticket(), cookies.pass()), (Some("T"), Some("P")));
    }

    #[test]
    fn forged_ones_have_the_shape_of_tokens() {
        let cookies = Cookies::forged("r", 7);
        assert!(cookies.ticket().and_then(ticket::place).is_some() && cookies.in_line());
        assert_eq!(cookies.pass().map(str::len), Some(104));
    }

    #[test]
    fn deletes_when_told() {
        let cookies = after(&[
            "anticamera-ticket-bonus-600=T",
            "anticamera-turn-bonus-600=U",
            "anticamera-ticket-bonus-600=; Max-Age=0",
            "anticamera-turn-bonus-600=U; max-age=0",
        ]);
        assert_eq!(cookies.header(), None);
        assert!(!cookies.in_line());
    }
}
