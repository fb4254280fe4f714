-- Environment variables of deployments. Values are sealed under a key that is a file beside the database; `environment_key`
-- holds that key's name, so that another key is not taken for it.
CREATE TABLE environment_key (
    id INTEGER PRIMARY KEY CHECK (id = 1), name BLOB NOT NULL
) STRICT;
CREATE TABLE environment_variable (
    deployment TEXT NOT NULL REFERENCES deployment, key TEXT NOT NULL,
    is_secret INTEGER NOT NULL CHECK (is_secret IN (0, 1)), sealed BLOB NOT NULL, updated_at INTEGER NOT NULL,
    UNIQUE (deployment, key)
) STRICT;
-- Version of the variables: rises with each change, and 0 is none yet.
ALTER TABLE deployment ADD COLUMN environment_version INTEGER NOT NULL DEFAULT 0;
-- Number of changes to the variables of the deployments of a data plane, by which hosts see that there is a new one.
ALTER TABLE data_plane ADD COLUMN environment_changes INTEGER NOT NULL DEFAULT 0;
-- Key to which variables are encrypted for a node, as a JWK; none if the node has not told one.
ALTER TABLE node ADD COLUMN encryption_key TEXT;
