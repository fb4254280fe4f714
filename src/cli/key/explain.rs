//! Descriptions of keys and keysets for people.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::files::{Chain, public_key};
use super::kid;
use crate::cli::failure::Failure;
use crate::cli::output::{Output, line};
use crate::protocol::key::{PublicKey, SigningKey};
use crate::protocol::keyset::{KeyUse, Keyset, RootSet, UnverifiedKeyset};

/// Describes files with keys or keysets.
pub(super) fn show(files: &[PathBuf], output: Output) -> Result<(), Failure> {
    let mut shown = Vec::new();
    for file in files {
        if file.extension().is_some_and(|extension| extension == "pem") {
            shown.push(key(file)?);
        } else {
            shown.extend(Chain::read(file)?.0.iter().map(explained));
        }
    }
    print(&shown, output);
    Ok(())
}

fn key(file: &Path) -> Result<Value, Failure> {
    let text = std::fs::read_to_string(file).map(zeroize::Zeroizing::new);
    let text = text.map_err(|source| Failure::File { path: file.into(), source })?;
    let (kind, key) = match SigningKey::from_pkcs8_pem(&text) {
        Ok(key) => ("private key", key.public().clone()),
        Err(_) => ("public key", public_key(file)?),
    };
    Ok(json!({ "file": file, "what": kind, "kid": key.kid().as_str() }))
}

/// Prints the keyset that was written, and the signatures that it still needs.
pub(super) fn written(file: &Path, keyset: &UnverifiedKeyset, output: Output) {
    let mut explained = explained(keyset);
    explained["file"] = json!(file);
    print(&[explained], output);
}

fn explained(keyset: &UnverifiedKeyset) -> Value {
    let body = keyset.body();
    let keys: Vec<_> = body
        .keys
        .iter()
        .map(|key| {
            let signs = if key.key_use == KeyUse::Token { "tokens" } else { "heads" };
            json!({ "kid": kid(key), "signs": signs })
        })
        .collect();
    let roots: Vec<_> = body
        .roots
        .iter()
        .filter_map(|root| PublicKey::from_jwk(root).ok())
        .map(|root| json!({ "kid": root.kid().as_str(), "signed": keyset.signed_by(&root) }))
        .collect();
    json!({
        "what": "keyset", "version": body.version, "issuer": body.iss, "signedAt": body.iat, "expiresAt": body.exp, "keys": keys,
        "roots": roots, "threshold": body.threshold, "signatures": keyset.claimed_signers(),
    })
}

fn print(shown: &[Value], output: Output) {
    for item in shown {
        if output.json {
            line(&item.to_string());
        } else if item["what"] == "keyset" {
            print_keyset(item);
        } else {
            let text = |member: &str| item[member].as_str().unwrap_or_default();
            line(&format!("{}  {}  {}", text("kid"), text("what"), text("file")));
        }
    }
}

fn print_keyset(keyset: &Value) {
    let time = |member: &str| {
        let seconds = keyset[member].as_i64().unwrap_or_default();
        crate::protocol::time::Time::from_unix(seconds).rfc3339()
    };
    let file = keyset["file"].as_str().map_or_else(String::new, |file| format!(" in {file}"));
    line(&format!(
        "keyset {}{file}, made {}, good until {}",
        keyset["version"],
        time("signedAt"),
        time("expiresAt")
    ));
    if let Some(issuer) = keyset["issuer"].as_str() {
        line(&format!("  heads are signed as {issuer}"));
    }
    for key in keyset["keys"].as_array().into_iter().flatten() {
        let text = |member: &str| key[member].as_str().unwrap_or_default();
        line(&format!("  {}  signs {}", text("kid"), text("signs")));
    }
    let roots = keyset["roots"].as_array().map_or(&[][..], Vec::as_slice);
    line(&format!("  roots, {} of {} of which must sign the next keyset:", keyset["threshold"], roots.len()));
    for root in roots {
        let signed = if root["signed"] == true { "has signed this one" } else { "has not signed this one" };
        line(&format!("    {}  {signed}", root["kid"].as_str().unwrap_or_default()));
    }
    let own: Vec<_> = roots.iter().map(|root| &root["kid"]).collect();
    for signer in keyset["signatures"].as_array().into_iter().flatten().filter(|signer| !own.contains(signer))
    {
        let signer = signer.as_str().unwrap_or_default();
        line(&format!("    {signer}  says to have signed, and is a root of the keyset before at best"));
    }
}

/// Verifies a chain from pinned roots, keyset by keyset.
pub(super) fn verify(pinned: &RootSet, files: &[PathBuf], output: Output) -> Result<(), Failure> {
    let mut chain = Vec::new();
    for file in files {
        chain.extend(Chain::read(file)?.0);
    }
    let lines: Vec<_> = chain.iter().map(UnverifiedKeyset::to_line).collect();
    let (_, start) = Keyset::verify_earliest(&lines, pinned)
        .map_err(|error| Failure::Data(format!("no keyset is valid: {error}")))?;
    for before in &chain[..start] {
        let version = before.body().version;
        if output.json {
            line(&json!({ "version": version, "skipped": true }).to_string());
        } else {
            line(&format!("keyset {version} is from before the pinned roots; a node skips it"));
        }
    }
    let mut last: Option<Keyset> = None;
    for keyset in &chain[start..] {
        let version = keyset.body().version;
        let verified = match &last {
            None => Keyset::verify_first(&keyset.to_line(), pinned),
            Some(before) => before.verify_next(&keyset.to_line()),
        };
        let by = last.as_ref().map_or(pinned, Keyset::roots);
        let verified =
            verified.map_err(|error| Failure::Data(format!("keyset {version} is invalid: {error}")))?;
        let signers = by.keys().iter().filter(|root| keyset.signed_by(root)).count();
        let whose = if last.is_none() { "pinned roots" } else { "roots of the keyset before" };
        if output.json {
            let holds = json!({
                "version": version, "holds": true, "signers": signers, "threshold": by.threshold(), "of": whose,
            });
            line(&holds.to_string());
        } else {
            line(&format!(
                "keyset {version} holds: signed by {signers} of the {} {whose}, and {} must",
                by.keys().len(),
                by.threshold()
            ));
        }
        last = Some(verified);
    }
    Ok(())
}
