-- Custom roles. A role's newest version is in it; every version stays, byte for byte as data planes are told of it.
CREATE TABLE role (
    id TEXT PRIMARY KEY, organization TEXT NOT NULL REFERENCES organization, name TEXT NOT NULL, description TEXT NOT NULL,
    scope TEXT NOT NULL CHECK (scope IN ('DEPLOYMENT', 'DAG')), version INTEGER NOT NULL, workspaces TEXT NOT NULL,
    created_at INTEGER NOT NULL, created_by TEXT NOT NULL, updated_at INTEGER NOT NULL, updated_by TEXT NOT NULL,
    deleted_at INTEGER
) STRICT;
CREATE UNIQUE INDEX role_by_name ON role (organization, name) WHERE deleted_at IS NULL;
CREATE TABLE role_version (
    role TEXT NOT NULL REFERENCES role, organization TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL,
    body TEXT NOT NULL, created_at INTEGER NOT NULL, created_by TEXT NOT NULL,
    PRIMARY KEY (role, version), UNIQUE (organization, name, version)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER role_version_never_changes BEFORE UPDATE ON role_version
BEGIN SELECT RAISE(ABORT, 'a role version never changes'); END;
CREATE TRIGGER role_version_never_goes BEFORE DELETE ON role_version
BEGIN SELECT RAISE(ABORT, 'a role version never goes'); END;
-- The version a direct-access token was made with; a standard token follows the newest and has none.
ALTER TABLE token ADD COLUMN role_version INTEGER;
UPDATE token SET role_version = 1 WHERE kind = 'DIRECT_ACCESS';
-- The roles a token has besides the one in its own scope: on deployments it is assigned to, and on Dags.
CREATE TABLE token_role (
    token TEXT NOT NULL REFERENCES token, entity_type TEXT NOT NULL CHECK (entity_type IN ('DEPLOYMENT', 'DAG', 'DAG_TAG')),
    entity TEXT NOT NULL, deployment TEXT NOT NULL REFERENCES deployment, role TEXT NOT NULL, role_version INTEGER,
    granted_at INTEGER NOT NULL, granted_by TEXT NOT NULL,
    PRIMARY KEY (token, deployment, entity_type, entity)
) STRICT, WITHOUT ROWID;
CREATE INDEX token_role_by_deployment ON token_role (deployment);
CREATE INDEX token_role_by_role ON token_role (role);
-- Which tags each Dag of a deployment has, as its data plane is told.
CREATE TABLE dag_tags (
    deployment TEXT PRIMARY KEY REFERENCES deployment, tags TEXT NOT NULL,
    updated_at INTEGER NOT NULL, updated_by TEXT NOT NULL
) STRICT;
