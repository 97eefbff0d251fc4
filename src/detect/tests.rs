//! Streams on which the detectors must speak, and streams on which they must hold their peace.

use super::*;
