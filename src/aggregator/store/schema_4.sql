-- What summaries say beyond the basics, where their device tells it.
ALTER TABLE windows ADD COLUMN p05 REAL;
ALTER TABLE windows ADD COLUMN p50 REAL;
ALTER TABLE windows ADD COLUMN p95 REAL;
ALTER TABLE windows ADD COLUMN changes INTEGER;
ALTER TABLE windows ADD COLUMN rate REAL;
