//! Outpost: intelligence at the edge of a fleet that can't count on its line.
//!
//! The module list is the architecture: imports point down only, and the rooms of one layer of edges never import
//! each other. ARCHITECTURE.md tells the life of a reading through them.

#![deny(unsafe_code)]

// L4 shell
pub mod cli;
pub mod config;
#[cfg(feature = "demo")]
pub mod demo;

// L3 compose
#[cfg(feature = "gateway")]
pub mod agent;
#[cfg(feature = "aggregator")]
pub mod aggregator;

// L2 edges: all side effects
#[cfg(feature = "gateway")]
pub mod glm;
pub mod http;
#[cfg(feature = "gateway")]
pub mod infer;
pub mod link;
#[cfg(feature = "gateway")]
pub mod sensor;
#[cfg(feature = "gateway")]
pub mod spool;

// L2' footing of the edges
#[cfg(feature = "gateway")]
pub mod accel;
pub mod clock;
pub mod files;
#[cfg(feature = "gateway")]
pub mod hash;
pub mod observe;
pub mod tls;

// L1 core: pure
pub mod ask;
pub mod calibrate;
pub mod detect;
pub mod digest;
pub mod episode;
pub mod facts;
pub mod features;
pub mod field;
pub mod frame;
pub mod sync;
pub mod templates;
pub mod window;
pub mod wire;

// L0 words
pub mod glob;
pub mod limits;
mod named;
pub mod reading;
pub mod time;
pub mod units;
