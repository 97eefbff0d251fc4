//! Events of the `agent` room.
