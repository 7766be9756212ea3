//! Classes of addresses.

use std::fmt;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

/// Addresses denied to repository hosts unless the configuration allows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressClass {
    /// This machine.
    Loopback,
    /// Not an address of any host; Linux connects to this machine instead.
    Unspecified,
    /// A link-local address.
    LinkLocal,
    /// The metadata service, where clouds serve instance credentials.
    Metadata,
    /// A multicast address.
    Multicast,
}

impl AddressClass {
    /// The class of `address`, or of an embedded IPv4 address that a translator on the route might extract; `None` for
    /// ordinary addresses.
    pub(super) fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(inner) => Self::of_v6(inner).or_else(|| embedded(address).and_then(Self::of_v4)),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Option<Self> {
        if METADATA_V4.contains(&address) {
            Some(Self::Metadata)
        } else if address.is_loopback() {
            Some(Self::Loopback)
        } else if address.octets()[0] == 0 {
            Some(Self::Unspecified)
        } else if address.is_link_local() {
            Some(Self::LinkLocal)
        } else if address.is_multicast() || address.is_broadcast() {
            Some(Self::Multicast)
        } else {
            None
        }
    }

    fn of_v6(address: Ipv6Addr) -> Option<Self> {
        if METADATA_V6.contains(&address) {
            Some(Self::Metadata)
        } else if address.is_loopback() {
            Some(Self::Loopback)
        } else if address.is_unspecified() {
            Some(Self::Unspecified)
        } else if address.is_unicast_link_local() {
            Some(Self::LinkLocal)
        } else if address.is_multicast() {
            Some(Self::Multicast)
        } else {
            None
        }
    }

    /// The configuration field that allows this class; `None` if nothing does.
    pub fn switch(self) -> Option<&'static str> {
        match self {
            Self::Loopback => Some("allowLoopback"),
            Self::LinkLocal | Self::Metadata => Some("allowLinkLocal"),
            Self::Unspecified | Self::Multicast => None,
        }
    }
}

impl fmt::Display for AddressClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "a loopback address",
            Self::Unspecified => "the unspecified address",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "the address of a cloud's metadata service",
            Self::Multicast => "a multicast or broadcast address",
        })
    }
}

/// AWS, Azure, GCP, OpenStack and others; Alibaba; Oracle; Azure's wire server.
const METADATA_V4: [Ipv4Addr; 4] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(168, 63, 129, 16),
];

/// AWS; GCP.
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

/// The IPv4 address embedded in an IPv6 address.
pub(super) fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    let join = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    let [a, b, c, d, e, f, g, h] = address.segments();
    let last = join(g, h);
    match [a, b, c, d, e, f] {
        // Compatible (RFC 4291), mapped (RFC 4291), translated (RFC 7915).
        [0, 0, 0, 0, 0, 0] | [0, 0, 0, 0, 0, 0xffff] | [0, 0, 0, 0, 0xffff, 0] => Some(last),
        // NAT64: the well-known prefix (RFC 6052) and the local one (RFC 8215).
        [0x64, 0xff9b, 0 | 1, _, _, _] => Some(last),
        // 6to4 (RFC 3056).
        [0x2002, high, low, _, _, _] => Some(join(high, low)),
        // Teredo (RFC 4380) inverts its client's address.
        [0x2001, 0, _, _, _, _] => Some(join(!g, !h)),
        // ISATAP (RFC 5214).
        [_, _, _, _, 0 | 0x200, 0x5efe] => Some(last),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s14_addresses_of_this_machine_and_its_link_are_known_in_every_packing() {
        let table = [
            ("127.0.0.1", AddressClass::Loopback),
            ("127.255.255.254", AddressClass::Loopback),
            ("::1", AddressClass::Loopback),
            ("::ffff:127.0.0.1", AddressClass::Loopback),
            ("::127.0.0.1", AddressClass::Loopback),
            ("64:ff9b::127.0.0.1", AddressClass::Loopback),
            ("64:ff9b:1::7f00:1", AddressClass::Loopback),
            ("2002:7f00:1::", AddressClass::Loopback),
            ("2001:0:1:2:3:4:80ff:fffe", AddressClass::Loopback),
            ("2001:db8::5efe:7f00:1", AddressClass::Loopback),
            ("::ffff:0:127.0.0.1", AddressClass::Loopback),
            ("0.0.0.0", AddressClass::Unspecified),
            ("0.1.2.3", AddressClass::Unspecified),
            ("::", AddressClass::Unspecified),
            ("::ffff:0.0.0.0", AddressClass::Unspecified),
            ("169.254.1.1", AddressClass::LinkLocal),
            ("fe80::1", AddressClass::LinkLocal),
            ("febf::1", AddressClass::LinkLocal),
            ("2002:a9fe:101::", AddressClass::LinkLocal),
            ("169.254.169.254", AddressClass::Metadata),
            ("::ffff:169.254.169.254", AddressClass::Metadata),
            ("100.100.100.200", AddressClass::Metadata),
            ("fd00:ec2::254", AddressClass::Metadata),
            ("224.0.0.1", AddressClass::Multicast),
            ("255.255.255.255", AddressClass::Multicast),
            ("ff02::1", AddressClass::Multicast),
        ];
        for (address, class) in table {
            assert_eq!(AddressClass::of(address.parse().unwrap()), Some(class), "{address}");
        }
    }

    #[test]
    fn ordinary_addresses_have_no_class() {
        for address in
            ["140.82.121.4", "10.0.0.1", "192.168.1.1", "2606:50c0:8000::153", "fd00::1", "64:ff9b::8c52:7904"]
        {
            assert_eq!(AddressClass::of(address.parse().unwrap()), None, "{address}");
        }
    }
}
