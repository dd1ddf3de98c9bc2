//! What the portal says to us alone, in headers that never leave us.

use http::{HeaderMap, HeaderName, HeaderValue};

static COMMAND: HeaderName = HeaderName::from_static("waiting-room-command");
static IDENTITY: HeaderName = HeaderName::from_static("waiting-room-identity");

/// What the portal says to us alone, taken out of every answer. To be obeyed on room routes only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortalSays {
    /// `Waiting-Room-Command`, when it is one we know.
    pub command: Option<Command>,
    /// `Waiting-Room-Identity`: the signed-in person. Never logged.
    pub identity: Option<HeaderValue>,
}

/// A command of the portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// `end-session`: the visitor is done, the seat is free.
    EndSession,
}

/// Takes out of an answer what the portal says to us alone, and everything else of ours that it has no business to say.
pub fn take_orders(headers: &mut HeaderMap) -> PortalSays {
    let doomed: Vec<HeaderName> = headers.keys().filter(|name| is_for_us(name.as_str())).cloned().collect();
    if doomed.is_empty() {
        return PortalSays::default();
    }
    let says = PortalSays {
        command: headers.get(&COMMAND).and_then(|value| match value.as_bytes() {
            b"end-session" => Some(Command::EndSession),
            _ => None,
        }),
        identity: headers.get(&IDENTITY).cloned(),
    };
    for name in doomed {
        headers.remove(name);
    }
    says
}

/// Whether a header is between the portal and us.
pub(super) fn is_for_us(name: &str) -> bool {
    name.starts_with("waiting-room-")
}

#[cfg(test)]
mod tests {
    use super::super::tests::map;
    use super::*;

    #[test]
    fn orders_are_taken_out_of_every_answer() {
        let mut headers = map(&[
            ("waiting-room-command", "end-session"),
            ("waiting-room-identity", "RSSMRA"),
            ("waiting-room-pass", "forged"),
            ("server", "x"),
        ]);
        let says = take_orders(&mut headers);
        assert_eq!(says.command, Some(Command::EndSession));
        assert_eq!(says.identity, Some(HeaderValue::from_static("RSSMRA")));
        assert_eq!(headers, map(&[("server", "x")]));
        assert_eq!(take_orders(&mut map(&[("waiting-room-command", "dance")])).command, None);
    }
}
