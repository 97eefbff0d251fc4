//! A shared library, loaded for good.

use std::ffi::{CStr, CString, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr::NonNull;

/// A loaded library; copies refer to the same.
#[derive(Debug, Clone, Copy)]
pub struct Library(NonNull<c_void>);

impl Library {
    /// Loads the library at `path`, and runs what it wants to be run when it is loaded. Errors: the loader's own words.
    pub fn open(path: &Path) -> Result<Self, String> {
        let name = CString::new(path.as_os_str().as_bytes())
            .map_err(|_| format!("{} is not the name of a file", path.display()))?;
        // SAFETY: the name ends with a nought; what the library does when it is loaded is the reason for the worker process.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        NonNull::new(handle).map(Self).ok_or_else(last_error)
    }

    /// The address of the symbol `name`. Errors: it has none.
    pub fn symbol(&self, name: &CStr) -> Result<NonNull<c_void>, String> {
        // SAFETY: the handle is of a library that is never unloaded, and the name ends with a nought.
        let address = unsafe { libc::dlsym(self.0.as_ptr(), name.as_ptr()) };
        NonNull::new(address).ok_or_else(|| format!("it has no symbol {}", name.to_string_lossy()))
    }
}

fn last_error() -> String {
    // SAFETY: dlerror gives nothing, or a text that lives until the next call of this thread; it is copied at once.
    let text = unsafe {
        let text = libc::dlerror();
        if text.is_null() { None } else { Some(CStr::from_ptr(text).to_string_lossy().into_owned()) }
    };
    text.unwrap_or_else(|| "the loader does not say why".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_library_is_told_in_the_loaders_words() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lib.so");
        assert!(Library::open(&path).unwrap_err().contains("lib.so"));
        std::fs::write(&path, b"no library").unwrap();
        assert!(Library::open(&path).unwrap_err().contains("lib.so"));
    }
}
