//! Text of a systemd `EnvironmentFile` (systemd.exec(5)).
//!
//! Each value stands in double quotes. Within them systemd keeps every character, line breaks too, except that a backslash
//! goes before `"`, `\`, `` ` `` and `$`.

use zeroize::Zeroizing;

use crate::protocol::environment::signed::{EnvironmentClaims, Variable};

/// Characters that a backslash must go before.
const ESCAPED: [char; 4] = ['"', '\\', '`', '$'];

/// Returns the file of a deployment's variables. The text is wiped from memory.
pub(super) fn format(of: &EnvironmentClaims, variables: &[Variable]) -> Zeroizing<String> {
    let length: usize = variables.iter().map(|(name, value)| name.len() + 2 * value.len() + 4).sum();
    // Enough for the longest text, so that no copy of a part of it stays behind in memory.
    let mut text = Zeroizing::new(String::with_capacity(length + 256));
    text.push_str("# Written by halligand, and written again when it is changed here: version ");
    text.push_str(&of.version.to_string());
    text.push_str(" of the variables of ");
    text.push_str(of.deployment.as_str());
    text.push('\n');
    for (name, value) in variables {
        text.push_str(name);
        text.push_str("=\"");
        for char in value.chars() {
            if ESCAPED.contains(&char) {
                text.push('\\');
            }
            text.push(char);
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
    use crate::protocol::time::Time;

    fn of() -> EnvironmentClaims {
        EnvironmentClaims {
            issuer: "https://control.example".into(),
            data_plane: "dpl_a".parse().unwrap(),
            deployment: "dep_a".parse().unwrap(),
            node: "nod_a".parse().unwrap(),
            version: 7,
            iat: Time::from_unix(1_800_000_000),
        }
    }

    fn variables(pairs: &[(&str, &str)]) -> Vec<Variable> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), Zeroizing::new((*value).to_owned()))).collect()
    }

    /// Reads a file by the rules of systemd.exec(5), for quoted values.
    fn read(text: &str) -> Vec<Variable> {
        let mut rest = text;
        let mut variables = Vec::new();
        while !rest.is_empty() {
            if rest.starts_with('#') {
                rest = rest.split_once('\n').unwrap().1;
                continue;
            }
            let (name, after) = rest.split_once("=\"").unwrap();
            let (mut value, mut chars) = (String::new(), after.char_indices());
            let end = loop {
                match chars.next().unwrap() {
                    (at, '"') => break at,
                    (_, '\\') => value.push(chars.next().unwrap().1),
                    (_, char) => value.push(char),
                }
            };
            variables.push((name.to_owned(), Zeroizing::new(value)));
            rest = after[end..].strip_prefix("\"\n").unwrap();
        }
        variables
    }

    #[test]
    fn values_are_quoted_so_that_systemd_reads_them_as_they_are() {
        let text = format(&of(), &variables(&[("A", "a b"), ("B", ""), ("C", "\"\\`$x\n#=;'")]));
        let lines: Vec<&str> = text.splitn(2, '\n').collect();
        assert!(lines[0].starts_with("# ") && lines[0].contains("version 7") && lines[0].ends_with("dep_a"));
        assert_eq!(lines[1], "A=\"a b\"\nB=\"\"\nC=\"\\\"\\\\\\`\\$x\n#=;'\"\n");
    }

    proptest! {
        #[test]
        fn a_file_is_read_back_as_it_was_written(values in prop::collection::vec("[\\PC\n\r\t\"'\\\\$`#;=]{0,30}", 0..6)) {
            let named = |(number, value): (usize, &String)| (format!("K{number}"), Zeroizing::new(value.clone()));
            let wanted: Vec<Variable> = values.iter().enumerate().map(named).collect();
            prop_assert_eq!(read(&format(&of(), &wanted)), wanted);
        }
    }
}
