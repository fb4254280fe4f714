-- The issuer that tokens and heads were last signed as.
CREATE TABLE signed_as (
    id INTEGER PRIMARY KEY CHECK (id = 1), issuer TEXT NOT NULL, since INTEGER NOT NULL
) STRICT;
