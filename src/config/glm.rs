//! What an operator says of a language model of his own.

use crate::reading::named_enum;

named_enum! {
    /// How keys and values are kept.
    KvKind { F16 = "f16", Int8 = "int8", F32 = "f32" }
}
