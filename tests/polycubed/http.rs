//! As much of HTTP/1.1 as one request and one answer need.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// One request.
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) body: String,
    pub(super) has_referer: bool,
}

/// One answer.
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) kind: &'static str,
    pub(super) location: Option<String>,
    pub(super) body: String,
}

impl Response {
    /// What generated endpoints answer with.
    pub(super) fn json(status: u16, body: impl ToString) -> Self {
        Self { status, kind: "application/yang.data+json; charset=utf-8", location: None, body: body.to_string() }
    }

    pub(super) fn empty(status: u16) -> Self {
        Self { body: String::new(), ..Self::json(status, "") }
    }

    pub(super) fn plain(status: u16, words: &str) -> Self {
        Self { status, kind: "text/plain", location: None, body: words.to_owned() }
    }

    pub(super) fn redirect(location: &str) -> Self {
        Self { location: Some(location.to_owned()), ..Self::empty(308) }
    }
}

/// Reads a request; `None` where the client went away.
pub(super) fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (mut length, mut has_referer) = (0, false);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok().filter(|length| *length > 0)?;
        let header = header.trim_end().to_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        has_referer |= header.starts_with("referer:");
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method, path, body: String::from_utf8(body).ok()?, has_referer })
}

/// Writes an answer; a client that went away does not hear it.
pub(super) fn write(stream: &mut TcpStream, answer: &Response) {
    let location = answer.location.as_ref().map_or_else(String::new, |place| format!("Location: {place}\r\n"));
    let head = format!(
        "HTTP/1.1 {} Status\r\nContent-Type: {}\r\n{location}Connection: close\r\nContent-Length: {}\r\n\r\n",
        answer.status,
        answer.kind,
        answer.body.len()
    );
    let _ = stream.write_all(format!("{head}{}", answer.body).as_bytes());
}

/// Ends the connection with a reset: linger 0, socket(7).
pub(super) fn reset(stream: &TcpStream) {
    let _ = rustix::net::sockopt::set_socket_linger(stream, Some(std::time::Duration::ZERO));
}
