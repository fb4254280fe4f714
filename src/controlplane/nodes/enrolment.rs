//! Enrolment: registers a host as a node of a data plane, once, and verifies its proofs from then on (RFC 7523).

use rusqlite::{OptionalExtension, params};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::api::data_plane::EnrolmentToken;
use crate::api::node::{Enrolled, Enrolment, NewNode};
use crate::controlplane::ControlPlane;
use crate::controlplane::access::audit_log;
use crate::controlplane::access::authorization::{Actor, Operation};
use crate::controlplane::error::{Error, ProofFault};
use crate::controlplane::memory::holders::Holder;
use crate::controlplane::names::check_name;
use crate::controlplane::replica::publish;
use crate::controlplane::store::Transaction;
use crate::protocol::id::{DataPlaneId, NodeId};
use crate::protocol::jws::{Typ, Unverified};
use crate::protocol::key::PublicKey;
use crate::protocol::node_proof::{Instance, MAX_PROOF, Untimely, check_times};
use crate::protocol::record::{NodeRecord, Record, RecordKind};
use crate::protocol::time::Time;

const NOT_A_NODE: Error = Error::Unauthenticated("the node's proof does not hold");
/// No node has the key of a proof.
const UNKNOWN_NODE: Error = Error::Unauthenticated(
    "the node's proof does not hold: no node here has its key. If this control plane was restored from a backup that is older than the \
     host's enrolment, or the host was enrolled at another one, enrol the host anew (halligand new-identity --force)",
);

/// Node whose proof was verified.
#[derive(Debug)]
pub(in crate::controlplane) struct Caller {
    pub(in crate::controlplane) node: String,
    pub(in crate::controlplane) data_plane: String,
}

#[derive(Deserialize)]
struct ProofClaims {
    #[serde(default)]
    iss: String,
    #[serde(default)]
    sub: String,
    aud: String,
    iat: Time,
    exp: Time,
    /// Identifier of one start of the daemon. Daemons of earlier versions send none.
    instance: Option<Instance>,
    #[serde(default)]
    jti: String,
}

impl ControlPlane {
    /// Creates a one-time enrolment token. Only its hash is stored.
    pub fn create_enrolment_token(
        &self,
        actor: &Actor,
        organization: &str,
        data_plane: &str,
        seconds: i64,
    ) -> Result<EnrolmentToken, Error> {
        actor.may(Operation::Enrol, organization)?;
        if !(60..=30 * 86_400).contains(&seconds) {
            return Err(Error::invalid("expiresInSeconds", "use 60 to 2592000"));
        }
        let (token, expires_at) = (Zeroizing::new(self.new_id_of("enr_")), self.now().plus(seconds));
        let hash = Sha256::digest(token.as_bytes());
        self.store.write(|transaction| {
            let known = transaction
                .query_row(
                    "SELECT 1 FROM data_plane WHERE id = ?1 AND organization = ?2",
                    [data_plane, organization],
                    |_| Ok(()),
                )
                .optional()?;
            known.ok_or(Error::NotFound("data plane"))?;
            let row = params![hash.as_slice(), data_plane, expires_at.unix()];
            let insert = "INSERT INTO enrolment (hash, data_plane, expires_at) VALUES (?1, ?2, ?3)";
            transaction.execute(insert, row)?;
            Ok(())
        })?;
        Ok(EnrolmentToken { enrolment_token: token, expires_at: expires_at.into() })
    }

    /// Enrols a node. A second use of the token is rejected unless the same host repeats its request.
    pub fn enrol(&self, enrolment: &Enrolment) -> Result<Enrolled, Error> {
        check_name("name", &enrolment.name)?;
        let key =
            PublicKey::from_jwk(&enrolment.key).map_err(|error| Error::invalid("key", error.to_string()))?;
        let claims = prove(&enrolment.proof, &key)
            .ok_or(Error::Unauthenticated("the proof is not signed with the key"))?;
        self.timely(&claims, "halligan-control")?;
        let hash = Sha256::digest(enrolment.enrolment_token.as_bytes());
        let now = self.now();
        self.store.write(|transaction| {
            let row: Option<(String, i64, Option<String>)> = transaction
                .query_row(
                    "SELECT data_plane, expires_at, node FROM enrolment WHERE hash = ?1",
                    [hash.as_slice()],
                    |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
                )
                .optional()?;
            let (data_plane, expires_at, used_by) =
                row.ok_or(Error::Unauthenticated("the enrolment token is unknown"))?;
            let answer = |node: &str| self.enrolled(node, &data_plane);
            let written = serde_json::to_string(&key.jwk()).map_err(std::io::Error::from)?;
            if let Some(node) = used_by {
                let (known, retired): (String, Option<i64>) = transaction.query_row(
                    "SELECT key, retired_at FROM node WHERE id = ?1",
                    [&node],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )?;
                if known == written {
                    return retired.map_or_else(|| answer(&node), |at| Err(was_retired(&node, at)));
                }
                return Err(Error::Conflict {
                    code: "enrolment_used",
                    detail: "the enrolment token was used by another host".into(),
                });
            }
            if now.unix() >= expires_at {
                return Err(Error::Unauthenticated("the enrolment token has expired"));
            }
            let id = self.insert_node(transaction, &data_plane, &enrolment.name, &key)?;
            transaction
                .execute("UPDATE enrolment SET node = ?2 WHERE hash = ?1", params![hash.as_slice(), id])?;
            let query = "SELECT organization FROM data_plane WHERE id = ?1";
            let organization: String = transaction.query_row(query, [&data_plane], |row| row.get(0))?;
            let who = (id.as_str(), enrolment.name.as_str());
            audit_log::record_done(transaction, &organization, who, "POST /v1/enrol", &id, now)?;
            answer(&id)
        })
    }

    /// Creates a node for a host that never reaches the control plane. The result is its identity, to be carried there.
    pub fn create_node(
        &self,
        actor: &Actor,
        organization: &str,
        data_plane: &str,
        new: &NewNode,
    ) -> Result<Enrolled, Error> {
        actor.may(Operation::Enrol, organization)?;
        self.show_data_plane(actor, organization, data_plane)?;
        check_name("name", &new.name)?;
        let key = PublicKey::from_jwk(&new.key).map_err(|error| Error::invalid("key", error.to_string()))?;
        let node =
            self.store.write(|transaction| self.insert_node(transaction, data_plane, &new.name, &key))?;
        self.enrolled(&node, data_plane)
    }

    /// Returns the identity of a node of this control plane.
    fn enrolled(&self, node: &str, data_plane: &str) -> Result<Enrolled, Error> {
        Ok(Enrolled {
            node_id: NodeId::new(node).map_err(|_| Error::NotFound("node"))?,
            data_plane_id: DataPlaneId::new(data_plane).map_err(|_| Error::NotFound("data plane"))?,
            issuer: self.issuer.clone(),
        })
    }

    /// Inserts a new node and publishes its record.
    fn insert_node(
        &self,
        transaction: &Transaction<'_>,
        data_plane: &str,
        name: &str,
        key: &PublicKey,
    ) -> Result<String, Error> {
        let id = self.new_id_of("nod_");
        let written = serde_json::to_string(&key.jwk()).map_err(std::io::Error::from)?;
        let known: Option<(String, Option<i64>)> = transaction
            .query_row(
                "SELECT id, retired_at FROM node WHERE data_plane = ?1 AND key = ?2 ORDER BY retired_at IS NOT NULL",
                [data_plane, &written],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()?;
        match known {
            None => {}
            Some((node, Some(at))) => return Err(was_retired(&node, at)),
            Some((node, None)) => {
                let detail = format!(
                    "node {node} of this data plane has this key; each host needs one of its own: on a copy of that host, run \
                     `halligand new-identity` and enrol again"
                );
                return Err(Error::Conflict { code: "key_taken", detail });
            }
        }
        let row = params![id, data_plane, name, written, self.now().unix(), key.kid().as_str()];
        let insert =
            "INSERT INTO node (id, data_plane, name, key, created_at, kid) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        transaction.execute(insert, row)?;
        let node = NodeRecord {
            id: id.parse().map_err(|_| Error::NotFound("node"))?,
            name: name.to_owned(),
            key: key.jwk(),
            retired_at: None,
        };
        publish::put(transaction, data_plane, &[Record::from_value(RecordKind::Node, id.as_str(), &node)])?;
        Ok(id)
    }

    /// Verifies a node's bearer token and returns the node's id. Fails if the node is retired or not of `data_plane`.
    pub fn authenticate_node(&self, bearer: &[u8], data_plane: &str) -> Result<String, Error> {
        self.node_in(bearer, data_plane).map(|caller| caller.node)
    }

    /// Does the same as `authenticate_node`, and returns the caller with its data plane.
    pub(in crate::controlplane) fn node_in(&self, bearer: &[u8], data_plane: &str) -> Result<Caller, Error> {
        self.node_of(bearer)
            .and_then(|caller| if caller.data_plane == data_plane { Ok(caller) } else { Err(NOT_A_NODE) })
    }

    /// Verifies a node's bearer token and finds the active node by the key that signed it.
    pub(in crate::controlplane) fn node_of(&self, bearer: &[u8]) -> Result<Caller, Error> {
        let proof = Unverified::parse(bearer, MAX_PROOF).map_err(|_| NOT_A_NODE)?;
        let holder = self.holder(proof.kid())?.ok_or(UNKNOWN_NODE)?;
        let (caller, instance) = self.prove_node(proof, &holder)?;
        if let Some(instance) = instance {
            self.note_instance(&caller.node, instance.as_str());
        }
        Ok(caller)
    }

    /// Does the same as `node_in` without the database. Returns none if that takes the database.
    pub(in crate::controlplane) fn known_node_in(
        &self,
        bearer: &[u8],
        data_plane: &str,
    ) -> Option<Result<Caller, Error>> {
        let proof = Unverified::parse(bearer, MAX_PROOF).ok()?;
        let holder = self.known_holder(proof.kid())?;
        let (caller, instance) = match self.prove_node(proof, &holder) {
            Ok(proved) => proved,
            Err(error) => return Some(Err(error)),
        };
        if let Some(instance) = instance {
            self.note_instance(&caller.node, instance.as_str());
        }
        Some(if caller.data_plane == data_plane { Ok(caller) } else { Err(NOT_A_NODE) })
    }

    /// Verifies a node's proof with the key of its holder. Returns the node and the instance that it names.
    fn prove_node(
        &self,
        proof: Unverified<'_>,
        holder: &Holder,
    ) -> Result<(Caller, Option<Instance>), Error> {
        let verified = proof.verify(Typ::NodeAuth, &holder.key).map_err(|_| NOT_A_NODE)?;
        let claims: ProofClaims = verified.claims().map_err(|_| NOT_A_NODE)?;
        self.timely(&claims, &self.issuer)?;
        let own = holder.nodes.iter().find(|known| claims.iss == known.id && claims.sub == known.id);
        let own = own.ok_or(NOT_A_NODE)?;
        // The proof is valid, so only the holder of the key learns that its node was retired.
        if let Some(at) = own.retired_at {
            let detail = format!("node {} was retired at {at}", own.id);
            return Err(Error::Forbidden { code: "node_retired", detail });
        }
        let caller = Caller { node: own.id.clone(), data_plane: own.data_plane.clone() };
        self.count_once(&caller, &claims)?;
        Ok((caller, claims.instance))
    }

    /// Rejects a proof that was used before, or that has no identifier of its call.
    fn count_once(&self, caller: &Caller, claims: &ProofClaims) -> Result<(), Error> {
        if claims.jti.is_empty() {
            return Err(Error::Unauthenticated("the node's proof has no jti; make one for each call"));
        }
        if self.used_proofs.note(&caller.node, &claims.jti, claims.exp, self.now()) {
            return Ok(());
        }
        Err(Error::Unauthenticated("the node's proof was used before; make one for each call"))
    }

    fn timely(&self, claims: &ProofClaims, audience: &str) -> Result<(), Error> {
        if claims.aud != audience {
            let got = claims.aud.chars().take(200).filter(|c| !c.is_control()).collect();
            return Err(ProofFault::Audience { got, own: audience.to_owned() }.into());
        }
        match check_times(claims.iat, claims.exp, self.now()) {
            Ok(()) => Ok(()),
            Err(Untimely::Backwards) => Err(ProofFault::Backwards.into()),
            Err(Untimely::Long) => Err(ProofFault::Lifetime.into()),
            Err(Untimely::Late { by }) => Err(ProofFault::Late { by }.into()),
            Err(Untimely::Early { by }) => Err(ProofFault::Early { by }.into()),
        }
    }
}

/// Error for a host that enrols with the key of a retired node. It names the files to remove.
fn was_retired(node: &str, at: i64) -> Error {
    let at = Time::from_unix(at);
    let detail = format!(
        "this host's key is that of node {node}, which was retired at {at}, and a retired node does not come back; run \
         `halligand new-identity` on the host, which sets node.json, node.pem and the audit log aside, and enrol again"
    );
    Error::Conflict { code: "node_retired", detail }
}

fn prove(text: &str, key: &PublicKey) -> Option<ProofClaims> {
    Unverified::parse(text.as_bytes(), MAX_PROOF).ok()?.verify(Typ::NodeAuth, key).ok()?.claims().ok()
}
