-- How far the device's word can be trusted: unsigned, unchecked (signed, and no certificate here to check it with),
-- verified.
ALTER TABLE devices ADD COLUMN trust TEXT NOT NULL DEFAULT 'unsigned';

-- What a device says of each lane of each spool, heartbeat by heartbeat. What was promised or given up never shrinks.
CREATE TABLE accounts (
    device      INTEGER NOT NULL,
    lane        INTEGER NOT NULL,
    epoch       INTEGER NOT NULL,
    serial      INTEGER NOT NULL,     -- of the latest heartbeat, 0 where it had none
    admitted    INTEGER NOT NULL,
    pending     INTEGER NOT NULL,
    evicted     TEXT NOT NULL,        -- by reason, a JSON array in the order of the reasons
    heard_at    INTEGER NOT NULL,     -- by our clock
    short_since INTEGER,              -- since when records are owed that the device does not hold any more
    PRIMARY KEY (device, lane, epoch)
) WITHOUT ROWID;

-- What a device said that can't be true; each kind once per spool, with the first and the latest time.
CREATE TABLE faults (
    device   INTEGER NOT NULL,
    epoch    INTEGER NOT NULL,
    code     TEXT NOT NULL,
    text     TEXT NOT NULL,
    first_at INTEGER NOT NULL,
    last_at  INTEGER NOT NULL,
    PRIMARY KEY (device, epoch, code)
) WITHOUT ROWID;
