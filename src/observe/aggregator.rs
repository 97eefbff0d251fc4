//! Events of the `aggregator` room.
