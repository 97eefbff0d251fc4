//! Events of the `link` room.
