//! Answers and the headers that all of them carry.

use super::guard::Refused;
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use std::convert::Infallible;

/// The body of any answer.
pub type Body = BoxBody<Bytes, Infallible>;
/// Any answer.
pub type Answer = Response<Body>;

/// Plain text.
pub const TEXT: &str = "text/plain; charset=utf-8";
/// JSON.
pub const JSON: &str = "application/json";

/// Nothing from elsewhere, nothing inline, in no frame; no other site may have it.
const GUARDS: [(&str, &str); 6] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("x-frame-options", "DENY"),
];

/// A whole body of that kind.
pub fn whole(kind: &'static str, body: impl Into<Bytes>) -> Answer {
    of(StatusCode::OK, kind, Full::new(body.into()).boxed())
}

/// A sentence under a status.
pub fn sentence(status: StatusCode, text: impl Into<String>) -> Answer {
    let mut text = text.into();
    text.push('\n');
    of(status, TEXT, Full::new(Bytes::from(text)).boxed())
}

/// What the guard refused.
pub fn refusal(refused: Refused) -> Answer {
    let mut answer = sentence(refused.status, refused.remedy);
    if refused.status == StatusCode::METHOD_NOT_ALLOWED {
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    answer
}

/// Nobody is here.
pub fn not_found(known: &str) -> Answer {
    sentence(StatusCode::NOT_FOUND, format!("nothing is here; there is {known}"))
}

/// A body of that kind, under a status.
pub fn of(status: StatusCode, kind: &'static str, body: Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    for (name, value) in GUARDS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    answer
}
