//! `--format '{{.State.Status}}'`: the part of Go's templates that people write, over a JSON value.

use serde_json::Value;

use crate::cli::args::{UsageError, shown};

/// Fills in a template. `{{.A.B}}` is the value at that path, `{{json .A}}` the same as JSON; `\t` and `\n` are what they are in Go.
///
/// # Errors
/// [`UsageError`]: anything else between the braces, or a path that is not there.
pub(super) fn render(template: &str, value: &Value) -> Result<String, UsageError> {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(&unescape(before));
        let bad = || {
            UsageError::new(format!("`{}` is not a template that is understood", shown(template)))
                .hint("`{{.State.Pid}}` and `{{json .Config}}` are; `json` prints everything")
        };
        let (inner, behind) = after.split_once("}}").ok_or_else(bad)?;
        let inner = inner.trim().trim_matches('-').trim();
        let (as_json, path) = match inner.strip_prefix("json ") {
            Some(path) => (true, path.trim()),
            None => (false, inner),
        };
        let path = path.strip_prefix('.').filter(|path| !path.contains(char::is_whitespace)).ok_or_else(bad)?;
        let found = path.split('.').filter(|key| !key.is_empty()).try_fold(value, |value, key| value.get(key));
        let found = found.ok_or_else(|| UsageError::new(format!("there is no `.{}` to show", shown(path))))?;
        out.push_str(&if as_json { found.to_string() } else { text(found) });
        rest = behind;
    }
    out.push_str(&unescape(rest));
    Ok(out)
}

/// Lists the keys that a template names, in order.
pub(super) fn keys(template: &str) -> Vec<String> {
    let parts = template.split("{{").skip(1).filter_map(|part| part.split_once("}}"));
    parts.map(|(inner, _)| inner.trim().trim_start_matches("json ").trim().trim_start_matches('.').to_owned()).collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "<no value>".to_owned(),
        other => other.to_string(),
    }
}

fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_are_filled_in() {
        let value = json!({"A": {"B": "x", "N": 7, "T": true, "L": ["a"]}, "Z": null});
        let of = |template: &str| render(template, &value).unwrap();
        assert_eq!(of("{{.A.B}}\\t{{ .A.N }}/{{.A.T}}"), "x\t7/true");
        assert_eq!(
            (of("{{json .A.L}}"), of("{{.A.L}}"), of("{{.Z}}"), of("plain")),
            ("[\"a\"]".into(), "[\"a\"]".into(), "<no value>".into(), "plain".into())
        );
        assert!(of("{{json .}}").starts_with("{\"A\""));
        for bad in ["{{.A.C}}", "{{.A", "{{range .A}}", "{{}}", "{{if .A}}x{{end}}"] {
            assert!(render(bad, &value).is_err(), "{bad}");
        }
        assert_eq!(keys("{{.ID}}\t{{json .Names}}"), ["ID", "Names"]);
    }
}
