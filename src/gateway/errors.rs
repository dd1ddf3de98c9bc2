//! Failures become answers in one place: what the visitor reads differs from what the log says.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};

use super::answers::{add_cookies, plain_page, retry_after};
use super::call::Call;
use crate::body::Body;
use crate::domain::cookie;
use crate::domain::leak_guard::personal_headers;
use crate::domain::negotiation::Audience;
use crate::proxy::{Fault, ProxyError};
use crate::waiting_room::assets::BrokenAssets;
use crate::waiting_room::catalogue::Notice;
use crate::waiting_room::page::NoticePage;
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
    /// Too many of them.
    #[error("too many requests: wait {} s", .0.as_secs())]
    TooMany(Duration),
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
            Refusal::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
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
            Refusal::TooMany(_) => Notice::TooMany,
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

    /// The answer: a page for browsers, a problem document for scripts and apps, nothing for parts of pages.
    pub fn answer(&self, call: &Call, headers: &HeaderMap) -> Response<Body> {
        self.log(call);
        let mut response = match call.audience(headers) {
            Audience::Page => self.page(call, headers),
            Audience::Script => {
                let body = problem(self.status(), &self.to_string());
                let mut response = Response::new(Body::from(body));
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_TYPE));
                response
            }
            Audience::SubResource => Response::new(Body::Empty),
        };
        *response.status_mut() = self.status();
        match self {
            Refusal::TooMany(wait) => retry_after(response.headers_mut(), *wait),
            Refusal::Method(allowed) => {
                response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            }
            _ if self.status() == StatusCode::SERVICE_UNAVAILABLE => {
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("10"));
            }
            _ => {}
        }
        personal_headers(response.headers_mut());
        if matches!(self, Refusal::CookiesTooLarge) {
            add_cookies(&mut response, cookie::deletions(headers));
        }
        response
    }

    fn page(&self, call: &Call, headers: &HeaderMap) -> Response<Body> {
        let notice = NoticePage { notice: self.notice(), request_id: call.request_id.to_str().ok() };
        match notice.render(&call.snapshot.assets, None, call.language(headers)) {
            Ok(page) => plain_page(page),
            Err(_) => Response::new(Body::from(Bytes::from_static(b"Please try again in a moment.\n"))),
        }
    }
}
