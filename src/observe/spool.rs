//! Events of the `spool` room.
