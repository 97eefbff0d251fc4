-- Times are microseconds since 1970 in UTC. Epochs and sequence numbers are 64-bit patterns; sequence numbers above
-- 2^63 - 1 are refused before they get here.

-- Who was ever heard.
CREATE TABLE devices (
    id           INTEGER PRIMARY KEY,
    name         TEXT NOT NULL UNIQUE,
    state        TEXT NOT NULL DEFAULT 'unknown',
    first_seen   INTEGER NOT NULL,
    last_seen    INTEGER NOT NULL,
    heartbeat    BLOB,              -- as received
    heartbeat_at INTEGER            -- when received
);

-- What is settled, records and declared gaps alike: disjoint, never adjacent. This table is what acknowledgements
-- are made from.
CREATE TABLE ranges (
    device INTEGER NOT NULL,
    lane   INTEGER NOT NULL,
    epoch  INTEGER NOT NULL,
    first  INTEGER NOT NULL,
    last   INTEGER NOT NULL,
    PRIMARY KEY (device, lane, epoch, first)
) WITHOUT ROWID;

-- The part of `ranges` that will never have records.
CREATE TABLE gaps (
    device   INTEGER NOT NULL,
    lane     INTEGER NOT NULL,
    epoch    INTEGER NOT NULL,
    first    INTEGER NOT NULL,
    last     INTEGER NOT NULL,
    reason   TEXT NOT NULL,
    sealed   INTEGER NOT NULL,      -- when the device declared it
    PRIMARY KEY (device, lane, epoch, first)
) WITHOUT ROWID;

-- Readings stay in the block they came in: a row per reading would cost ten times the space.
CREATE TABLE raw (
    device    INTEGER NOT NULL,
    epoch     INTEGER NOT NULL,
    first     INTEGER NOT NULL,     -- only records first to last of the payload count
    last      INTEGER NOT NULL,
    from_at   INTEGER NOT NULL,
    to_at     INTEGER NOT NULL,
    committed INTEGER NOT NULL,
    payload   BLOB NOT NULL,
    PRIMARY KEY (device, epoch, first)
);
CREATE INDEX raw_by_time ON raw (device, to_at);
CREATE INDEX raw_by_age ON raw (committed);

CREATE TABLE channels (
    id     INTEGER PRIMARY KEY,
    device INTEGER NOT NULL,
    name   TEXT NOT NULL,
    unit   TEXT NOT NULL,
    UNIQUE (device, name)
);

CREATE TABLE windows (
    channel   INTEGER NOT NULL,
    start     INTEGER NOT NULL,
    length_ms INTEGER NOT NULL,
    count     INTEGER NOT NULL,
    missing   INTEGER NOT NULL,
    min       REAL NOT NULL,
    max       REAL NOT NULL,
    mean      REAL NOT NULL,
    std       REAL NOT NULL,
    last      REAL NOT NULL,
    slope     REAL NOT NULL,
    PRIMARY KEY (channel, start, length_ms)
) WITHOUT ROWID;

-- The latest known state; an episode is recognised by its id and its start, which survive a new epoch.
CREATE TABLE episodes (
    key      INTEGER PRIMARY KEY,
    device   INTEGER NOT NULL,
    id       INTEGER NOT NULL,
    start    INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    phase    TEXT NOT NULL,         -- opened, updated, closed, interrupted
    channel  TEXT NOT NULL,
    pattern  TEXT NOT NULL,
    severity INTEGER NOT NULL,
    baseline REAL,
    peak     REAL,
    last     REAL,
    bound    REAL,
    count    INTEGER NOT NULL,
    unit     TEXT NOT NULL,
    reason   TEXT NOT NULL,
    UNIQUE (device, id, start)
);
CREATE INDEX episodes_by_time ON episodes (device, at);
CREATE INDEX episodes_open ON episodes (device, severity) WHERE phase <> 'closed';

CREATE TABLE episode_steps (
    device   INTEGER NOT NULL,
    epoch    INTEGER NOT NULL,
    seq      INTEGER NOT NULL,
    episode  INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    phase    TEXT NOT NULL,
    severity INTEGER NOT NULL,
    last     REAL,
    PRIMARY KEY (device, epoch, seq)
) WITHOUT ROWID;
CREATE INDEX episode_steps_by_episode ON episode_steps (episode, at);

CREATE TABLE digests (
    key      INTEGER PRIMARY KEY,
    device   INTEGER NOT NULL,
    epoch    INTEGER NOT NULL,
    seq      INTEGER NOT NULL,
    from_at  INTEGER NOT NULL,
    to_at    INTEGER NOT NULL,
    body     TEXT NOT NULL,         -- the digest with its facts, as JSON
    UNIQUE (device, epoch, seq)
);
CREATE INDEX digests_by_time ON digests (device, to_at);

CREATE TABLE notices (
    device INTEGER NOT NULL,
    epoch  INTEGER NOT NULL,
    seq    INTEGER NOT NULL,
    at     INTEGER NOT NULL,
    code   TEXT NOT NULL,
    text   TEXT NOT NULL,
    PRIMARY KEY (device, epoch, seq)
) WITHOUT ROWID;
