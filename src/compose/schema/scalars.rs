//! Scalars that may be written in more than one way.

use super::super::yaml::Value;
use crate::spec::{ByteSize, parse_duration};

/// Takes a boolean, or a string that Compose takes for one.
pub(super) fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(*value),
        Value::Str(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "y" | "yes" | "on" => Some(true),
            "false" | "n" | "no" | "off" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// Takes a whole number or a string that is one.
pub(super) fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        Value::Float(number) if number.fract() == 0.0 && number.abs() < 9e15 => Some(*number as i64),
        Value::Str(text) => text.parse().ok(),
        _ => None,
    }
}

/// Takes permission bits; a string is octal.
pub(super) fn mode(value: &Value) -> Option<i64> {
    let bits = match value {
        Value::Str(text) => i64::from_str_radix(text.strip_prefix("0o").unwrap_or(text), 8).ok()?,
        other => integer(other)?,
    };
    (0..=0o7777).contains(&bits).then_some(bits)
}

/// Takes a number or a string that is one; whole numbers stay whole.
pub(super) fn number(value: &Value) -> Option<Value> {
    match value {
        Value::Int(_) => Some(value.clone()),
        Value::Float(number) if number.is_finite() => Some(Value::Float(*number)),
        Value::Str(text) => match text.parse::<i64>() {
            Ok(number) => Some(Value::Int(number)),
            Err(_) => text.parse::<f64>().ok().filter(|n| n.is_finite()).map(Value::Float),
        },
        _ => None,
    }
}

/// Takes a size in bytes; `Err` holds the reason.
pub(super) fn bytes(value: &Value, minus_one: bool) -> Result<i64, String> {
    let text = value.scalar_text().unwrap_or_default();
    if minus_one && text == "-1" {
        return Ok(-1);
    }
    let size: ByteSize = match value {
        Value::Int(number) if *number >= 0 => return Ok(*number),
        Value::Float(number) if *number >= 0.0 && *number < 9e18 => return Ok(*number as i64),
        _ => text.parse().map_err(|error: crate::spec::SpecError| error.to_string())?,
    };
    i64::try_from(size.0).map_err(|_| format!("`{text}` is more bytes than there are"))
}

/// Takes a duration; `Err` holds the reason.
pub(super) fn duration(value: &Value) -> Result<String, String> {
    match value {
        Value::Str(text) => match parse_duration(text) {
            Ok(_) => Ok(text.clone()),
            Err(error) => Err(error.to_string()),
        },
        other => {
            let text = other.scalar_text().unwrap_or_default();
            Err(format!("`{text}` is not a duration: it has no unit"))
        }
    }
}
