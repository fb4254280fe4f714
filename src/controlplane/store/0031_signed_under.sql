-- The keysets that this control plane has signed under, so that keys of another one beside this database are noticed.
CREATE TABLE signed_under (version INTEGER PRIMARY KEY, keyset TEXT NOT NULL) STRICT;
