//! The operators' console: one page with its script and style, part of the program. It stands on the same API as `anticamera ctl`
//! and knows nothing that the API does not say; what is here is only how a browser gets it.

use http::header::{CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, X_FRAME_OPTIONS};

/// A file of the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum File {
    /// What is opened.
    Page,
    /// What fills it with life.
    Script,
    /// How it looks.
    Style,
}

/// Nothing but the console's own files, no markup from text (Trusted Types), nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

impl File {
    pub(super) fn media(self) -> &'static str {
        match self {
            File::Page => "text/html; charset=utf-8",
            File::Script => "text/javascript; charset=utf-8",
            File::Style => "text/css; charset=utf-8",
        }
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            File::Page => include_str!("console/console.html"),
            File::Script => include_str!("console/console.js"),
            File::Style => include_str!("console/console.css"),
        }
    }
}

/// What keeps other people's pages and texts out of the console.
pub(super) fn headers() -> [(HeaderName, HeaderValue); 5] {
    [
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (REFERRER_POLICY, HeaderValue::from_static("same-origin")),
        (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
        (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    ]
}
