//! The table in `README.md` names tests that are there, and has every row.

use std::fs;
use std::path::Path;

use crate::support::{Case, Sandbox, cases};

/// How many rows each part of the checklist has.
const PARTS: [(char, usize); 5] = [('A', 15), ('B', 10), ('C', 16), ('D', 11), ('E', 13)];

pub(crate) fn cases() -> Vec<Case> {
    cases![every_row_has_its_test]
}

fn every_row_has_its_test(_: &Sandbox) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rows: Vec<(&str, &str, &str)> = include_str!("README.md")
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| ")?.strip_suffix(" |")?.splitn(3, " | ");
            Some((cells.next()?, cells.next()?, cells.next()?))
        })
        .filter(|(id, ..)| id.len() <= 3 && id.ends_with(|c: char| c.is_ascii_digit()))
        .collect();
    let wanted = PARTS.iter().flat_map(|(part, count)| (1..=*count).map(move |number| format!("{part}{number}")));
    assert_eq!(rows.iter().map(|(id, ..)| (*id).to_owned()).collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
    for (id, _, tests) in rows {
        let mut named = tests.split('`').skip(1).step_by(2).peekable();
        assert!(named.peek().is_some() || tests.starts_with("none:"), "{id} has neither a test nor a reason");
        for test in named {
            let (file, function) = test.split_once(' ').expect("`FILE FUNCTION`");
            let text = fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{id}: {file}: {error}"));
            assert!(text.contains(&format!("fn {function}(")), "{id}: {file} has no `{function}`");
        }
    }
}
