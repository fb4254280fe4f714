-- The first faults of a kind in a day are kept for each node. The others are counted at the last of these, with the time of the last.
ALTER TABLE log_fault ADD COLUMN repeated INTEGER NOT NULL DEFAULT 0;
ALTER TABLE log_fault ADD COLUMN last_at INTEGER;
CREATE INDEX log_fault_of_node ON log_fault (node, kind, noted_at);
