//! Files with environment variables: a line KEY=VALUE for each, as shells and the platform's command line read them.

use std::io::Write as _;
use std::path::Path;

use zeroize::Zeroizing;

use super::Assignment;
use crate::api::environment::EnvironmentVariable;
use crate::cli::failure::Failure;
use crate::platform::private_file::create_private;

/// Reads a file, or standard input for `-`.
pub(super) fn read(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let text = if path == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(path)
    };
    text.map(Zeroizing::new).map_err(|source| Failure::File { path: path.into(), source })
}

/// Reads the variables of a file.
pub(super) fn load(path: &Path) -> Result<Vec<Assignment>, Failure> {
    parse(&read(path)?).map_err(|line| {
        let name = path.display();
        Failure::Data(format!(
            "{name}: line {line} is no KEY=VALUE, or its quotes do not end; nothing was changed"
        ))
    })
}

/// Writes variables to a new file that only its owner can read.
pub(super) fn save(path: &Path, variables: &[EnvironmentVariable]) -> Result<(), Failure> {
    let write = || {
        let mut file = create_private(path)?;
        file.write_all(format(variables).as_bytes())
    };
    write().map_err(|source| Failure::File { path: path.into(), source })
}

/// Parses variables. Returns the number of the first line that is none.
fn parse(text: &str) -> Result<Vec<Assignment>, usize> {
    let mut variables = Vec::new();
    let mut rest = text;
    let mut number = 0;
    while !rest.is_empty() {
        number += 1;
        let start = rest.trim_start_matches([' ', '\t']);
        let line = start.split('\n').next().unwrap_or_default();
        if line.trim().is_empty() || line.starts_with('#') {
            rest = &start[(line.len() + 1).min(start.len())..];
            continue;
        }
        let (key, value) = start.split_once('=').ok_or(number)?;
        let key = key.strip_prefix("export ").unwrap_or(key).trim();
        if key.contains('\n') {
            return Err(number);
        }
        let (value, end) = parse_value(value).ok_or(number)?;
        // A quoted value may have several lines.
        number += start[..start.len() - end.len()].trim_end_matches('\n').matches('\n').count();
        variables.push(Assignment { key: key.to_owned(), value });
        rest = end;
    }
    Ok(variables)
}

/// Parses a value and returns it with what follows its line: text up to the end of the line, or text in quotes. In double
/// quotes a backslash takes the next character as it is, and `\n` is a line break.
fn parse_value(text: &str) -> Option<(Zeroizing<String>, &str)> {
    let text = text.trim_start_matches([' ', '\t']);
    let Some(quote) = text.chars().next().filter(|first| "\"'".contains(*first)) else {
        let line = text.split('\n').next().unwrap_or_default();
        return Some((Zeroizing::new(line.trim().to_owned()), &text[(line.len() + 1).min(text.len())..]));
    };
    let mut value = Zeroizing::new(String::new());
    let mut chars = text.char_indices().skip(1);
    while let Some((at, char)) = chars.next() {
        match char {
            end if end == quote => {
                let line = text[at + 1..].split('\n').next().unwrap_or_default();
                let rest = &text[at + 1 + line.len()..];
                let comment = line.trim();
                return (comment.is_empty() || comment.starts_with('#'))
                    .then(|| (value, rest.strip_prefix('\n').unwrap_or(rest)));
            }
            '\\' if quote == '"' => match chars.next()?.1 {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

/// Formats variables so that [`parse`] returns them. A variable without a value, secret or unreadable, becomes a comment.
fn format(variables: &[EnvironmentVariable]) -> String {
    let mut text = String::new();
    for EnvironmentVariable { key, value, is_unreadable, .. } in variables {
        let Some(value) = value else {
            let why = if *is_unreadable { " can't be read\n" } else { " is secret\n" };
            text.extend(["# ", key.as_str(), why]);
            continue;
        };
        let plain = |char: char| char.is_ascii_alphanumeric() || "_-+./:,@%".contains(char);
        if value.chars().all(plain) {
            text.extend([key.as_str(), "=", value, "\n"]);
            continue;
        }
        text.extend([key.as_str(), "=\""]);
        for char in value.chars() {
            match char {
                '"' | '\\' | '$' | '`' => text.extend(['\\', char]),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                other => text.push(other),
            }
        }
        text.push_str("\"\n");
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::api::instant::Instant;
    use crate::protocol::time::Time;

    fn pairs(text: &str) -> Result<Vec<(String, String)>, usize> {
        Ok(parse(text)?.into_iter().map(|one| (one.key, one.value.to_string())).collect())
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn a_file_is_read_as_others_read_it() {
        let text = "# comment\n\nA=1\n  export B = two words \nC=\nD=\"q # u\\\"o\\nt\" # e\nE='l $x \\n'\nF=a=b#c\nG=\"x\ny\"\nH=1";
        let wanted = [
            ("A", "1"),
            ("B", "two words"),
            ("C", ""),
            ("D", "q # u\"o\nt"),
            ("E", "l $x \\n"),
            ("F", "a=b#c"),
            ("G", "x\ny"),
            ("H", "1"),
        ];
        assert_eq!(pairs(text).unwrap(), wanted.map(|(key, value)| pair(key, value)));
        assert_eq!(pairs("A=1\r\nB=2\r\n").unwrap(), [pair("A", "1"), pair("B", "2")]);
        for (bad, line) in
            [("A=1\nB", 2), ("A=\"1", 1), ("A=1\n\nB='x' y\n", 3), ("A=\"1\n2\"\nB", 3), ("A", 1)]
        {
            assert_eq!(pairs(bad).unwrap_err(), line, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_saved_is_read_again(values in prop::collection::vec("[\\PC\n\r\t\"'\\\\$`# =]{0,30}", 0..6), secret in any::<bool>()) {
            let variable = |(number, value): (usize, &String)| EnvironmentVariable {
                key: format!("K{number}"),
                value: (!secret).then(|| value.clone()),
                is_secret: secret,
                is_unreadable: false,
                updated_at: Instant::from(Time::from_unix(0)),
            };
            let text = format(&values.iter().enumerate().map(variable).collect::<Vec<_>>());
            let wanted: Vec<_> = values.iter().enumerate().map(|(number, value)| pair(&format!("K{number}"), value)).collect();
            prop_assert_eq!(pairs(&text).unwrap(), if secret { Vec::new() } else { wanted });
        }
    }
}
