//! The ancestor's form: `mydocker -aUc -C 50 -I 20 -P 333 /bin/bash`.
//!
//! Its six short options are read here, because half of them mean something else in `run`; every long option of `run` may
//! stand beside them. The first word that is no option begins the command, and nothing after it is ours.

use clap::{Args, FromArgMatches};

use super::args::{
    AncestorLimits, Cli, Command, GlobalArgs, Meant, Parsed, RunArgs, RunOptions, UsageError, shown, usage_error,
};
use super::exit::Family;

/// Explains the form; `mydocker -h` shows it below the commands.
pub const HELP: &str = "\
The ancestor's form:
  mydocker -a [-U] [-c [-M BYTES] [-C PERCENT] [-P NUMBER] [-I WEIGHT]] [OPTIONS OF run] [--] COMMAND [ARGUMENT]...

  -a          make mount, uts, ipc, pid, net and cgroup namespaces (required)
  -U          and a user namespace: ids 0-65535 inside are 100000-165535 outside
  -c          limit resources; without the four below each has its default
  -M BYTES    most memory                      1-4294967296  (default 1073741824)
  -C PERCENT  CPU weight, 100 is a full share  1-100         (default 25)
  -P NUMBER   most processes and threads       10-32768      (default 64)
  -I WEIGHT   block I/O weight                 10-1000       (default 10)
  -h          show this

Example: mydocker -aUc -C 50 -I 20 -P 333 /bin/sh
";

/// Is one of the four limits.
struct Limit {
    letter: char,
    what: &'static str,
    least: u64,
    most: u64,
    default: u64,
}

const LIMITS: [Limit; 4] = [
    Limit { letter: 'M', what: "bytes of memory", least: 1, most: 4_294_967_296, default: 1_073_741_824 },
    Limit { letter: 'C', what: "percent of CPU weight", least: 1, most: 100, default: 25 },
    Limit { letter: 'P', what: "processes", least: 10, most: 32_768, default: 64 },
    Limit { letter: 'I', what: "block I/O weight", least: 10, most: 1000, default: 10 },
];

/// Says whether a command line has the ancestor's form: a short option, or one that only `run` has, before any word.
pub fn is_ancestor_form(words: &[String]) -> bool {
    let options = long_options();
    let mut has_run_option = false;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match long_option(&options, word) {
            LongOption::Known { global, value_follows } => {
                has_run_option |= !global;
                if value_follows {
                    words.next();
                }
            }
            // clap knows better what may be meant.
            LongOption::Unknown => return false,
            LongOption::Not if word == "-h" || word == "-V" || word == "--" => return has_run_option,
            LongOption::Not => return has_run_option || (word.starts_with('-') && word.len() > 1),
        }
    }
    has_run_option
}

/// Parses a command line of this form into what `run` parses to.
///
/// # Errors
/// [`UsageError`], always of the family whose code is 125.
pub fn parse(words: &[String]) -> Result<Parsed, UsageError> {
    let mut form = Form::default();
    let options = long_options();
    let mut rest = words.iter();
    let mut command: Vec<String> = Vec::new();
    while let Some(word) = rest.next() {
        match long_option(&options, word) {
            LongOption::Known { value_follows, .. } => {
                form.long.push(word.clone());
                if value_follows {
                    form.long.extend(rest.next().cloned());
                }
            }
            LongOption::Unknown if word == "--help" => return Ok(Parsed::Text(HELP.into())),
            // Left to clap, which finds the nearest one.
            LongOption::Unknown => form.long.push(word.clone()),
            LongOption::Not if word == "--" => {
                command.extend(rest.by_ref().cloned());
            }
            LongOption::Not => match word.strip_prefix('-').filter(|cluster| !cluster.is_empty()) {
                Some(cluster) => {
                    if form.short_options(cluster, &mut rest)? == Some(Wants::Help) {
                        return Ok(Parsed::Text(HELP.into()));
                    }
                }
                None => {
                    command.push(word.clone());
                    command.extend(rest.by_ref().cloned());
                }
            },
        }
    }
    form.finish(command, options)
}

#[derive(PartialEq, Eq)]
enum Wants {
    Help,
}

/// What was read so far.
#[derive(Default)]
struct Form {
    all_namespaces: bool,
    user_namespace: bool,
    limited: bool,
    limits: [Option<u64>; 4],
    long: Vec<String>,
}

impl Form {
    /// Reads `aUc` or `aC50`; a value is what is left of the word, or the next word.
    fn short_options<'a>(
        &mut self,
        cluster: &str,
        rest: &mut impl Iterator<Item = &'a String>,
    ) -> Result<Option<Wants>, UsageError> {
        for (at, letter) in cluster.char_indices() {
            match letter {
                'a' => self.all_namespaces = true,
                'U' => self.user_namespace = true,
                'c' => self.limited = true,
                'h' => return Ok(Some(Wants::Help)),
                _ => {
                    let Some(index) = LIMITS.iter().position(|limit| limit.letter == letter) else {
                        let hint = "the short options here are -a -U -c -M -C -P -I; those of `run` are written long";
                        return Err(wrong(format!("unknown option `-{}`", shown(&letter.to_string())), hint));
                    };
                    let attached = &cluster[at + 1..];
                    let value = if attached.is_empty() { rest.next().map(String::as_str) } else { Some(attached) };
                    self.limits[index] = Some(LIMITS[index].parse(value)?);
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }

    fn finish(self, command: Vec<String>, options: clap::Command) -> Result<Parsed, UsageError> {
        let matches = options.try_get_matches_from(&self.long);
        let parsed = matches
            .and_then(|matches| Ok((RunOptions::from_arg_matches(&matches)?, GlobalArgs::from_arg_matches(&matches)?)));
        let (options, global) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => return usage_error(&error, &Meant::ancestor()),
        };
        if !self.all_namespaces {
            return Err(wrong("`-a` is missing".into(), "-a makes the namespaces; `mydocker -h` shows this form"));
        }
        if let Some(limit) = LIMITS.iter().zip(self.limits).find(|(_, value)| value.is_some() && !self.limited) {
            let message = format!("`-{}` sets a limit and `-c` is missing", limit.0.letter);
            return Err(wrong(message, "-c turns limits on: -ac, or -aUc"));
        }
        if command.is_empty() {
            let hint = "mydocker -aUc -C 50 -I 20 -P 333 /bin/sh; `mydocker -h` shows this form";
            return Err(wrong("no command is given".into(), hint));
        }
        let value = |index: usize| self.limits[index].unwrap_or(LIMITS[index].default);
        let limits = AncestorLimits {
            user_namespace: self.user_namespace,
            limited: self.limited,
            memory: value(0),
            // The ranges above keep these within their types.
            cpu_percent: u8::try_from(value(1)).unwrap_or(u8::MAX),
            pids: i64::try_from(value(2)).unwrap_or(i64::MAX),
            io_weight: u16::try_from(value(3)).unwrap_or(u16::MAX),
        };
        let run = RunArgs { options, words: command, help: None, ancestor: Some(limits) };
        Ok(Parsed::Command(Box::new(Cli { global, command: Command::Run(Box::new(run)) })))
    }
}

impl Limit {
    fn parse(&self, text: Option<&str>) -> Result<u64, UsageError> {
        let expected = format!("{} from {} to {} (default {})", self.what, self.least, self.most, self.default);
        let Some(text) = text else {
            return Err(wrong(format!("`-{}` needs a value", self.letter), &format!("it takes {expected}")));
        };
        // u64's own parser takes a leading `+`.
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(number) if digits && (self.least..=self.most).contains(&number) => Ok(number),
            _ => {
                let message = format!("`-{} {}`: expected {expected}", self.letter, shown(text));
                Err(wrong(message, "`mydocker -h` shows this form"))
            }
        }
    }
}

fn wrong(message: String, hint: &str) -> UsageError {
    UsageError { message, hint: Some(hint.into()), family: Family::Container }
}

/// The long options that may stand beside the short ones.
fn long_options() -> clap::Command {
    let command = clap::Command::new("mydocker").no_binary_name(true).disable_help_flag(true);
    GlobalArgs::augment_args(RunOptions::augment_args(command))
}

enum LongOption {
    Known { global: bool, value_follows: bool },
    Unknown,
    Not,
}

fn long_option(options: &clap::Command, word: &str) -> LongOption {
    let Some(text) = word.strip_prefix("--").filter(|text| !text.is_empty()) else { return LongOption::Not };
    let name = text.split('=').next().unwrap_or(text);
    let is_meant = |argument: &&clap::Arg| {
        argument.get_long() == Some(name) || argument.get_all_aliases().unwrap_or_default().contains(&name)
    };
    match options.get_arguments().find(is_meant) {
        None => LongOption::Unknown,
        Some(argument) => LongOption::Known {
            global: argument.is_global_set(),
            value_follows: argument.get_action().takes_values() && !text.contains('='),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').filter(|word| !word.is_empty()).map(|word| word.replace("''", "")).collect()
    }

    fn run(line: &str) -> RunArgs {
        assert!(is_ancestor_form(&words(line)), "{line}");
        match parse(&words(line)) {
            Ok(Parsed::Command(cli)) => match cli.command {
                Command::Run(run) => *run,
                other => panic!("{line}: {other:?}"),
            },
            other => panic!("{line}: {other:?}"),
        }
    }

    fn wrong(line: &str) -> String {
        assert!(is_ancestor_form(&words(line)), "{line}");
        match parse(&words(line)) {
            Err(error) => {
                assert_eq!(error.family, Family::Container, "{line}");
                error.message
            }
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_ancestor_s_own_example() {
        let run = run("-aUc -C 50 -I 20 -P 333 /bin/bash");
        let expected = AncestorLimits {
            user_namespace: true,
            limited: true,
            memory: 1_073_741_824,
            cpu_percent: 50,
            pids: 333,
            io_weight: 20,
        };
        assert_eq!((run.ancestor, run.words), (Some(expected), vec!["/bin/bash".to_owned()]));
    }

    #[test]
    fn limits_alone_have_defaults_and_values_may_be_attached() {
        let limits = run("-ac sleep 5").ancestor.unwrap();
        assert_eq!((limits.cpu_percent, limits.pids, limits.io_weight), (25, 64, 10));
        assert!(!run("-a sleep 5").ancestor.unwrap().limited);
        assert_eq!(run("-acC50 -P333 x").ancestor.unwrap().pids, 333);
        assert_eq!(run("-C 50 -a -c x").ancestor.unwrap().cpu_percent, 50);
    }

    #[test]
    fn ranges_have_both_ends() {
        for line in ["-M 1", "-M 4294967296", "-C 1", "-C 100", "-P 10", "-P 32768", "-I 10", "-I 1000"] {
            run(&format!("-ac {line} x"));
        }
        for line in ["-M 0", "-M 4294967297", "-C 0", "-C 101", "-P 9", "-P 32769", "-I 9", "-I 1001"] {
            let message = wrong(&format!("-ac {line} x"));
            assert!(message.starts_with(&format!("`{line}`: expected")) && message.contains("from 1"), "{message}");
        }
        for line in ["-M 5x", "-C ''", "-P abc", "-C -5", "-M +5", "-M 99999999999999999999999"] {
            assert!(wrong(&format!("-ac {line} x")).contains("expected"), "{line}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(wrong("-U /bin/true"), "`-a` is missing");
        assert_eq!(wrong("--hostname x /bin/true"), "`-a` is missing");
        assert_eq!(wrong("-a -C 50 /bin/true"), "`-C` sets a limit and `-c` is missing");
        assert_eq!(wrong("-a"), "no command is given");
        assert_eq!(wrong("-ac -M"), "`-M` needs a value");
        assert_eq!(wrong("-ax true"), "unknown option `-x`");
        assert_eq!(wrong("-a --hostnam x true"), "unknown option `--hostnam`");
    }

    #[test]
    fn the_command_s_options_are_its_own() {
        assert_eq!(run("-a /bin/ls -l /").words, ["/bin/ls", "-l", "/"]);
        assert_eq!(run("-a -- /bin/echo -C").words, ["/bin/echo", "-C"]);
        assert_eq!(run("-a echo -- -C").words, ["echo", "--", "-C"]);
        let many = vec!["w".to_owned(); 500].join(" ");
        assert_eq!(run(&format!("-a {many}")).words.len(), 500);
    }

    #[test]
    fn long_options_of_run_stand_beside() {
        let run = run("--rootfs /r -aU --hostname=box --read-only --env A=1 --net none sh -e");
        assert_eq!(run.options.hostname.as_deref(), Some("box"));
        assert_eq!((run.options.read_only, &run.options.network[..]), (true, &["none".to_owned()][..]));
        assert_eq!((run.options.env, run.words), (vec!["A=1".to_owned()], words("sh -e")));
    }

    #[test]
    fn other_forms_are_left_alone() {
        for line in
            ["", "-h", "--help", "-V", "compose up -d", "--run-dir x compose ps -a", "--nonsense -a", "run -it x"]
        {
            assert!(!is_ancestor_form(&words(line)), "{line}");
        }
    }

    #[test]
    fn help_names_options_ranges_and_defaults() {
        for line in ["-ah", "-a -h", "-a --help"] {
            let Ok(Parsed::Text(text)) = parse(&words(line)) else { panic!("{line}") };
            for limit in &LIMITS {
                assert!(text.contains(&format!("-{} ", limit.letter)));
                assert!(text.contains(&format!("{}-{}", limit.least, limit.most)));
                assert!(text.contains(&format!("(default {})", limit.default)));
            }
        }
    }
}
