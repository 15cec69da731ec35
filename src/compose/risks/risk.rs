//! What is found, and how it is told.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::super::diagnostic::{Diagnostic, Place, Severity, escape};

/// Says how much of the host a risk gives away. The greatest is the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RiskLevel {
    /// The container can take over the host, or end it.
    High,
    /// It reads or changes what is not its own, or a barrier is missing.
    Medium,
    /// Others see more of the host than they have to.
    Low,
}

impl RiskLevel {
    /// Returns the word that is printed.
    pub fn word(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        }
    }
}

/// Is one thing that a service may do to the host, and where the file says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Risk {
    /// How much it gives away.
    pub level: RiskLevel,
    /// What kind of thing it is, one word for programs: `bind`, `capability`.
    pub kind: &'static str,
    /// The service.
    pub service: String,
    /// The key's path: `services.web.volumes[0]`.
    pub path: String,
    /// Where the value stands; `None` where no file says it.
    pub place: Option<Place>,
    /// In a few words: `bind of /etc, writable`.
    pub what: String,
    /// What the service can do with it, to go after its name.
    pub effect: String,
    /// What to write instead.
    pub instead: String,
}

impl Risk {
    /// Writes it out over a few lines.
    fn write(&self, out: &mut String) {
        let place = self.place.as_ref().map(|place| format!("{}:{}:{}: ", place.file, place.line, place.column));
        let first = format!("{}: {}{}: {}", self.level.word(), place.unwrap_or_default(), self.service, self.what);
        let effect = format!("it {}", self.effect);
        let instead = format!("instead: {}", self.instead);
        *out += &format!(
            "{}\n  in: {}\n  {}\n  {}\n",
            escape(&first),
            escape(&self.path),
            escape(&effect),
            escape(&instead)
        );
    }

    fn refusal(&self) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            message: format!("the policy `strict` refuses {}: service `{}` {}", self.what, self.service, self.effect),
            place: self.place.clone(),
            path: self.path.clone(),
            help: Some(self.instead.clone()),
            related: None,
        }
    }

    fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "level": self.level,
            "kind": self.kind,
            "service": self.service,
            "key": self.path,
            "file": self.place.as_ref().map(|place| &place.file),
            "line": self.place.as_ref().map(|place| place.line),
            "column": self.place.as_ref().map(|place| place.column),
            "what": self.what,
            "effect": self.effect,
            "instead": self.instead,
        })
    }
}

/// Is what was found in the files of one load.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// The risks, the greatest first, each level in the order of the files.
    pub risks: Vec<Risk>,
    /// A file of the load says `x-mydocker: {policy: strict}`.
    pub is_strict: bool,
}

/// How many services the warning of `up` names, and how many things of each.
const NAMED: usize = 4;

impl Judgement {
    /// Keeps what concerns some services.
    pub fn of_services(mut self, services: &BTreeSet<String>) -> Self {
        self.risks.retain(|risk| services.contains(&risk.service));
        self
    }

    fn high(&self) -> impl Iterator<Item = &Risk> {
        self.risks.iter().filter(|risk| risk.level == RiskLevel::High)
    }

    /// Writes the list for people; empty where there is nothing.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        self.risks.iter().for_each(|risk| risk.write(&mut out));
        out
    }

    /// Writes the list for programs: an array of objects.
    pub fn to_json(&self) -> String {
        let all = self.risks.iter().map(Risk::json).collect();
        serde_json::to_string_pretty(&serde_json::Value::Array(all)).unwrap_or_default()
    }

    /// Says in one line who can take over the host; `None` where nobody can.
    pub fn headline(&self) -> Option<String> {
        let mut services: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for risk in self.high() {
            services.entry(&risk.service).or_default().push(&risk.what);
        }
        if services.is_empty() {
            return None;
        }
        let some = |all: Vec<String>, between: &str| {
            let (named, more) = (&all[..all.len().min(NAMED)], all.len().saturating_sub(NAMED));
            let more = if more > 0 { format!("{between}and {more} more") } else { String::new() };
            named.join(between) + &more
        };
        let count = match services.len() {
            1 => "1 service".to_owned(),
            many => format!("{many} services"),
        };
        let each = services.into_iter().map(|(service, mut what)| {
            what.dedup();
            format!("{service}: {}", some(what.into_iter().map(str::to_owned).collect(), ", "))
        });
        Some(format!("{count} can take over this host ({})", some(each.collect(), "; ")))
    }

    /// Writes out why the policy `strict` refuses the files, each risk of the level high with its place; `None` where it does not.
    pub fn refusal(&self) -> Option<String> {
        let all: Vec<String> = self.high().map(|risk| risk.refusal().render()).collect();
        (!all.is_empty()).then(|| all.join("\n"))
    }
}
