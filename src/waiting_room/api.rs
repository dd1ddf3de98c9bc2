//! The description of what scripts and apps may ask for (OpenAPI 3.1), as it is served under our own paths.

use bytes::Bytes;

const DESCRIPTION: &str = include_str!("openapi.json");

/// The description for a program whose own paths begin with `own_path`, which needs no escaping in JSON.
pub fn description(own_path: &str) -> Bytes {
    DESCRIPTION.replace("OWN_PATH", own_path).replace("VERSION", env!("CARGO_PKG_VERSION")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_json_and_names_path_and_version() {
        let description: serde_json::Value = serde_json::from_slice(&description("/waiting")).expect("JSON");
        assert_eq!(description["servers"][0]["url"], "/waiting");
        assert_eq!(description["info"]["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(description["openapi"], "3.1.0");
    }
}
