//! Keysets that a control plane has signed under, kept in its database. They show whether the keys beside the database are
//! its own, also after a renewal, a rotation of roots, or a restore of either from a backup.

use rusqlite::{Connection, params};

use super::Signing;
use crate::controlplane::error::Error;
use crate::controlplane::store::Transaction;
use crate::protocol::key::{Jwk, PublicKey};
use crate::protocol::keyset::{KeyUse, UnverifiedKeyset};

/// Keyset of the control plane that a database belongs to.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::controlplane) struct Known {
    /// Version of its newest keyset.
    pub(in crate::controlplane) version: u64,
    /// Thumbprint of the first token key in that keyset.
    pub(in crate::controlplane) token_key: String,
}

/// Returns the newest keyset that the database was used with, if it can't belong to the keys and keysets of `signing`.
pub(in crate::controlplane) fn other(
    connection: &Connection,
    signing: &Signing,
) -> Result<Option<Known>, Error> {
    let known = parse(stored(connection)?.iter().map(|(_, text)| text));
    if may_belong(&known, &parse(signing.chain.iter())) {
        return Ok(None);
    }
    Ok(known.last().map(|newest| {
        let token = newest.body().keys.iter().find(|key| key.key_use == KeyUse::Token);
        let key = token.and_then(|key| PublicKey::from_jwk(&key.jwk).ok());
        let token_key = key.map_or_else(|| "none".into(), |key| key.kid().to_string());
        Known { version: newest.body().version, token_key }
    }))
}

/// Returns true if the database holds exactly the keysets of `signing`.
pub(in crate::controlplane) fn are_stored(connection: &Connection, signing: &Signing) -> Result<bool, Error> {
    let rows: Vec<_> = signing.versions.iter().copied().zip(signing.chain.iter().cloned()).collect();
    Ok(stored(connection)? == rows)
}

/// Stores the keysets of `signing` in place of those that were stored.
pub(in crate::controlplane) fn store(transaction: &Transaction<'_>, signing: &Signing) -> Result<(), Error> {
    transaction.execute("DELETE FROM signed_under", [])?;
    for (version, text) in signing.versions.iter().zip(&signing.chain) {
        // A verified chain has each version once, but keysets before the first verified one are not checked.
        let insert = "INSERT OR REPLACE INTO signed_under (version, keyset) VALUES (?1, ?2)";
        transaction.execute(insert, params![version, text])?;
    }
    Ok(())
}

/// Returns the stored keysets with their versions, oldest first.
fn stored(connection: &Connection) -> Result<Vec<(u64, String)>, Error> {
    let mut query = connection.prepare("SELECT version, keyset FROM signed_under ORDER BY version")?;
    Ok(query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?)
}

/// Parses keysets. Their signatures are not verified: the keysets that are compared sign nothing.
fn parse<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<UnverifiedKeyset> {
    texts.filter_map(|text| UnverifiedKeyset::parse(text).ok()).collect()
}

/// Returns true if the control plane that signed under the keysets `known` may have the keysets `chain`.
fn may_belong(known: &[UnverifiedKeyset], chain: &[UnverifiedKeyset]) -> bool {
    let any = |same: &dyn Fn(&UnverifiedKeyset, &UnverifiedKeyset) -> bool| {
        known.iter().any(|known| chain.iter().any(|keyset| same(known, keyset)))
    };
    if known.is_empty()
        || any(&|a, b| a.payload() == b.payload())
        || any(&|a, b| share(keys_of(a), || keys_of(b)))
    {
        return true;
    }
    // A chain whose first keyset is later than the last one of an old backup has no keyset in common with it, but may have a
    // root in common. Two control planes may also have the same roots, but then they have different keysets of one version.
    let contradict = any(&|a, b| a.body().version == b.body().version);
    !contradict && any(&|a, b| share(a.body().roots.iter(), || b.body().roots.iter()))
}

fn keys_of(keyset: &UnverifiedKeyset) -> impl Iterator<Item = &Jwk> {
    keyset.body().keys.iter().map(|key| &key.jwk)
}

fn share<'a, I: Iterator<Item = &'a Jwk>>(
    mut keys: impl Iterator<Item = &'a Jwk>,
    others: impl Fn() -> I,
) -> bool {
    keys.any(|key| others().any(|other| other.x == key.x))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::protocol::key::SigningKey;
    use crate::protocol::keyset::{KeysetBody, KeysetKey, sign_keyset};
    use crate::protocol::time::Time;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&[seed; 32])
    }

    /// Returns a keyset of one root, one token key and one replica key.
    fn keyset(version: u64, [root, token, replica]: [u8; 3]) -> String {
        let listed = |key_use, seed| KeysetKey { key_use, jwk: key(seed).public().jwk() };
        let body = KeysetBody {
            iss: None,
            version,
            iat: Time::from_unix(0),
            exp: Time::from_unix(100),
            keys: vec![listed(KeyUse::Token, token), listed(KeyUse::Replica, replica)],
            roots: vec![key(root).public().jwk()],
            threshold: 1,
        };
        sign_keyset(&body, &[&key(root)])
    }

    #[test]
    fn keys_belong_to_a_database_after_every_ceremony_and_those_of_another_plane_never() {
        let first = || keyset(1, [1, 11, 12]);
        let rotated = || keyset(2, [2, 13, 14]);
        let (third, other) = (keyset(3, [2, 15, 16]), keyset(1, [9, 21, 22]));
        for (case, known, chain, belong) in [
            ("a database of an earlier version", vec![], vec![first()], true),
            ("nothing has changed", vec![first()], vec![first()], true),
            ("other keys and another root follow", vec![first()], vec![first(), rotated()], true),
            ("an older backup of the keys", vec![first(), rotated()], vec![first()], true),
            (
                "a chain begun anew with the same signing keys",
                vec![first()],
                vec![keyset(1, [3, 11, 12])],
                true,
            ),
            ("one of the signing keys is left", vec![first()], vec![keyset(1, [3, 11, 18])], true),
            ("a later beginning under the same root", vec![rotated()], vec![third.clone()], true),
            ("a later beginning under another root", vec![first()], vec![third], false),
            ("another plane", vec![first()], vec![other.clone()], false),
            ("another plane, later", vec![first(), rotated()], vec![other], false),
            ("another plane with the same root", vec![first()], vec![keyset(1, [1, 31, 32])], false),
        ] {
            assert_eq!(may_belong(&parse(known.iter()), &parse(chain.iter())), belong, "{case}");
        }
    }
}
