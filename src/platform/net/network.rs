//! Networks as text, in CIDR notation (RFC 4632 section 3.1, RFC 4291 section 2.3).

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer};

/// Parses `ADDRESS/LENGTH`. Rejects leading zeros, which some programs read as octal (`010.0.0.0/8`), and zones.
#[must_use]
pub fn parse(text: &str) -> Option<IpNet> {
    let (address, length) = text.split_once('/')?;
    let plain = length == "0" || length.starts_with(|first: char| ('1'..='9').contains(&first));
    let length = length.parse().ok().filter(|_| plain)?;
    IpNet::new(address.parse::<IpAddr>().ok()?, length).ok()
}

/// Deserializes the networks of a setting.
pub fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let network = |text: String| {
        let detail = format!("{text:?} is no network; write it as 10.0.0.0/8 or 2001:db8::/32");
        parse(&text).ok_or_else(|| serde::de::Error::custom(detail))
    };
    texts.into_iter().map(network).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_network_has_one_meaning_or_none() {
        for good in
            ["10.0.0.0/8", "0.0.0.0/0", "192.0.2.7/32", "::/0", "2001:db8::/32", "::ffff:10.0.0.0/104"]
        {
            assert_eq!(parse(good), Some(good.parse().unwrap()), "{good}");
        }
        for bad in [
            "",
            "/",
            "10.0.0.0",
            "10.0.0.0/",
            "/8",
            "010.0.0.0/8",
            "10.0.0.00/8",
            "10.0.0.0/08",
            "10.0.0.0/00",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "10.0.0.0/33",
            "10.0.0.0/255.0.0.0",
            "10.0.0.0/8/8",
            "10.0.0/8",
            "0x0a.0.0.0/8",
            " 10.0.0.0/8",
            "10.0.0.0/8 ",
            "10.0.0.0 /8",
            "::/129",
            "fe80::1%eth0/64",
            "[::]/0",
            "everywhere",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
