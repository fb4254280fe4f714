-- Deploys: archives of a deployment's code. The bytes are in an object store, under the name `archive`; a rollback has the
-- same one as the deploy that it goes back to.
CREATE TABLE deploy (
    id TEXT PRIMARY KEY, deployment TEXT NOT NULL REFERENCES deployment,
    status TEXT NOT NULL CHECK (status IN ('INITIALIZED', 'DEPLOYED', 'FAILED')), description TEXT NOT NULL, git TEXT,
    -- Version of the deployment's code that it was put in force with.
    version INTEGER,
    -- The archive, once there is one; its name goes when the archive is deleted.
    archive TEXT, digest BLOB, size INTEGER,
    -- SHA-256 of the secret with which an archive can be uploaded, and the end of that.
    upload_hash BLOB, upload_until INTEGER,
    rollback_from TEXT,
    -- What a node signed, if a host took it, and its node.
    host_deploy TEXT, node TEXT,
    superseded_by TEXT,
    created_at INTEGER NOT NULL, created_by TEXT NOT NULL, updated_at INTEGER NOT NULL, updated_by TEXT NOT NULL
) STRICT;
CREATE INDEX deploy_by_time ON deploy (deployment, created_at, id);
CREATE INDEX deploy_by_archive ON deploy (archive) WHERE archive IS NOT NULL;
CREATE INDEX deploy_by_node ON deploy (node, created_at) WHERE node IS NOT NULL;
CREATE INDEX deploy_awaited ON deploy (created_at) WHERE status = 'INITIALIZED';
-- Blocks of an archive that is uploaded in parts. Each is an archive to the object store.
CREATE TABLE deploy_block (
    deploy TEXT NOT NULL REFERENCES deploy, block TEXT NOT NULL, archive TEXT NOT NULL, size INTEGER NOT NULL,
    PRIMARY KEY (deploy, block)
) STRICT, WITHOUT ROWID;
-- The deploy in force and the version of the code: it rises with each deploy and each rollback, and 0 is none yet.
ALTER TABLE deployment ADD COLUMN deploy TEXT;
ALTER TABLE deployment ADD COLUMN code_version INTEGER NOT NULL DEFAULT 0;
-- Number of changes to the code of the deployments of a data plane, by which hosts see that there is a new one.
ALTER TABLE data_plane ADD COLUMN deploy_changes INTEGER NOT NULL DEFAULT 0;
-- Archives to be deleted from the object store, each from a time on. One that is being written is here until it is in use.
CREATE TABLE archive_garbage (archive TEXT PRIMARY KEY, after INTEGER NOT NULL) STRICT, WITHOUT ROWID;
-- Deployment of a decision, for the logs of a deployment. Of the decisions before this change the last eight days have it.
ALTER TABLE event ADD COLUMN deployment TEXT;
UPDATE event SET deployment = line ->> '$.deployment'
    WHERE received_at > unixepoch() - 8 * 86400 AND kind = 'decision' AND json_valid(line);
CREATE INDEX event_by_deployment ON event (deployment, time) WHERE deployment IS NOT NULL;
