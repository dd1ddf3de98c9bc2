//! What a JSON web token must say to prove a class (RFC 7519 section 4.1). Its signature is somebody else's matter.

use std::time::Duration;

use serde_json::Value;

use super::proof::Failure;
use super::time::Unix;

/// What the token must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// `iss`
    pub issuer: String,
    /// One of `aud`.
    pub audience: String,
    /// Claims with their values; a dot in a name leads into an object, and of a list one member is enough.
    pub claims: Vec<(String, String)>,
    /// The claim that names whose token it is.
    pub identity: String,
    /// By how much the issuer's clock may differ from ours.
    pub leeway: Duration,
}

/// Checks the claims of a genuine token, and says whom it names.
///
/// # Errors
/// The first [`Failure`], in the order: issuer, audience, time, claims. A token without an end is refused.
pub fn check(claims: &Value, expected: &Expected, now: Unix) -> Result<String, Failure> {
    if claims.get("iss").and_then(Value::as_str) != Some(expected.issuer.as_str()) {
        return Err(Failure::Issuer);
    }
    if !claims.get("aud").is_some_and(|audience| says(audience, &expected.audience)) {
        return Err(Failure::Audience);
    }
    let leeway = expected.leeway.as_secs_f64();
    let now = Duration::from_millis(now.0).as_secs_f64();
    let end = claims.get("exp").and_then(Value::as_f64).ok_or(Failure::Malformed)?;
    if now >= end + leeway {
        return Err(Failure::Expired);
    }
    match claims.get("nbf").map(|begin| begin.as_f64().ok_or(Failure::Malformed)).transpose()? {
        Some(begin) if now < begin - leeway => return Err(Failure::NotYetValid),
        _ => {}
    }
    let all = expected.claims.iter().all(|(name, value)| claim(claims, name).is_some_and(|claim| says(claim, value)));
    let identity = claim(claims, &expected.identity).and_then(text).filter(|identity| !identity.trim().is_empty());
    if all { identity.ok_or(Failure::Claim) } else { Err(Failure::Claim) }
}

/// The claim of that name, whose dots lead into objects unless a claim has them in its name.
fn claim<'c>(claims: &'c Value, name: &str) -> Option<&'c Value> {
    claims.get(name).or_else(|| name.split('.').try_fold(claims, |object, member| object.get(member)))
}

fn says(claim: &Value, value: &str) -> bool {
    match claim {
        Value::Array(members) => members.iter().any(|member| text(member).as_deref() == Some(value)),
        other => text(other).as_deref() == Some(value),
    }
}

fn text(claim: &Value) -> Option<String> {
    match claim {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Unix = Unix(1_800_000_000_000);

    fn expected() -> Expected {
        Expected {
            issuer: "https://login.example".into(),
            audience: "portal".into(),
            claims: vec![("realm.roles".into(), "office".into()), ("level".into(), "2".into())],
            identity: "sub".into(),
            leeway: Duration::from_secs(60),
        }
    }

    fn good() -> Value {
        json!({
            "iss": "https://login.example", "aud": ["other", "portal"], "sub": "office 123", "exp": 1_800_000_100,
            "nbf": 1_799_999_900, "realm": { "roles": ["user", "office"] }, "level": 2,
        })
    }

    fn with(name: &str, value: Value) -> Result<String, Failure> {
        let mut claims = good();
        claims[name] = value;
        check(&claims, &expected(), NOW)
    }

    #[test]
    fn a_good_token_names_its_subject() {
        assert_eq!(check(&good(), &expected(), NOW), Ok("office 123".into()));
        assert_eq!(with("aud", json!("portal")), Ok("office 123".into()));
        let mut dotted = good();
        dotted["realm"] = json!(null);
        dotted["realm.roles"] = json!("office");
        assert!(check(&dotted, &expected(), NOW).is_ok(), "a name may itself have a dot");
    }

    #[test]
    fn every_wrong_claim_has_its_reason() {
        assert_eq!(with("iss", json!("https://elsewhere.example")), Err(Failure::Issuer));
        assert_eq!(with("iss", json!(["https://login.example"])), Err(Failure::Issuer));
        assert_eq!(with("aud", json!("shop")), Err(Failure::Audience));
        assert_eq!(with("aud", json!(null)), Err(Failure::Audience));
        assert_eq!(with("exp", json!(1_799_999_940)), Err(Failure::Expired));
        assert_eq!(with("exp", json!(1_799_999_941)), Ok("office 123".into()), "within the leeway");
        assert_eq!(with("exp", json!("2100-01-01")), Err(Failure::Malformed));
        assert_eq!(with("exp", json!(null)), Err(Failure::Malformed), "no token is good for ever");
        assert_eq!(with("nbf", json!(1_800_000_061)), Err(Failure::NotYetValid));
        assert_eq!(with("nbf", json!(1_800_000_060)), Ok("office 123".into()));
        assert_eq!(with("nbf", json!("soon")), Err(Failure::Malformed));
        assert_eq!(with("level", json!(1)), Err(Failure::Claim));
        assert_eq!(with("realm", json!({ "roles": ["user"] })), Err(Failure::Claim));
        assert_eq!(with("sub", json!(" ")), Err(Failure::Claim));
        assert_eq!(with("sub", json!({})), Err(Failure::Claim));
        assert_eq!(check(&json!([]), &expected(), NOW), Err(Failure::Issuer));
    }
}
