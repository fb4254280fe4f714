//! Takes an archive from a client of this host: the way to deploy in an outage.

use std::sync::atomic::Ordering;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::deployment_code::{Above, Target, VerifiedHostDeploy, name_of_host};
use super::incoming::{Incoming, ReceiveError, Received};
use super::place::{Name, remove};
use super::settle::install;
use super::tree::TreeError;
use super::{Claim, Code, MAX_HOST_DEPLOYS};
use crate::protocol::deploy::MAX_ARCHIVE;
use crate::protocol::deploy::archive::ArchiveError;
use crate::protocol::deploy::host::{HostDeploy, SignedHostDeploy, sign_host_deploy};
use crate::protocol::deploy::order::next_place;
use crate::protocol::deploy::signed::SignedDeploy;
use crate::protocol::id::{DeployId, TokenId, id_of_bits};
use crate::protocol::time::Time;

/// Reasons why an archive that a client sent is not switched to.
#[derive(Debug, Error)]
pub enum PushError {
    /// The archive is at fault.
    #[error(transparent)]
    Refused(ArchiveError),
    /// The archive is larger than any may be.
    #[error("the archive is larger than {0} bytes")]
    TooLarge(u64),
    /// This host cannot store it. This is the sentence for its operators.
    #[error("{0}")]
    Disk(String),
    /// This node cannot prove what it would sign: its replica does not name it.
    #[error("this host's replica does not name its node; let it reach the control plane once")]
    Nameless,
}

impl From<ReceiveError> for PushError {
    fn from(error: ReceiveError) -> Self {
        match error {
            ReceiveError::TooLarge(most) => Self::TooLarge(most),
            other => Self::Disk(other.to_string()),
        }
    }
}

impl From<TreeError> for PushError {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::Refused(error) => Self::Refused(error),
            disk @ TreeError::Disk { .. } => Self::Disk(disk.to_string()),
        }
    }
}

/// Origin of an archive that a client sent.
#[derive(Clone, Debug)]
pub struct Source {
    /// Token that allowed it.
    pub token: TokenId,
    /// Id of the event of the decision.
    pub event: String,
}

/// Deploy that this host took.
#[derive(Clone, Debug)]
pub struct Pushed(pub HostDeploy);

impl Code {
    /// Begins to receive an archive from a client.
    pub fn receive_push(&self, claim: &Claim) -> Result<Incoming, PushError> {
        let place = self.place(claim.deployment());
        let failed = |source| ReceiveError::Disk { path: place.path().into(), source };
        place.make().map_err(failed)?;
        Ok(Incoming::begin(place.pushed(), MAX_ARCHIVE)?)
    }

    /// Discards an archive that broke off.
    pub fn discard_push(&self, incoming: Incoming) {
        incoming.discard();
    }

    /// Unpacks an archive that was received whole, signs it as a deploy of this host, and switches to it. After an error the
    /// deployment runs what it ran before.
    pub fn push(
        &self,
        claim: &Claim,
        incoming: Incoming,
        source: &Source,
        now: Time,
    ) -> Result<Pushed, PushError> {
        // A push just after the start must not overlook the deploys on the disk.
        if !self.checked.load(Ordering::Acquire) {
            self.check(now);
        }
        let place = self.place(claim.deployment());
        let pushed = self.unpack_push(claim, incoming, source, now);
        if pushed.is_err() {
            // The earlier error is the one to report.
            let _ = remove(&place.pushed());
        }
        pushed
    }

    fn unpack_push(
        &self,
        claim: &Claim,
        incoming: Incoming,
        source: &Source,
        now: Time,
    ) -> Result<Pushed, PushError> {
        let (deployment, place) = (claim.deployment(), self.place(claim.deployment()));
        let Received { path, digest, size } = incoming.finish()?;
        let disk = |source| ReceiveError::Disk { path: place.path().into(), source };
        let signers = self.live.snapshot().signers();
        if signers.get(&self.prover.identity.node_id).is_none() {
            return Err(PushError::Nameless);
        }
        let name = Name { deploy: self.next_id()?, digest };
        let tree = install(&place, &name, &path)?;
        std::fs::rename(&path, place.archive(&name)).and_then(|()| place.sync()).map_err(disk)?;
        let deploy = {
            let mut all = self.held();
            let held = all.entry(deployment.clone()).or_default();
            let hosts = held.hosts.values().map(|known| known.signed.deploy());
            let (base, seq) = next_place(held.signed.as_ref().map(SignedDeploy::deploy), hosts);
            let deploy = HostDeploy {
                iss: self.prover.identity.node_id.clone(),
                aud: self.prover.identity.data_plane_id.clone(),
                sub: deployment.clone(),
                deploy: name.deploy.clone(),
                base,
                seq,
                iat: now,
                digest,
                size,
                token: source.token.clone(),
                event: source.event.clone(),
            };
            let text = sign_host_deploy(&deploy, &self.prover.key);
            let signed = SignedHostDeploy::verify(&text, &signers, &deploy.aud).map_err(|error| {
                PushError::Disk(format!("this node's own signature does not hold: {error}"))
            })?;
            place.write(&place.host(&name_of_host(&signed)), &text).map_err(disk)?;
            held.proved.insert(name.clone());
            held.hosts.insert(name.clone(), VerifiedHostDeploy { signed, above: Above::Waiting });
            while held.hosts.len() > MAX_HOST_DEPLOYS
                && let Some(least) = held.least().map(|(least, _)| least.clone())
            {
                self.forget(deployment, held, &least);
            }
            deploy
        };
        // The deploy is in force from here on: after a crash before the switch, the next start switches to it.
        place.switch(&tree).map_err(disk)?;
        self.switched(deployment, &place, &Target { name, size, signed: false }, true);
        self.changes.send_replace(());
        Ok(Pushed(deploy))
    }

    /// Returns a new id of the platform's form: `c`, then 24 lower-case letters or digits.
    fn next_id(&self) -> Result<DeployId, PushError> {
        let count = self.pushes.fetch_add(1, Ordering::Relaxed);
        let hash = Sha256::new().chain_update(self.seed).chain_update(count.to_be_bytes()).finalize();
        let mut bits = [0; 16];
        bits.iter_mut().zip(hash).for_each(|(bits, byte)| *bits = byte);
        let id: String = id_of_bits("c", bits).chars().take(25).collect();
        id.parse().map_err(|_| PushError::Disk("no id could be made for the deploy".into()))
    }
}
