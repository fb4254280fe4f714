-- Settings of a deployment's Airflow, as JSON; what is not in it was not set.
ALTER TABLE deployment ADD COLUMN settings TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(settings));
