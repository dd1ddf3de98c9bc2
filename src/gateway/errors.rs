//! Failures become answers in one place: what the visitor reads differs from what the log says.

use std::sync::Arc;

use http::header::{ALLOW, CONNECTION, HeaderMap, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};

use super::answers::{add_cookies, personal, personal_json, plain_page};
use super::call::Call;
use super::snapshot::RoomInForce;
use crate::body::Body;
use crate::domain::cookie;
use crate::domain::negotiation::Audience;
use crate::domain::paths::{NormalPath, WantedPath, same_origin_path};
use crate::proxy::{Fault, ProxyError};
use crate::waiting_room::assets::BrokenAssets;
use crate::waiting_room::catalogue::Notice;
use crate::waiting_room::page::{NoticePage, WayOn, Whereabouts};
use crate::waiting_room::queue::{PROBLEM_TYPE, problem};

/// Why a request gets no answer of its own.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The request makes no sense; the word says which part.
    #[error("malformed {0}")]
    BadRequest(&'static str),
    /// Another site's page made it.
    #[error("the request was made by another site's page")]
    Forbidden,
    /// There is no such thing.
    #[error("no such resource")]
    NotFound,
    /// The method does not fit; these do.
    #[error("the method does not fit: use {0}")]
    Method(&'static str),
    /// It came over a connection that was opened for another host.
    #[error("this connection was opened for another host")]
    Misdirected,
    /// More or longer header lines than may be.
    #[error("the request's head is too large")]
    HeadTooLarge,
    /// More cookies than may be: ours are taken away, so that the visitor gets further.
    #[error("the request's cookies are too large: delete the cookies of this site")]
    CookiesTooLarge,
    /// A body longer than it may be.
    #[error("the request is too large")]
    TooLarge,
    /// More requests than one person makes.
    #[error("more requests came than one person makes: wait a moment")]
    TooMany,
    /// The portal did not answer.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// A template is at fault.
    #[error(transparent)]
    Assets(#[from] BrokenAssets),
}

impl Refusal {
    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Refusal::BadRequest(_) => StatusCode::BAD_REQUEST,
            Refusal::Forbidden => StatusCode::FORBIDDEN,
            Refusal::NotFound => StatusCode::NOT_FOUND,
            Refusal::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Refusal::HeadTooLarge | Refusal::CookiesTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Refusal::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Refusal::Proxy(error) => error.status(),
            Refusal::Assets(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn notice(&self) -> Notice {
        match self {
            Refusal::BadRequest(_) | Refusal::Misdirected => Notice::BadRequest,
            Refusal::Forbidden => Notice::Forbidden,
            Refusal::NotFound => Notice::NotFound,
            Refusal::Method(_) => Notice::WrongMethod,
            Refusal::TooLarge | Refusal::HeadTooLarge | Refusal::CookiesTooLarge => Notice::TooLarge,
            Refusal::TooMany => Notice::TooMany,
            Refusal::Proxy(error) => match error.fault() {
                Fault::Portal | Fault::Us => Notice::Unreachable,
                Fault::Visitor => Notice::BadRequest,
            },
            Refusal::Assets(_) => Notice::OurFault,
        }
    }

    fn log(&self, call: &Call) {
        let id = call.request_id.to_str().unwrap_or_default();
        match self {
            Refusal::Proxy(error) if error.fault() != Fault::Visitor => {
                tracing::warn!(request_id = id, %error, "no answer of the portal");
            }
            Refusal::Assets(error) => tracing::error!(request_id = id, %error, "a page could not be rendered"),
            _ => {}
        }
    }

    /// The answer to somebody of whom nothing is known.
    pub fn answer(&self, call: &Call, headers: &HeaderMap) -> Response<Body> {
        self.answer_to(call, headers, Whereabouts::Unknown)
    }

    /// The answer: a page for browsers, a problem document for scripts and apps, nothing for parts of pages.
    pub fn answer_to(&self, call: &Call, headers: &HeaderMap, whereabouts: Whereabouts) -> Response<Body> {
        self.log(call);
        let mut response = match call.audience(headers) {
            Audience::Page => self.page(call, headers, whereabouts),
            Audience::Script => {
                let status = self.status();
                personal_json(status, problem(status, &self.to_string()), PROBLEM_TYPE)
            }
            Audience::SubResource => personal(self.status(), Body::Empty),
        };
        *response.status_mut() = self.status();
        match self {
            Refusal::Method(allowed) => {
                response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            }
            // Where one head is odd, the next may begin elsewhere than it seems. Over HTTP/2 hyper leaves the field out.
            Refusal::BadRequest(_) => {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            _ if self.status() == StatusCode::SERVICE_UNAVAILABLE => {
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("10"));
            }
            _ => {}
        }
        if matches!(self, Refusal::CookiesTooLarge) {
            add_cookies(&mut response, cookie::deletions(headers));
        }
        response
    }

    fn page(&self, call: &Call, headers: &HeaderMap, whereabouts: Whereabouts) -> Response<Body> {
        let address = Address::of(call);
        let to = address.wanted(call);
        let page = NoticePage {
            notice: self.notice(),
            request_id: call.request_id.to_str().ok(),
            way_on: self.way_on(call, &address),
            to: to.as_ref().map(WantedPath::as_str),
            whereabouts,
            host: Some(&call.host_name),
        };
        let frame = address.room().map(|room| &room.frame);
        match page.render(&call.snapshot.assets, frame, call.language(headers)) {
            Ok(page) => plain_page(page),
            Err(_) => personal(self.status(), Body::from("Please try again in a moment.\n")),
        }
    }

    /// A link asks with GET. It throws away what was sent with another method, which only a reload sends again; from our
    /// own paths it leads to the page that the visitor came for.
    fn way_on(&self, call: &Call, address: &Address<'_>) -> WayOn {
        let may_pass = matches!(self.notice(), Notice::Unreachable | Notice::OurFault | Notice::TooMany);
        match address {
            Address::Own(Some(_)) => WayOn::TryAgain,
            _ if may_pass && call.method.is_safe() => WayOn::TryAgain,
            _ if may_pass => WayOn::SendAgain,
            _ => WayOn::Nothing,
        }
    }
}

/// Whose the address is that somebody asked for: an error bears the name and the colours of the service it concerns.
enum Address<'a> {
    /// One of our own, about this room.
    Own(Option<&'a Arc<RoomInForce>>),
    /// A room protects it.
    Protected(&'a Arc<RoomInForce>),
    /// No room does; there is at most one on this host.
    Open(Option<&'a Arc<RoomInForce>>),
}

impl<'a> Address<'a> {
    fn of(call: &'a Call) -> Address<'a> {
        let rooms = &call.snapshot.rooms;
        if call.path().starts_with(&call.snapshot.config.server.own_path) {
            let name = call.query("room").unwrap_or_default();
            return Address::Own(rooms.iter().find(|room| room.settings.name.as_str() == name));
        }
        let mut here = rooms.iter().filter(|room| room.settings.hosts.iter().any(|host| host.matches(&call.host_name)));
        let path = NormalPath::of(call.path());
        let protects = |room: &&Arc<RoomInForce>| room.settings.paths.iter().any(|pattern| pattern.matches(&path));
        match (here.clone().find(protects), here.next(), here.next()) {
            (Some(room), ..) => Address::Protected(room),
            (None, Some(only), None) => Address::Open(Some(only)),
            _ => Address::Open(None),
        }
    }

    fn room(&self) -> Option<&'a Arc<RoomInForce>> {
        match self {
            Address::Own(room) | Address::Open(room) => *room,
            Address::Protected(room) => Some(room),
        }
    }

    /// Where the visitor wants to go, if going there with GET does no harm and a room's pages can lead there.
    fn wanted(&self, call: &Call) -> Option<WantedPath> {
        let own = &call.snapshot.config.server.own_path;
        match self {
            Address::Own(room) => {
                let said = call.query("to").and_then(|to| same_origin_path(&to));
                let said = said.filter(|to| !to.path().starts_with(own.as_str()));
                said.or_else(|| same_origin_path(&(*room)?.settings.start))
            }
            Address::Protected(_) if call.method.is_safe() => same_origin_path(call.uri.path_and_query()?.as_str()),
            Address::Protected(_) | Address::Open(_) => None,
        }
    }
}
