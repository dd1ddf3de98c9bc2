//! Our own cookies and headers: how tokens travel between a visitor and us, and how they are kept from the portal.
//!
//! Cookies are read as RFC 6265 section 5.4 has them sent: pairs between semicolons, of which only the names that are
//! ours mean anything to us. Everybody else's cookies are passed on byte for byte.

use std::time::Duration;

use http::header::{COOKIE, Entry, HeaderMap, HeaderName, HeaderValue};

use memchr::memchr;

use super::names::RoomName;
use super::token::{Kind, TokenText};

/// Values of one name that are tried; the rest of a longer list is somebody's attempt to keep us busy.
pub const MAX_TRIED: usize = 8;

/// Whether the visitor's side of the conversation is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// TLS, ended here or in front of us.
    Secure,
    /// Plain HTTP.
    Plain,
}

/// Cookies that one answer takes away at most.
const MOST_DELETED: usize = 50;

const PREFIX: &str = "anticamera-";
const HOST_PREFIX: &str = "__Host-";

static TICKET: HeaderName = HeaderName::from_static("waiting-room-ticket");
static TURN: HeaderName = HeaderName::from_static("waiting-room-turn");
static PASS: HeaderName = HeaderName::from_static("waiting-room-pass");
static STAFF: HeaderName = HeaderName::from_static("waiting-room-staff");

/// The header that carries a kind of token for apps without cookies. Receipts are not carried so.
pub fn header_of(kind: Kind) -> Option<&'static HeaderName> {
    match kind {
        Kind::Ticket => Some(&TICKET),
        Kind::Turn => Some(&TURN),
        Kind::Pass => Some(&PASS),
        Kind::Receipt => None,
    }
}

/// The name of one of our cookies, with what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieName {
    text: String,
    kind: Kind,
    channel: Channel,
}

impl CookieName {
    fn new(kind: Kind, channel: Channel, room: &RoomName) -> CookieName {
        let host_prefix = match channel {
            Channel::Secure => HOST_PREFIX,
            Channel::Plain => "",
        };
        CookieName { text: format!("{host_prefix}{PREFIX}{}-{room}", kind.as_str()), kind, channel }
    }

    /// The name as it is sent.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The kind of token in it.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The values of this cookie in the order sent, from all `Cookie` lines, at most [`MAX_TRIED`].
    pub fn values<'h>(&self, headers: &'h HeaderMap) -> impl Iterator<Item = &'h [u8]> {
        let lines = headers.get_all(COOKIE).into_iter();
        lines
            .flat_map(|line| pairs(line.as_bytes()))
            .map(name_and_value)
            .filter(|(name, _)| *name == self.text.as_bytes())
            .map(|(_, value)| value)
            .take(MAX_TRIED)
    }

    /// The `Set-Cookie` value that gives the visitor this token for `max_age`, in whole seconds.
    pub fn set(&self, token: &TokenText, max_age: Duration) -> HeaderValue {
        set_cookie(format!("{}={token}; Path=/; Max-Age={}; {}", self.text, max_age.as_secs(), self.attributes()))
    }

    /// The `Set-Cookie` value that takes the token back.
    pub fn delete(&self) -> HeaderValue {
        set_cookie(format!("{}=; Path=/; Max-Age=0; {}", self.text, self.attributes()))
    }

    /// A login provider's cross-site POST must carry the pass; browsers allow that on TLS only.
    fn attributes(&self) -> &'static str {
        match (self.channel, self.kind) {
            (Channel::Secure, Kind::Pass) => "HttpOnly; Secure; SameSite=None",
            (Channel::Secure, _) => "HttpOnly; Secure; SameSite=Lax",
            (Channel::Plain, _) => "HttpOnly; SameSite=Lax",
        }
    }
}

fn set_cookie(text: String) -> HeaderValue {
    // Names, tokens and numbers are plain ASCII, so this cannot fail; an empty line would set nothing.
    let mut value = HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

/// The names of a room's cookies, written out once.
#[derive(Clone, Debug)]
pub struct RoomCookies {
    secure: [CookieName; Kind::ALL.len()],
    plain: [CookieName; Kind::ALL.len()],
}

impl RoomCookies {
    /// Writes the names out.
    pub fn new(room: &RoomName) -> RoomCookies {
        let names = |channel| Kind::ALL.map(|kind| CookieName::new(kind, channel, room));
        RoomCookies { secure: names(Channel::Secure), plain: names(Channel::Plain) }
    }

    /// The name of one kind's cookie. On TLS only the prefixed name counts: a browser accepts it from this very host
    /// over TLS alone, while anybody on a neighbouring host or the network in between can plant a plain one.
    pub fn name(&self, kind: Kind, channel: Channel) -> &CookieName {
        let [ticket, turn, pass, receipt] = match channel {
            Channel::Secure => &self.secure,
            Channel::Plain => &self.plain,
        };
        match kind {
            Kind::Ticket => ticket,
            Kind::Turn => turn,
            Kind::Pass => pass,
            Kind::Receipt => receipt,
        }
    }
}

/// What a request carries as tokens of this kind: the cookie's values, then the header's, at most [`MAX_TRIED`] of each.
/// Nothing has been verified.
pub fn presented<'h>(headers: &'h HeaderMap, name: &CookieName) -> impl Iterator<Item = &'h [u8]> {
    name.values(headers).chain(header_values(headers, name.kind))
}

/// The values of the header that carries this kind of token, at most [`MAX_TRIED`].
pub fn header_values(headers: &HeaderMap, kind: Kind) -> impl Iterator<Item = &[u8]> {
    let lines = header_of(kind).map(|name| headers.get_all(name).into_iter());
    lines.into_iter().flatten().map(|value| value.as_bytes().trim_ascii()).take(MAX_TRIED)
}

/// Bytes of all cookies of a request.
pub fn length(headers: &HeaderMap) -> usize {
    headers.get_all(COOKIE).into_iter().map(HeaderValue::len).sum()
}

/// The `Set-Cookie` values that take away every cookie of ours that a request carries, under whatever name of ours.
pub fn deletions(headers: &HeaderMap) -> Vec<HeaderValue> {
    let mut names: Vec<&[u8]> = headers
        .get_all(COOKIE)
        .into_iter()
        .flat_map(|line| pairs(line.as_bytes()))
        .map(|pair| name_and_value(pair).0)
        .filter(|name| is_own_name(name))
        .collect();
    names.sort_unstable();
    names.dedup();
    let deletion = |name: &&[u8]| {
        let secure = if name.starts_with(b"__") { "; Secure" } else { "" };
        let name = std::str::from_utf8(name).ok()?;
        Some(set_cookie(format!("{name}=; Path=/; Max-Age=0; HttpOnly{secure}; SameSite=Lax")))
    };
    names.iter().take(MOST_DELETED).filter_map(deletion).collect()
}

/// Whether a cookie's name is one of ours, of any room, kind and prefix. The portal may not set such a cookie.
pub fn is_own_name(name: &[u8]) -> bool {
    let name = without_prefix(name, b"__host-").or_else(|| without_prefix(name, b"__secure-")).unwrap_or(name);
    let of_kind = |kind: Kind| {
        let rest =
            without_prefix(name, PREFIX.as_bytes()).and_then(|rest| without_prefix(rest, kind.as_str().as_bytes()));
        rest.is_some_and(|rest| rest.starts_with(b"-"))
    };
    let is_staff = without_prefix(name, PREFIX.as_bytes()).and_then(|rest| without_prefix(rest, b"staff"));
    Kind::ALL.into_iter().any(of_kind) || is_staff.is_some_and(|rest| rest.starts_with(b"-"))
}

/// The name of the cookie with a pass of staff.
fn staff_name(room: &RoomName, channel: Channel) -> String {
    let host_prefix = if channel == Channel::Secure { HOST_PREFIX } else { "" };
    format!("{host_prefix}{PREFIX}staff-{room}")
}

/// The secrets of passes of staff that came along, in the header or the room's cookie.
pub fn staff_secrets(headers: &HeaderMap, room: &RoomName, channel: Channel) -> Vec<Vec<u8>> {
    let name = staff_name(room, channel);
    let in_headers = headers.get_all(&STAFF).iter().map(|line| line.as_bytes().to_vec());
    let pairs = headers.get_all(COOKIE).into_iter().flat_map(|line| pairs(line.as_bytes())).map(name_and_value);
    let in_cookies = pairs.filter(|(known, _)| *known == name.as_bytes()).map(|(_, value)| value.to_vec());
    in_headers.chain(in_cookies).take(MAX_TRIED).collect()
}

/// The `Set-Cookie` value that keeps a pass of staff until the browser is closed.
pub fn staff_cookie(room: &RoomName, channel: Channel, secret: &str) -> HeaderValue {
    // Like a pass: the form by which a login provider sends its visitor back comes from another site.
    let bound = match channel {
        Channel::Secure => "HttpOnly; Secure; SameSite=None",
        Channel::Plain => "HttpOnly; SameSite=Lax",
    };
    set_cookie(format!("{}={secret}; Path=/; {bound}", staff_name(room, channel)))
}

/// Takes every cookie of ours out of a request, of any room and kind, before the portal sees it. Other cookies stay byte
/// for byte and in order; a `Cookie` line of which nothing is left goes. The headers that carry tokens for apps are none
/// of its business: `forwarding::strip_request` takes out all that begin like them.
pub fn strip_own(headers: &mut HeaderMap) {
    let Entry::Occupied(mut lines) = headers.entry(COOKIE) else { return };
    let mut has_emptied = false;
    for line in lines.iter_mut() {
        if let Some(rest) = without_own(line.as_bytes()) {
            has_emptied |= rest.is_empty();
            *line = rest;
        }
    }
    if has_emptied {
        let left: Vec<HeaderValue> = lines.remove_entry_mult().1.filter(|line| !line.is_empty()).collect();
        left.into_iter().for_each(|line| {
            headers.append(COOKIE, line);
        });
    }
}

/// What is left of a `Cookie` line, perhaps nothing; `None` when nothing in it is ours.
fn without_own(line: &[u8]) -> Option<HeaderValue> {
    let is_own = |pair: &&[u8]| is_own_name(name_and_value(pair).0);
    if !pairs(line).any(|pair| is_own(&pair)) {
        return None;
    }
    let mut rest = Vec::with_capacity(line.len());
    for pair in pairs(line).filter(|pair| !is_own(pair)) {
        rest.extend_from_slice(pair);
        rest.push(b';');
    }
    rest.pop();
    // What came as a header value is one without some of its pairs, too.
    Some(HeaderValue::from_bytes(rest.trim_ascii()).unwrap_or(HeaderValue::from_static("")))
}

/// The pairs of a `Cookie` line, with the blanks around them. Lines are long, and searched more than once a request.
fn pairs(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        let (pair, after) = line.split_at_checked(memchr(b';', line).unwrap_or(line.len()))?;
        rest = after.strip_prefix(b";");
        Some(pair)
    })
}

/// Takes a pair apart; without a `=`, all of it is the name.
fn name_and_value(pair: &[u8]) -> (&[u8], &[u8]) {
    match pair.iter().position(|byte| *byte == b'=').and_then(|at| pair.split_at_checked(at)) {
        Some((name, value)) => (name.trim_ascii(), value.strip_prefix(b"=").unwrap_or(value).trim_ascii()),
        None => (pair.trim_ascii(), &[]),
    }
}

fn without_prefix<'a>(name: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = name.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::keyring::{KeyId, Keyring, MasterKey, Secret};
    use super::super::names::ClassId;
    use super::super::token::{Claim, LineIdentity, Token, VisitorId};
    use super::*;

    fn room() -> RoomName {
        RoomName::new("bonus-600").unwrap()
    }

    fn cookies() -> RoomCookies {
        RoomCookies::new(&room())
    }

    fn token_text() -> TokenText {
        let key = MasterKey { id: KeyId(0), created: 0, secret: Secret::new([1; 32]) };
        let token = Token {
            room: room().id(),
            claim: Claim::Ticket(LineIdentity(1)),
            class: ClassId(0),
            id: VisitorId([2; 16]),
            number: 1,
            issued: 0,
            expires: 1,
        };
        Keyring::new(vec![key], Duration::ZERO).unwrap().for_room(&room()).sign(&token, 0)
    }

    fn with_cookies(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        headers
    }

    fn cookie_lines(headers: &HeaderMap) -> Vec<String> {
        let lines = headers.get_all(COOKIE).into_iter();
        lines.map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned()).collect()
    }

    fn stripped(lines: &[&str]) -> Vec<String> {
        let mut headers = with_cookies(lines);
        strip_own(&mut headers);
        cookie_lines(&headers)
    }

    fn values(kind: Kind, channel: Channel, lines: &[&str]) -> Vec<String> {
        let headers = with_cookies(lines);
        let cookies = cookies();
        let values = cookies.name(kind, channel).values(&headers);
        values.map(|value| String::from_utf8_lossy(value).into_owned()).collect()
    }

    #[test]
    fn a_pass_of_staff_comes_back_with_the_form_of_a_login_provider() {
        let room = RoomName::new("bonus-600").unwrap();
        let set = |channel| staff_cookie(&room, channel, "SECRET").to_str().unwrap().to_owned();
        assert_eq!(
            set(Channel::Secure),
            "__Host-anticamera-staff-bonus-600=SECRET; Path=/; HttpOnly; Secure; SameSite=None"
        );
        assert_eq!(set(Channel::Plain), "anticamera-staff-bonus-600=SECRET; Path=/; HttpOnly; SameSite=Lax");
    }

    #[test]
    fn names_and_attributes_are_the_documented_ones() {
        let cookies = cookies();
        let token = token_text();
        let set = |kind, channel| {
            let value = cookies.name(kind, channel).set(&token, Duration::from_millis(1999));
            value.to_str().unwrap().replace(token.as_str(), "TOKEN")
        };
        assert_eq!(
            set(Kind::Ticket, Channel::Secure),
            "__Host-anticamera-ticket-bonus-600=TOKEN; Path=/; Max-Age=1; HttpOnly; Secure; SameSite=Lax"
        );
        assert_eq!(
            set(Kind::Turn, Channel::Secure),
            "__Host-anticamera-turn-bonus-600=TOKEN; Path=/; Max-Age=1; HttpOnly; Secure; SameSite=Lax"
        );
        assert_eq!(
            set(Kind::Pass, Channel::Secure),
            "__Host-anticamera-pass-bonus-600=TOKEN; Path=/; Max-Age=1; HttpOnly; Secure; SameSite=None"
        );
        assert_eq!(
            set(Kind::Pass, Channel::Plain),
            "anticamera-pass-bonus-600=TOKEN; Path=/; Max-Age=1; HttpOnly; SameSite=Lax"
        );
        assert_eq!(
            cookies.name(Kind::Turn, Channel::Plain).delete(),
            "anticamera-turn-bonus-600=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"
        );
        assert!(cookies.name(Kind::Pass, Channel::Secure).delete().is_sensitive());
    }

    #[test]
    fn all_values_of_a_name_are_found() {
        let lines = [
            "a=1; anticamera-ticket-bonus-600=one; b=2",
            "anticamera-ticket-bonus-600=two;anticamera-ticket-bonus-600 = three ; anticamera-ticket-bonus-6000=x",
            "anticamera-ticket-bonus-600; anticamera-ticket-bonus-600=a=b",
            "__Host-anticamera-ticket-bonus-600=secure; anticamera-pass-bonus-600=pass",
        ];
        assert_eq!(values(Kind::Ticket, Channel::Plain, &lines), ["one", "two", "three", "", "a=b"]);
        assert_eq!(values(Kind::Ticket, Channel::Secure, &lines), ["secure"]);
        assert_eq!(values(Kind::Pass, Channel::Plain, &lines), ["pass"]);
        assert_eq!(values(Kind::Turn, Channel::Plain, &lines), [""; 0]);
    }

    #[test]
    fn all_cookies_of_ours_can_be_taken_away() {
        let headers = with_cookies(&["a=1; anticamera-pass-r=x; __Host-anticamera-pass-r=y", "anticamera-pass-r=z"]);
        let deletions: Vec<_> = deletions(&headers).iter().map(|line| line.to_str().unwrap().to_owned()).collect();
        assert_eq!(
            deletions,
            [
                "__Host-anticamera-pass-r=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Lax",
                "anticamera-pass-r=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"
            ]
        );
        assert_eq!(length(&headers), 52 + 19);
    }

    #[test]
    fn no_more_than_eight_are_tried() {
        let line = "anticamera-ticket-bonus-600=x; ".repeat(20);
        assert_eq!(values(Kind::Ticket, Channel::Plain, &[&line, &line]).len(), MAX_TRIED);
    }

    #[test]
    fn apps_carry_tokens_in_headers() {
        let mut headers = with_cookies(&["anticamera-ticket-bonus-600=cookie"]);
        headers.append("Waiting-Room-Ticket", HeaderValue::from_static("header"));
        headers.append("waiting-room-pass", HeaderValue::from_static("pass"));
        let cookies = cookies();
        let name = cookies.name(Kind::Ticket, Channel::Plain);
        assert_eq!(presented(&headers, name).collect::<Vec<_>>(), [b"cookie".as_slice(), b"header"]);
        assert_eq!(
            presented(&headers, cookies.name(Kind::Pass, Channel::Plain)).collect::<Vec<_>>(),
            [b"pass".as_slice()]
        );
    }

    #[test]
    fn the_portal_sees_no_cookie_of_ours_and_all_others_unchanged() {
        assert_eq!(stripped(&["a=1;  b = 2 ;c", "d=\"x;y\""]), ["a=1;  b = 2 ;c", "d=\"x;y\""]);
        assert_eq!(stripped(&["a=1; anticamera-ticket-bonus-600=x; b=2"]), ["a=1; b=2"]);
        assert_eq!(stripped(&["anticamera-ticket-bonus-600=x; b=2;c=3"]), ["b=2;c=3"]);
        assert_eq!(stripped(&["a=1; __Host-anticamera-pass-other=x"]), ["a=1"]);
        assert_eq!(stripped(&["__secure-Anticamera-Turn-x=1", "a=1"]), ["a=1"]);
        assert_eq!(stripped(&["anticamera-pass-a=1; anticamera-receipt-b=2; anticamera-turn-c"]), [""; 0]);
        assert_eq!(
            stripped(&["a=anticamera-pass-b; anticamera-theme=dark"]),
            ["a=anticamera-pass-b; anticamera-theme=dark"]
        );
        assert_eq!(stripped(&["JSESSIONID=\u{e8}1; anticamera-pass-b=1"]), ["JSESSIONID=\u{e8}1"]);
    }

    proptest! {
        #[test]
        fn nothing_of_ours_is_left_and_nothing_else_is_lost(
            lines in proptest::collection::vec(
                proptest::collection::vec(
                    prop_oneof![
                        "[a-z _=\"-]{0,12}",
                        "(__Host-|__Secure-)?anticamera-(ticket|turn|pass|receipt)-[a-z]{0,3}( ?=[a-z;]{0,5})?",
                    ],
                    0..6,
                ),
                0..4,
            ),
        ) {
            let lines: Vec<String> = lines.iter().map(|pairs| pairs.join("; ")).collect();
            let mut headers = with_cookies(&lines.iter().map(String::as_str).collect::<Vec<_>>());
            strip_own(&mut headers);
            let left = cookie_lines(&headers);
            prop_assert!(left.iter().all(|line| without_own(line.as_bytes()).is_none()));
            let others = |lines: &[String]| -> Vec<String> {
                let pairs = lines.iter().flat_map(|line| line.split(';')).map(|pair| pair.trim().to_owned());
                pairs.filter(|pair| !pair.is_empty() && !is_own_name(name_and_value(pair.as_bytes()).0)).collect()
            };
            prop_assert_eq!(others(&lines), others(&left));
        }

        #[test]
        fn garbage_does_no_harm(bytes in proptest::collection::vec(prop_oneof![Just(b';'), Just(b'='), 32..127_u8, 128..=255_u8], 0..200)) {
            let mut headers = HeaderMap::new();
            headers.append(COOKIE, HeaderValue::from_bytes(&bytes).unwrap());
            let cookies = cookies();
            prop_assert!(presented(&headers, cookies.name(Kind::Pass, Channel::Secure)).count() <= MAX_TRIED);
            let before = headers.clone();
            strip_own(&mut headers);
            prop_assert_eq!(before, headers);
        }
    }
}
