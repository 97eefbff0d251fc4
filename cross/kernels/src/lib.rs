//! `src/glm/kernels` of the product and the words it is written in, as they are, for processors that a build of the whole would
//! take long for. See `cross/kernels.sh`.

#![allow(dead_code, missing_docs)]

#[path = "../../../src/limits/mod.rs"]
pub mod limits;
#[path = "../../../src/reading.rs"]
pub mod reading;
#[path = "../../../src/time.rs"]
pub mod time;

/// Where the kernels live in the product too.
#[path = "."]
pub mod glm {
    #[path = "../../../src/glm/kernels/mod.rs"]
    pub mod kernels;
}
