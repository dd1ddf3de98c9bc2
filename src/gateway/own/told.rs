//! What a visitor is told who asked for something of ours: pages, and refusals that tell the standing all the same.

use std::time::Duration;

use http::{Response, StatusCode};

use super::Visit;
use crate::body::Body;
use crate::domain::challenge::Challenge;
use crate::domain::proof::Failure;
use crate::gateway::answers::{plain_page, queue_problem, queue_problem_asking, retry_after};
use crate::gateway::errors::Refusal;
use crate::gateway::view::{self, standing_of};
use crate::gateway::visitor::Credentials;
use crate::room::NoTicket;
use crate::waiting_room::page::{CodePage, LinePage, Remark};
use crate::waiting_room::queue::{Asked, Standing};

/// Characters of a code that are shown again at most.
const LONGEST_CODE: usize = 64;
/// When to type in a code again after too many wrong ones.
const CODES_AGAIN: Duration = Duration::from_secs(60);

impl Visit<'_> {
    pub(super) fn line_page(&self, standing: &Standing, remark: Option<Remark>) -> Result<Response<Body>, Refusal> {
        self.line_page_asking(standing, remark, None)
    }

    /// The same with a form that brings the challenge along.
    fn line_page_asking(
        &self,
        standing: &Standing,
        remark: Option<Remark>,
        challenge: Option<&str>,
    ) -> Result<Response<Body>, Refusal> {
        let to = self.wanted();
        let n = self.gateway.shared.ids.fresh();
        let host = Some(self.call.host_name.as_str());
        let page = LinePage { standing, to: to.as_str(), n: &n, remark, challenge, host };
        let catalogue = self.call.language(&self.message.headers);
        let words = self.room.words(catalogue);
        Ok(plain_page(page.render(&self.call.snapshot.assets, &self.room.frame, &words)?))
    }

    /// The page for a code: the typed one, or that of the link.
    pub(super) fn code_page(&self, typed: &str, accepted: Accepted) -> Result<Response<Body>, Refusal> {
        let of_link = self.call.query("code").filter(|_| accepted == Accepted::NotYet).unwrap_or_default();
        let code: String = if typed.is_empty() { &of_link } else { typed }.chars().take(LONGEST_CODE).collect();
        let to = self.wanted();
        let host = Some(self.call.host_name.as_str());
        let page = CodePage { code: &code, refused: accepted == Accepted::No, to: to.as_str(), host };
        let catalogue = self.call.language(&self.message.headers);
        Ok(plain_page(page.render(&self.call.snapshot.assets, &self.room.frame, catalogue)?))
    }

    /// The visitor's place as it was: 422, or 429 after too many attempts.
    pub(super) fn code_refused(&self, credentials: &Credentials, failure: Failure) -> Result<Response<Body>, Refusal> {
        let standing = view::standing(&self.room, self.call, credentials);
        let page = || self.code_page(&self.field("code").unwrap_or_default(), Accepted::No);
        if failure != Failure::Throttled {
            return self.told(StatusCode::UNPROCESSABLE_ENTITY, &standing, page);
        }
        let mut response = self.told(StatusCode::TOO_MANY_REQUESTS, &standing, page)?;
        retry_after(response.headers_mut(), CODES_AGAIN);
        Ok(response)
    }

    /// No ticket could be drawn: a page from which one can try again.
    pub(super) fn without_ticket(&self, error: &NoTicket) -> Result<Response<Body>, Refusal> {
        let standing = view::without_ticket(&self.room, self.call, error);
        let page = || self.line_page(&standing, None);
        let mut response = self.told(StatusCode::SERVICE_UNAVAILABLE, &standing, page)?;
        retry_after(response.headers_mut(), standing.refresh);
        Ok(response)
    }

    /// The page from which one goes on, and when to ask again.
    pub(super) fn too_many(
        &self,
        credentials: &Credentials,
        wait: Duration,
        remark: Remark,
    ) -> Result<Response<Body>, Refusal> {
        let mut response = self.refused_as(StatusCode::TOO_MANY_REQUESTS, credentials, wait, remark)?;
        retry_after(response.headers_mut(), wait);
        Ok(response)
    }

    /// Too many joins from the visitor's network: what is asked for now, and from when on nothing is.
    pub(super) fn challenged(&self, credentials: &Credentials, due: &Due) -> Result<Response<Body>, Refusal> {
        let looked = standing_of(&self.room, self.call, credentials, self.look(credentials), self.shown_ahead());
        let standing = Standing { refresh: due.wait, ..looked };
        let (headers, status) = (&self.message.headers, StatusCode::TOO_MANY_REQUESTS);
        let mut response = if self.by_hand() {
            let remark = Remark::JoinFrom(standing.updated_at + due.wait);
            self.line_page_asking(&standing, Some(remark), Some(&due.text))?
        } else {
            let asked = Asked { text: &due.text, bits: due.challenge.bits };
            queue_problem_asking(&self.room, self.call, headers, &standing, status, Some(asked))
        };
        *response.status_mut() = status;
        retry_after(response.headers_mut(), due.wait);
        Ok(response)
    }

    /// The page from which one goes on, with a remark.
    pub(super) fn refused_as(
        &self,
        status: StatusCode,
        credentials: &Credentials,
        wait: Duration,
        remark: Remark,
    ) -> Result<Response<Body>, Refusal> {
        let looked = standing_of(&self.room, self.call, credentials, self.look(credentials), self.shown_ahead());
        let standing = Standing { refresh: wait, ..looked };
        self.told(status, &standing, || self.line_page(&standing, Some(remark)))
    }

    /// The same facts all the same, with the status of what went wrong: as JSON, or on a page.
    fn told(
        &self,
        status: StatusCode,
        standing: &Standing,
        page: impl FnOnce() -> Result<Response<Body>, Refusal>,
    ) -> Result<Response<Body>, Refusal> {
        let headers = &self.message.headers;
        let mut response =
            if self.by_hand() { page()? } else { queue_problem(&self.room, self.call, headers, standing, status) };
        *response.status_mut() = status;
        Ok(response)
    }
}

/// What is due for a join over the limit.
pub(super) struct Due {
    pub(super) challenge: Challenge,
    /// The challenge as it is handed out.
    pub(super) text: String,
    /// When it is enough to come again with the text.
    pub(super) wait: Duration,
}

/// What became of a code.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Accepted {
    NotYet,
    No,
}
