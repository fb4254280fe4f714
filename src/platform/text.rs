//! Text that people read, some of it written by strangers: finds the characters that change how a reader sees the text
//! around them, and replaces them.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Characters that are invisible, or change how others are shown: format characters (Unicode category Cf), line and
/// paragraph separators (Zl, Zp), and the rest of those a font may ignore (`Default_Ignorable_Code_Point`).
const UNSEEN: [(u32, u32); 36] = [
    (0x00AD, 0x00AD),
    (0x034F, 0x034F),
    (0x0600, 0x0605),
    (0x061C, 0x061C),
    (0x06DD, 0x06DD),
    (0x070F, 0x070F),
    (0x0890, 0x0891),
    (0x08E2, 0x08E2),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x200B, 0x200F),
    (0x2028, 0x202E),
    (0x2060, 0x206F),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFFB),
    (0xFFFE, 0xFFFF),
    (0x110BD, 0x110BD),
    (0x110CD, 0x110CD),
    (0x13430, 0x1345F),
    (0x1BCA0, 0x1BCA3),
    (0x1D173, 0x1D17A),
    (0x1FFFE, 0x1FFFF),
    (0x2FFFE, 0x2FFFF),
    (0x3FFFE, 0x3FFFF),
    (0x4FFFE, 0x4FFFF),
    (0x5FFFE, 0x5FFFF),
    (0x6FFFE, 0x6FFFF),
    (0x7FFFE, 0x7FFFF),
    (0x8FFFE, 0x8FFFF),
    (0x9FFFE, 0x9FFFF),
    (0xAFFFE, 0xDFFFF),
    (0xE0000, 0x0010_FFFF),
];

/// Rule of [`is_name`], for the sentence that refuses a name.
pub const NAME_RULE: &str = "use 1 to 100 visible characters without spaces around them";

/// Returns true if people can give `name` to an object: one line of 1 to 100 visible characters, without a space at either end.
/// Invisible characters would make two names look alike, and a character that reverses the direction of text would mislead
/// readers.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let spaced = name.starts_with(' ') || name.ends_with(' ');
    !spaced && (1..=100).contains(&name.chars().count()) && !name.contains(is_unseen)
}

/// Returns true if a character is a command to a terminal (C0, DEL, C1) or invisible.
#[must_use]
pub fn is_unseen(character: char) -> bool {
    let code = u32::from(character);
    // Every ASCII character but a control character is visible.
    if code < 0x80 {
        return character.is_ascii_control();
    }
    character.is_control() || UNSEEN.iter().any(|&(first, last)| (first..=last).contains(&code))
}

/// Returns text with every unseen character written as JSON escapes it (`\u001b`), so that text stays text and JSON stays the
/// same JSON. Those of `kept` stay as they are.
#[must_use]
pub fn shown<'t>(text: &'t str, kept: &[char]) -> Cow<'t, str> {
    let escaped = |character: char| is_unseen(character) && !kept.contains(&character);
    if !text.contains(escaped) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if escaped(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a string does not fail.
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(character);
        }
    }
    shown.into()
}

/// Returns text with the characters escaped that HTML reads as markup, in values of attributes too.
#[must_use]
pub fn escape_html(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            character => safe.push(character),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_seen_stays_and_what_is_not_is_escaped() {
        for text in [
            "",
            "prod",
            "caf\u{e9}",
            "\u{65e5}\u{672c}",
            "\u{5d0}\u{5d1}",
            "a\u{301}",
            "\u{1f692}",
            "a\u{a0}b",
        ] {
            assert_eq!(shown(text, &[]), text);
        }
        for (text, expected) in [
            ("a\u{1b}[31m", "a\\u001b[31m"),
            ("a\u{9b}31m", "a\\u009b31m"),
            ("a\r\nb\t", "a\\u000d\\u000ab\\u0009"),
            ("\u{202e}gpj", "\\u202egpj"),
            ("a\u{200b}b\u{2028}c\u{feff}", "a\\u200bb\\u2028c\\ufeff"),
            ("\u{2066}\u{ad}\u{61c}\u{180e}", "\\u2066\\u00ad\\u061c\\u180e"),
            ("\u{e0041}", "\\udb40\\udc41"),
            ("\u{7f}\u{0}\u{3164}", "\\u007f\\u0000\\u3164"),
        ] {
            assert_eq!(shown(text, &[]), expected);
        }
        assert_eq!(shown("a\nb\u{1b}", &['\n']), "a\nb\\u001b");
    }

    #[test]
    fn json_stays_the_same_json() {
        let value = serde_json::json!({ "a\u{9b}": ["\u{202e}", "\u{1b}", "\u{e0041}", "\n", "\\u202e"] });
        for text in [value.to_string(), format!("{value:#}")] {
            let shown = shown(&text, &['\n']);
            assert!(!shown.contains(|character| is_unseen(character) && character != '\n'), "{shown}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        }
    }
}
