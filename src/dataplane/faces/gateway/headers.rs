//! Header fields on their way through the gateway: hop-by-hop fields, reserved fields, and fields about the client.

use std::net::IpAddr;

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::dataplane::faces::browser::cookies;
use crate::dataplane::faces::reserved::{is_ours, is_reserved};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Hop-by-hop fields (RFC 9110 section 7.6.1), whether `Connection` names them or not. The gateway answers `Expect` itself.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
];

/// Removes the fields of the previous hop. A sender cannot remove the fields of framing and routing by naming them in `Connection`.
pub(super) fn end_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| *name != header::HOST && *name != header::CONTENT_LENGTH)
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Writes the header fields of a request to the deployment, with the caller's identity in `told` and the client's address.
pub(super) fn towards_deployment(
    headers: &mut HeaderMap,
    told: &HeaderMap,
    host: &str,
    client: IpAddr,
    secure: bool,
) {
    end_hop(headers);
    let taken: Vec<HeaderName> = headers.keys().filter(|name| is_reserved(name.as_str())).cloned().collect();
    for name in &taken {
        headers.remove(name);
    }
    for (name, value) in told.iter().filter(|(name, value)| is_reserved(name.as_str()) && !value.is_empty()) {
        headers.insert(name.clone(), value.clone());
    }
    // RFC 9113 section 8.2.3: HTTP/2 may split a cookie; HTTP/1.1 has it in one line.
    if let Some(cookies) = cookies::for_deployment(headers) {
        headers.remove(header::COOKIE);
        if !cookies.is_empty() {
            headers.insert(header::COOKIE, cookies);
        }
    }
    let mut set = |name, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set(header::HOST, host);
    set(FORWARDED_FOR, &client.to_string());
    set(FORWARDED_HOST, host);
    set(FORWARDED_PROTO, if secure { "https" } else { "http" });
    headers.append(header::VIA, HeaderValue::from_static("1.1 halligan"));
}

/// Returns true if a message states its length once, as a number, or not at all (RFC 9110 section 8.6, RFC 9112 section 6.3).
pub(super) fn one_length(headers: &HeaderMap) -> bool {
    if headers.contains_key(header::TRANSFER_ENCODING) && headers.contains_key(header::CONTENT_LENGTH) {
        return false;
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let number = |value: &HeaderValue| !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_digit);
    lengths.next().is_none_or(number) && lengths.next().is_none()
}

/// Writes the header fields of an answer to the client. Reserved fields of the deployment are removed.
pub(super) fn towards_client(headers: &mut HeaderMap, told: &HeaderMap) {
    end_hop(headers);
    let taken: Vec<HeaderName> = headers.keys().filter(|name| is_ours(name.as_str())).cloned().collect();
    for name in &taken {
        headers.remove(name);
    }
    for name in ["x-halligan-reason", "x-halligan-event-id"] {
        if let Some(value) = told.get(name) {
            headers.insert(HeaderName::from_static(name), value.clone());
        }
    }
    // The session, beside what the deployment sets.
    if let Some(renewed) = told.get(header::SET_COOKIE) {
        headers.append(header::SET_COOKIE, renewed.clone());
    }
    headers.append(header::VIA, HeaderValue::from_static("1.1 halligan"));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for &(name, value) in lines {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        map
    }

    fn passed(lines: &[(&'static str, &'static str)], told: &[(&'static str, &'static str)]) -> Vec<String> {
        let mut headers = map(lines);
        let client = "192.0.2.1".parse().unwrap();
        towards_deployment(&mut headers, &map(told), "p.example", client, true);
        let ours = ["host", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];
        let mut left: Vec<String> = headers
            .iter()
            .filter(|(name, _)| !ours.contains(&name.as_str()))
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        left.sort();
        assert_eq!(headers["x-forwarded-for"], "192.0.2.1");
        assert_eq!(headers["host"], "p.example");
        assert_eq!(headers["x-forwarded-proto"], "https");
        left
    }

    #[test]
    fn what_belongs_to_a_hop_ends_there() {
        let sent = [
            ("connection", "close, x-secret, content-length, host"),
            ("connection", "X-Other"),
            ("x-secret", "1"),
            ("x-other", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("proxy-authorization", "Basic x"),
            ("content-length", "3"),
            ("accept", "*/*"),
        ];
        assert_eq!(passed(&sent, &[]), ["accept: */*", "content-length: 3"]);
    }

    #[test]
    fn nobody_else_says_who_came() {
        let sent = [
            ("authorization", "Bearer caller"),
            ("authorization", "Bearer other"),
            ("x-halligan-role", "ADMIN"),
            ("x_halligan_role", "ADMIN"),
            ("x-halligan_token-id", "x"),
            ("x_forwarded_for", "203.0.113.9"),
            ("x-forwarded-user", "root"),
            ("forwarded", "for=203.0.113.9"),
            ("x-real-ip", "203.0.113.9"),
            ("x.halligan.role", "ADMIN"),
            ("x-halligan-anything", "ADMIN"),
            ("x-original-url", "/admin"),
            ("x_rewrite_url", "/admin"),
            ("x-http-method-override", "DELETE"),
            ("x_http_method", "DELETE"),
            ("x-method-override", "DELETE"),
            ("x-request-id", "r"),
        ];
        let told = [("x-halligan-role", "A@1"), ("authorization", "Bearer ours"), ("content-type", "x")];
        assert_eq!(
            passed(&sent, &told),
            ["authorization: Bearer ours", "x-halligan-role: A@1", "x-request-id: r"]
        );
        assert_eq!(passed(&sent, &[("authorization", "")]), ["x-request-id: r"], "nothing is vouched for");
    }

    #[test]
    fn a_split_cookie_is_put_together() {
        assert_eq!(passed(&[("cookie", "a=1"), ("cookie", "b=2")], &[]), ["cookie: a=1; b=2"]);
    }

    #[test]
    fn a_length_is_said_once() {
        for good in [&[][..], &[("content-length", "5")], &[("content-length", "0")]] {
            assert!(one_length(&map(good)), "{good:?}");
        }
        for bad in ["5, 5", "5,6", "+5", "5 5", "0x5", "", "five"] {
            assert!(!one_length(&map(&[("content-length", bad)])), "{bad:?}");
        }
        assert!(!one_length(&map(&[("content-length", "5"), ("content-length", "5")])));
        assert!(!one_length(&map(&[("content-length", "5"), ("transfer-encoding", "chunked")])));
    }

    #[test]
    fn a_deployment_does_not_speak_for_the_daemon() {
        let mut headers = map(&[
            ("x-halligan-reason", "ok"),
            ("x_halligan_role", "b"),
            ("connection", "x-a"),
            ("x-a", "1"),
            ("etag", "e"),
        ]);
        towards_client(&mut headers, &map(&[("x-halligan-event-id", "evt")]));
        assert!(headers.get("x_halligan_role").is_none());
        assert!(headers.get("x-halligan-reason").is_none() && headers.get("x-a").is_none());
        assert_eq!(headers["etag"], "e");
        assert_eq!(headers["x-halligan-event-id"], "evt");
    }
}
