-- Blocks that arrived whole and that this version can't read, most likely since the device is newer. They are settled like
-- others, and read when a program comes that can.
CREATE TABLE unread (
    device  INTEGER NOT NULL,
    lane    INTEGER NOT NULL,
    epoch   INTEGER NOT NULL,
    first   INTEGER NOT NULL,       -- only records first to last of the payload count
    last    INTEGER NOT NULL,
    arrived INTEGER NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (device, lane, epoch, first)
);
