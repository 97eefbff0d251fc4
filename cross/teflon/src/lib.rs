//! What loads TensorFlow Lite delegates in the product, as it is, for a processor that Debian builds Mesa's delegate for. See
//! `cross/teflon.sh`.

#![allow(dead_code, missing_docs, unused_imports)]

#[path = "../../../src/limits.rs"]
pub mod limits;
#[path = "../../../src/reading.rs"]
pub mod reading;
#[path = "../../../src/time.rs"]
pub mod time;

/// Where delegates live in the product too.
#[path = "."]
pub mod accel {
    #[path = "../../../src/accel/backend.rs"]
    mod backend;
    pub use backend::{Placement, Refused, Stage};

    #[path = "."]
    pub mod ffi {
        #[path = "../../../src/accel/ffi/delegate.rs"]
        pub mod delegate;
        #[path = "../../../src/accel/ffi/library.rs"]
        pub mod library;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::accel::Stage;
    use super::accel::ffi::delegate::DelegateLibrary;

    #[test]
    fn mesas_delegate_is_loaded_and_refuses_cleanly_without_a_device() {
        let path = std::env::var_os("OUTPOST_TEST_TEFLON").expect("cross/teflon.sh names the library");
        let library = DelegateLibrary::open(Path::new(&path)).expect("it is loaded");
        // Whatever it is told, and however often: there is no device.
        for options in ["", "", "device=0"] {
            let refused = library.create(options).expect_err("no device");
            assert_eq!(refused.stage, Stage::Create, "{refused}");
            assert!(refused.reason.contains("is its device there"), "{refused}");
            println!("{refused}");
        }
    }
}
