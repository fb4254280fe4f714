-- The last checkpoint of each branch of a node's log: the node's own signature under all that had arrived before.
CREATE TABLE checkpoint (
    node TEXT NOT NULL REFERENCES node, branch INTEGER NOT NULL, sequence INTEGER NOT NULL, hash TEXT NOT NULL,
    text TEXT NOT NULL, received_at INTEGER NOT NULL, PRIMARY KEY (node, branch)
) STRICT, WITHOUT ROWID;
