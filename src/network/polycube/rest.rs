//! polycubed's REST interface as a client sees it: requests with a time limit, answers, and what they mean.

use std::time::Duration;

use serde_json::{Value, json};
use ureq::http;

use super::PolycubeError;

/// Where the interface lies below the daemon's address.
const ROOT: &str = "/polycube/v1/";
/// The longest answer that is read, in bytes.
const LONGEST: u64 = 4 << 20;
/// How often one request may be sent elsewhere.
const REDIRECTS: usize = 4;

/// Is the daemon at one address. A connection serves one request: nothing is ever sent over one that the other side has
/// half closed.
#[derive(Debug)]
pub(super) struct Polycubed {
    agent: ureq::Agent,
    /// `http://127.0.0.1:9000`
    origin: String,
}

/// Is what the daemon answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    request: String,
    text: String,
    /// Where else to ask.
    location: Option<String>,
}

impl Answer {
    /// Reads the body; null where it is empty or no JSON.
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// Says whether it was done.
    pub(super) fn is_good(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Says whether the daemon's words contain `words`, whatever their case: endpoints outside the services have nothing else to tell
    /// by.
    pub(super) fn says(&self, words: &str) -> bool {
        self.text.to_lowercase().contains(words)
    }

    /// Says whether what was asked for exists already.
    pub(super) fn is_existing(&self) -> bool {
        self.tag() == Some("data-exists".to_owned())
            || (self.status >= 400 && (self.says("already exist") || self.says("duplicate")))
    }

    /// Says whether what was asked for is not there.
    fn is_absent(&self) -> bool {
        self.status == 404
            || self.tag() == Some("data-missing".to_owned())
            || (self.status >= 400
                && (self.says("does not exist") || self.says("not found") || self.says("there is no")))
    }

    /// Returns the `error-tag` of a structured error.
    fn tag(&self) -> Option<String> {
        let errors = self.json();
        let first = errors.get("ietf-restconf:errors")?.get("error")?.get(0)?;
        Some(first.get("error-tag")?.as_str()?.to_owned())
    }

    /// Turns it into an error with the daemon's words.
    pub(super) fn refusal(&self) -> PolycubeError {
        let errors = self.json();
        let info = errors.pointer("/ietf-restconf:errors/error/0/error-info").and_then(Value::as_str);
        let words = info.map(str::to_owned).or_else(|| self.tag()).unwrap_or_else(|| self.text.trim().to_owned());
        let mut words: String = words.chars().take(300).filter(|letter| !letter.is_control()).collect();
        if words.is_empty() {
            words = format!("status {}", self.status);
        }
        PolycubeError::Refused { request: self.request.clone(), status: self.status, message: words }
    }
}

impl Polycubed {
    /// Makes a client. `url` is the daemon's address, with or without the path of the interface.
    pub(super) fn new(url: &str, limit: Duration) -> Result<Self, PolycubeError> {
        let wrong = |reason: &str| PolycubeError::Configuration(format!("url: `{url}` {reason}"));
        let origin = url.trim_end_matches('/').trim_end_matches(ROOT.trim_end_matches('/')).to_owned();
        let uri: http::Uri = origin.parse().map_err(|_| wrong("is no address"))?;
        if uri.scheme_str() != Some("http") || uri.authority().is_none() {
            return Err(wrong("is not of the form http://HOST:PORT"));
        }
        if uri.path() != "/" || uri.query().is_some() {
            return Err(wrong(&format!("may end in {ROOT} and nothing else")));
        }
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(limit))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_idle_connections(0)
            .proxy(None)
            .user_agent(concat!("mydocker/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self { agent: config.new_agent(), origin })
    }

    /// Asks for the daemon's version: whether it is there, and is polycubed.
    pub(super) fn probe(&self) -> Result<(), PolycubeError> {
        let answer = self.send("GET", "version", None)?;
        if answer.status == 200 && answer.json().pointer("/polycubed/version").is_some() {
            return Ok(());
        }
        let reason = match answer.status {
            200 => "the answer is not polycubed's".to_owned(),
            status => format!("answered with status {status}"),
        };
        Err(PolycubeError::Unreachable { request: answer.request, reason })
    }

    /// Reads an object; `None` where there is none.
    pub(super) fn get(&self, path: &str) -> Result<Option<Value>, PolycubeError> {
        let answer = self.send("GET", path, None)?;
        match answer.status {
            _ if answer.is_good() => Ok(Some(answer.json())),
            400 | 409 => Ok(None),
            _ if answer.is_absent() => Ok(None),
            _ => Err(answer.refusal()),
        }
    }

    /// Sends an object, and returns whatever the daemon says to it.
    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Answer, PolycubeError> {
        self.send("POST", path, Some(body))
    }

    /// Sends an object that must be taken.
    pub(super) fn post_good(&self, path: &str, body: &Value) -> Result<Value, PolycubeError> {
        let answer = self.post(path, body)?;
        if answer.is_good() { Ok(answer.json()) } else { Err(answer.refusal()) }
    }

    /// Deletes an object; that there is none is fine.
    pub(super) fn delete(&self, path: &str) -> Result<(), PolycubeError> {
        let answer = self.send("DELETE", path, None)?;
        if answer.is_good() || answer.is_absent() { Ok(()) } else { Err(answer.refusal()) }
    }

    /// Undoes a connection or an attachment; that there is none is fine.
    pub(super) fn undo(&self, path: &str, body: &Value) -> Result<(), PolycubeError> {
        let answer = self.post(path, body)?;
        let undone =
            answer.is_absent() || answer.says("not attached") || answer.says("no peer") || answer.says("not connected");
        if answer.is_good() || undone { Ok(()) } else { Err(answer.refusal()) }
    }

    /// Sends one request, again where a 308 says so: with the same method and body (RFC 9110, section 15.4.9).
    fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer, PolycubeError> {
        let mut answer = self.send_once(method, &format!("{}{ROOT}{path}", self.origin), body)?;
        for _ in 0..REDIRECTS {
            let Some(place) = answer.location.take() else { break };
            // Another host is none of ours.
            let url = if place.starts_with('/') && !place.starts_with("//") {
                format!("{}{place}", self.origin)
            } else if place.starts_with(&format!("{}/", self.origin)) {
                place
            } else {
                break;
            };
            answer = self.send_once(method, &url, body)?;
        }
        Ok(answer)
    }

    fn send_once(&self, method: &str, url: &str, body: Option<&Value>) -> Result<Answer, PolycubeError> {
        let request = format!("{method} {url}");
        let unreachable = |reason: String| PolycubeError::Unreachable { request: request.clone(), reason };
        let builder = http::Request::builder().method(method).uri(url).header("accept", "*/*");
        let sent = match body {
            Some(body) => {
                let with_body = builder.header("content-type", "application/json").body(body.to_string());
                with_body.map_err(ureq::Error::from).and_then(|request| self.agent.run(request))
            }
            None => builder.body(()).map_err(ureq::Error::from).and_then(|request| self.agent.run(request)),
        };
        let mut response = sent.map_err(|error| unreachable(reason(&error)))?;
        let header = response.headers().get("location").and_then(|place| place.to_str().ok()).map(str::to_owned);
        let status = response.status().as_u16();
        let text = response.body_mut().with_config().limit(LONGEST).lossy_utf8(true).read_to_string();
        let text = text.map_err(|error| unreachable(reason(&error)))?;
        let location = header.filter(|_| matches!(status, 307 | 308));
        Ok(Answer { status, request, text, location })
    }
}

/// Says in the kernel's words why there is no answer.
fn reason(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) => match error.kind() {
            std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            std::io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
            _ => error.to_string(),
        },
        ureq::Error::Timeout(_) => "no answer in time".to_owned(),
        other => other.to_string(),
    }
}

/// Makes the body of connect and disconnect. Both names are always sent.
pub(super) fn peers(one: &str, other: &str) -> Value {
    json!({"peer1": one, "peer2": other})
}
