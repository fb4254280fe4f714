//! Nodes of the world: their keys, their records and their decisions.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::sync::Arc;

use halligan::dataplane::decide::{Now, Reason, RequestFacts, Target, decide};
use halligan::dataplane::node::credential::{Nonces, Prover};
use halligan::dataplane::node::identity::Identity;
use halligan::dataplane::node::state::Live;
use halligan::dataplane::revocations::Order;
use halligan::protocol::key::SigningKey;
use halligan::protocol::record::{NodeRecord, Record, RecordKind};
use halligan::protocol::time::Time;

use super::world::{DEPLOYMENT, ISSUER, T0, World};

const FACTS: RequestFacts<'_> =
    RequestFacts { deployment: Target::Id(DEPLOYMENT), method: "GET", uri: "/api/v2/dags", client: None };

pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

/// Returns the prover of the node `id`.
pub fn prover(id: &str, seed: u8) -> Arc<Prover> {
    let identity =
        Identity { node_id: id.parse().unwrap(), data_plane_id: World::data_plane(), issuer: ISSUER.into() };
    let nonces = Nonces::new(&mut rand_core::UnwrapErr(getrandom::SysRng));
    Arc::new(Prover { identity, key: Arc::new(key(seed)), nonces })
}

/// Returns the record of the node `id`.
pub fn record(id: &str, seed: u8, retired_at: Option<Time>) -> Record {
    let record =
        NodeRecord { id: id.parse().unwrap(), name: id.into(), key: key(seed).public().jwk(), retired_at };
    Record::from_value(RecordKind::Node, id, &record)
}

/// Returns the decision of a node about a token of the world, a minute after T0.
pub fn reason(live: &Live, token: usize) -> Reason {
    let value = World::new().value(token);
    decide(Some(value.as_bytes()), &FACTS, &live.snapshot(), Now { wall: T0.plus(60), floor: T0 }).reason()
}

/// Returns an operator's order to revoke a token of the world.
pub fn order(token: usize) -> Order {
    Order { token: World::token_record(token).id, reason: "drill".into(), operator: "uid 0".into() }
}
