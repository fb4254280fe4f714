CREATE TABLE organization (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, created_at INTEGER NOT NULL
) STRICT;
CREATE TABLE user (
    id TEXT PRIMARY KEY, organization TEXT NOT NULL REFERENCES organization, email TEXT NOT NULL, role TEXT NOT NULL,
    generation INTEGER NOT NULL, created_at INTEGER NOT NULL, deleted_at INTEGER, UNIQUE (organization, email)
) STRICT;
CREATE TABLE workspace (
    id TEXT PRIMARY KEY, organization TEXT NOT NULL REFERENCES organization, name TEXT NOT NULL,
    created_at INTEGER NOT NULL, UNIQUE (organization, name)
) STRICT;
CREATE TABLE workspace_role (
    user TEXT NOT NULL REFERENCES user, workspace TEXT NOT NULL REFERENCES workspace, role TEXT NOT NULL,
    PRIMARY KEY (user, workspace)
) STRICT, WITHOUT ROWID;
-- version, count and digest are those of the replica its nodes hold.
CREATE TABLE data_plane (
    id TEXT PRIMARY KEY, organization TEXT NOT NULL REFERENCES organization, name TEXT NOT NULL,
    created_at INTEGER NOT NULL, version INTEGER NOT NULL, count INTEGER NOT NULL, digest BLOB NOT NULL,
    UNIQUE (organization, name)
) STRICT;
CREATE TABLE deployment (
    id TEXT PRIMARY KEY, organization TEXT NOT NULL REFERENCES organization, workspace TEXT NOT NULL REFERENCES workspace,
    data_plane TEXT NOT NULL REFERENCES data_plane, name TEXT NOT NULL, hosts TEXT NOT NULL, created_at INTEGER NOT NULL,
    UNIQUE (workspace, name)
) STRICT;
-- Of a token's value nothing is kept but its last four characters.
CREATE TABLE token (
    id TEXT PRIMARY KEY, organization TEXT NOT NULL REFERENCES organization, name TEXT NOT NULL, description TEXT NOT NULL,
    type TEXT NOT NULL, kind TEXT NOT NULL, entity TEXT NOT NULL, role TEXT NOT NULL, generation INTEGER NOT NULL,
    short TEXT NOT NULL, start_at INTEGER NOT NULL, end_at INTEGER, days INTEGER, created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL, updated_at INTEGER NOT NULL, updated_by TEXT NOT NULL, last_rotated_at INTEGER, deleted_at INTEGER,
    -- Where it is: none for a token of the organization.
    workspace TEXT
) STRICT;
CREATE TABLE record (
    data_plane TEXT NOT NULL REFERENCES data_plane, kind TEXT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (data_plane, kind, key)
) STRICT, WITHOUT ROWID;
-- Which (kind, key) changed in which version: what a delta is made from, with the record as it stands now.
CREATE TABLE change (
    data_plane TEXT NOT NULL REFERENCES data_plane, version INTEGER NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL,
    PRIMARY KEY (data_plane, kind, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX change_by_version ON change (data_plane, version);
CREATE TABLE enrolment (
    hash BLOB PRIMARY KEY, data_plane TEXT NOT NULL REFERENCES data_plane, expires_at INTEGER NOT NULL, node TEXT
) STRICT;
CREATE TABLE node (
    id TEXT PRIMARY KEY, data_plane TEXT NOT NULL REFERENCES data_plane, name TEXT NOT NULL, key TEXT NOT NULL,
    created_at INTEGER NOT NULL, retired_at INTEGER
) STRICT;
