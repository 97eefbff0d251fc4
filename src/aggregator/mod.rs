//! The cloud seat.
