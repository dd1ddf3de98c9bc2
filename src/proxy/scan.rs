//! Looks for people in public text: a file that is the same for everybody names nobody. Bounded before and after
//! inflating; what cannot be read whole is not shared.

use std::io::Read;

use bytes::{Bytes, BytesMut};
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http_body_util::BodyExt;

use crate::body::{Body, BodyError};
use crate::domain::fiscal_code::has_fiscal_code;

/// Bytes of an answer that are looked at.
const LARGEST: usize = 2 << 20;
/// Bytes that they may inflate to.
const INFLATED: u64 = 8 << 20;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scanned {
    /// Nobody.
    Clean,
    /// A fiscal code, or text that could not be read whole.
    NotToBeShared,
}

/// Whether an answer is text.
pub(super) fn is_text(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.starts_with("text/")
        || ["json", "javascript", "ecmascript", "xml"].iter().any(|kind| essence.ends_with(kind))
        || essence.is_empty()
}

/// Reads an answer and looks at it. The body that comes back is the whole answer.
///
/// # Errors
/// When the portal broke off.
pub(super) async fn scan(headers: &HeaderMap, mut body: Body) -> Result<(Scanned, Body), BodyError> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            read.extend_from_slice(&data);
        }
        if read.len() > LARGEST {
            return Ok((Scanned::NotToBeShared, Body::Begun(read.freeze(), Box::new(body))));
        }
    }
    let read = read.freeze();
    Ok((judge(headers, &read), Body::from(read)))
}

fn judge(headers: &HeaderMap, body: &Bytes) -> Scanned {
    let codings: Vec<&str> = headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .flat_map(|line| line.to_str().unwrap_or("?").split(','))
        .map(str::trim)
        .collect();
    let text = match codings.as_slice() {
        [] => Some(body.to_vec()),
        [one] => inflated(&one.to_ascii_lowercase(), body),
        _ => None,
    };
    match text {
        Some(text) if !has_fiscal_code(&text) => Scanned::Clean,
        _ => Scanned::NotToBeShared,
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
        judge(&headers, &Bytes::copy_from_slice(body))
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn people_are_found_in_every_coding() {
        for (text, expected) in
            [(b"a RSSMRA85T10A562S b".as_slice(), Scanned::NotToBeShared), (b"a { color: red }", Scanned::Clean)]
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
        assert_eq!(judged("gzip", b"no gzip"), Scanned::NotToBeShared);
        assert_eq!(judged("zstd", b"a"), Scanned::NotToBeShared);
        assert_eq!(judged("gzip, br", b"a"), Scanned::NotToBeShared);
        let bomb = gzip(&vec![b'a'; 50 << 20]);
        assert!(bomb.len() < LARGEST);
        assert_eq!(judged("gzip", &bomb), Scanned::NotToBeShared);
    }
}
