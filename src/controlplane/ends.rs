//! The ends that the control plane knows beforehand: of its keyset, its certificate, its users' and its API tokens, and of
//! tokens with which hosts may enrol.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rusqlite::Connection;

use super::ControlPlane;
use super::error::Error;
use crate::protocol::ends::{End, EndKind, NOTICE, Told, due};
use crate::protocol::time::Time;

/// How often they are looked at.
const INTERVAL: Duration = Duration::from_mins(1);
/// How many of a kind are named; the rest is told of by the first of them.
const NAMED: i64 = 100;

/// Tokens that end within the notice, the first ones first. One that has ended already is over, and nothing to tell of.
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
    /// The end of the keyset that is signed under.
    #[must_use]
    pub fn keyset_end(&self) -> End {
        self.signing().keyset_end()
    }

    /// The ends of what is no token: they concern everybody, and name nothing of the estate.
    #[must_use]
    pub fn own_ends(&self) -> Vec<End> {
        let mut ends = vec![self.keyset_end()];
        ends.extend(self.certificate.lock().unwrap_or_else(PoisonError::into_inner).clone());
        ends
    }

    /// Every end that is due, the first one first.
    pub fn due_ends(&self) -> Result<Vec<End>, Error> {
        let now = self.now();
        let mut ends = self.own_ends();
        // No index leads to them, and every scrape asks: it must not hold up who writes.
        self.store.read_at_leisure(|connection| {
            for (kind, query) in TOKENS {
                ends.extend(read(connection, kind, query, now)?);
            }
            Ok(())
        })?;
        Ok(due(ends, now))
    }

    /// Says when the certificate of the listener ends.
    pub fn serves_until(&self, certificate: Option<End>) {
        *self.certificate.lock().unwrap_or_else(PoisonError::into_inner) = certificate;
    }

    /// Tells the log of each end that is due, once a day, until the task is dropped. Of an ended keyset, under which nothing
    /// that is signed is believed, it tells at each look.
    pub async fn tell_of_ends(self: Arc<Self>) {
        let mut told = Told::default();
        loop {
            let control = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || control.due_ends()).await {
                Ok(Ok(ends)) => {
                    let now = self.now();
                    for end in told.tell(&ends, now) {
                        tracing::warn!(
                            kind = end.kind.as_str(),
                            left = end.left(now),
                            "{}",
                            end.sentence(now)
                        );
                    }
                    if self.keyset_end().voids_all(now) {
                        let sentence = self.keyset_end().sentence(now);
                        tracing::error!("no node believes what is signed: {sentence}");
                    }
                }
                Ok(Err(error)) => tracing::error!(%error, "what ends soon can't be read"),
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

    use crate::controlplane::test_world::World;

    #[test]
    fn who_asks_for_ends_or_outages_waits_for_no_writer() {
        let world = World::on_disk();
        let (control, owner) = (&world.control, &world.owner);
        std::thread::scope(|scope| {
            let (answer, answered) = mpsc::channel();
            let write = control.store.write(|_| {
                scope.spawn(move || {
                    control.due_ends().unwrap();
                    control.list_outages(owner, &owner.organization).unwrap();
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
