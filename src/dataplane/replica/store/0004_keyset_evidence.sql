-- Keysets that contradict one this node had proved, and those they contradict: evidence.
CREATE TABLE keyset_fork (version INTEGER NOT NULL, text TEXT NOT NULL UNIQUE, seen INTEGER NOT NULL) STRICT;
