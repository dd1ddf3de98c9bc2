//! A body compressed once and for all, and which of its forms a browser takes (RFC 9110, section 12.5.3).

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::language::weighted;

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// As it is; has no `Content-Encoding`.
    Identity,
    /// `gzip`
    Gzip,
    /// `br`
    Brotli,
}

impl Coding {
    /// The densest coding that the header `Accept-Encoding` allows; without the header, none.
    pub fn accepted(accept_encoding: Option<&str>) -> Coding {
        let header = accept_encoding.unwrap_or_default();
        if allows(header, "br") {
            Coding::Brotli
        } else if allows(header, "gzip") {
            Coding::Gzip
        } else {
            Coding::Identity
        }
    }

    /// The value of `Content-Encoding`, if there is to be one.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Coding::Identity => None,
            Coding::Gzip => Some("gzip"),
            Coding::Brotli => Some("br"),
        }
    }
}

/// `*` is not taken for a wish: who sends it alone is rarely a browser.
fn allows(header: &str, coding: &str) -> bool {
    let named = |(name, quality): (&str, u16)| name.eq_ignore_ascii_case(coding) && quality > 0;
    header.split(',').take(32).filter_map(weighted).any(named)
}

/// One body in every coding.
#[derive(Clone, Debug)]
pub struct Encoded {
    identity: Bytes,
    gzip: Bytes,
    brotli: Bytes,
}

impl Encoded {
    /// Compresses the body. Takes milliseconds: for what is kept, not for what is written per request.
    ///
    /// # Errors
    /// Only what writing into memory can fail with.
    pub fn new(body: String) -> std::io::Result<Encoded> {
        Ok(Encoded { gzip: gzip(&body)?, brotli: brotli(&body)?, identity: body.into() })
    }

    /// The body in this coding; cheap to clone.
    pub fn body(&self, coding: Coding) -> &Bytes {
        match coding {
            Coding::Identity => &self.identity,
            Coding::Gzip => &self.gzip,
            Coding::Brotli => &self.brotli,
        }
    }
}

fn gzip(body: &str) -> std::io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body.as_bytes())?;
    Ok(encoder.finish()?.into())
}

fn brotli(body: &str) -> std::io::Result<Bytes> {
    let params = brotli::enc::BrotliEncoderParams { quality: 9, lgwin: 16, ..Default::default() };
    let mut compressed = Vec::new();
    brotli::BrotliCompress(&mut body.as_bytes(), &mut compressed, &params)?;
    Ok(compressed.into())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn every_coding_holds_the_same_body() {
        let body = "a place in the line, ".repeat(500);
        let encoded = Encoded::new(body.clone()).expect("compressed");
        let mut gunzipped = String::new();
        let mut gzip = flate2::read::GzDecoder::new(&encoded.body(Coding::Gzip)[..]);
        gzip.read_to_string(&mut gunzipped).expect("gzip");
        let mut unbrotlied = Vec::new();
        brotli::BrotliDecompress(&mut &encoded.body(Coding::Brotli)[..], &mut unbrotlied).expect("brotli");
        assert_eq!(gunzipped, body);
        assert_eq!(unbrotlied, body.as_bytes());
        assert_eq!(encoded.body(Coding::Identity), body.as_bytes());
    }

    #[test]
    fn the_browser_decides() {
        assert_eq!(Coding::accepted(None), Coding::Identity);
        assert_eq!(Coding::accepted(Some("gzip, deflate, br, zstd")), Coding::Brotli);
        assert_eq!(Coding::accepted(Some("GZIP;q=0.1")), Coding::Gzip);
        assert_eq!(Coding::accepted(Some("br;q=0, gzip;q=0.000")), Coding::Identity);
        assert_eq!(Coding::accepted(Some("*")), Coding::Identity);
        assert_eq!(Coding::accepted(Some(";;q=,br;q=x")), Coding::Identity);
    }
}
