//! Options of `run` about names: `--hostname`, `--domainname`, `--add-host`, `--dns`, `--dns-search`, `--dns-option`. Everything is checked
//! here: it becomes lines of files.

use std::net::IpAddr;

use super::request::wrong;
use crate::cli::args::{RunOptions, UsageError, shown};
use crate::spec::{DnsRequest, HostAddress, is_host_name};

/// The longest host name that the kernel takes (sethostname(2)).
const LONGEST: usize = 64;

/// Takes a host's or a domain's name as it is, if it is one.
pub(super) fn host_name(option: &str, text: &str) -> Result<String, UsageError> {
    if is_host_name(text, LONGEST) {
        return Ok(text.to_owned());
    }
    let hint = "letters, digits, `-` and `.`, at most 64 in all (sethostname(2))";
    Err(wrong(format!("`{option} {}` is not a host name", shown(text))).hint(hint))
}

/// Reads what the container's resolver is to be told.
pub(super) fn dns(options: &RunOptions) -> Result<DnsRequest, UsageError> {
    let server = |text: &String| {
        let address = text.parse::<IpAddr>();
        address.map_err(|_| wrong(format!("`--dns {}` is not an IP address", shown(text))))
    };
    let domain = |text: &String| {
        let sound = text == "." || is_host_name(text.trim_end_matches('.'), 253);
        let bad = || wrong(format!("`--dns-search {}` is not a domain", shown(text))).hint("write `.` for none");
        sound.then(|| text.clone()).ok_or_else(bad)
    };
    let option = |text: &String| {
        let sound = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        let bad =
            || wrong(format!("`--dns-option {}` is not an option of resolv.conf(5)", shown(text))).hint("ndots:2");
        sound.then(|| text.clone()).ok_or_else(bad)
    };
    Ok(DnsRequest {
        servers: options.dns.iter().map(server).collect::<Result<_, _>>()?,
        search: options.dns_search.iter().map(domain).collect::<Result<_, _>>()?,
        options: options.dns_option.iter().map(option).collect::<Result<_, _>>()?,
    })
}

/// Reads `NAME:ADDRESS`, or `NAME:host-gateway`.
pub(super) fn extra_hosts(list: &[String]) -> Result<Vec<(String, HostAddress)>, UsageError> {
    list.iter()
        .map(|text| {
            let parts = text.split_once(['=', ':']).filter(|(name, _)| !name.is_empty());
            let bare = |ip: &str| match ip {
                "host-gateway" => Some(HostAddress::HostGateway),
                ip => ip.trim_start_matches('[').trim_end_matches(']').parse().ok().map(HostAddress::Ip),
            };
            let entry = parts.and_then(|(name, ip)| Some((name.to_owned(), bare(ip)?)));
            let sound = entry.filter(|(name, _)| !name.contains(|c: char| c.is_whitespace() || c.is_control()));
            sound.ok_or_else(|| wrong(format!("`--add-host {}` is not NAME:ADDRESS or NAME:host-gateway", shown(text))))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_with_addresses() {
        let list = |text: &str| extra_hosts(&[text.to_owned()]);
        assert_eq!(list("db:10.0.0.1").unwrap()[0], ("db".to_owned(), HostAddress::Ip("10.0.0.1".parse().unwrap())));
        assert_eq!(list("db:::1").unwrap()[0].1, HostAddress::Ip("::1".parse().unwrap()));
        assert_eq!(list("db=host-gateway").unwrap()[0].1, HostAddress::HostGateway);
        assert!(list("db").is_err() && list("a b:1.2.3.4").is_err() && list(":1.2.3.4").is_err());
    }

    #[test]
    fn what_becomes_a_line_of_a_file_is_one_word() {
        let dns = |servers: &[&str], search: &[&str], option: &[&str]| {
            let own = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
            let options = RunOptions {
                dns: own(servers),
                dns_search: own(search),
                dns_option: own(option),
                ..RunOptions::default()
            };
            super::dns(&options)
        };
        let found = dns(&["192.0.2.1", "2001:db8::1"], &["a.test", "."], &["ndots:2"]).unwrap();
        assert_eq!((found.servers.len(), found.search.len(), &found.options[..]), (2, 2, &["ndots:2".to_owned()][..]));
        assert!(dns(&["x"], &[], &[]).is_err() && dns(&[], &["a b"], &[]).is_err() && dns(&[], &[""], &[]).is_err());
        assert!(dns(&[], &[], &["a\nnameserver 6.6.6.6"]).is_err() && dns(&[], &[], &[""]).is_err());
        assert_eq!(host_name("--hostname", "a-b.c").unwrap(), "a-b.c");
        let long = "a".repeat(65);
        for bad in ["", "a b", "a\n1.2.3.4 b", "-a", &long] {
            assert!(host_name("--hostname", bad).is_err(), "{bad}");
        }
    }
}
