//! The short form of `ports`: `[HOST_IP:][PUBLISHED:]TARGET[/PROTOCOL]`, with ranges.

use std::net::IpAddr;

use super::super::yaml::{Node, Value};
use super::Conform;
use super::short::mapping;

/// More ports than this in one entry are a mistake, and each costs a rule or a proxy.
const MAX_RANGE: u32 = 1024;

const FORM: &str =
    "write \"8080:80\", \"127.0.0.1:8080:80/tcp\", \"3000-3005:3000-3005\", or target:, published: and so on";

/// Turns one short port into as many long ones as it names.
pub(super) fn expand(node: &Node, walk: &mut Conform<'_>) -> Option<Vec<Node>> {
    let text = node.value.scalar_text()?;
    match parse(&text) {
        Ok(ports) => Some(ports.into_iter().map(|port| port.into_node(node)).collect()),
        Err(reason) => {
            let message = format!("`{text}` is not a port: {reason}");
            walk.fault(node.span, message, Some(FORM.into()));
            None
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct ShortPort {
    host_ip: Option<IpAddr>,
    published: Option<String>,
    target: u16,
    protocol: String,
}

impl ShortPort {
    fn into_node(self, at: &Node) -> Node {
        let mut fields = vec![("mode", Value::Str("ingress".into()))];
        fields.extend(self.host_ip.map(|ip| ("host_ip", Value::Str(ip.to_string()))));
        fields.push(("target", Value::Int(self.target.into())));
        fields.extend(self.published.map(|published| ("published", Value::Str(published))));
        fields.push(("protocol", Value::Str(self.protocol)));
        mapping(at, fields)
    }
}

fn parse(text: &str) -> Result<Vec<ShortPort>, String> {
    let (rest, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("the protocol is `{protocol}`, not tcp or udp"));
    }
    let (rest, target) = rest.rsplit_once(':').map_or(("", rest), |(rest, target)| (rest, target));
    let target = range(target)?;
    let (host_ip, published) = match rest.rsplit_once(':') {
        _ if rest.ends_with(']') => (Some(rest), ""),
        Some((ip, published)) => (Some(ip), published),
        None => (None, rest),
    };
    let host_ip = host_ip.filter(|ip| !ip.is_empty()).map(address).transpose()?;
    let published = if published.is_empty() { None } else { Some(range(published)?) };
    expanded(target, published, host_ip, protocol)
}

fn expanded(
    target: (u16, u16),
    published: Option<(u16, u16)>,
    host_ip: Option<IpAddr>,
    protocol: String,
) -> Result<Vec<ShortPort>, String> {
    let count = size(target);
    if count > MAX_RANGE {
        return Err(format!("it names {count} ports; at most {MAX_RANGE} can be published by one entry"));
    }
    let port = |target, published| ShortPort { host_ip, published, target, protocol: protocol.clone() };
    match published {
        None => Ok((target.0..=target.1).map(|number| port(number, None)).collect()),
        // One port of the container, any one of a range of the host.
        Some((first, last)) if count == 1 && first != last => Ok(vec![port(target.0, Some(format!("{first}-{last}")))]),
        Some(published) if size(published) != count => {
            Err(format!("the ranges differ in length: {} ports of the host, {count} of the container", size(published)))
        }
        Some((first, _)) => {
            let offsets = 0..=(target.1 - target.0);
            Ok(offsets.map(|n| port(target.0 + n, Some((first + n).to_string()))).collect())
        }
    }
}

fn size((first, last): (u16, u16)) -> u32 {
    u32::from(last) - u32::from(first) + 1
}

/// `80` or `80-90`.
pub(in super::super) fn range(text: &str) -> Result<(u16, u16), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let sound = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let all_digits = sound(first) && sound(last);
    if !all_digits && !text.is_empty() {
        return Err(format!("ports are numbers from 1 to 65535, not `{text}`"));
    }
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(format!("the range {first}-{last} runs backwards"));
    }
    Ok((first, last))
}

fn number(text: &str) -> Result<u16, String> {
    match text.parse::<u16>() {
        Ok(0) => Err("ports are numbers from 1 to 65535, not 0".into()),
        Ok(number) if text.bytes().all(|b| b.is_ascii_digit()) => Ok(number),
        _ if text.is_empty() => Err("a port number is missing".into()),
        _ => Err(format!("ports are numbers from 1 to 65535, not `{text}`")),
    }
}

fn address(text: &str) -> Result<IpAddr, String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse().map_err(|_| format!("`{text}` is not an IP address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match parse(text) {
            Err(reason) => reason,
            Ok(ports) => {
                let one = |p: &ShortPort| {
                    let ip = p.host_ip.map(|ip| format!("{ip}|")).unwrap_or_default();
                    format!("{ip}{}>{}/{}", p.published.as_deref().unwrap_or("?"), p.target, p.protocol)
                };
                ports.iter().map(one).collect::<Vec<_>>().join(" ")
            }
        }
    }

    #[test]
    fn short_forms_are_expanded() {
        for (text, wanted) in [
            ("80", "?>80/tcp"),
            ("8080:80/udp", "8080>80/udp"),
            ("127.0.0.1:8080:80", "127.0.0.1|8080>80/tcp"),
            ("127.0.0.1::80", "127.0.0.1|?>80/tcp"),
            ("[::1]:80:81", "::1|80>81/tcp"),
            ("::1:80:81", "::1|80>81/tcp"),
            ("80-82:90-92", "80>90/tcp 81>91/tcp 82>92/tcp"),
            ("80-82:90", "80-82>90/tcp"),
            ("3000-3001", "?>3000/tcp ?>3001/tcp"),
        ] {
            assert_eq!(shown(text), wanted, "{text}");
        }
    }

    #[test]
    fn wrong_ones_are_refused() {
        for (text, wanted) in [
            ("0", "ports are numbers from 1 to 65535, not 0"),
            ("65536:80", "ports are numbers from 1 to 65535, not `65536`"),
            ("-1", "ports are numbers from 1 to 65535, not `-1`"),
            ("80-90:80-85", "the ranges differ in length: 11 ports of the host, 6 of the container"),
            ("1-65535", "it names 65535 ports; at most 1024 can be published by one entry"),
            ("80:80; -j ACCEPT", "ports are numbers from 1 to 65535, not `80; -j ACCEPT`"),
            ("0.0.0.0/0 -j:80:80", "the protocol is `0 -j:80:80`, not tcp or udp"),
            ("host:80:80", "`host` is not an IP address"),
            ("90-80", "the range 90-80 runs backwards"),
            ("+80", "ports are numbers from 1 to 65535, not `+80`"),
        ] {
            assert_eq!(shown(text), wanted, "{text}");
        }
    }
}
