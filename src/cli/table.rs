//! One container in words, as `docker ps` and `docker compose ps` have them.

use std::fmt;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cli::style::harmless;
use crate::supervisor::control::protocol::{ContainerStatus, Health, State};

/// Is a table of containers.
#[derive(Debug)]
pub struct Listing {
    rows: Vec<[String; 7]>,
}

const HEAD: [&str; 7] = ["NAME", "IMAGE", "COMMAND", "SERVICE", "CREATED", "STATUS", "PORTS"];

impl Listing {
    /// Describes containers at a time, in seconds after the epoch.
    pub fn of(containers: &[ContainerStatus], now: i64) -> Self {
        let row = |container: &ContainerStatus| {
            let row = [
                container.name.clone(),
                container.image.clone(),
                shown_command(&container.command, 20),
                container.service.clone(),
                format!("{} ago", age(now, Some(container.created_at))),
                status_text(container, now),
                container.ports.join(", "),
            ];
            row.map(|cell| harmless(&cell).replace(['\n', '\t'], " "))
        };
        Self { rows: containers.iter().map(row).collect() }
    }
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<[String; 7]> =
            std::iter::once(HEAD.map(str::to_owned)).chain(self.rows.iter().cloned()).collect();
        f.write_str(&columns(&rows))
    }
}

/// Writes rows one below the other, each column as wide as its widest cell and three blanks.
pub fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}   "));
        cells.collect::<String>().trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// Renders `Up 5 seconds (healthy)`, `Exited (0) 3 minutes ago` and the like.
pub fn status_text(container: &ContainerStatus, now: i64) -> String {
    let code = container.exit.map_or_else(|| "unknown".to_owned(), |exit| exit.to_string());
    let ended = match container.finished_at {
        Some(_) => format!(" {} ago", age(now, container.finished_at)),
        None => String::new(),
    };
    let killed = if container.oom_killed { " (oom-killed)" } else { "" };
    match container.state {
        State::Created => "Created".to_owned(),
        State::Dead => "Dead".to_owned(),
        State::Restarting => format!("Restarting ({code}){ended}{killed}"),
        State::Exited => format!("Exited ({code}){ended}{killed}"),
        State::Running => {
            let health = match container.health {
                None => "",
                Some(Health::Starting) => " (health: starting)",
                Some(Health::Healthy) => " (healthy)",
                Some(Health::Unhealthy) => " (unhealthy)",
            };
            format!("Up {}{health}", age(now, container.started_at))
        }
    }
}

/// Tells the time since `then` in Docker's words, which grow rougher with it.
pub fn age(now: i64, then: Option<u64>) -> String {
    let then = then.and_then(|then| i64::try_from(then).ok()).unwrap_or(now);
    let seconds = now.saturating_sub(then).max(0);
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        0 => "Less than a second".into(),
        1 => "1 second".into(),
        2..60 => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".into(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".into(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 14 => format!("{} days", hours / 24),
        _ if hours < 24 * 60 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 730 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// Renders a command in quotes, cut to a length.
pub fn shown_command(words: &[String], longest: usize) -> String {
    let joined = words.join(" ");
    let text: String = if joined.chars().count() > longest {
        joined.chars().take(longest - 1).chain(['…']).collect()
    } else {
        joined
    };
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out + "\""
}

/// Names a state in Docker's word.
pub fn state_word(state: State) -> &'static str {
    match state {
        State::Created => "created",
        State::Running => "running",
        State::Restarting => "restarting",
        State::Exited => "exited",
        State::Dead => "dead",
    }
}

/// Names a health in Docker's word; empty where it is not probed.
pub fn health_word(health: Option<Health>) -> &'static str {
    match health {
        None => "",
        Some(Health::Starting) => "starting",
        Some(Health::Healthy) => "healthy",
        Some(Health::Unhealthy) => "unhealthy",
    }
}

/// Renders a time as `docker ps` does.
pub fn time(seconds: u64) -> String {
    let second = i64::try_from(seconds).ok().and_then(|second| Timestamp::from_second(second).ok());
    second.map(|time| time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string()).unwrap_or_default()
}

/// Renders one line of `ps --format json`: Compose's keys, and Pid, RestartCount, OOMKilled.
pub fn json_line(container: &ContainerStatus, now: i64) -> String {
    // A status that nobody saw must not look like success.
    let exit_code = match (container.state, container.exit) {
        (State::Running | State::Created, _) | (_, None) => 0,
        (_, Some(exit)) => exit.code().unwrap_or(-1),
    };
    let labels: Vec<String> = container.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let networks: Vec<&str> = container.addresses.keys().map(String::as_str).collect();
    json!({
        "Addresses": container.addresses,
        "Command": shown_command(&container.command, usize::MAX),
        "CreatedAt": time(container.created_at),
        "ExitCode": exit_code,
        "Health": health_word(container.health),
        "ID": container.id.as_str(),
        "Image": container.image,
        "Labels": labels.join(","),
        "Name": container.name,
        "Names": container.name,
        "Networks": networks.join(","),
        "OOMKilled": container.oom_killed,
        "Pid": container.pid.unwrap_or(0),
        "Ports": container.ports.join(", "),
        "Project": container.project,
        "Publishers": container.ports.iter().filter_map(|port| publisher(port)).collect::<Vec<_>>(),
        "RestartCount": container.restarts,
        "RunningFor": format!("{} ago", age(now, Some(container.created_at))),
        "Service": container.service,
        "State": state_word(container.state),
        "Status": status_text(container, now),
    })
    .to_string()
}

/// Takes `0.0.0.0:8080->80/tcp` apart.
fn publisher(port: &str) -> Option<Value> {
    let (published, rest) = port.split_once("->")?;
    let (target, protocol) = rest.split_once('/')?;
    let (address, number) = published.rsplit_once(':')?;
    Some(json!({
        "URL": address.trim_matches(['[', ']']),
        "TargetPort": target.parse::<u16>().ok()?,
        "PublishedPort": number.parse::<u16>().ok()?,
        "Protocol": protocol,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::ExitStatus;

    const NOW: i64 = 1_800_000_000;

    fn container(service: &str, state: State) -> ContainerStatus {
        ContainerStatus {
            id: "0123456789abcdef".repeat(4).parse().unwrap(),
            name: format!("shop-{service}-1"),
            project: "shop".into(),
            service: service.into(),
            number: 1,
            image: "root_fs".into(),
            command: ["httpd", "-f", "-h", "/srv/\"x\"/y/z"].map(str::to_owned).to_vec(),
            state,
            health: None,
            pid: None,
            exit: None,
            oom_killed: false,
            restarts: 0,
            created_at: NOW as u64 - 200,
            started_at: Some(NOW as u64 - 5),
            finished_at: None,
            ports: Vec::new(),
            addresses: [("shop_default".to_owned(), "10.11.0.2".to_owned())].into(),
            log: None,
            tty: false,
            labels: [("a".to_owned(), "b".to_owned())].into(),
            changes: 0,
        }
    }

    fn some() -> Vec<ContainerStatus> {
        let mut web = container("web", State::Running);
        web.health = Some(Health::Healthy);
        web.pid = Some(4242);
        web.ports = vec!["0.0.0.0:8080->80/tcp".into(), "[::]:8080->80/tcp".into()];
        let mut job = container("job", State::Exited);
        job.exit = Some(ExitStatus::Code(0));
        job.finished_at = Some(NOW as u64 - 180);
        let mut crash = container("crash", State::Restarting);
        crash.exit = Some(ExitStatus::Signal(9));
        crash.finished_at = Some(NOW as u64 - 2);
        crash.oom_killed = true;
        let mut lost = container("lost", State::Exited);
        lost.exit = Some(ExitStatus::Unknown);
        vec![web, job, crash, lost, container("new", State::Created)]
    }

    #[test]
    fn the_table_is_compose_s() {
        insta::assert_snapshot!(Listing::of(&some(), NOW).to_string(), @r#"
        NAME           IMAGE     COMMAND                   SERVICE   CREATED         STATUS                                        PORTS
        shop-web-1     root_fs   "httpd -f -h /srv/\"x…"   web       3 minutes ago   Up 5 seconds (healthy)                        0.0.0.0:8080->80/tcp, [::]:8080->80/tcp
        shop-job-1     root_fs   "httpd -f -h /srv/\"x…"   job       3 minutes ago   Exited (0) 3 minutes ago
        shop-crash-1   root_fs   "httpd -f -h /srv/\"x…"   crash     3 minutes ago   Restarting (137) 2 seconds ago (oom-killed)
        shop-lost-1    root_fs   "httpd -f -h /srv/\"x…"   lost      3 minutes ago   Exited (unknown)
        shop-new-1     root_fs   "httpd -f -h /srv/\"x…"   new       3 minutes ago   Created
        "#);
    }

    #[test]
    fn json_has_compose_s_keys() {
        let line: Value = serde_json::from_str(&json_line(&some()[0], NOW)).unwrap();
        assert_eq!(line["Status"], "Up 5 seconds (healthy)");
        assert_eq!((&line["State"], &line["ExitCode"], &line["Pid"]), (&json!("running"), &json!(0), &json!(4242)));
        assert_eq!(
            line["Publishers"][1],
            json!({"URL": "::", "TargetPort": 80, "PublishedPort": 8080, "Protocol": "tcp"})
        );
        assert_eq!(line["CreatedAt"], "2027-01-15 07:56:40 +0000 UTC");
        let lost: Value = serde_json::from_str(&json_line(&some()[3], NOW)).unwrap();
        assert_eq!(lost["ExitCode"], -1);
    }

    #[test]
    fn ages_grow_rougher() {
        let ages = [0, 1, 59, 60, 119, 120, 3599, 3600, 5399, 5400, 86_400 * 2, 86_400 * 14, 86_400 * 60, 86_400 * 800];
        let words: Vec<String> = ages.iter().map(|ago| age(NOW, Some((NOW - ago) as u64))).collect();
        insta::assert_snapshot!(words.join("\n"), @r"
        Less than a second
        1 second
        59 seconds
        About a minute
        About a minute
        2 minutes
        59 minutes
        About an hour
        About an hour
        2 hours
        2 days
        2 weeks
        2 months
        2 years
        ");
        assert_eq!(age(NOW, Some(NOW as u64 + 60)), "Less than a second");
    }
}
