//! What visitors can keep as proof: the facts of a draw, and the receipt of a place in the line. As pages and as JSON.

use bytes::Bytes;
use serde::Serialize;

use super::assets::{Assets, BrokenAssets};
use super::page::{FrameContext, Links, PlainPage, RoomFrame, plain};
use super::queue::json;
use super::words::{Words, fill};
use crate::domain::draw_proof::{DrawDocument, DrawnLane, to_hex};
use crate::domain::lottery::{ALGORITHM, commitment};
use crate::domain::names::{ClassId, RoomName};
use crate::domain::opening::{Gathered, Opening, Order};
use crate::domain::tickets::Number;
use crate::domain::time::Unix;
use crate::domain::token::LineIdentity;

/// An opening as anybody may see it: the seed only once it is held.
pub fn draw_document(
    room: &RoomName,
    line: LineIdentity,
    opening: &Opening,
    words: &Words<'_>,
    class_name: impl Fn(ClassId) -> String,
) -> DrawDocument {
    let lane = |gathered: &Gathered| DrawnLane {
        class: class_name(gathered.class),
        class_number: gathered.class.0,
        first: gathered.after + 1,
        count: gathered.count,
    };
    DrawDocument {
        room: room.as_str().to_owned(),
        line: format!("{:016x}", line.0),
        opening: opening.number,
        order: opening.order,
        algorithm: opening.seed.is_some().then(|| ALGORITHM.to_owned()),
        at: words.rfc_3339(opening.at),
        announced_at: words.rfc_3339(opening.announced),
        commitment: opening.seed.as_ref().map(|seed| to_hex(&commitment(seed))),
        held_at: opening.held.as_ref().map(|held| words.rfc_3339(held.at)),
        seed: opening.seed.as_ref().filter(|_| opening.held.is_some()).map(|seed| to_hex(seed)),
        lanes: opening.held.as_ref().map(|held| held.lanes.iter().map(lane).collect()),
    }
}

/// The document as it is sent.
pub fn draw_json(document: &DrawDocument) -> Bytes {
    json(document)
}

/// The draw as a page.
#[derive(Debug)]
pub struct DrawPage<'a> {
    /// The facts.
    pub document: &'a DrawDocument,
    /// The opening that they are about.
    pub opening: &'a Opening,
    /// When the page is true.
    pub now: Unix,
    /// Names a service that has no name of its own.
    pub host: Option<&'a str>,
}

impl DrawPage<'_> {
    /// Renders the page.
    ///
    /// # Errors
    /// [`BrokenAssets`] when a template wants what it is not given.
    pub fn render(self, assets: &Assets, frame: &RoomFrame, words: &Words<'_>) -> Result<PlainPage, BrokenAssets> {
        let (text, draw) = (words.catalogue, &words.catalogue.draw);
        let links = Links::around(format!("{}/draw/{}?lang=", frame.own_path, frame.room), String::new());
        let (lead, at) = match (&self.opening.held, self.opening.order) {
            (None, Order::Lottery) => (&draw.before, self.opening.at),
            (Some(held), Order::Lottery) => (&draw.after, held.at),
            (_, Order::Arrival) => (&draw.arrival, self.opening.at),
        };
        let context = DrawContext {
            frame: FrameContext::of(assets, Some(frame), self.host, text, &links),
            lead: fill(lead, &[("at", &words.at(at, self.now))]),
            document: self.document,
        };
        plain(frame.look(assets), text, assets.render("draw.html", &context)?)
    }
}

#[derive(Serialize)]
struct DrawContext<'a> {
    #[serde(flatten)]
    frame: FrameContext<'a>,
    lead: String,
    document: &'a DrawDocument,
}

/// What a receipt confirms.
#[derive(Clone, Debug)]
pub struct Receipt<'a> {
    /// The room.
    pub room: &'a RoomName,
    /// The class's name.
    pub class: &'a str,
    /// Since when the visitor has had the place, at least.
    pub since: Unix,
    /// The number in the line; `None` before the opening.
    pub number: Option<Number>,
    /// When the receipt was made.
    pub made: Unix,
    /// What proves it.
    pub token: &'a str,
}

impl Receipt<'_> {
    /// `{"receipt": {...}}`
    pub fn to_json(&self, words: &Words<'_>) -> Bytes {
        json(&ReceiptDocument {
            receipt: ReceiptInWords {
                room: self.room.as_str(),
                class: self.class,
                since: words.rfc_3339(self.since),
                number: self.number,
                made_at: words.rfc_3339(self.made),
                token: self.token,
                text: self.sentence(words),
            },
        })
    }

    fn sentence(&self, words: &Words<'_>) -> String {
        let since = words.dated_clock(self.since);
        let texts = &words.catalogue.receipt;
        let number = self.number.map(|number| words.number(number));
        let sentence = if number.is_some() { &texts.numbered } else { &texts.unnumbered };
        let n = number.unwrap_or_default();
        fill(sentence, &[("room", self.room.as_str()), ("since", &since), ("n", &n)])
    }

    /// Renders the page.
    ///
    /// # Errors
    /// [`BrokenAssets`] when a template wants what it is not given.
    pub fn render(
        &self,
        assets: &Assets,
        frame: &RoomFrame,
        words: &Words<'_>,
        host: Option<&str>,
    ) -> Result<PlainPage, BrokenAssets> {
        let text = words.catalogue;
        let links = Links::around(format!("{}/receipt?room={}&lang=", frame.own_path, frame.room), String::new());
        let context = ReceiptContext {
            frame: FrameContext::of(assets, Some(frame), host, text, &links),
            sentence: self.sentence(words),
            made: words.dated_clock(self.made),
            token: self.token,
        };
        plain(frame.look(assets), text, assets.render("receipt.html", &context)?)
    }
}

#[derive(Serialize)]
struct ReceiptDocument<'a> {
    receipt: ReceiptInWords<'a>,
}

#[derive(Serialize)]
struct ReceiptInWords<'a> {
    room: &'a str,
    class: &'a str,
    since: String,
    number: Option<Number>,
    made_at: String,
    token: &'a str,
    text: String,
}

#[derive(Serialize)]
struct ReceiptContext<'a> {
    #[serde(flatten)]
    frame: FrameContext<'a>,
    sentence: String,
    made: String,
    token: &'a str,
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::domain::lottery::SEED_LEN;
    use crate::domain::opening::Held;

    fn opening(held: Option<Held>, order: Order) -> Opening {
        let seed = (order == Order::Lottery).then_some([7; SEED_LEN]);
        Opening { number: 1, order, at: Unix(1_793_701_200_000), announced: Unix(1), seed, after: Vec::new(), held }
    }

    fn held() -> Option<Held> {
        let citizens = Gathered { class: ClassId::CITIZEN, after: 0, count: 1234 };
        Some(Held { at: Unix(1_793_701_200_100), lanes: vec![citizens] })
    }

    fn frame() -> RoomFrame {
        RoomFrame {
            room: RoomName::new("fair").unwrap(),
            own_path: "/.waiting-room".to_owned(),
            start: "/".to_owned(),
            page: crate::config::RoomPage::default(),
            look: None,
            codes: std::collections::BTreeSet::new(),
        }
    }

    fn document(opening: &Opening, words: &Words<'_>) -> DrawDocument {
        draw_document(&frame().room, LineIdentity(7), opening, words, |_| "citizen".to_owned())
    }

    #[test]
    fn the_seed_is_a_secret_until_the_opening_is_held() {
        let assets = Assets::built_in().unwrap();
        let words = Words { catalogue: assets.languages().default_language(), time_zone: &TimeZone::UTC };
        let seed = to_hex(&[7; SEED_LEN]);
        let told = |opening: &Opening| String::from_utf8(draw_json(&document(opening, &words)).to_vec()).unwrap();
        let before = told(&opening(None, Order::Lottery));
        assert!(!before.contains(&seed) && before.contains("\"commitment\":\""), "{before}");
        let after = told(&opening(held(), Order::Lottery));
        assert!(after.contains(&seed) && after.contains("\"first\":1,\"count\":1234"), "{after}");
        assert!(told(&opening(held(), Order::Arrival)).contains("\"commitment\":null"));
    }

    #[test]
    fn proofs_can_be_read_in_every_language() {
        let assets = Assets::built_in().unwrap();
        for catalogue in assets.languages().iter() {
            let words = Words { catalogue, time_zone: &TimeZone::UTC };
            let mut pages = Vec::new();
            for opening in
                [opening(None, Order::Lottery), opening(held(), Order::Lottery), opening(held(), Order::Arrival)]
            {
                let document = document(&opening, &words);
                let page = DrawPage { document: &document, opening: &opening, now: Unix(0), host: None };
                pages.push(page.render(&assets, &frame(), &words).unwrap());
            }
            for number in [None, Some(1234)] {
                let receipt = Receipt {
                    room: &frame().room,
                    class: "citizen",
                    since: Unix(0),
                    number,
                    made: Unix(0),
                    token: "abc",
                };
                pages.push(receipt.render(&assets, &frame(), &words, None).unwrap());
            }
            for page in pages {
                let html = String::from_utf8_lossy(&page.body).into_owned();
                let body = html.split("<body>").nth(1).unwrap_or_default();
                assert!(!body.contains(['{', '}']), "{}: {body}", catalogue.code);
            }
        }
    }
}
