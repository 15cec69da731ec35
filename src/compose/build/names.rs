//! `dns`, `dns_search` and `dns_opt`.

use std::net::IpAddr;

use super::super::yaml::Node;
use super::reader::Reader;
use crate::spec::{DnsRequest, is_host_name};

/// Builds what a service says of its resolver. Everything is checked here: it becomes lines of a file.
pub(super) fn dns(reader: &mut Reader<'_>) -> DnsRequest {
    let mut request = DnsRequest::default();
    for (path, node, text) in words(reader, "dns") {
        match text.parse::<IpAddr>() {
            Ok(address) => request.servers.push(address),
            Err(_) => reader.fault(node, &path, format!("`{text}` is not an IP address"), None),
        }
    }
    for (path, node, text) in words(reader, "dns_search") {
        if text == "." || is_host_name(text.trim_end_matches('.'), 253) {
            request.search.push(text.to_owned());
        } else {
            reader.fault(node, &path, format!("`{text}` is not a domain"), Some("write `.` for none"));
        }
    }
    for (path, node, text) in words(reader, "dns_opt") {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            request.options.push(text.to_owned());
        } else {
            reader.fault(node, &path, format!("`{text}` is not an option of resolv.conf(5)"), Some("as in `ndots:2`"));
        }
    }
    request
}

/// The texts of a list, or the one text, each with its path.
fn words<'n>(reader: &Reader<'n>, key: &str) -> Vec<(String, &'n Node, &'n str)> {
    let one = reader.get(key).filter(|node| node.as_seq().is_none()).into_iter().map(|node| (key.to_owned(), node));
    let items = reader.items(key).iter().enumerate().map(|(index, node)| (format!("{key}[{index}]"), node));
    one.chain(items).filter_map(|(path, node)| Some((path, node, node.as_str()?))).collect()
}
