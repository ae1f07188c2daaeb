//! Addresses of peers: what is an address and what a name, ports, and what privacy leaves of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::document::Document;

use super::Privacy;
use super::scan::number;

/// An address as text is never longer: `ffff:` six times and an IPv4 address.
const TEXT_BYTES_MAX: usize = 45;

/// An address as a text shows it.
#[inline]
pub(super) fn ip(text: &[u8]) -> Option<IpAddr> {
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    if let Some(address) = ipv4(text) {
        return Some(IpAddr::V4(address));
    }
    let text = text.strip_prefix(b"[").and_then(|text| text.strip_suffix(b"]")).unwrap_or(text);
    std::str::from_utf8(text).ok()?.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

#[inline]
fn ipv4(text: &[u8]) -> Option<Ipv4Addr> {
    let mut octets = [0_u8; 4];
    let (mut place, mut value, mut digits) = (0, 0_u16, 0);
    for &byte in text {
        match byte {
            b'0'..=b'9' if digits < 3 && !(digits == 1 && value == 0) => {
                value = value * 10 + u16::from(byte - b'0');
                digits += 1;
            }
            b'.' if digits > 0 && place < 3 => {
                octets[place] = u8::try_from(value).ok()?;
                (place, value, digits) = (place + 1, 0, 0);
            }
            _ => return None,
        }
    }
    octets[3] = u8::try_from(value).ok()?;
    (place == 3 && digits > 0).then(|| octets.into())
}

/// `address:port`; the address may hold colons itself, with or without brackets.
pub(super) fn with_port(text: &[u8]) -> Option<(&[u8], Option<i64>)> {
    let colon = memchr::memrchr(b':', text)?;
    let (address, port) = (&text[..colon], &text[colon + 1..]);
    Some((address, number(port).filter(|port| (1..=65_535).contains(port))))
}

/// Addresses that anyone may have: of no use to tell who came.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let is_shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_unspecified()
                || is_shared)
        }
        IpAddr::V6(v6) => {
            !(v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_unique_local()
                || v6.is_unicast_link_local())
        }
    }
}

/// Writes whoever came: `source.address`, and `source.ip` if it is an address.
pub(super) fn source(to: &mut Document, text: &[u8], privacy: Privacy) {
    write(to, "source.address", "source.ip", text, privacy);
}

/// Writes an address or name under one key, and an address under the other too.
pub(super) fn write(
    to: &mut Document,
    address_key: &str,
    ip_key: &str,
    text: &[u8],
    privacy: Privacy,
) {
    let Some(address) = ip(text) else {
        return to.text(address_key, text);
    };
    if privacy.truncate_addresses {
        let short = truncated(address);
        to.word(address_key, &short);
        to.word(ip_key, &short);
        return;
    }
    // An address that was read is ASCII without quotes.
    let text = text.strip_prefix(b"[").and_then(|text| text.strip_suffix(b"]")).unwrap_or(text);
    to.text(address_key, text);
    to.text(ip_key, text);
}

/// The net that an address is of.
pub(super) fn truncated(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            Ipv4Addr::new(a, b, c, 0).to_string()
        }
        IpAddr::V6(v6) => {
            if let Some(v4) = v6.to_ipv4_mapped() {
                return truncated(IpAddr::V4(v4));
            }
            let [a, b, c, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_names() {
        for text in
            ["1.2.3.4", "255.255.255.255", "0.0.0.0", "::1", "2001:db8::1", "::ffff:1.2.3.4"]
        {
            assert_eq!(ip(text.as_bytes()), Some(text.parse().unwrap()), "{text}");
        }
        assert_eq!(ip(b"[2001:db8::1]"), Some("2001:db8::1".parse().unwrap()));
        for text in ["", "-", "unix:", "1.2.3", "1.2.3.256", "1.2.3.4.5", "01.2.3.4", "1..2.3", "a"]
        {
            assert_eq!(ip(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_port_is_behind_the_last_colon() {
        assert_eq!(with_port(b"1.2.3.4:80"), Some((&b"1.2.3.4"[..], Some(80))));
        assert_eq!(with_port(b"::1:8080"), Some((&b"::1"[..], Some(8080))));
        assert_eq!(with_port(b"unix:1"), Some((&b"unix"[..], Some(1))));
        assert_eq!(with_port(b"a:99999"), Some((&b"a"[..], None)));
        assert_eq!(with_port(b"a"), None);
    }

    #[test]
    fn truncated_addresses_name_a_net() {
        let check = |text: &str, net: &str| assert_eq!(truncated(text.parse().unwrap()), net);
        check("203.0.113.77", "203.0.113.0");
        check("2001:db8:1:2:3::4", "2001:db8:1::");
        check("::ffff:203.0.113.77", "203.0.113.0");
    }
}
