//! A test of the binary: a name, what it needs, a function that is given a sandbox.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use super::host::Need;
use super::sandbox::Sandbox;

/// One test.
pub(crate) struct Case {
    name: String,
    needs: Vec<Need>,
    body: Box<dyn Fn(&Sandbox) + Send>,
}

impl Case {
    /// A test that needs a sandbox and nothing else.
    pub(crate) fn new(name: &str, body: impl Fn(&Sandbox) + Send + 'static) -> Self {
        // `e2e::faults::name` → `faults::name`
        let name = name.split_once("::").map_or(name, |(_, rest)| rest);
        Self { name: name.to_owned(), needs: vec![Need::Sandbox], body: Box::new(body) }
    }

    /// Adds a need; with [`Need::Internet`] the sandbox lies in the NAT lab.
    pub(crate) fn needs(mut self, need: Need) -> Self {
        self.needs.push(need);
        self
    }

    fn trial(self) -> Trial {
        Trial::ignorable_test(self.name.clone(), move || {
            if let Some(reason) = self.needs.iter().find_map(|need| need.missing()) {
                return Ok(Completion::ignored_with(reason));
            }
            let internet = self.needs.iter().any(|need| matches!(need, Need::Internet));
            let short = self.name.rsplit("::").next().unwrap_or_default();
            let sandbox = if internet { Sandbox::with_internet(short) } else { Sandbox::new(short) };
            let body = guarded(|| (self.body)(&sandbox));
            // Looked at also after a failure that is not about leaks: both are worth knowing.
            let clean = guarded(|| sandbox.expect_clean());
            let failures: Vec<String> = [body, clean].into_iter().flatten().collect();
            if failures.is_empty() {
                return Ok(Completion::Completed);
            }
            let failures = failures.join("\n--- and then ---\n");
            Err(Failed::from(format!("{failures}\n--- what was run ---\n{}", sandbox.transcript())))
        })
    }
}

thread_local! {
    /// Place and words of the last panic of this thread, from the hook.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs `body` and returns what it panicked with.
fn guarded(body: impl FnOnce()) -> Option<String> {
    catch_unwind(AssertUnwindSafe(body)).err().map(|_| PANIC.take())
}

/// Runs the tests that the command line selects.
pub(crate) fn run_all(cases: Vec<Case>) -> ExitCode {
    run(cases, Arguments::from_args())
}

/// The same, one test after the other: for those that look at all children of this process.
pub(crate) fn run_one_by_one(cases: Vec<Case>) -> ExitCode {
    run(cases, Arguments { test_threads: Some(1), ..Arguments::from_args() })
}

fn run(cases: Vec<Case>, arguments: Arguments) -> ExitCode {
    // The message of a panic goes to the test's report, not between the lines of other tests.
    std::panic::set_hook(Box::new(|panic| PANIC.set(panic.to_string())));
    libtest_mimic::run(&arguments, cases.into_iter().map(Case::trial).collect()).exit_code()
}

/// Makes a [`Case`] of each function, named by its path.
macro_rules! cases {
    ($($body:ident $(: $need:ident $(+ $more:ident)*)?),* $(,)?) => {
        vec![$(
            $crate::support::Case::new(concat!(module_path!(), "::", stringify!($body)), $body)
                $(.needs($crate::support::Need::$need)$(.needs($crate::support::Need::$more))*)?
        ),*]
    };
}
pub(crate) use cases;
