//! Feeds the reader that `FUZZ_READER` names: one program for all, since linking it takes longer than a short run.
#![no_main]

use std::sync::OnceLock;

use outpost_fuzz::Reader;

static READER: OnceLock<&'static Reader> = OnceLock::new();

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    (READER.get_or_init(named).read)(bytes);
});

fn named() -> &'static Reader {
    let name = std::env::var("FUZZ_READER").expect("FUZZ_READER names a reader");
    outpost_fuzz::readers().find(|reader| reader.name == name).expect("there is a reader of that name")
}
