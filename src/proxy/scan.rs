//! Looks for people in public text: a file that is the same for everybody names nobody. Bounded before and after
//! inflating, and in how many are searched at a time; what cannot be read whole is not shared.

use std::borrow::Cow;
use std::io::Read;

use bytes::{Bytes, BytesMut};
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http_body_util::BodyExt;
use tokio::sync::Semaphore;

use crate::body::{Body, BodyError};
use crate::domain::fiscal_code::has_fiscal_code;

/// Bytes of an answer that are looked at.
const LARGEST: usize = 2 << 20;
/// Bytes that they may inflate to.
const INFLATED: u64 = 8 << 20;
/// Answers that one request thread has in memory to be searched.
const AT_A_TIME: usize = 16;
/// Answers of one request thread that are inflated and searched at the same time, off the thread.
const INFLATING: usize = 1;
/// Bytes of plain text that are searched at once: that takes less time than handing them over.
const SHORT: usize = 16 << 10;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scanned {
    /// Nobody.
    Clean,
    /// A fiscal code.
    NamesAPerson,
    /// Text that could not be read whole.
    Unreadable,
}

/// Where one request thread's answers are searched.
#[derive(Debug)]
pub(super) struct Bench {
    places: Semaphore,
    inflating: Semaphore,
}

impl Default for Bench {
    fn default() -> Bench {
        Bench { places: Semaphore::new(AT_A_TIME), inflating: Semaphore::new(INFLATING) }
    }
}

/// Whether an answer is text, as far as its type says; `None` when it has none.
pub(super) fn is_text(headers: &HeaderMap) -> Option<bool> {
    let media_type = headers.get(CONTENT_TYPE)?.to_str().unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_text = essence.starts_with("text/")
        || ["json", "javascript", "ecmascript", "xml"].iter().any(|kind| essence.ends_with(kind))
        || essence.is_empty();
    Some(is_text)
}

impl Bench {
    /// Reads an answer and looks at it. The body that comes back is the whole answer.
    ///
    /// # Errors
    /// When the portal broke off.
    pub(super) async fn search(&self, headers: &HeaderMap, mut body: Body) -> Result<(Scanned, Body), BodyError> {
        // Nobody ever closes it.
        let _place = self.places.acquire().await;
        let mut read = BytesMut::new();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame?.into_data() {
                read.extend_from_slice(&data);
            }
            if read.len() > LARGEST {
                return Ok((Scanned::Unreadable, Body::Begun(read.freeze(), Box::new(body))));
            }
        }
        let read = read.freeze();
        let scanned = self.judge(codings(headers), read.clone()).await;
        Ok((scanned, Body::from(read)))
    }

    async fn judge(&self, codings: Vec<String>, body: Bytes) -> Scanned {
        if codings.is_empty() && body.len() <= SHORT {
            return judge(&codings, &body);
        }
        let _turn = self.inflating.acquire().await;
        tokio::task::spawn_blocking(move || judge(&codings, &body)).await.unwrap_or(Scanned::Unreadable)
    }
}

fn codings(headers: &HeaderMap) -> Vec<String> {
    let lines = headers.get_all(CONTENT_ENCODING).iter();
    lines
        .flat_map(|line| line.to_str().unwrap_or("?").split(','))
        .map(|coding| coding.trim().to_ascii_lowercase())
        .collect()
}

fn judge(codings: &[String], body: &[u8]) -> Scanned {
    let text = match codings {
        [] => Some(Cow::Borrowed(body)),
        [one] => inflated(one, body).map(Cow::Owned),
        _ => None,
    };
    match text {
        None => Scanned::Unreadable,
        Some(text) if has_fiscal_code(&text) => Scanned::NamesAPerson,
        Some(_) => Scanned::Clean,
    }
}

fn inflated(coding: &str, body: &[u8]) -> Option<Vec<u8>> {
    match coding {
        "identity" => Some(body.to_vec()),
        "gzip" | "x-gzip" => bounded(MultiGzDecoder::new(body)),
        // Some servers send the bare format (RFC 9110 section 8.4.1.2).
        "deflate" => bounded(ZlibDecoder::new(body)).or_else(|| bounded(DeflateDecoder::new(body))),
        "br" => bounded(brotli::Decompressor::new(body, 4096)),
        _ => None,
    }
}

fn bounded(reader: impl Read) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    let read = reader.take(INFLATED + 1).read_to_end(&mut text).ok()?;
    (read as u64 <= INFLATED).then_some(text)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    fn judged(coding: &'static str, body: &[u8]) -> Scanned {
        let mut headers = HeaderMap::new();
        if !coding.is_empty() {
            headers.insert(CONTENT_ENCODING, coding.parse().unwrap());
        }
        judge(&codings(&headers), body)
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn people_are_found_in_every_coding() {
        for (text, expected) in
            [(b"a RSSMRA85T10A562S b".as_slice(), Scanned::NamesAPerson), (b"a { color: red }", Scanned::Clean)]
        {
            let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
            zlib.write_all(text).unwrap();
            let mut raw = DeflateEncoder::new(Vec::new(), Compression::default());
            raw.write_all(text).unwrap();
            let mut br = Vec::new();
            brotli::CompressorWriter::new(&mut br, 4096, 5, 20).write_all(text).unwrap();
            assert_eq!(judged("", text), expected);
            assert_eq!(judged("gzip", &gzip(text)), expected);
            assert_eq!(judged("deflate", &zlib.finish().unwrap()), expected);
            assert_eq!(judged("deflate", &raw.finish().unwrap()), expected);
            assert_eq!(judged("br", &br), expected);
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_shared() {
        assert_eq!(judged("gzip", b"no gzip"), Scanned::Unreadable);
        assert_eq!(judged("zstd", b"a"), Scanned::Unreadable);
        assert_eq!(judged("gzip, br", b"a"), Scanned::Unreadable);
        let bomb = gzip(&vec![b'a'; 50 << 20]);
        assert!(bomb.len() < LARGEST);
        assert_eq!(judged("gzip", &bomb), Scanned::Unreadable);
    }
}
