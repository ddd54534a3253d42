//! Decides whether an address can be dialled, before anything tries.

use crate::error::{Error, Result};
use std::net::Ipv6Addr;

/// Most addresses one client may be given.
pub const MAX_ADDRESSES: usize = 1_000;

/// Checks `host:port`; returns it without surrounding blanks.
pub fn check(value: &str) -> Result<String> {
    let refuse =
        |problem: &str| Error::InvalidAddress { value: value.into(), problem: problem.into() };
    let text = value.trim();
    if text.is_empty() {
        return Err(refuse("it is empty"));
    }
    if text.contains("://") {
        return Err(refuse("it has a scheme"));
    }
    if text.contains('@') {
        return Err(refuse("it has a user name"));
    }
    if text.contains(['/', '?', '#']) || text.contains(char::is_whitespace) {
        return Err(refuse("it has characters that no host name has"));
    }
    let (host, port) = split(text).map_err(|problem| refuse(&problem))?;
    if host.is_empty() {
        return Err(refuse("the host is missing"));
    }
    match port.parse::<u32>() {
        Ok(1..=65_535) if port.bytes().all(|b| b.is_ascii_digit()) => Ok(text.into()),
        Ok(_) => Err(refuse(&format!("port {port} is outside 1 to 65535"))),
        Err(_) => Err(refuse(&format!("{port:?} is not a port"))),
    }
}

/// Checks `host:port` of one place: not every address.
pub fn check_one(value: &str) -> Result<String> {
    let checked = check(value)?;
    let ip = host(&checked).parse::<std::net::IpAddr>();
    if ip.is_ok_and(|ip| ip.is_unspecified()) {
        let problem = "it is every address; give the one under which the others reach this node";
        return Err(Error::InvalidAddress { value: value.into(), problem: problem.into() });
    }
    Ok(checked)
}

/// The host of an address that was checked, without brackets.
pub fn host(address: &str) -> &str {
    split(address).map_or(address, |(host, _)| host)
}

fn split(text: &str) -> Result<(&str, &str), String> {
    if let Some(rest) = text.strip_prefix('[') {
        let Some((host, after)) = rest.split_once(']') else {
            return Err("the bracket is not closed".into());
        };
        if host.parse::<Ipv6Addr>().is_err() {
            return Err(format!("{host:?} is not an IPv6 address"));
        }
        let Some(port) = after.strip_prefix(':') else {
            return Err("the port is missing".into());
        };
        return Ok((host, port));
    }
    match text.rsplit_once(':') {
        None => Err("the port is missing".into()),
        Some((host, _)) if host.contains(':') => Err("an IPv6 address needs brackets".into()),
        Some((host, _)) if !host.is_ascii() => Err("the host name is not ASCII".into()),
        Some(parts) => Ok(parts),
    }
}

/// Checks a list of addresses; there must be at least one.
pub fn check_all(values: &[String]) -> Result<Vec<String>> {
    if values.is_empty() {
        return Err(Error::config("addresses", "none given; name at least one node as host:port"));
    }
    if values.len() > MAX_ADDRESSES {
        return Err(Error::config(
            "addresses",
            format!("{} given, at most {MAX_ADDRESSES} are used", values.len()),
        ));
    }
    let mut checked = Vec::with_capacity(values.len());
    for value in values {
        let address = check(value)?;
        if !checked.contains(&address) {
            checked.push(address);
        }
    }
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_addresses_pass() {
        for good in ["127.0.0.1:7400", "[::1]:7400", "node-a.example:1", " localhost:65535 "] {
            assert_eq!(check(good).unwrap(), good.trim());
        }
    }

    #[test]
    fn bad_addresses_are_refused_with_the_reason() {
        let cases = [
            ("", "empty"),
            ("localhost", "port is missing"),
            ("localhost:", "not a port"),
            (":7400", "host is missing"),
            ("127.0.0.1:0", "outside 1 to 65535"),
            ("127.0.0.1:70000", "outside 1 to 65535"),
            ("127.0.0.1:+7", "outside 1 to 65535"),
            ("127.0.0.1:-7", "not a port"),
            ("http://127.0.0.1:7400", "scheme"),
            ("::1:7400", "brackets"),
            ("[::1]", "port is missing"),
            ("[::1:7400", "not closed"),
            ("[nonsense]:7400", "not an IPv6"),
            ("me@127.0.0.1:7400", "user name"),
            ("127.0.0.1:7400/x", "characters"),
        ];
        for (value, problem) in cases {
            let error = check(value).unwrap_err().to_string();
            assert!(error.contains(problem), "{value:?}: {error}");
            assert!(error.contains("host:port"), "{error}");
        }
    }

    #[test]
    fn a_list_needs_one_address_and_loses_repetitions() {
        assert!(check_all(&[]).is_err());
        let twice = ["a:1".to_string(), "a:1".to_string()];
        assert_eq!(check_all(&twice).unwrap(), ["a:1"]);
    }
}
