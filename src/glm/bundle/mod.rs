//! A model on disk: weights that are mapped and used in place, the tokenizer, the template, and a manifest that says what they
//! must be.

mod layout;

pub use layout::Layout;
