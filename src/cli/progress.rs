//! What happens to networks and containers, as rows of the screen on standard error.

use std::time::{Duration, Instant};

use super::args::{AnsiMode, ProgressMode};
use super::output::CursorClaim;
use super::report::say;
use super::style::{Colour, Palette, harmless};
use crate::supervisor::control::protocol::{ObjectKind, Progress, Step};

/// How often rows that are at work are drawn.
pub const FRAME: Duration = Duration::from_millis(100);
const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

/// Shows progress.
#[derive(Debug)]
pub struct ProgressScreen {
    style: Style,
    palette: Palette,
    rows: Vec<Row>,
    /// How many lines of ours stand above the cursor.
    drawn: usize,
    frames: usize,
    claim: CursorClaim,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// Rows that change in their place.
    Live,
    /// A line for each change.
    Lines,
    Quiet,
}

#[derive(Debug)]
struct Row {
    kind: ObjectKind,
    name: String,
    step: Step,
    begun: Instant,
    ended: Option<Instant>,
}

impl ProgressScreen {
    /// Chooses how to show: live rows need a terminal that may be moved about on.
    pub fn new(mode: ProgressMode, ansi: AnsiMode, is_terminal: bool, palette: Palette) -> Self {
        let style = match mode {
            ProgressMode::Quiet => Style::Quiet,
            ProgressMode::Plain => Style::Lines,
            ProgressMode::Tty => Style::Live,
            ProgressMode::Auto if is_terminal && ansi != AnsiMode::Never => Style::Live,
            ProgressMode::Auto => Style::Lines,
        };
        Self { style, palette, rows: Vec::new(), drawn: 0, frames: 0, claim: CursorClaim::default() }
    }

    /// Takes news.
    pub fn update(&mut self, news: &Progress) {
        let now = Instant::now();
        let found = self.rows.iter_mut().find(|row| row.kind == news.kind && row.name == news.name);
        match found {
            Some(row) if row.step == news.step => return,
            Some(row) => {
                // A new activity of a thing that was at rest has its own time.
                if row.ended.is_some() && !news.step.is_final() {
                    row.begun = now;
                }
                row.step = news.step;
                row.ended = news.step.is_final().then_some(now);
            }
            None => {
                let ended = news.step.is_final().then_some(now);
                let row = Row { kind: news.kind, name: harmless(&news.name), step: news.step, begun: now, ended };
                self.rows.push(row);
            }
        }
        match self.style {
            Style::Quiet => {}
            Style::Lines => {
                say(&format!(" {} {}  {}\n", kind_word(news.kind), harmless(&news.name), step_word(news.step)))
            }
            Style::Live => self.draw(),
        }
    }

    /// Draws the next picture of what is at work.
    pub fn tick(&mut self) {
        self.frames += 1;
        if self.style == Style::Live && self.rows.iter().any(|row| row.ended.is_none()) {
            self.draw();
        }
    }

    /// Returns the claim to the cursor, for whoever prints below the rows: from then on news come as lines.
    pub fn claim(&self) -> CursorClaim {
        self.claim.clone()
    }

    /// Takes the rows away, so that a message can be printed; they come again below it.
    pub fn interrupt(&mut self, message: impl FnOnce()) {
        let drawn = std::mem::take(&mut self.drawn);
        if self.style == Style::Live && drawn > 0 {
            self.claim.unless_taken(|| say(&format!("\u{1b}[{drawn}A\u{1b}[J")));
        }
        message();
        if self.style == Style::Live && !self.rows.is_empty() {
            self.draw();
        }
    }

    fn draw(&mut self) {
        let (width, height) = terminal_size();
        let text = self.picture(width, height, Instant::now());
        let up = if self.drawn > 0 { format!("\u{1b}[{}A", self.drawn) } else { String::new() };
        self.drawn = text.lines().count();
        // One write, so that no half picture is seen; each line clears what stood behind it.
        let picture = format!("{up}{}\u{1b}[J", text.replace('\n', "\u{1b}[K\n"));
        if !self.claim.unless_taken(|| say(&picture)) {
            self.style = Style::Lines;
        }
    }

    /// Renders the head line and as many rows as fit, those at work first.
    fn picture(&self, width: usize, height: usize, now: Instant) -> String {
        let done = self.rows.iter().filter(|row| row.ended.is_some()).count();
        let mut out = format!("[+] Running {done}/{}\n", self.rows.len());
        let room = height.saturating_sub(2).max(1);
        let mut shown: Vec<usize> = (0..self.rows.len()).collect();
        if shown.len() > room {
            shown.sort_by_key(|at| (self.rows[*at].ended.is_some(), std::cmp::Reverse(self.rows[*at].ended), *at));
            shown.truncate(room);
            shown.sort_unstable();
        }
        let label = |row: &Row| format!("{} {}", kind_word(row.kind), row.name);
        let longest = shown.iter().map(|at| label(&self.rows[*at]).chars().count()).max().unwrap_or(0);
        for at in shown {
            let row = &self.rows[at];
            let (mark, colour) = match row.step {
                Step::Error => ("✘", Colour::Red),
                _ if row.ended.is_some() => ("✔", Colour::Green),
                _ => (SPINNER[self.frames % SPINNER.len()], Colour::Blue),
            };
            let time = format!("{:.1}s", row.ended.unwrap_or(now).duration_since(row.begun).as_secs_f64());
            let text = format!("{:longest$}  {:<10}", label(row), step_word(row.step));
            let room = width.saturating_sub(time.len() + 5);
            let text: String = text.chars().take(room).collect();
            let gap = room.saturating_sub(text.chars().count()).min(24);
            let time = self.palette.paint(Colour::Blue, &time);
            out.push_str(&format!(" {} {text}{:gap$} {time}\n", self.palette.paint(colour, mark), ""));
        }
        out
    }
}

fn terminal_size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(rustix::stdio::stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => (80, 24),
    }
}

fn kind_word(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Network => "Network",
        ObjectKind::Volume => "Volume",
        ObjectKind::Container => "Container",
    }
}

fn step_word(step: Step) -> String {
    format!("{step:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(name: &str, step: Step) -> Progress {
        Progress { kind: ObjectKind::Container, name: name.into(), step }
    }

    fn screen() -> ProgressScreen {
        let mut screen = ProgressScreen::new(ProgressMode::Quiet, AnsiMode::Never, false, Palette::PLAIN);
        for (name, step) in [("shop-web-1", Step::Started), ("shop-db-1", Step::Waiting), ("shop-x-1", Step::Error)] {
            screen.update(&news(name, step));
        }
        screen
    }

    #[test]
    fn rows_are_compose_s() {
        let screen = screen();
        let picture = screen.picture(60, 24, screen.rows[1].begun + Duration::from_millis(1230));
        insta::assert_snapshot!(picture, @r#"
        [+] Running 2/3
         ✔ Container shop-web-1  Started                       0.0s
         ⠋ Container shop-db-1   Waiting                       1.2s
         ✘ Container shop-x-1    Error                         0.0s
        "#);
    }

    #[test]
    fn rows_at_work_come_first_where_room_is_short() {
        let screen = screen();
        let picture = screen.picture(40, 3, Instant::now());
        assert!(picture.contains("shop-db-1") && !picture.contains("shop-web-1"), "{picture}");
        assert!(picture.lines().all(|line| line.chars().count() <= 40), "{picture}");
    }

    #[test]
    fn live_rows_are_for_terminals() {
        let style = |mode, ansi, terminal| ProgressScreen::new(mode, ansi, terminal, Palette::PLAIN).style;
        assert_eq!(style(ProgressMode::Auto, AnsiMode::Auto, true), Style::Live);
        assert_eq!(style(ProgressMode::Auto, AnsiMode::Never, true), Style::Lines);
        assert_eq!(style(ProgressMode::Auto, AnsiMode::Auto, false), Style::Lines);
        assert_eq!(style(ProgressMode::Tty, AnsiMode::Auto, false), Style::Live);
    }
}
