//! `--publish`.

use std::net::IpAddr;

use super::request::wrong;
use crate::cli::args::{UsageError, shown};
use crate::network::{PortMapping, Protocol};

/// More ports than this in one option are a mistake: each costs a rule.
const MOST_PORTS: u16 = 1024;

/// Reads `[ADDRESS:][HOST-PORT:]PORT[/PROTOCOL]`, ports also as ranges.
pub(super) fn ports(text: &str) -> Result<Vec<PortMapping>, UsageError> {
    let bad = |reason: &str| {
        wrong(format!("`--publish {}`: {reason}", shown(text)))
            .hint("--publish 8080:80, 127.0.0.1:8080:80/tcp, 3000-3005:3000-3005, 53/udp")
    };
    let (rest, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return Err(bad("the protocol is not tcp or udp")),
    };
    let (rest, inside) = rest.rsplit_once(':').unwrap_or(("", rest));
    let (ip, outside) = match rest.rsplit_once(':') {
        Some((ip, outside)) => (ip, outside),
        None => ("", rest),
    };
    let ip = ip.trim_start_matches('[').trim_end_matches(']');
    let host_ip: Option<IpAddr> = match ip {
        "" => None,
        ip => Some(ip.parse().map_err(|_| bad("it does not begin with an address"))?),
    };
    let ports = "ports are numbers from 1 to 65535";
    let (first, last) = range(inside).ok_or_else(|| bad(ports))?;
    // As Docker has it, 0 is any free one.
    let is_any = matches!(outside, "" | "0");
    let outside = if is_any { None } else { Some(range(outside).ok_or_else(|| bad(ports))?) };
    if last - first >= MOST_PORTS {
        return Err(bad("it names more than 1024 ports"));
    }
    // One port of the container may go to any one of a range of the host.
    let any_of = outside.filter(|(low, high)| first == last && low < high).map(|(_, high)| high);
    if any_of.is_none() && outside.is_some_and(|(low, high)| high - low != last - first) {
        return Err(bad("the two ranges differ in length"));
    }
    let mapping = |container_port: u16| PortMapping {
        host_ip,
        host_port: outside.map(|(low, _)| low + (container_port - first)),
        host_port_to: any_of,
        container_port,
        protocol,
    };
    Ok((first..=last).map(mapping).collect())
}

/// `80` or `80-90`.
fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0 && !text.starts_with('+'));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown_ports(text: &str) -> String {
        let one = |p: &PortMapping| {
            let ip = p.host_ip.map(|ip| format!("{ip}|")).unwrap_or_default();
            format!("{ip}{}>{}/{}", p.host_port.unwrap_or(0), p.container_port, p.protocol)
        };
        ports(text).map_or_else(|error| error.message, |list| list.iter().map(one).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn ports_are_docker_s() {
        for (text, wanted) in [
            ("80", "0>80/tcp"),
            ("8080:80/udp", "8080>80/udp"),
            ("127.0.0.1:8080:80", "127.0.0.1|8080>80/tcp"),
            ("127.0.0.1::80", "127.0.0.1|0>80/tcp"),
            ("[::1]:80:81/tcp", "::1|80>81/tcp"),
            ("80-81:90-91", "80>90/tcp 81>91/tcp"),
            ("80-81", "0>80/tcp 0>81/tcp"),
            ("127.0.0.1:80-81:90-91/UDP", "127.0.0.1|80>90/udp 127.0.0.1|81>91/udp"),
            ("0:80", "0>80/tcp"),
            ("0.0.0.0::80", "0.0.0.0|0>80/tcp"),
        ] {
            assert_eq!(shown_ports(text), wanted, "{text}");
        }
        for bad in [
            "",
            "0",
            "x",
            "1:2:3:4",
            "80/sctp",
            "70000",
            "80-82:90-91",
            "9-8",
            "1-65535",
            "+80",
            "-1",
            "0:0",
            "1-2:0",
            "::",
            "x:80:80",
            "80-81:80-81:80",
        ] {
            assert!(ports(bad).is_err(), "{bad}: {}", shown_ports(bad));
        }
    }
}
