-- When the contradiction was seen, by this node's clock.
ALTER TABLE fork ADD COLUMN seen INTEGER NOT NULL DEFAULT 0;
