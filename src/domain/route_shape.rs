//! What paths look like when nobody's number stands in them: the routes of reports and of calibration.

use super::fiscal_code::has_fiscal_code;

/// The shape of a path: what looks like the number or name of one case is a star, so that many pages are one route and
/// nobody's number stands in a report.
pub fn route_of(path: &str) -> String {
    let shape = |segment: &str| {
        // What follows a semicolon may be the number of a session.
        let segment = segment.split(';').next().unwrap_or_default();
        let digits = segment.bytes().filter(u8::is_ascii_digit).count();
        let is_file = segment.contains('.');
        let is_number = digits >= 3 && digits * 2 >= segment.len();
        let is_key = !is_file && digits > 0 && segment.len() >= 12;
        let names_a_person = has_fiscal_code(segment.as_bytes());
        if is_number || is_key || names_a_person || segment.len() > 60 { "*".to_owned() } else { segment.to_owned() }
    };
    path.split('/').take(8).map(shape).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_name_no_case() {
        for (path, route) in [
            ("/bonus-600/", "/bonus-600/"),
            ("/pratica/20200401123", "/pratica/*"),
            ("/cf/RSSMRA85T10A562S/pdf", "/cf/*/pdf"),
            ("/static/app.3f2a9c11d8.js", "/static/app.3f2a9c11d8.js"),
            ("/v2/me", "/v2/me"),
            ("/inps/home.jsp;jsessionid=0A1B2C3D4E5F", "/inps/home.jsp"),
            ("/docs/RSSMRA85T10A562S.pdf", "/docs/*"),
        ] {
            assert_eq!(route_of(path), route);
        }
    }
}
