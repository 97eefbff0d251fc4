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

-- Where the boots of a device stand in time, as it says once it knows.
CREATE TABLE boots (
    device      INTEGER NOT NULL,
    boot        BLOB NOT NULL,
    offset      INTEGER NOT NULL,     -- true wall time less monotonic time
    uncertainty INTEGER,              -- NULL: nobody knows
    epoch       INTEGER NOT NULL,     -- the record that said so
    seq         INTEGER NOT NULL,
    PRIMARY KEY (device, boot)
) WITHOUT ROWID;

-- The clocks that stamped what is here: one for each setting of the wall clock in each boot. Times are stored set right:
-- the device's own are the stored ones less `shift`.
CREATE TABLE clocks (
    id      INTEGER PRIMARY KEY,
    device  INTEGER NOT NULL,
    boot    BLOB NOT NULL,
    ordinal INTEGER NOT NULL,         -- of the device's clocks, from 1
    offset  INTEGER NOT NULL,         -- wall time less monotonic time, as it showed
    unset   INTEGER NOT NULL,         -- it showed 1970
    shift   INTEGER                   -- what its times were moved by; NULL: where the boot stands is not known
);
CREATE INDEX clocks_by_boot ON clocks (device, boot);

-- The clock that stamped a row; NULL: another one, such as that of a recording.
ALTER TABLE gaps ADD COLUMN clock INTEGER;
ALTER TABLE raw ADD COLUMN clock INTEGER;
ALTER TABLE windows ADD COLUMN clock INTEGER;
ALTER TABLE episodes ADD COLUMN clock INTEGER;
ALTER TABLE episodes ADD COLUMN start_clock INTEGER;
ALTER TABLE episode_steps ADD COLUMN clock INTEGER;
ALTER TABLE digests ADD COLUMN clock INTEGER;
ALTER TABLE notices ADD COLUMN clock INTEGER;
