//! Expiry dates known to the control plane: of its keyset, its certificate, its users' tokens, its API tokens and
//! enrolment tokens.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rusqlite::Connection;

use crate::controlplane::ControlPlane;
use crate::controlplane::error::Error;
use crate::protocol::ends::{End, EndKind, GivenWarnings, NOTICE, due};
use crate::protocol::time::Time;

/// Time between two checks.
const INTERVAL: Duration = Duration::from_mins(1);
/// Maximum number of tokens listed per kind. The first of them stands for the rest.
const NAMED: i64 = 100;

/// Queries for tokens that expire within the notice period, soonest first. Expired tokens are left out.
const TOKENS: [(EndKind, &str); 4] = [
    (
        EndKind::UserToken,
        "SELECT id, token_ends_at FROM user WHERE deleted_at IS NULL AND token_ends_at > ?1 AND token_ends_at <= ?2
         ORDER BY token_ends_at LIMIT ?3",
    ),
    (
        EndKind::DirectAccessToken,
        "SELECT id, end_at FROM token WHERE deleted_at IS NULL AND kind = 'DIRECT_ACCESS' AND end_at > ?1 AND end_at <= ?2
         ORDER BY end_at LIMIT ?3",
    ),
    (
        EndKind::StandardToken,
        "SELECT id, end_at FROM token WHERE deleted_at IS NULL AND kind <> 'DIRECT_ACCESS' AND end_at > ?1 AND end_at <= ?2
         ORDER BY end_at LIMIT ?3",
    ),
    (
        EndKind::EnrolmentToken,
        "SELECT data_plane, expires_at FROM enrolment WHERE node IS NULL AND expires_at > ?1 AND expires_at <= ?2
         ORDER BY expires_at LIMIT ?3",
    ),
];

impl ControlPlane {
    /// Returns the expiry of the current keyset.
    #[must_use]
    pub fn keyset_end(&self) -> End {
        self.signing().keyset_end()
    }

    /// Returns the expiry dates that are not of tokens. They concern all operators and name no object of an
    /// organization.
    #[must_use]
    pub fn own_ends(&self) -> Vec<End> {
        let mut ends = vec![self.keyset_end()];
        ends.extend(self.certificate.lock().unwrap_or_else(PoisonError::into_inner).clone());
        ends
    }

    /// Lists the expiry dates within the notice period, soonest first.
    pub fn due_ends(&self) -> Result<Vec<End>, Error> {
        let now = self.now();
        let mut ends = self.own_ends();
        // The query has no index and runs at every scrape, so it must not block writers.
        self.store.read(|connection| {
            for (kind, query) in TOKENS {
                ends.extend(read(connection, kind, query, now)?);
            }
            Ok(())
        })?;
        Ok(due(ends, now))
    }

    /// Sets the expiry of the listener's certificate.
    pub fn serves_until(&self, certificate: Option<End>) {
        *self.certificate.lock().unwrap_or_else(PoisonError::into_inner) = certificate;
    }

    /// Logs each due expiry once a day, until the task is dropped. An expired keyset is logged at every check, because
    /// nodes then reject everything signed under it.
    pub async fn tell_of_ends(self: Arc<Self>) {
        let mut given = GivenWarnings::default();
        loop {
            let control = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || control.due_ends()).await {
                Ok(Ok(ends)) => {
                    let now = self.now();
                    for end in given.not_yet_given(&ends, now) {
                        tracing::warn!(
                            kind = end.kind.as_str(),
                            left = end.left(now),
                            "{}",
                            end.sentence(now)
                        );
                    }
                    if self.keyset_end().voids_all(now) {
                        let sentence = self.keyset_end().sentence(now);
                        tracing::error!("nodes reject everything that is signed: {sentence}");
                    }
                }
                Ok(Err(error)) => tracing::error!(%error, "the expiry dates can't be read from the database"),
                Err(_) => return,
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

fn read(connection: &Connection, kind: EndKind, query: &str, now: Time) -> Result<Vec<End>, Error> {
    let mut statement = connection.prepare_cached(query)?;
    let bounds = [now.unix(), now.plus(NOTICE).unix(), NAMED];
    let rows = statement
        .query_map(bounds, |row| Ok(End { kind, name: row.get(0)?, at: Time::from_unix(row.get(1)?) }))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::mpsc;
    use std::time::Duration;

    use crate::api::page::Page;
    use crate::controlplane::test_world::World;

    fn page() -> Page {
        Page { offset: 0, limit: 20, cursor: None }
    }

    #[test]
    fn who_asks_for_ends_or_outages_waits_for_no_writer() {
        let world = World::on_disk();
        let (control, owner) = (&world.control, &world.owner);
        std::thread::scope(|scope| {
            let (answer, answered) = mpsc::channel();
            let write = control.store.write(|_| {
                scope.spawn(move || {
                    control.due_ends().unwrap();
                    control.list_outages(owner, &owner.organization, page()).unwrap();
                    assert!(control.show_outage(owner, &owner.organization, "out_none").is_err());
                    answer.send(()).unwrap();
                });
                answered.recv_timeout(Duration::from_secs(20)).unwrap();
                Ok(())
            });
            write.unwrap();
        });
    }
}
