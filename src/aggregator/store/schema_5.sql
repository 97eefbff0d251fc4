-- The records of lane raw that prove an episode, in the epoch of its steps.
ALTER TABLE episodes ADD COLUMN evidence_first INTEGER;
ALTER TABLE episodes ADD COLUMN evidence_last INTEGER;
