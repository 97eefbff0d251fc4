//! The GLM language model on tract.
