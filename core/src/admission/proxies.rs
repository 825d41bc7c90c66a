//! Whose address counts where proxies stand in front: the last one that no trusted proxy has.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use ipnet::{AddrParseError, IpNet, Ipv4Net, Ipv6Net};

use crate::codec::upgrade::Request;

/// The proxies whose word about their clients' addresses is believed, and how they give it. By default there are none, and
/// nothing that a peer sends says who it is.
///
/// ```
/// use trunkline_core::admission::TrustedProxies;
/// let proxies = TrustedProxies::new(["10.0.0.0/8", "2001:db8::7"])?;
/// assert!(proxies.trusts("10.1.2.3".parse().unwrap()) && !proxies.trusts("192.0.2.1".parse().unwrap()));
/// # Ok::<(), trunkline_core::admission::BadNetwork>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    header: ForwardedHeader,
}

/// Which header the proxies add to. One is believed and not the other, which a client may have sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`: addresses, separated by commas.
    #[default]
    XForwardedFor,
    /// `Forwarded`: RFC 7239.
    Forwarded,
}

/// What is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an address or a network such as 10.0.0.0/8")]
pub struct BadNetwork;

/// Whose socket it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAddress {
    /// The last hop that is not trusted.
    Known(IpAddr),
    /// A trusted proxy itself, which speaks for nobody: its probes, say.
    Proxy,
    /// The proxies say something that cannot be read, or have passed it on too often.
    Unknown,
}

/// More proxies than this do not stand one behind the other.
const MAX_HOPS: usize = 16;

impl TrustedProxies {
    /// Proxies in these networks, which add to `X-Forwarded-For`.
    ///
    /// # Errors
    /// When one of them is neither an address nor a network.
    pub fn new<'a>(networks: impl IntoIterator<Item = &'a str>) -> Result<Self, BadNetwork> {
        let networks = networks.into_iter().map(network).collect::<Result<_, _>>()?;
        Ok(Self { networks, header: ForwardedHeader::default() })
    }

    /// The same, with the header that they add to.
    #[must_use]
    pub fn reading(self, header: ForwardedHeader) -> Self {
        Self { header, ..self }
    }

    /// Whether a peer with this address is one of them.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// Whose request it is that one of them has passed on: from the last hop back, the first that is not one of them. Nothing
    /// before that is looked at, since its sender may have made it up.
    pub fn client(&self, request: &Request<'_>) -> ClientAddress {
        let lines: Vec<&[u8]> = request.headers(self.header.name()).collect();
        let hops = lines.iter().rev().flat_map(|line| self.header.hops(line).into_iter().rev());
        for (count, hop) in hops.enumerate() {
            match hop {
                Some(address) if count < MAX_HOPS && self.trusts(address) => {}
                Some(address) if count < MAX_HOPS => return ClientAddress::Known(address),
                Some(_) | None => return ClientAddress::Unknown,
            }
        }
        ClientAddress::Proxy
    }
}

impl ForwardedHeader {
    const fn name(self) -> &'static str {
        match self {
            Self::XForwardedFor => "X-Forwarded-For",
            Self::Forwarded => "Forwarded",
        }
    }

    /// The hops of one line in their order; `None` is one that cannot be read.
    fn hops(self, line: &[u8]) -> Vec<Option<IpAddr>> {
        let members = match self {
            Self::XForwardedFor => line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).collect(),
            Self::Forwarded => split_unquoted(line, b','),
        };
        let members = members.into_iter().filter(|member| !member.is_empty());
        members.map(|member| self.hop(member)).collect()
    }

    fn hop(self, member: &[u8]) -> Option<IpAddr> {
        match self {
            Self::XForwardedFor => node(member),
            Self::Forwarded => node(forwarded_for(member)?),
        }
    }
}

/// The same in text: `x-forwarded-for` or `forwarded`, in any case.
impl FromStr for ForwardedHeader {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::XForwardedFor, Self::Forwarded]
            .into_iter()
            .find(|header| header.name().eq_ignore_ascii_case(text))
            .ok_or(())
    }
}

fn network(text: &str) -> Result<IpNet, BadNetwork> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    address.or_else(|_| text.parse()).map(|network| canonical(network.trunc())).map_err(|_: AddrParseError| BadNetwork)
}

/// As the addresses are that it is compared with: an IPv4 network that is written as an IPv6 one is the IPv4 network.
fn canonical(network: IpNet) -> IpNet {
    let mapped = |network: Ipv6Net| {
        let (address, len) = (network.addr().to_ipv4_mapped()?, network.prefix_len().checked_sub(MAPPED_PREFIX_LEN)?);
        Ipv4Net::new(address, len).ok()
    };
    match network {
        IpNet::V4(_) => network,
        IpNet::V6(v6) => mapped(v6).map_or(network, IpNet::V4),
    }
}

/// What stands before an IPv4 address in an IPv6 one: RFC 4291 section 2.5.5.2.
const MAPPED_PREFIX_LEN: u8 = 96;

/// The value of `for` in one element of RFC 7239 section 4, without its quotes; `None` where it is missing, there twice, or
/// not whole.
fn forwarded_for(element: &[u8]) -> Option<&[u8]> {
    let mut found = None;
    for pair in split_unquoted(element, b';') {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        // Every value is whole: one that is not may have swallowed what a proxy has added.
        let (name, value) = (pair.get(..at)?, unquoted(pair.get(at + 1..)?)?);
        if name.eq_ignore_ascii_case(b"for") && found.replace(value).is_some() {
            return None;
        }
    }
    found
}

/// What stands between quotes; no address needs an escape there.
fn unquoted(value: &[u8]) -> Option<&[u8]> {
    let inner = match value {
        [b'"', inner @ .., b'"'] => inner,
        bare => bare,
    };
    (!inner.contains(&b'"') && !inner.contains(&b'\\')).then_some(inner)
}

/// The parts between separators that do not stand in a quoted string. One that never ends takes the whole rest with it, so
/// that what follows is not read as something else than its sender meant.
fn split_unquoted(text: &[u8], separator: u8) -> Vec<&[u8]> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in text.iter().enumerate() {
        match *byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            byte if byte == separator && !quoted => {
                parts.push(text.get(start..at).unwrap_or_default().trim_ascii());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text.get(start..).unwrap_or_default().trim_ascii());
    parts
}

/// An address, with a port or not, in brackets or not: RFC 7239 section 6, and what proxies write.
fn node(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    let address = text.parse::<IpAddr>().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|node| node.ip()));
    address.or_else(bracketed).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::upgrade::{Head, parse_head};
    use crate::limits::Limits;

    fn client(header: ForwardedHeader, lines: &[&str]) -> ClientAddress {
        let lines: String = lines.iter().map(|line| format!("{}: {line}\r\n", header.name())).collect();
        let bytes = format!("GET / HTTP/1.1\r\nX-Other: 1.1.1.1\r\n{lines}\r\n");
        let Ok(Head::Complete { request, .. }) = parse_head(bytes.as_bytes(), &Limits::default()) else { panic!() };
        let proxies = TrustedProxies::new(["10.0.0.0/8", "2001:db8:1::/48", "192.0.2.7"]).unwrap();
        proxies.reading(header).client(&request)
    }

    fn known(text: &str) -> ClientAddress {
        ClientAddress::Known(text.parse().unwrap())
    }

    #[test]
    fn the_last_hop_that_is_not_trusted_counts_and_nothing_before_it() {
        let cases: [(&[&str], _); 13] = [
            (&["198.51.100.1"], known("198.51.100.1")),
            (&["1.1.1.1, 198.51.100.1"], known("198.51.100.1")),
            (&["1.1.1.1, 198.51.100.1, 10.0.0.2, 192.0.2.7"], known("198.51.100.1")),
            (&["1.1.1.1", "198.51.100.1 , 10.0.0.2", "2001:db8:1::5"], known("198.51.100.1")),
            (&["junk, 198.51.100.1,, ,10.0.0.2"], known("198.51.100.1")),
            (&["198.51.100.1:4711, 10.0.0.2:80"], known("198.51.100.1")),
            (&["[2001:db8:2::1]:4711, [2001:db8:1::1]"], known("2001:db8:2::1")),
            (&["::ffff:198.51.100.1, ::ffff:10.0.0.2"], known("198.51.100.1")),
            (&["198.51.100.1, unknown, 10.0.0.2"], ClientAddress::Unknown),
            (&["198.51.100.1, 10.0.0"], ClientAddress::Unknown),
            (&["10.0.0.3, 10.0.0.2"], ClientAddress::Proxy),
            (&[""], ClientAddress::Proxy),
            (&[], ClientAddress::Proxy),
        ];
        for (lines, expected) in cases {
            assert_eq!(client(ForwardedHeader::XForwardedFor, lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn forwarded_is_read_as_its_rfc_says() {
        let cases: [(&[&str], _); 14] = [
            (&["for=198.51.100.1"], known("198.51.100.1")),
            (&["For=198.51.100.1;proto=http;by=10.0.0.2, for=10.0.0.2"], known("198.51.100.1")),
            (&[r#"by="a,b;for=1.1.1.1"; for="[2001:db8:2::1]:4711""#], known("2001:db8:2::1")),
            (&["for=1.1.1.1", r#"for="198.51.100.1:80", for="[2001:db8:1::1]""#], known("198.51.100.1")),
            (&["for=198.51.100.1, for=_hidden, for=10.0.0.2"], ClientAddress::Unknown),
            (&["for=198.51.100.1, for=unknown"], ClientAddress::Unknown),
            (&["for=198.51.100.1, proto=http"], ClientAddress::Unknown),
            (&["for=198.51.100.1;for=1.1.1.1"], ClientAddress::Unknown),
            // A quote that the client has opened and not closed must not hide what the proxy added.
            (&[r#"for="1.1.1.1, for=198.51.100.1"#], ClientAddress::Unknown),
            (&[r#"for=1.1.1.1;by="x, for=198.51.100.1"#], ClientAddress::Unknown),
            (&[r#"for="1.1.1.1\", for=198.51.100.1"#], ClientAddress::Unknown),
            (&["198.51.100.1"], ClientAddress::Unknown),
            (&["for=10.0.0.3, for=10.0.0.2"], ClientAddress::Proxy),
            (&[], ClientAddress::Proxy),
        ];
        for (lines, expected) in cases {
            assert_eq!(client(ForwardedHeader::Forwarded, lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn as_many_proxies_as_allowed_are_walked_and_one_more_is_not() {
        let chain = |proxies| format!("198.51.100.1{}", ", 10.0.0.1".repeat(proxies));
        let walked = |proxies| client(ForwardedHeader::XForwardedFor, &[&chain(proxies)]);
        assert_eq!(walked(MAX_HOPS - 1), known("198.51.100.1"));
        assert_eq!(walked(MAX_HOPS), ClientAddress::Unknown);
    }

    #[test]
    fn what_is_no_network_is_refused_and_an_address_is_one() {
        for bad in ["", "10.0.0.0/33", "10.0.0", "a", "10.0.0.0/8,10.0.0.0/9", "::1/129"] {
            assert_eq!(TrustedProxies::new([bad]), Err(BadNetwork), "{bad}");
        }
        let proxies = TrustedProxies::new(["::ffff:192.0.2.1", "10.1.2.3/8"]).unwrap();
        let trusts = |text: &str| proxies.trusts(text.parse().unwrap());
        assert!(trusts("192.0.2.1") && trusts("::ffff:192.0.2.1") && trusts("10.9.9.9"));
        assert!(!trusts("192.0.2.2") && !trusts("11.0.0.0") && !trusts("::1"));
        // As a socket of both families names them.
        let mapped = TrustedProxies::new(["::ffff:10.0.0.0/104"]).unwrap();
        assert!(mapped.trusts("10.1.2.3".parse().unwrap()) && mapped.trusts("::ffff:10.1.2.3".parse().unwrap()));
        assert_eq!("FORWARDED".parse(), Ok(ForwardedHeader::Forwarded));
        assert_eq!("via".parse::<ForwardedHeader>(), Err(()));
    }

    properties! {
        /// Whatever a client sends: what its proxy adds about it is what counts, or nothing is.
        #[test]
        fn a_client_cannot_choose_its_address(text in r#"[for=;," \\.:\[\]0-9a-z]{0,60}"#, same_line in any::<bool>()) {
            for (header, added) in [
                (ForwardedHeader::XForwardedFor, "198.51.100.1, 10.0.0.2"),
                (ForwardedHeader::Forwarded, "for=198.51.100.1, for=10.0.0.2"),
            ] {
                let joined = format!("{text}, {added}");
                let lines: &[&str] = if same_line { &[&joined] } else { &[&text, added] };
                let found = client(header, lines);
                let allowed = [known("198.51.100.1"), ClientAddress::Unknown];
                prop_assert!(allowed.contains(&found), "{:?}", found);
                prop_assert!(same_line || found == allowed[0], "its own line is not touched: {found:?}");
            }
        }
    }
}
