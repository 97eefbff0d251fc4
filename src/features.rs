//! Statistics of one channel over one window, updated reading by reading.
