//! Which requests are answered at all: reading ones, that mean this machine, from no other site's page.
//!
//! A page of another site cannot read what it fetches here (no answer allows it to), unless its own name resolves to
//! this machine: DNS rebinding. Then the browser sends that name as the host, and no such name is ours.

use hyper::header::HOST;
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use std::net::{IpAddr, Ipv6Addr};

/// Hosts that a request may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// `localhost`, or an address in figures, which no DNS can turn.
    Loopback,
    /// Any.
    Any,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The status.
    pub status: StatusCode,
    /// What to do, in a sentence.
    pub remedy: &'static str,
}

/// Refuses what is not for us.
pub fn check(request: &Parts, names: Names) -> Result<(), Refused> {
    if ![Method::GET, Method::HEAD].contains(&request.method) {
        let remedy = "this server is for reading only: GET or HEAD";
        return Err(Refused { status: StatusCode::METHOD_NOT_ALLOWED, remedy });
    }
    let mut hosts = request.headers.get_all(HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    let ours = host.is_some_and(|host| names == Names::Any || is_ours(host));
    if !ours || hosts.next().is_some() {
        let remedy =
            "name this machine by its address or as localhost, e.g. http://127.0.0.1:PORT/";
        return Err(Refused { status: StatusCode::FORBIDDEN, remedy });
    }
    let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
    // Browsers say so; whoever follows a link to the page itself is welcome.
    let foreign = matches!(header("sec-fetch-site"), Some("cross-site" | "same-site"));
    let follows = request.uri.path() == "/" && header("sec-fetch-mode") == Some("navigate");
    if foreign && !follows && names == Names::Loopback {
        let remedy = "pages of other sites may not read this one";
        return Err(Refused { status: StatusCode::FORBIDDEN, remedy });
    }
    Ok(())
}

/// `localhost` or an address in figures, with or without a port.
fn is_ours(host: &str) -> bool {
    if let Some(rest) = host.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        let port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return port && address.parse::<Ipv6Addr>().is_ok();
    }
    let (name, port) = host.split_once(':').map_or((host, true), |(n, port)| (n, is_port(port)));
    port && (name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok())
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;

    fn status(method: &str, path: &str, headers: &[(&str, &str)], names: Names) -> u16 {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        check(&parts, names).map_or_else(|refused| refused.status.as_u16(), |()| 200)
    }

    #[test]
    fn only_hosts_that_no_dns_can_turn_are_ours() {
        let check = |host: &str, expected: bool| assert_eq!(is_ours(host), expected, "{host:?}");
        for ours in ["localhost", "LocalHost:80", "127.0.0.1", "10.0.0.1:9", "[::1]", "[::1]:9464"]
        {
            check(ours, true);
        }
        let others = [
            "",
            "evil.example",
            "evil.example:80",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
        ];
        for other in others.into_iter().chain(["localhost:", "localhost:99999", "[::1", "[evil]:1"])
        {
            check(other, false);
        }
    }

    #[test]
    fn what_changes_something_or_comes_from_elsewhere_is_refused() {
        let here = ("host", "127.0.0.1:1");
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"] {
            assert_eq!(status(method, "/", &[here], Names::Loopback), 405, "{method}");
        }
        let check = |path: &str, headers: &[(&str, &str)], expected: u16| {
            assert_eq!(
                status("GET", path, headers, Names::Loopback),
                expected,
                "{path} {headers:?}"
            );
        };
        check("/", &[here], 200);
        check("/", &[], 403);
        check("/", &[here, here], 403);
        check("/events", &[here, ("sec-fetch-site", "same-origin")], 200);
        check("/events", &[here, ("sec-fetch-site", "cross-site")], 403);
        check("/", &[here, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")], 200);
        check("/", &[here, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")], 403);
        assert_eq!(status("GET", "/metrics", &[("host", "n1.example:9464")], Names::Any), 200);
    }
}
