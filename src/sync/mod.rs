//! The sans-I/O synchronisation protocol, both seats.
