//! What an operator writes: parsed, checked, all errors at once.
