//! Redaction of texts that leave the host. Nothing that goes into a bundle should contain a secret; this removes
//! secrets that somebody wrote where they do not belong.

use std::borrow::Cow;

const TAKEN_OUT: &str = "[taken out]";

/// Removes tokens, private keys, passwords in URLs, and values whose names mark them as secret.
pub(super) fn redact(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut in_key = false;
    for line in text.split_inclusive('\n') {
        if line.contains("PRIVATE KEY-----") && line.contains("-----BEGIN") {
            // A key may be on one line, as in a journal's JSON, or on several. The rest of its last line is removed
            // with it.
            in_key = !line.contains("-----END");
            clean.push_str("[a private key was taken out]\n");
        } else if in_key {
            in_key = !line.contains("-----END");
        } else {
            clean.push_str(&words(&assignment(line)));
        }
    }
    clean
}

/// Matches `name = "value"` or `"name": "value"` with a name that marks the value as secret.
fn assignment(line: &str) -> Cow<'_, str> {
    let Some(at) = line.find(['=', ':']) else { return line.into() };
    let (name, value) = line.split_at(at);
    let name = name.trim().trim_matches(['"', '#', ' ', '{', ',']).to_ascii_lowercase();
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    let secret = ["password", "passphrase", "secret", "token", "api_key", "apikey", "authorization"]
        .iter()
        .any(|word| name.ends_with(word));
    if plain && secret && !value[1..].trim().is_empty() {
        let end = if line.ends_with('\n') { "\n" } else { "" };
        format!("{}{} {TAKEN_OUT}{end}", &line[..at], &value[..1]).into()
    } else {
        line.into()
    }
}

/// Removes the words of a line that have the form of a secret.
fn words(line: &str) -> String {
    let mut clean = String::with_capacity(line.len());
    let part_of_word = |c: char| c.is_ascii_alphanumeric() || "._-~+/=:@%".contains(c);
    let mut rest = line;
    while !rest.is_empty() {
        let (word, after) = rest.split_at(rest.find(|c| !part_of_word(c)).unwrap_or(rest.len()));
        clean.push_str(&word_without_secret(word));
        let gap = after.find(part_of_word).unwrap_or(after.len());
        clean.push_str(&after[..gap]);
        rest = &after[gap..];
    }
    clean
}

fn word_without_secret(word: &str) -> Cow<'_, str> {
    // A JOSE header in base64url begins with this text, because it is a JSON object and begins with a member's name.
    if let Some(at) = word.find("eyJ").filter(|&at| word[at..].len() > 24) {
        return format!("{}{TAKEN_OUT}", &word[..at]).into();
    }
    if let Some(at) = word.find("enr_").filter(|&at| word[at..].len() > 12) {
        return format!("{}{TAKEN_OUT}", &word[..at]).into();
    }
    if let Some((scheme, rest)) = word.split_once("://")
        && let Some((_, host)) = rest.split_once('@')
    {
        return format!("{scheme}://{TAKEN_OUT}@{host}").into();
    }
    word.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_and_the_rest_stays() {
        let token = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ0b2tfYSJ9.c2lnbmF0dXJl";
        for (text, clean) in [
            (format!("Bearer {token}, again {token}\n"), "Bearer [taken out], again [taken out]\n"),
            (format!("/v1/authorize?token={token}"), "/v1/authorize?token=[taken out]"),
            (
                "urls = [\"https://me:hunter2@control.example:8443/\"]\n".into(),
                "urls = [\"https://[taken out]@control.example:8443/\"]\n",
            ),
            ("  api_token = \"short\" # mine\n".into(), "  api_token = [taken out]\n"),
            ("# password = hunter2".into(), "# password = [taken out]"),
            ("enrolment_token_file = \"/etc/x\"\n".into(), "enrolment_token_file = \"/etc/x\"\n"),
            ("enr_abcdefghijklmnopqrstuvwxyz".into(), "[taken out]"),
            (
                "-----BEGIN PRIVATE KEY-----\nMC4CAQ\nabc=\n-----END PRIVATE KEY-----\nnext\n".into(),
                "[a private key was taken out]\nnext\n",
            ),
            (
                "tok_a is fine: replica 7, 2026-11-24T20:00:00Z\n".into(),
                "tok_a is fine: replica 7, 2026-11-24T20:00:00Z\n",
            ),
        ] {
            assert_eq!(redact(&text), clean);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic_and_no_token_comes_through(before in ".{0,40}", after in ".{0,40}") {
            let token = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ0b2tfYSJ9.c2lnbmF0dXJl";
            let clean = redact(&format!("{before}{token}{after}"));
            proptest::prop_assert!(!clean.contains("c2lnbmF0dXJl"));
        }
    }
}
