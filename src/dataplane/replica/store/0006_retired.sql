-- A retired node has a row in which `revoked` is 1 and `expires` is the time of its retirement.
INSERT INTO ledger (kind, key, proved, generation, revoked, expires)
    SELECT kind, key, x'', 0, 1, CAST(json_extract(body, '$.retiredAt') AS INTEGER) FROM record
    WHERE kind = 'node' AND CASE WHEN json_valid(body) THEN json_extract(body, '$.retiredAt') END IS NOT NULL;
