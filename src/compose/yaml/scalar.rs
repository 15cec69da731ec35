//! Which type a plain scalar has. The rules are those of the YAML library that Compose uses: the core schema of YAML 1.2, with
//! `0b`, `_` inside numbers and octal numbers by a leading 0; `yes`, `no`, `on` and `off` stay text.

use super::Value;

/// Resolves a plain (unquoted) scalar.
pub(in super::super) fn resolve_plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        _ => {}
    }
    let numeric = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'));
    if !numeric || text.len() > 64 {
        return Value::Str(text.to_owned());
    }
    let plain = text.replace('_', "");
    if let Some(number) = integer(&plain) {
        return Value::Int(number);
    }
    if looks_like_float(&plain)
        && let Ok(number) = plain.parse::<f64>()
    {
        return Value::Float(number);
    }
    Value::Str(text.to_owned())
}

fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        Some(two) if two.starts_with('0') => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let magnitude = i128::from_str_radix(digits, radix).ok()?;
    i64::try_from(if negative { -magnitude } else { magnitude }).ok()
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn looks_like_float(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let sound_exponent = exponent.is_none_or(|part| {
        let digits = part.strip_prefix(['-', '+']).unwrap_or(part);
        !digits.is_empty() && all_digits(digits)
    });
    let sound_mantissa = match mantissa.split_once('.') {
        Some((whole, part)) => all_digits(whole) && all_digits(part) && !(whole.is_empty() && part.is_empty()),
        None => !mantissa.is_empty() && all_digits(mantissa),
    };
    sound_exponent && sound_mantissa
}

/// Writes a float as Go's `%v` does: shortest form, exponent from 1e21 on and below 1e-4.
pub(super) fn float_text(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e21).contains(&magnitude) {
        let text = format!("{value:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_have_compose_s_types() {
        let cases = [
            ("80", Value::Int(80)),
            ("0440", Value::Int(0o440)),
            ("0o17", Value::Int(15)),
            ("0x1F", Value::Int(31)),
            ("-1_000", Value::Int(-1000)),
            ("1.50", Value::Float(1.5)),
            (".5", Value::Float(0.5)),
            ("1e3", Value::Float(1000.0)),
            ("~", Value::Null),
            ("True", Value::Bool(true)),
            ("no", Value::Str("no".into())),
            ("80:80", Value::Str("80:80".into())),
            ("1.2.3", Value::Str("1.2.3".into())),
            ("09", Value::Float(9.0)),
            ("-", Value::Str("-".into())),
            (".", Value::Str(".".into())),
            ("1e", Value::Str("1e".into())),
        ];
        for (text, value) in cases {
            assert_eq!(resolve_plain(text), value, "{text}");
        }
    }

    #[test]
    fn floats_are_written_as_go_writes_them() {
        for (value, text) in [(1.0, "1"), (1.5, "1.5"), (1e21, "1e+21"), (0.00001, "1e-05"), (0.001, "0.001")] {
            assert_eq!(float_text(value), text);
        }
    }
}
