//! An explanation for people: steps in sections, one for each process in turn.

use super::times;
use crate::cli::style::{Colour, Palette, harmless};
use crate::container::explain::{Call, Explanation, Process};
use crate::engine::explain::{LaunchExplanation, Step};

/// What a step's number has room in.
const NUMBER: usize = 5;

/// Writes it out, no line longer than `width` where words allow that.
pub(super) fn render(explanation: &LaunchExplanation, width: usize, palette: Palette) -> String {
    let id = &explanation.container;
    // It is another each time; so much of it tells one container from another.
    let short = if id.len() == 64 { format!("{}…", &id[..12]) } else { id.clone() };
    let mut out = Writer { text: String::new(), width, palette, id, short: &short };
    let calls: usize = explanation.steps.iter().map(|step| step.explanation.calls.len()).sum();
    let count = explanation.steps.len();
    out.line(0, 0, &format!("Container {}: {count} steps, up to {calls} system calls.", explanation.container));
    out.line(0, 0, "Calls are written as by strace -y; `…` is what is known only when the call is made.");
    // The step before, and the first of those of its kind.
    let (mut before, mut first): (Option<&Step>, usize) = (None, 1);
    for step in &explanation.steps {
        let process = step.explanation.process;
        if before.is_none_or(|before| before.explanation.process != process) {
            out.text.push('\n');
            out.text += &format!("{}\n", palette.paint(Colour::Bold, &format!("── {} ──", name_of(process))));
            before = None;
        }
        let same = before.filter(|before| before.explanation.kind == step.explanation.kind);
        if same.is_none() {
            first = step.number;
        }
        out.step(step, same, first);
        before = Some(step);
    }
    if let Some(run) = &explanation.run {
        out.text.push('\n');
        out.text += &format!("{}\n", palette.paint(Colour::Bold, "── times ──"));
        times::of_run(run, &explanation.steps).iter().for_each(|line| out.line(2, 4, line));
    }
    out.text
}

pub(super) fn name_of(process: Process) -> &'static str {
    match process {
        Process::Parent => "parent: mydocker",
        Process::Networks => "networks: threads of mydocker, while the child mounts",
        Process::Between => "between: a process that joins namespaces for its children",
        Process::Child => "child: the container's first process",
        Process::Program => "program: a child of the built-in init",
    }
}

struct Writer<'a> {
    text: String,
    width: usize,
    palette: Palette,
    id: &'a str,
    short: &'a str,
}

impl Writer<'_> {
    /// One step. What it has in common with the one before, where that is of the `same` kind, is not said again; `first` was the
    /// first of these.
    fn step(&mut self, step: &Step, same: Option<&Step>, first: usize) {
        let Step { number, explanation, measured } = step;
        if same.is_none() {
            self.text.push('\n');
        }
        let shown = self.palette.paint(Colour::Bold, &format!("{number:>3}"));
        let from = self.text.len();
        self.line(NUMBER, NUMBER, &explanation.step);
        self.text.replace_range(from..from + NUMBER, &format!("{shown}  "));
        if let Some(measured) = measured {
            self.coloured(Colour::Yellow, &times::of_step(measured));
        }
        self.calls(explanation, same, first);
        let news = |pick: fn(&Explanation) -> &String| {
            same.is_none_or(|before| pick(&before.explanation) != pick(explanation))
        };
        if news(|explanation| &explanation.reason) {
            self.label("why", &explanation.reason);
        }
        if news(|explanation| &explanation.without) {
            self.label("without", &explanation.without);
        }
        if !explanation.manual.is_empty() && same.is_none_or(|before| before.explanation.manual != explanation.manual) {
            self.label("see", &explanation.manual.join(", "));
        }
    }

    fn calls(&mut self, explanation: &Explanation, same: Option<&Step>, first: usize) {
        let is_known =
            |call: &Call| call.when.is_some() && same.is_some_and(|before| before.explanation.calls.contains(call));
        let mut condition = None;
        for call in explanation.calls.iter().filter(|call| !is_known(call)) {
            let when = call.when.as_deref();
            if when != condition
                && let Some(when) = when
            {
                self.coloured(Colour::Yellow, &format!("if {when}:"));
            }
            condition = when;
            let indent = NUMBER + if when.is_some() { 4 } else { 2 };
            let from = self.text.len();
            self.line(indent, indent + 4, &call.call);
            let written = self.text.split_off(from);
            for line in written.lines() {
                self.text += &format!("{}\n", self.palette.paint(Colour::Cyan, line));
            }
        }
        if explanation.calls.iter().any(is_known) {
            self.coloured(Colour::Yellow, &format!("and, if need be, the other calls of step {first}"));
        }
    }

    fn coloured(&mut self, colour: Colour, text: &str) {
        self.text += &format!("{:indent$}{}\n", "", self.palette.paint(colour, text), indent = NUMBER + 2);
    }

    fn label(&mut self, label: &str, text: &str) {
        let from = self.text.len();
        let indent = NUMBER + "without  ".len();
        self.line(indent, indent, text);
        let painted = self.palette.paint(Colour::Green, label);
        let gap = indent - NUMBER - label.len();
        self.text.replace_range(from..from + indent, &format!("{:NUMBER$}{painted}{:gap$}", "", ""));
    }

    /// Adds a text, broken where it may be: at spaces, and behind the `|` of a list of flags.
    fn line(&mut self, indent: usize, hanging: usize, text: &str) {
        let mut line = " ".repeat(indent);
        let mut is_empty = true;
        let text = harmless(text).replace('\n', "\\n").replace(self.id, self.short);
        for word in words(&text) {
            let room = word.trim_end().chars().count();
            if !is_empty && line.chars().count() + room > self.width {
                self.text += &format!("{}\n", line.trim_end());
                line = " ".repeat(hanging);
            }
            line += word;
            is_empty = false;
        }
        self.text += &format!("{}\n", line.trim_end());
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive([' ', '|'])
}
