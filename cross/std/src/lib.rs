//! Nothing: the standard library is what gets built on the way.
#![no_std]
