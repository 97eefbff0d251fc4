//! Events of the `sensor` room.
