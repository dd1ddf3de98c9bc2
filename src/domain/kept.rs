//! A copy of header lines that is cheap to make: one piece of memory, which is unfolded only in the rare case that it
//! is needed. Copying a `HeaderMap` costs several times as much, since every name and value in it counts its users.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Bytes that the headers of a browser's request seldom exceed.
const USUAL_LENGTH: usize = 1000;

/// Header lines, `name:value\n` each; no name has a colon and no value a line feed.
#[derive(Clone, Debug, Default)]
pub struct KeptHeaders(Vec<u8>);

impl KeptHeaders {
    /// Copies all lines.
    pub fn of(headers: &HeaderMap) -> KeptHeaders {
        let mut lines = Vec::with_capacity(USUAL_LENGTH);
        for (name, value) in headers {
            lines.extend_from_slice(name.as_str().as_bytes());
            lines.push(b':');
            lines.extend_from_slice(value.as_bytes());
            lines.push(b'\n');
        }
        KeptHeaders(lines)
    }

    /// The lines as they were, those of one name in their order.
    pub fn unfold(&self) -> HeaderMap {
        self.0.split(|byte| *byte == b'\n').filter_map(name_and_value).fold(HeaderMap::new(), |mut headers, line| {
            headers.append(line.0, line.1);
            headers
        })
    }
}

fn name_and_value(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = line.split_at_checked(line.iter().position(|byte| *byte == b':')?)?;
    Some((HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value.strip_prefix(b":")?).ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_kept_comes_back(
            lines in proptest::collection::vec(
                ("[a-z0-9!#$%&'*+.^_`|~-]{1,12}", proptest::collection::vec(prop_oneof![Just(b'\t'), Just(b':'), 32..127_u8, 128..=255_u8], 0..30)),
                0..20,
            ),
        ) {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(&value).unwrap());
            }
            prop_assert_eq!(KeptHeaders::of(&headers).unfold(), headers);
        }
    }
}
