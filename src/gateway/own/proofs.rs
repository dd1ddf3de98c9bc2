//! What anybody may check: the facts of an opening, and the receipt of a place.

use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, HeaderMap, HeaderValue};
use http::{Response, StatusCode};

use super::Visit;
use crate::body::Body;
use crate::domain::negotiation::Audience;
use crate::domain::time::Unix;
use crate::domain::token::{Claim, Token, TokenText, VisitorId};
use crate::gateway::answers::{allow_origin, personal_json, plain_page};
use crate::gateway::call::Call;
use crate::gateway::errors::Refusal;
use crate::gateway::snapshot::RoomInForce;
use crate::gateway::visitor::Held;
use crate::waiting_room::proof_pages::{DrawPage, Receipt, draw_document, draw_json};

/// Seconds for which a receipt is good: a year, if the key that signed it is kept.
const RECEIPT_LIFE: u32 = 366 * 24 * 3600;

/// What anybody may know of the room's opening.
pub(super) fn draw_facts(call: &Call, headers: &HeaderMap, room: &RoomInForce) -> Result<Response<Body>, Refusal> {
    let opening = room.live.last_opening().filter(|opening| !opening.is_withdrawn()).ok_or(Refusal::NotFound)?;
    let words = room.words(call.language(headers));
    let name = |class| room.live.class_name(class).as_str().to_owned();
    let document = draw_document(&room.settings.name, room.live.identity(), &opening, &words, name);
    if call.audience(headers) == Audience::Page && call.query("as").as_deref() != Some("json") {
        let page = DrawPage { document: &document, opening: &opening, now: call.now.wall, host: Some(&call.host_name) };
        return Ok(plain_page(page.render(&call.snapshot.assets, &room.frame, &words)?));
    }
    let mut response = personal_json(StatusCode::OK, draw_json(&document), "application/json");
    response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    Ok(response)
}

impl Visit<'_> {
    /// Proof of the visitor's place, to be kept.
    pub(super) async fn receipt(self) -> Result<Response<Body>, Refusal> {
        let credentials = self.credentials().await;
        let held =
            credentials.ticket.filter(|_| self.look(&credentials).is_some_and(|view| view.standing.is_a_place()));
        let held = held.ok_or(Refusal::NotFound)?;
        let (room, now) = (&self.room, self.call.now);
        let number = room.live.number_to_tell(&held.ticket);
        let token = receipt_token(room, &held, number, now.unix.seconds());
        let class = room.live.class_name(held.ticket.class);
        let receipt = Receipt {
            room: &room.settings.name,
            class: class.as_str(),
            since: Unix::from_seconds(held.issued),
            number,
            made: now.wall,
            token: token.as_str(),
        };
        let words = room.words(self.call.language(&self.message.headers));
        if self.by_hand() {
            let page = receipt.render(&self.call.snapshot.assets, &room.frame, &words, Some(&self.call.host_name))?;
            return Ok(plain_page(page));
        }
        let mut response = personal_json(StatusCode::OK, receipt.to_json(&words), "application/json");
        allow_origin(&mut response, self.call, &self.message.headers);
        Ok(response)
    }
}

/// A receipt says what the line says, and nothing of who the visitor is.
fn receipt_token(room: &RoomInForce, held: &Held, number: Option<u64>, now: u32) -> TokenText {
    let token = Token {
        room: room.settings.id,
        claim: Claim::Receipt(room.live.identity()),
        class: held.ticket.class,
        id: VisitorId([0; 16]),
        number: number.unwrap_or(0),
        issued: held.issued,
        expires: now.saturating_add(RECEIPT_LIFE),
    };
    room.keys.sign(&token, now)
}
