//! From the words of the command line to types, or to an error that says what is meant.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches};

use super::Cli;
use super::global::RunCli;
use crate::cli::exit::Family;
use crate::cli::legacy;

/// Is what a command line asks for.
#[derive(Debug)]
pub enum Parsed {
    /// A command.
    Command(Box<Cli>),
    /// A help or version text for standard output.
    Text(String),
}

/// Says what is wrong with a command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct UsageError {
    /// What is wrong, one line.
    pub message: String,
    /// What to write instead, and where all is listed.
    pub hint: Option<String>,
    /// Which exit codes hold.
    pub family: Family,
}

impl UsageError {
    /// Makes an error of a command that has the usual exit codes.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, family: Family::Plain }
    }

    /// Adds what to write instead.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Says which exit codes hold.
    #[must_use]
    pub fn of(self, family: Family) -> Self {
        Self { family, ..self }
    }
}

/// Parses the words after the program's name.
///
/// # Errors
/// [`UsageError`].
pub fn parse(words: Vec<OsString>) -> Result<Parsed, UsageError> {
    let words = utf8(words)?;
    if legacy::is_ancestor_form(&words) {
        return legacy::parse(&words);
    }
    // What is right needs no more; whatever is not, help too, is told from the whole.
    if words.first().is_some_and(|word| word == "run")
        && let Ok(matches) = RunCli::command().no_binary_name(true).try_get_matches_from(&words)
        && let Ok(cli) = RunCli::from_arg_matches(&matches)
    {
        return Ok(Parsed::Command(Box::new(cli.into())));
    }
    let matches = Cli::command().no_binary_name(true).try_get_matches_from(&words);
    match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => Ok(Parsed::Command(Box::new(cli))),
        Err(error) => usage_error(&error, &Meant::by(&words)),
    }
}

/// Paths and arguments travel as JSON between our processes, and JSON is Unicode.
fn utf8(words: Vec<OsString>) -> Result<Vec<String>, UsageError> {
    let mut good = Vec::with_capacity(words.len());
    for (at, word) in words.into_iter().enumerate() {
        match word.into_string() {
            Ok(word) => good.push(word),
            Err(word) => {
                let message = format!("argument {} is not valid UTF-8: `{}`", at + 1, shown(&word.to_string_lossy()));
                let (family, path) = if legacy::is_ancestor_form(&good) {
                    (Family::Container, "mydocker".to_owned())
                } else {
                    let meant = Meant::by(&good);
                    (meant.family, meant.path)
                };
                let hint = Some(format!("options and names are UTF-8 text; `{path} --help` lists what there is"));
                return Err(UsageError { message, hint, family });
            }
        }
    }
    Ok(good)
}

/// Is the command that a line means, even where the line cannot be parsed.
pub(in crate::cli) struct Meant {
    /// `mydocker compose up`.
    path: String,
    family: Family,
}

impl Meant {
    /// Is the ancestor's form.
    pub(in crate::cli) fn ancestor() -> Self {
        Self { path: "mydocker".into(), family: Family::Container }
    }

    /// Is the runtime.
    pub(in crate::cli) fn runtime() -> Self {
        Self { path: "mydocker-oci".into(), family: Family::Plain }
    }

    fn by(words: &[String]) -> Self {
        let mut meant = Self { path: "mydocker".into(), family: Family::Plain };
        let mut command = Cli::command();
        let mut words = words.iter().map(String::as_str);
        while let Some(word) = words.next() {
            if let Some(option) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) {
                if takes_next_word(&command, option) {
                    words.next();
                }
                continue;
            }
            let Some(found) = command.find_subcommand(word).cloned() else { break };
            meant.path = format!("{} {word}", meant.path);
            if matches!(word, "run" | "exec" | "explain") {
                meant.family = Family::Container;
            }
            command = found;
        }
        meant
    }
}

/// Says whether the value of an option (without its first dash) is the next word.
fn takes_next_word(command: &clap::Command, option: &str) -> bool {
    let is_meant = |argument: &&clap::Arg| match option.strip_prefix('-') {
        Some(long) => argument.get_long() == Some(long),
        None => option.chars().count() == 1 && argument.get_short() == option.chars().next(),
    };
    // Options that hold for every command are written down at the top alone until clap has built the tree.
    let top = Cli::command();
    let found = command.get_arguments().find(is_meant).or_else(|| top.get_arguments().find(is_meant));
    found.is_some_and(|argument| argument.get_action().takes_values())
}

/// Turns clap's finding into ours; help and version are no errors.
pub(in crate::cli) fn usage_error(error: &clap::Error, meant: &Meant) -> Result<Parsed, UsageError> {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return Ok(Parsed::Text(error.to_string()));
    }
    let context = |kind| error.get(kind).map(words_of).filter(|words| !words.is_empty());
    let first = |kind| context(kind).map(|words| shown(&words[0])).unwrap_or_default();
    let argument = first(ContextKind::InvalidArg);
    let argument = argument.split(' ').next().unwrap_or_default();
    let message = match error.kind() {
        ErrorKind::InvalidSubcommand => format!("unknown command `{}`", first(ContextKind::InvalidSubcommand)),
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            "a command is missing".into()
        }
        ErrorKind::UnknownArgument if argument.starts_with('-') => format!("unknown option `{argument}`"),
        ErrorKind::UnknownArgument => format!("unexpected argument `{argument}`"),
        ErrorKind::InvalidValue if first(ContextKind::InvalidValue).is_empty() => format!("`{argument}` needs a value"),
        ErrorKind::InvalidValue => format!("`{argument}` cannot be `{}`", first(ContextKind::InvalidValue)),
        ErrorKind::ValueValidation => {
            let cause = std::error::Error::source(error).map(|cause| format!(": {}", shown(&cause.to_string())));
            format!("`{argument}` cannot be `{}`{}", first(ContextKind::InvalidValue), cause.unwrap_or_default())
        }
        ErrorKind::MissingRequiredArgument => {
            let missing: Vec<String> = context(ContextKind::InvalidArg).unwrap_or_default();
            format!("missing: {}", missing.join(" "))
        }
        ErrorKind::ArgumentConflict => match first(ContextKind::PriorArg) {
            // clap shows the earlier one with its value: `--name <NAME>`.
            prior if prior.split(' ').next().is_none_or(|prior| prior.is_empty() || prior == argument) => {
                format!("`{argument}` is given more than once")
            }
            prior => format!("`{argument}` cannot be used with `{prior}`"),
        },
        _ => shown(error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ")),
    };
    Err(UsageError { message, hint: Some(hint(error, &meant.path)), family: meant.family })
}

fn hint(error: &clap::Error, path: &str) -> String {
    let list = |kind| error.get(kind).map(words_of).unwrap_or_default();
    let mut near = list(ContextKind::SuggestedSubcommand);
    near.extend(list(ContextKind::SuggestedArg));
    near.extend(list(ContextKind::SuggestedValue));
    let possible = list(ContextKind::ValidValue);
    let help = format!("`{path} --help` lists what there is");
    match (near.first(), possible.is_empty()) {
        (Some(near), _) => format!("did you mean `{near}`? {help}"),
        (None, false) => format!("it can be {}", possible.join(", ")),
        (None, true) => help,
    }
}

fn words_of(value: &ContextValue) -> Vec<String> {
    match value {
        ContextValue::String(word) => vec![word.clone()],
        ContextValue::Strings(words) => words.clone(),
        ContextValue::StyledStr(text) => vec![text.to_string()],
        _ => Vec::new(),
    }
}

/// Makes what somebody typed fit for one line of a terminal.
pub(in crate::cli) fn shown(text: &str) -> String {
    const LONGEST: usize = 120;
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == LONGEST {
            out.push('…');
            break;
        }
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    fn command(line: &str) -> Command {
        match parse(words(line)) {
            Ok(Parsed::Command(cli)) => cli.command,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn compose(line: &str) -> ComposeArgs {
        match command(line) {
            Command::Compose(args) => *args,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn wrong(line: &str) -> UsageError {
        match parse(words(line)) {
            Err(error) => error,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_of_the_project_and_of_the_command_are_told_apart() {
        let args = compose("compose -f a -f b -p shop --profile x up -d --scale web=3 --scale db=0 -t 5 web");
        assert_eq!((args.project.files.len(), args.project.project_name.as_deref()), (2, Some("shop")));
        let ComposeCommand::Up(up) = args.command else { panic!() };
        assert!(up.detach && !up.force_recreate);
        assert_eq!(up.scale, [("web".to_owned(), 3), ("db".to_owned(), 0)]);
        assert_eq!((up.timeout, up.services), (Some(std::time::Duration::from_secs(5)), vec!["web".to_owned()]));
        let ComposeCommand::Logs(logs) = compose("compose -f x.yaml logs -f -n 20 web").command else { panic!() };
        assert_eq!((logs.follow, logs.tail), (true, TailCount::Lines(20)));
    }

    #[test]
    fn what_follows_a_service_or_an_image_is_not_ours() {
        let ComposeCommand::Exec(exec) = compose("compose exec -T web ls -l --env -- x").command else { panic!() };
        assert_eq!(exec.words, ["web", "ls", "-l", "--env", "--", "x"]);
        let Command::Run(run) = command("run --rm -it -e A=1 root_fs sh -c true --rm -- y") else { panic!() };
        assert!(run.options.interactive && run.options.tty && run.options.rm);
        assert_eq!(run.words, ["root_fs", "sh", "-c", "true", "--rm", "--", "y"]);
        let Command::Run(run) = command("run -- root_fs -x") else { panic!() };
        assert_eq!(run.words, ["root_fs", "-x"]);
    }

    #[test]
    fn global_options_may_stand_anywhere() {
        for line in ["--run-dir /r compose ps", "compose --run-dir /r ps", "compose ps --run-dir /r"] {
            let Ok(Parsed::Command(cli)) = parse(words(line)) else { panic!("{line}") };
            assert_eq!(cli.global.run_dir.as_deref(), Some("/r".as_ref()), "{line}");
        }
    }

    #[test]
    fn every_command_s_help_has_one_example() {
        fn visit(path: &str, command: &clap::Command) {
            for sub in command.get_subcommands() {
                let path = format!("{path} {}", sub.get_name());
                let after = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(after.starts_with("Example: mydocker "), "{path}");
                visit(&path, sub);
            }
        }
        visit("mydocker", &Cli::command());
        for line in ["--help", "-h", "compose --help", "compose up -h", "run --help", "--version"] {
            assert!(matches!(parse(words(line)), Ok(Parsed::Text(_))), "{line}");
        }
    }

    #[test]
    fn wrong_lines_are_told_with_the_nearest_right_word() {
        let lines = [
            "compse up",
            "compose upp",
            "compose up --dettach",
            "compose up --scale web",
            "compose up --scale a=-1",
            "compose up --scale a=100000",
            "compose up -d -d",
            "compose up --timeout",
            "compose ps --format yaml",
            "compose kill -s SIGFOO",
            "compose version extra",
            "compose exec",
            "compose",
            "",
            "run --memory 6mm root_fs",
            "--runn-dir x compose ps",
        ];
        let told: Vec<String> = lines
            .map(|line| {
                let error = wrong(line);
                let hint = error.hint.unwrap_or_default();
                format!("{line}: {} [{:?}]\n    {hint}", error.message, error.family)
            })
            .to_vec();
        insta::assert_snapshot!(told.join("\n"), @r#"
        compse up: unknown command `compse` [Plain]
            did you mean `compose`? `mydocker --help` lists what there is
        compose upp: unknown command `upp` [Plain]
            did you mean `up`? `mydocker compose --help` lists what there is
        compose up --dettach: unknown option `--dettach` [Plain]
            did you mean `--detach`? `mydocker compose up --help` lists what there is
        compose up --scale web: `--scale` cannot be `web`: expected SERVICE=NUM [Plain]
            `mydocker compose up --help` lists what there is
        compose up --scale a=-1: `--scale` cannot be `a=-1`: `-1` is not a number of containers [Plain]
            `mydocker compose up --help` lists what there is
        compose up --scale a=100000: `--scale` cannot be `a=100000`: at most 4096 containers [Plain]
            `mydocker compose up --help` lists what there is
        compose up -d -d: `--detach` is given more than once [Plain]
            `mydocker compose up --help` lists what there is
        compose up --timeout: `--timeout` needs a value [Plain]
            `mydocker compose up --help` lists what there is
        compose ps --format yaml: `--format` cannot be `yaml` [Plain]
            it can be table, json
        compose kill -s SIGFOO: `--signal` cannot be `SIGFOO`: `SIGFOO` is not a signal (a name such as `SIGTERM` or `RTMIN+3`, or a number from 1 to 64) [Plain]
            `mydocker compose kill --help` lists what there is
        compose version extra: unexpected argument `extra` [Plain]
            `mydocker compose version --help` lists what there is
        compose exec: missing: <SERVICE> [COMMAND]... [Container]
            `mydocker compose exec --help` lists what there is
        compose: a command is missing [Plain]
            `mydocker compose --help` lists what there is
        : a command is missing [Plain]
            `mydocker --help` lists what there is
        run --memory 6mm root_fs: `--memory` cannot be `6mm`: `6mm` is not a size (a number below 16 EiB with an optional unit b, k, m, g, t or p: `512m`) [Container]
            `mydocker run --help` lists what there is
        --runn-dir x compose ps: unknown option `--runn-dir` [Plain]
            did you mean `--run-dir`? `mydocker --help` lists what there is
        "#);
    }

    #[test]
    fn text_that_is_not_utf8_or_not_fit_for_a_terminal_is_refused_cleanly() {
        use std::os::unix::ffi::OsStringExt;
        let bad = OsString::from_vec(b"a\xff".to_vec());
        let error = parse(vec!["compose".into(), "up".into(), bad.clone()]).unwrap_err();
        assert_eq!(error.message, "argument 3 is not valid UTF-8: `a\u{fffd}`");
        assert_eq!(error.family, Family::Plain);
        assert_eq!(parse(vec!["run".into(), bad.clone()]).unwrap_err().family, Family::Container);
        assert_eq!(parse(vec!["-a".into(), bad]).unwrap_err().family, Family::Container);
        let long = format!("--{}\u{1b}[2J", "x".repeat(1 << 20));
        let error = parse(vec!["compose".into(), "up".into(), long.into()]).unwrap_err();
        assert!(error.message.chars().count() < 200 && !error.message.contains('\u{1b}'));
    }
}
