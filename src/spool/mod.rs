//! Ordered, bounded, durable lanes on sled behind a four-method journal.
