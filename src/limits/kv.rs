//! Bounds that the kernels keep, too: their crate takes this file as it is.

/// Most transformer blocks of a GLM.
pub const GLM_LAYERS_MAX: usize = 256;
/// Most heads of a GLM.
pub const GLM_HEADS_MAX: usize = 512;
/// Most elements of one head.
pub const GLM_HEAD_DIM_MAX: usize = 512;
/// Most positions of a GLM.
pub const GLM_CONTEXT_TOKENS_MAX: usize = 1024 * 1024;
/// Most sequences whose keys and values are kept at a time.
pub const KV_SLOTS_MAX: usize = 1024;
