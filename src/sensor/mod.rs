//! Sources of readings: host vitals, replayed recordings, lines.
