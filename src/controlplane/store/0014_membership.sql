-- When two instances of the node were last heard in turn: two hosts share its identity.
ALTER TABLE node ADD COLUMN shared_at INTEGER;
-- What the replica of a data plane was at each of its latest versions, by whoever stated it first.
CREATE TABLE replica_state (
    data_plane TEXT NOT NULL REFERENCES data_plane, version INTEGER NOT NULL, digest BLOB NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (data_plane, version)
) STRICT, WITHOUT ROWID;
-- Heads that nodes hold and that contradict what was stated of their version first: evidence.
CREATE TABLE replica_fork (
    data_plane TEXT NOT NULL REFERENCES data_plane, version INTEGER NOT NULL, digest BLOB NOT NULL, count INTEGER NOT NULL,
    node TEXT NOT NULL REFERENCES node, head TEXT NOT NULL, noted_at INTEGER NOT NULL,
    PRIMARY KEY (data_plane, version, digest, count)
) STRICT, WITHOUT ROWID;
