-- Uses of tokens after they had ended, each once: also where the revocation came to be known after the use.
CREATE TABLE late_use (
    node TEXT NOT NULL REFERENCES node, event TEXT NOT NULL, data_plane TEXT NOT NULL REFERENCES data_plane,
    token TEXT NOT NULL REFERENCES token, noted_at INTEGER NOT NULL, PRIMARY KEY (node, event)
) STRICT, WITHOUT ROWID;
