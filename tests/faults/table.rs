//! The table in `README.md` names tests that are there, and has every row that it stands for.

use std::fs;
use std::path::Path;

use crate::support::{Case, Sandbox, cases};

/// The rows of the catalogue that this table answers for.
const ROWS: [&str; 24] = [
    "F05", "F12", "F13", "F24", "F28", "F38", "F40", "F42", "F64", "F65", "F67", "B24", "B25", "B26", "B28", "B30",
    "B32", "B33", "B35", "B36", "B37", "B40", "B65", "B67",
];

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
        .filter(|(id, ..)| id.len() == 3 && id.ends_with(|c: char| c.is_ascii_digit()))
        .collect();
    assert_eq!(rows.iter().map(|(id, ..)| *id).collect::<Vec<_>>(), ROWS);
    for (id, _, tests) in rows {
        let mut named = tests.split('`').skip(1).step_by(2).peekable();
        assert!(named.peek().is_some(), "{id} has no test");
        for test in named {
            let (file, function) = test.split_once(' ').expect("`FILE FUNCTION`");
            let text = fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{id}: {file}: {error}"));
            assert!(text.contains(&format!("fn {function}(")), "{id}: {file} has no `{function}`");
        }
    }
}
