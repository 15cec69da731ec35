//! As much of HTTP/1.1 as one request and one answer need.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// One request.
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) body: String,
    pub(super) content_type: Option<String>,
    pub(super) has_referer: bool,
}

/// How an answer is put on the wire; a client takes all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Manner {
    /// With its length, and the connection closed.
    #[default]
    Plain,
    /// With its length, and the connection kept open.
    KeptAlive,
    /// In chunks.
    Chunked,
    /// Without a length: it ends with the connection.
    UntilClosed,
    /// A few bytes at a time.
    Dribbled,
    /// With a megabyte of white space.
    Big,
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
    let (mut length, mut content_type, mut has_referer) = (0, None, false);
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
        if let Some(value) = header.strip_prefix("content-type:") {
            content_type = Some(value.trim().to_owned());
        }
        has_referer |= header.starts_with("referer:");
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method, path, body: String::from_utf8(body).ok()?, content_type, has_referer })
}

/// Writes an answer; a client that went away does not hear it.
pub(super) fn write(stream: &mut TcpStream, answer: &Response, manner: Manner) {
    let location = answer.location.as_ref().map_or_else(String::new, |place| format!("Location: {place}\r\n"));
    let mut body = answer.body.clone();
    if manner == Manner::Big && !body.is_empty() {
        body += &" ".repeat(1 << 20);
    }
    let framing = match manner {
        Manner::KeptAlive => format!("Connection: keep-alive\r\nContent-Length: {}", body.len()),
        Manner::Chunked => "Transfer-Encoding: chunked".to_owned(),
        Manner::UntilClosed => "Connection: close".to_owned(),
        // An answer of 204 has no body, and says nothing of its length.
        _ if answer.status == 204 => "Connection: close".to_owned(),
        _ => format!("Connection: close\r\nContent-Length: {}", body.len()),
    };
    if manner == Manner::Chunked {
        let half = body.len() / 2;
        let parts = [&body[..half], &body[half..]].map(str::to_owned);
        let chunk =
            |part: &String| if part.is_empty() { String::new() } else { format!("{:x}\r\n{part}\r\n", part.len()) };
        body = parts.iter().map(chunk).collect::<String>() + "0\r\n\r\n";
    }
    let head =
        format!("HTTP/1.1 {} Status\r\nContent-Type: {}\r\n{location}{framing}\r\n\r\n", answer.status, answer.kind);
    let bytes = format!("{head}{body}").into_bytes();
    let step = if manner == Manner::Dribbled { 7 } else { bytes.len() };
    for part in bytes.chunks(step) {
        if stream.write_all(part).and_then(|()| stream.flush()).is_err() {
            return;
        }
        if manner == Manner::Dribbled {
            std::thread::yield_now();
        }
    }
}

/// Ends the connection with a reset: linger 0, socket(7).
pub(super) fn reset(stream: &TcpStream) {
    let _ = rustix::net::sockopt::set_socket_linger(stream, Some(std::time::Duration::ZERO));
}
