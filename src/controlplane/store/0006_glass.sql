-- How direct access to a deployment is kept: always, outage or sealed.
ALTER TABLE deployment ADD COLUMN glass TEXT NOT NULL DEFAULT 'always';
