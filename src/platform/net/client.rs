//! Identifies clients for limits.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Returns the address by which a limit counts a client: an IPv4 address itself, an IPv6 address by its /64.
///
/// A /64 is the smallest network that a site gets (RFC 6177), and its holder has all addresses in it. An IPv4 address in
/// IPv6 form (RFC 4291 section 2.5.5.2, RFC 6052) counts as the IPv4 address, since one /64 would hold all of them.
#[must_use]
pub fn counted(address: IpAddr) -> IpAddr {
    let IpAddr::V6(address) = address.to_canonical() else { return address.to_canonical() };
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
            Ipv4Addr::new(a, b, c, d).into()
        }
        [a, b, c, d, ..] => Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_address_of_ipv6_counts_by_its_network() {
        for (address, by) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("64:ff9b::192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2:ffff::", "2001:db8:1:2::"),
            ("2001:db8:1:3::1", "2001:db8:1:3::"),
            ("::1", "::"),
            ("fe80::1", "fe80::"),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(counted(address), by.parse::<IpAddr>().unwrap(), "{address}");
        }
    }
}
