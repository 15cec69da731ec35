//! Splits a command written as one string into words, as a POSIX shell would, without expanding anything.

/// Splits; `Err` says what is open at the end.
pub(super) fn split(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '#' if word.is_none() => while chars.next().is_some_and(|c| c != '\n') {},
            '\'' => {
                let out = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or("a single quote `'` is never closed")? {
                        '\'' => break,
                        c => out.push(c),
                    }
                }
            }
            '"' => double_quoted(&mut chars, word.get_or_insert_default())?,
            '\\' => match chars.next().ok_or("it ends with a backslash")? {
                '\n' => {}
                c => word.get_or_insert_default().push(c),
            },
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

fn double_quoted(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) -> Result<(), &'static str> {
    loop {
        match chars.next().ok_or("a double quote `\"` is never closed")? {
            '"' => return Ok(()),
            // Inside double quotes a backslash is one, unless what follows would mean something (POSIX, 2.2.3).
            '\\' => match chars.next().ok_or("a double quote `\"` is never closed")? {
                '\n' => {}
                c @ ('"' | '\\' | '$' | '`') => out.push(c),
                c => out.extend(['\\', c]),
            },
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_a_shell_s() {
        for (text, words) in [
            ("echo  hello", vec!["echo", "hello"]),
            (r#"sh -c 'a "b" \ $c'"#, vec!["sh", "-c", r#"a "b" \ $c"#]),
            (r#"a"b c"d "" ''"#, vec!["ab cd", "", ""]),
            (r#"a\ b "\$x \n \"q\"""#, vec!["a b", r#"$x \n "q""#]),
            ("", vec![]),
            ("a # comment", vec!["a"]),
            ("a#b", vec!["a#b"]),
        ] {
            assert_eq!(split(text).unwrap(), words, "{text}");
        }
        for text in ["'a", "\"a", "a\\"] {
            assert!(split(text).is_err(), "{text}");
        }
    }
}
