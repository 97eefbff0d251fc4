//! Memory discipline after loading: what the allocator kept of the scaffolding goes back to the system.
//!
//! Loading builds the model several times over (the file's form, the inferred graph, the optimised one); glibc keeps those pages
//! for later. The agent has no later of that size, so it asks for them to be returned. Other allocators do so by themselves.

#![allow(unsafe_code)]

/// Returns free pages to the system; a few milliseconds. Does nothing where the C library is not glibc.
pub fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> std::ffi::c_int;
        }
        // SAFETY: malloc_trim takes a number, touches free memory only and may be called from any thread (man 3 malloc_trim).
        let _ = unsafe { malloc_trim(0) };
    }
}

/// Memory that could be taken now without anybody being killed for it, as far as the system tells: what the kernel calls
/// available, and no more than the limit of the control group.
pub fn available_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let limit = group.and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(u64::MAX);
    Some(kib.saturating_mul(1024).min(limit))
}
