//! A small HTTP server on smol for loopback pages and probes.
