use super::super::diagnostic::suggest;
use super::super::model::Logging;
use super::reader::Reader;

const DRIVERS: [&str; 3] = ["json-file", "local", "none"];
/// What Docker's two drivers of files know besides the two that we act on.
const LEFT_OUT: [&str; 8] =
    ["compress", "labels", "labels-regex", "env", "env-regex", "tag", "mode", "max-buffer-size"];
/// The driver `local` rotates also where nobody asks for it.
const LOCAL_SIZE: u64 = 20_000_000;
const LOCAL_FILES: u64 = 5;

/// Builds `logging`. The log is the same for json-file and local, mydocker's own files; they differ in what is kept
/// unless the options say so.
pub(super) fn logging(reader: &mut Reader<'_>) -> Logging {
    let Some(mut below) = reader.below("logging") else { return Logging::default() };
    let driver = below.string("driver").unwrap_or_default();
    match driver.as_str() {
        "none" => {
            if let Some(node) = below.get("options").filter(|_| !below.pairs("options").is_empty()) {
                below.warn(node, "options", "a log that is not kept has no options: they are left out".into(), None);
            }
            Logging::Nothing
        }
        "local" => files(&mut below, Some((LOCAL_SIZE, LOCAL_FILES))),
        "" | "json-file" => files(&mut below, None),
        other => {
            if let Some(node) = below.get("driver") {
                let near = suggest(other, DRIVERS);
                let help = near.unwrap_or_else(|| "there are json-file, local and none".to_owned());
                below.fault(node, "driver", format!("there is no log driver `{other}`"), Some(&help));
            }
            Logging::default()
        }
    }
}

/// Reads what `run --log-driver --log-opt` say: the same as `logging` of a service.
///
/// # Errors
/// One line: what is wrong with which option.
pub fn logging_of(driver: &str, options: &[(&str, &str)]) -> Result<Logging, String> {
    let (mut size, mut count) = match driver {
        "none" if options.is_empty() => return Ok(Logging::Nothing),
        "none" => return Err("a log that is not kept has no options".to_owned()),
        "local" => (Some(LOCAL_SIZE), Some(LOCAL_FILES)),
        "" | "json-file" => (None, None),
        other => return Err(format!("there is no log driver `{other}`: there are {}", DRIVERS.join(", "))),
    };
    for (key, text) in options {
        match *key {
            "max-size" => {
                let bytes = decimal_size(text).filter(|bytes| *bytes > 0);
                size = Some(bytes.ok_or_else(|| format!("`{text}` is not a size of a log file: write `10m`"))?);
            }
            "max-file" => {
                let files = text.parse::<u64>().ok().filter(|count| *count > 0);
                count = Some(files.ok_or_else(|| format!("`{text}` is not a number of files from 1"))?);
            }
            other if LEFT_OUT.contains(&other) => {}
            other => return Err(format!("there is no option `{other}` of a log")),
        }
    }
    Ok(kept(size, count))
}

fn files(reader: &mut Reader<'_>, default: Option<(u64, u64)>) -> Logging {
    let (mut size, mut count) = (default.map(|(size, _)| size), default.map(|(_, count)| count));
    let Some(mut options) = reader.below("options") else { return kept(size, count) };
    let mut left_out = Vec::new();
    for (key, entry) in options.node.as_map().into_iter().flatten() {
        let text = entry.node.value.scalar_text().unwrap_or_default();
        match key.as_str() {
            "max-size" => match decimal_size(&text).filter(|size| *size > 0) {
                Some(bytes) => size = Some(bytes),
                None => {
                    let help = "write `10m` for ten million bytes, as Docker counts here";
                    options.fault(&entry.node, key, format!("`{text}` is not a size of a log file"), Some(help));
                }
            },
            "max-file" => match text.parse::<u64>().ok().filter(|count| *count > 0) {
                Some(files) => count = Some(files),
                None => options.fault(&entry.node, key, format!("`{text}` is not a number of files from 1"), None),
            },
            key if LEFT_OUT.contains(&key) => left_out.push(key),
            _ => {
                let help = suggest(key, LEFT_OUT.into_iter().chain(["max-size", "max-file"]));
                options.fault(&entry.node, key, format!("there is no option `{key}` of a log"), help.as_deref());
            }
        }
    }
    if !left_out.is_empty() {
        let message = format!("options of the log that are not acted on are left out: {}", left_out.join(", "));
        options.warn(options.node, "", message, None);
    }
    if size.is_none() && count.is_some_and(|count| count > 1) {
        let message = "`max-file` does nothing without `max-size`: the first file takes everything".to_owned();
        options.warn(options.node, "max-file", message, Some("add `max-size: 10m`"));
    }
    kept(size, count)
}

fn kept(size: Option<u64>, count: Option<u64>) -> Logging {
    size.map_or(Logging::Everything, |max_size| Logging::Rotated { max_size, max_files: count.unwrap_or(1) })
}

/// Parses a size as Docker does for logs, in powers of 1000.
fn decimal_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1_000,
        "m" | "mb" | "mib" => 1_000_000,
        "g" | "gb" | "gib" => 1_000_000_000,
        "t" | "tb" | "tib" => 1_000_000_000_000,
        _ => return None,
    };
    match number.parse::<u64>() {
        Ok(whole) => whole.checked_mul(factor),
        Err(_) => number.parse::<f64>().ok().map(|number| (number * factor as f64) as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_run_are_those_of_a_service() {
        let rotated = |max_size, max_files| Ok(Logging::Rotated { max_size, max_files });
        assert_eq!(logging_of("", &[]), Ok(Logging::Everything));
        assert_eq!(logging_of("none", &[]), Ok(Logging::Nothing));
        assert_eq!(logging_of("local", &[("max-file", "2")]), rotated(LOCAL_SIZE, 2));
        assert_eq!(logging_of("json-file", &[("max-size", "1k"), ("tag", "x")]), rotated(1000, 1));
        for (driver, key) in [("syslog", "max-size"), ("none", "max-size"), ("", "max-siz")] {
            assert!(logging_of(driver, &[(key, "1k")]).is_err(), "{driver} {key}");
        }
        assert!(logging_of("", &[("max-size", "0")]).is_err() && logging_of("", &[("max-file", "x")]).is_err());
    }

    #[test]
    fn sizes_of_logs_are_decimal() {
        for (text, size) in [("10m", 10_000_000), ("1k", 1000), ("1.5KB", 1500), ("200", 200), ("2 GiB", 2_000_000_000)]
        {
            assert_eq!(decimal_size(text), Some(size), "{text}");
        }
        for text in ["", "m", "-1", "10x", "1..5m"] {
            assert_eq!(decimal_size(text), None, "{text}");
        }
    }
}
