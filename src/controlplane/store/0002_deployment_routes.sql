-- The name of the route map its data plane matches requests with.
ALTER TABLE deployment ADD COLUMN routes TEXT NOT NULL DEFAULT 'airflow-v2';
