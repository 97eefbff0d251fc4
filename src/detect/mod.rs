//! Streaming detectors behind one enum; scores and named reasons.
