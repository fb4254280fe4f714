//! Upload URLs of deploys. The secret in a URL is good for one deploy and one hour; the database has its hash.

use base64::Engine as _;
use rusqlite::{OptionalExtension as _, params};
use sha2::{Digest as _, Sha256};

use crate::api::deploy::DeployStatus;
use crate::controlplane::ControlPlane;
use crate::controlplane::access::audit_log;
use crate::controlplane::archives::Received;
use crate::controlplane::calls::subjects::subject;
use crate::controlplane::code::deploys::{self, Archive};
use crate::controlplane::code::garbage;
use crate::controlplane::error::Error;
use crate::controlplane::store::Transaction;
use crate::protocol::deploy::MAX_ARCHIVE;
use crate::protocol::jws::BASE64URL;
use crate::protocol::time::Time;

/// Time within which an upload can begin, in seconds.
const OPEN: i64 = 3600;

/// Maximum number of blocks of an archive that is uploaded in parts.
const MAX_BLOCKS: u64 = 2048;

/// Archive that is about to be received.
#[derive(Clone, Debug)]
pub struct Upload {
    deploy: String,
    /// Name of the archive in the object store.
    pub(in crate::controlplane) archive: String,
}

impl ControlPlane {
    /// Returns a name for an archive of a deployment that none had before.
    fn new_archive(&self, deployment: &str) -> String {
        format!("{deployment}/{}.tar.gz", self.new_id())
    }

    /// Makes an archive of a deployment known that is about to be written, and returns its name.
    pub(in crate::controlplane) fn expect_archive(&self, deployment: &str) -> Result<String, Error> {
        let archive = self.new_archive(deployment);
        self.store.note(|transaction| garbage::expect(transaction, &archive, self.now()))?;
        Ok(archive)
    }

    /// Makes an upload URL of a deploy.
    pub(super) fn open_upload(
        &self,
        transaction: &Transaction<'_>,
        deploy: &str,
        now: Time,
    ) -> Result<String, Error> {
        let mut secret = [0; 32];
        self.random().fill_bytes(&mut secret);
        let secret = BASE64URL.encode(secret);
        let hash = Sha256::digest(&secret);
        transaction.execute(
            "UPDATE deploy SET upload_hash = ?2, upload_until = ?3 WHERE id = ?1",
            params![deploy, hash.as_slice(), now.plus(OPEN).unix()],
        )?;
        Ok(format!("{}/v1/deploy-uploads/{deploy}?key={secret}", self.issuer))
    }

    /// Checks the secret of an upload URL, and makes the archive known that is about to be written.
    pub fn begin_upload(&self, deploy: &str, key: &str) -> Result<Upload, Error> {
        let now = self.now();
        let deployment = self.store.read(|connection| {
            let query = "SELECT deployment FROM deploy
                 WHERE id = ?1 AND upload_hash = ?2 AND upload_until > ?3 AND status = 'INITIALIZED'";
            let hash = Sha256::digest(key);
            let row = params![deploy, hash.as_slice(), now.unix()];
            let found: Option<String> = connection.query_row(query, row, |row| row.get(0)).optional()?;
            found.ok_or(Error::NotFound("upload"))
        })?;
        Ok(Upload { deploy: deploy.to_owned(), archive: self.expect_archive(&deployment)? })
    }

    /// Gives the deploy the archive that was received, in place of one that came before.
    pub(in crate::controlplane) fn finish_upload(
        &self,
        upload: &Upload,
        received: Received,
    ) -> Result<(), Error> {
        let now = self.now();
        let call = "PUT /v1/deploy-uploads/{id}";
        let Upload { deploy, archive } = upload;
        self.store
            .note(|transaction| {
                let found = deploys::by_id(transaction, deploy)?;
                if found.is_none_or(|found| found.status != DeployStatus::Initialized) {
                    garbage::discard(transaction, archive)?;
                    return Ok(false);
                }
                garbage::discard_of(transaction, deploy)?;
                garbage::discard_blocks(transaction, deploy)?;
                garbage::keep(transaction, archive)?;
                let Received { digest, size } = received;
                deploys::set_archive(
                    transaction,
                    deploy,
                    &Archive { name: Some(archive.clone()), digest, size },
                )?;
                let query = "SELECT organization, deploy.created_by FROM deploy
                 JOIN deployment ON deployment.id = deployment WHERE deploy.id = ?1";
                let (organization, by): (String, String) =
                    transaction.query_row(query, [deploy], |row| Ok((row.get(0)?, row.get(1)?)))?;
                // An upload has no caller of its own: it counts as an act of the deploy's creator, who was given the URL.
                let name = subject(transaction, &by)?.name().to_owned();
                audit_log::record_done(transaction, &organization, (&by, &name), call, deploy, now)?;
                Ok(true)
            })?
            .then_some(())
            .ok_or(Error::NotFound("upload"))
    }

    /// Keeps a block of an archive that is uploaded in parts, in place of an earlier one of the same id.
    pub(in crate::controlplane) fn finish_block(
        &self,
        upload: &Upload,
        block: &str,
        received: Received,
    ) -> Result<(), Error> {
        let Upload { deploy, archive } = upload;
        let kept = self.store.note(|transaction| {
            let found = deploys::by_id(transaction, deploy)?;
            let query = "SELECT count(*), coalesce(sum(size), 0), max(CASE WHEN block = ?2 THEN archive END)
                 FROM deploy_block WHERE deploy = ?1";
            let (count, size, before): (u64, u64, Option<String>) =
                transaction
                    .query_row(query, [deploy, block], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            let fits = count < MAX_BLOCKS && size + received.size <= MAX_ARCHIVE;
            if !fits || found.is_none_or(|found| found.status != DeployStatus::Initialized) {
                garbage::discard(transaction, archive)?;
                return Ok(false);
            }
            if let Some(before) = before {
                garbage::discard(transaction, &before)?;
            }
            garbage::keep(transaction, archive)?;
            transaction.execute(
                "INSERT OR REPLACE INTO deploy_block (deploy, block, archive, size) VALUES (?1, ?2, ?3, ?4)",
                params![deploy, block, archive, received.size],
            )?;
            Ok(true)
        })?;
        let detail = || format!("an archive has at most {MAX_BLOCKS} blocks and {MAX_ARCHIVE} bytes");
        if kept { Ok(()) } else { Err(Error::invalid("blockid", detail())) }
    }

    /// Returns the names and sizes of blocks, in the order in which they make up the archive.
    pub(in crate::controlplane) fn blocks(
        &self,
        upload: &Upload,
        ids: &[String],
    ) -> Result<Vec<(String, u64)>, Error> {
        self.store.read(|connection| {
            let query = "SELECT archive, size FROM deploy_block WHERE deploy = ?1 AND block = ?2";
            let mut query = connection.prepare_cached(query)?;
            let unknown =
                || Error::invalid("blocklist", "names a block that was not uploaded; upload it first");
            ids.iter()
                .map(|id| {
                    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
                    query.query_row([&upload.deploy, id], row).optional()?.ok_or_else(unknown)
                })
                .collect()
        })
    }
}
