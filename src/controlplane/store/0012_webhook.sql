-- An announcement is done with when it was delivered, or given up: then `last_error` says why, else there is none.
ALTER TABLE announcement RENAME COLUMN delivered_at TO done_at;
CREATE INDEX announcement_waiting ON announcement (made_at) WHERE done_at IS NULL;
CREATE INDEX announcement_done ON announcement (done_at) WHERE done_at IS NOT NULL;
