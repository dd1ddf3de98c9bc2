//! What the name of a file promises about its content.

/// What a path's extension promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extension {
    Style,
    Script,
    Json,
    Image,
    Font,
    Page,
    Text,
    Pdf,
    Xml,
    Media,
    Binary,
}

/// Bytes of the longest ending that promises something.
const LONGEST: usize = "webmanifest".len();

pub(super) fn extension(path: &str) -> Option<Extension> {
    let name = path.rsplit('/').next()?;
    let (_, extension) = name.rsplit_once('.')?;
    let mut lower = [0; LONGEST];
    let lower = lower.get_mut(..extension.len())?;
    lower.copy_from_slice(extension.as_bytes());
    lower.make_ascii_lowercase();
    Some(match std::str::from_utf8(lower).ok()? {
        "css" => Extension::Style,
        "js" | "mjs" | "cjs" => Extension::Script,
        "json" | "map" | "webmanifest" => Extension::Json,
        "png" | "jpg" | "jpeg" | "gif" | "svg" | "webp" | "avif" | "ico" | "bmp" => Extension::Image,
        "woff" | "woff2" | "ttf" | "otf" | "eot" => Extension::Font,
        "html" | "htm" | "xhtml" => Extension::Page,
        "txt" => Extension::Text,
        "pdf" => Extension::Pdf,
        "xml" => Extension::Xml,
        "mp4" | "webm" | "mp3" | "ogg" | "wav" | "m4a" => Extension::Media,
        "wasm" | "zip" | "gz" => Extension::Binary,
        _ => return None,
    })
}

impl Extension {
    /// Whether a media type is what the extension promises.
    pub(super) fn fits(self, media_type: &str) -> bool {
        let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let (kind, subtype) = essence.split_once('/').unwrap_or((&essence, ""));
        match self {
            Extension::Style => essence == "text/css",
            Extension::Script => subtype.ends_with("javascript") || subtype.ends_with("ecmascript"),
            Extension::Json => subtype.ends_with("json") || essence == "text/plain" || subtype == "octet-stream",
            Extension::Image => kind == "image",
            Extension::Font => kind == "font" || subtype.contains("font") || subtype == "octet-stream",
            Extension::Page => matches!(subtype, "html" | "xhtml+xml"),
            Extension::Text => essence == "text/plain",
            Extension::Pdf => subtype == "pdf",
            Extension::Xml => subtype.ends_with("xml") && subtype != "xhtml+xml",
            Extension::Media => matches!(kind, "video" | "audio") || subtype == "ogg",
            Extension::Binary => kind == "application" && !subtype.ends_with("json") && subtype != "xhtml+xml",
        }
    }
}

impl Extension {
    /// Whether it may be of text.
    pub(super) fn may_be_text(self) -> bool {
        !matches!(self, Extension::Image | Extension::Font | Extension::Pdf | Extension::Media | Extension::Binary)
    }

    /// Whether it is of files that are no pages and no data of somebody: style sheets, scripts, pictures, fonts, films.
    pub(super) fn is_of_a_static_file(self) -> bool {
        !matches!(self, Extension::Page | Extension::Json | Extension::Pdf | Extension::Xml)
    }
}

/// Whether a path is by its name a style sheet, a script or a font: what is drawn with, and nobody's own.
pub fn is_the_same_for_everybody(path: &str) -> bool {
    matches!(extension(path), Some(Extension::Style | Extension::Script | Extension::Font))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_promise_types() {
        for (path, media_type, fits) in [
            ("/a.js", "application/javascript", true),
            ("/a.js", "text/html", false),
            ("/a.svg", "image/svg+xml", true),
            ("/a.woff2", "font/woff2", true),
            ("/a.png", "application/json", false),
            ("/a.json", "application/problem+json", true),
            ("/a.pdf", "text/html", false),
        ] {
            assert_eq!(extension(path).unwrap().fits(media_type), fits, "{path} {media_type}");
        }
        assert_eq!(extension("/a.b/c"), None);
        assert_eq!(extension("/a.unknown"), None);
    }
}
