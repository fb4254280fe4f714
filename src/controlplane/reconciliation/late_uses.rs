//! Uses of a token after its end. Each is recorded once, as soon as both the use and the end are known. Metrics count it and
//! the webhook announces it.

use rusqlite::params;

use crate::controlplane::ControlPlane;
use crate::controlplane::error::Error;
use crate::controlplane::store::Transaction;
use crate::controlplane::webhook::announcements::Place;
use crate::protocol::outage::{End, LateUse, Use};

impl ControlPlane {
    /// Records a use if it came after the token's end.
    pub(in crate::controlplane) fn note_late_use(
        &self,
        transaction: &Transaction<'_>,
        place: Place<'_>,
        used: &Use,
        end: Option<End>,
    ) -> Result<(), Error> {
        let Some(late) = LateUse::detect(used.clone(), end) else { return Ok(()) };
        let row =
            params![place.node, used.event_id, place.data_plane, used.token_id.as_str(), self.now().unix()];
        let noted = transaction
            .prepare_cached(
                "INSERT OR IGNORE INTO late_use (node, event, data_plane, token, noted_at) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(row)?;
        if noted == 0 { Ok(()) } else { self.announce_late_use(transaction, place, &late) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use super::*;
    use crate::controlplane::signing::Signing;
    use crate::controlplane::store::Store;
    use crate::protocol::outage::Ended;
    use crate::protocol::time::Time;

    const NOW: Time = Time::from_unix(1_800_000_000);
    const ROWS: &str = "
        INSERT INTO organization (id, name, created_at) VALUES ('org_a', 'a', 0);
        INSERT INTO data_plane (id, organization, name, created_at, version, count, digest)
            VALUES ('dpl_a', 'org_a', 'a', 0, 0, 0, x''), ('dpl_b', 'org_a', 'b', 0, 0, 0, x'');
        INSERT INTO node (id, data_plane, name, key, created_at) VALUES ('nod_a', 'dpl_a', 'a', '{}', 0);
        INSERT INTO token (id, organization, name, description, type, kind, entity, role, generation, short, start_at,
                created_at, created_by, updated_at, updated_by)
            VALUES ('tok_a', 'org_a', 'a', '', 'DEPLOYMENT', 'DIRECT_ACCESS', 'dep_a', 'OP', 1, 'abcd', 0, 0, 'u', 0, 'u');";

    #[test]
    fn a_late_use_counts_once_whether_or_not_anyone_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let mut rng = rand_core::UnwrapErr(getrandom::SysRng);
        Signing::create(directory.path(), NOW, &mut rng).unwrap();
        let signing = Signing::load(directory.path()).unwrap();
        let store = Store::in_memory().unwrap();
        store.write(|transaction| Ok(transaction.execute_batch(ROWS)?)).unwrap();
        let issuer = "https://control.example".to_owned();
        let control = ControlPlane::new(store, signing, issuer, Arc::new(|| NOW), Box::new(rng));
        let place = Place { data_plane: "dpl_a", node: "nod_a", outage: None };
        let note = |event: &str, after: i64| {
            let used = Use {
                time: NOW.plus(after),
                event_id: event.into(),
                token_id: "tok_a".parse().unwrap(),
                generation: 1,
                deployment_id: None,
                method: None,
                path: None,
                client: None,
            };
            let end = Some(End { at: NOW, how: Ended::Revoked });
            let noted =
                control.store.write(|transaction| control.note_late_use(transaction, place, &used, end));
            noted.unwrap();
        };
        // Before the end, in its second, and after it; the last one twice, since a second revocation became known.
        for (event, after) in [("evt_1", -1), ("evt_2", 0), ("evt_3", 1), ("evt_4", 2), ("evt_3", 1)] {
            note(event, after);
        }
        let text = control.metrics_text().unwrap();
        for line in [
            "halligan_control_late_uses_total{data_plane=\"dpl_a\"} 2\n",
            "halligan_control_late_uses_total{data_plane=\"dpl_b\"} 0\n",
            "halligan_control_late_use_noted_time_seconds{data_plane=\"dpl_a\"} 1800000000\n",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        assert!(!text.contains("noted_time_seconds{data_plane=\"dpl_b\"}"), "{text}");
    }
}
