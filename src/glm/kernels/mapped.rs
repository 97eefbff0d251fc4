//! Files that are mapped whole, and what becomes of them when their bytes are gone.
//!
//! Whoever shortens a file, by copying another over it, takes its pages from under those who have it mapped, and so does a
//! disk that can't be read any more: the next access is a SIGBUS, which ends a program. Here zeros take the place of what is
//! gone, to the end of the map, and the map is [cut](Mapped::is_cut) from then on, whatever becomes of the file.

use std::fs::File;
use std::io;

use memmap2::Mmap;

/// A file's map, for reading.
pub(super) struct Mapped {
    map: Mmap,
    file: File,
    /// None where all places are taken: then SIGBUS ends the program.
    #[cfg(unix)]
    place: Option<&'static guard::Place>,
}

impl Mapped {
    /// Maps a whole file; nothing is read until it is used, and the kernel may drop and reread pages.
    pub(super) fn new(file: File) -> io::Result<Self> {
        // SAFETY: the map is for reading, and handed out as bytes alone. Bundles are written once and renamed into place;
        // bytes that change all the same change numbers, which every user of them tolerates, and pages that go are replaced.
        let map = unsafe { Mmap::map(&file)? };
        // Weights are read from end to end for every token: large pages save a tenth of the time, and most of the time of
        // the first read. Where there are none, nothing is lost.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Self {
            #[cfg(unix)]
            place: guard::watch(&map),
            map,
            file,
        })
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Whether bytes were gone when they were wanted; they are zeros now.
    pub(super) fn is_cut(&self) -> bool {
        #[cfg(unix)]
        return self.place.is_some_and(guard::Place::is_cut);
        #[cfg(not(unix))]
        false
    }
}

impl std::ops::Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

#[cfg(unix)]
impl Drop for Mapped {
    fn drop(&mut self) {
        // Before the map goes: its addresses may be another's soon.
        if let Some(place) = self.place {
            place.leave();
        }
    }
}

/// The handler of SIGBUS. What it does may be done in a handler: atomics, and system calls.
#[cfg(unix)]
mod guard {
    use std::ffi::{c_int, c_void};
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::{Once, OnceLock};

    /// Maps that are watched at a time; a program has a few.
    const PLACES: usize = 64;

    static ALL: [Place; PLACES] = [const { Place::empty() }; PLACES];
    static START: Once = Once::new();
    /// Set before the handler is.
    static BEFORE: OnceLock<Before> = OnceLock::new();

    /// What the handler goes by: who had the signal before, and the size of a page.
    struct Before {
        action: libc::sigaction,
        page_bytes: usize,
    }

    /// Where a map lies.
    pub(in crate::mapped) struct Place {
        is_taken: AtomicBool,
        /// Zero: nowhere.
        begin: AtomicUsize,
        end: AtomicUsize,
        is_cut: AtomicBool,
        /// How often zeros were put here.
        fills: AtomicUsize,
    }

    /// Far more than threads and pages call for. Where zeros do not help, as under an emulator that tells a wrong address, the
    /// program ends instead of turning in circles.
    const FILLS_MAX: usize = 1 << 16;

    /// Watches a map; `None` where that is not possible.
    pub(in crate::mapped) fn watch(map: &[u8]) -> Option<&'static Place> {
        START.call_once(start);
        BEFORE.get()?;
        let place = ALL.iter().find(|place| !place.is_taken.swap(true, Ordering::AcqRel))?;
        let range = map.as_ptr_range();
        place.is_cut.store(false, Ordering::Relaxed);
        place.fills.store(0, Ordering::Relaxed);
        place.end.store(range.end as usize, Ordering::Release);
        place.begin.store(range.start as usize, Ordering::Release);
        Some(place)
    }

    impl Place {
        const fn empty() -> Self {
            Self {
                is_taken: AtomicBool::new(false),
                begin: AtomicUsize::new(0),
                end: AtomicUsize::new(0),
                is_cut: AtomicBool::new(false),
                fills: AtomicUsize::new(0),
            }
        }

        pub(in crate::mapped) fn is_cut(&self) -> bool {
            self.is_cut.load(Ordering::Acquire)
        }

        pub(in crate::mapped) fn leave(&self) {
            self.begin.store(0, Ordering::Release);
            self.is_taken.store(false, Ordering::Release);
        }

        /// Puts zeros from the page of `addr` to the map's end, if it lies here.
        fn fill(&self, addr: usize, page_bytes: usize) -> bool {
            let begin = self.begin.load(Ordering::Acquire);
            let end = self.end.load(Ordering::Acquire);
            // Read twice: the place may have changed hands in between.
            if begin == 0 || begin != self.begin.load(Ordering::Acquire) || !(begin..end).contains(&addr) {
                return false;
            }
            if self.fills.fetch_add(1, Ordering::Relaxed) >= FILLS_MAX {
                return false;
            }
            let from = addr - addr % page_bytes;
            let len = end.next_multiple_of(page_bytes) - from;
            let (read, how) = (
                libc::PROT_READ,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE,
            );
            // Before there are zeros to be read.
            self.is_cut.store(true, Ordering::Release);
            // SAFETY: the pages are the watched map's own, which its owner holds while it reads them; whole pages, and
            // readable before as after.
            let zeros = unsafe { libc::mmap(from as *mut _, len, read, how, -1, 0) };
            zeros != libc::MAP_FAILED
        }
    }

    fn start() {
        // SAFETY: asks for a number.
        let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        // SAFETY: all zeros are a sigaction: the default, no flags, an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: only reads what is there, into memory of our own.
        let read = unsafe { libc::sigaction(libc::SIGBUS, std::ptr::null(), &mut action) };
        let Ok(page_bytes) = usize::try_from(page_bytes) else { return };
        if read != 0 || BEFORE.set(Before { action, page_bytes }).is_err() {
            return;
        }
        // On the stack that std sets aside for the signal of a stack's end, which may come here too.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        let handler: Handler = on_bus_error;
        action.sa_sigaction = handler as usize;
        // SAFETY: the handler has the signature that SA_SIGINFO asks for, and does what a handler may.
        unsafe { libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut()) };
    }

    type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

    extern "C" fn on_bus_error(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
        let Some(before) = BEFORE.get() else { return };
        // SAFETY: the kernel hands over what it says; a SIGBUS has an address, unless somebody sent it, and then none is used.
        let (code, addr) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
        let is_ours = code == BUS_ADRERR && ALL.iter().any(|place| place.fill(addr, before.page_bytes));
        if !is_ours {
            pass_on(before, signal, info, context);
        }
    }

    /// Nothing is there where the address points (sigaction(2)): behind a file's end, or not to be read from the disk.
    const BUS_ADRERR: c_int = 2;

    /// Does what would have been done without us.
    fn pass_on(before: &Before, signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
        let action = before.action;
        if [libc::SIG_DFL, libc::SIG_IGN].contains(&action.sa_sigaction) {
            // SAFETY: sets the default: the access is repeated and ends the program.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        } else if action.sa_flags & libc::SA_SIGINFO != 0 {
            // SAFETY: it was installed with this signature.
            let handler: Handler = unsafe { std::mem::transmute(action.sa_sigaction) };
            handler(signal, info, context);
        } else {
            // SAFETY: it was installed with this signature.
            let handler: extern "C" fn(c_int) = unsafe { std::mem::transmute(action.sa_sigaction) };
            handler(signal);
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn file(bytes: usize) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; bytes]).unwrap();
        file
    }

    // On 32-bit ARM tests run emulated, and QEMU 7.2 tells a wrong address there with a SIGBUS: that of its own memory.
    #[cfg_attr(target_arch = "arm", ignore)]
    #[test]
    fn what_is_gone_reads_as_zeros_and_is_told_even_when_the_file_is_whole_again() {
        let (first, second) = (file(100_000), file(100_000));
        let (cut, whole) = (Mapped::new(first.try_clone().unwrap()).unwrap(), Mapped::new(second).unwrap());
        first.set_len(10_000).unwrap();
        assert!(!cut.is_cut(), "nobody has looked");
        assert_eq!((cut[9_999], cut[50_000], cut[99_999]), (7, 0, 0));
        first.set_len(100_000).unwrap();
        assert_eq!((cut.is_cut(), whole.is_cut()), (true, false));
        assert!(whole.iter().all(|&byte| byte == 7));
    }

    #[cfg_attr(target_arch = "arm", ignore)]
    #[test]
    fn many_threads_may_meet_the_end_at_once_and_places_are_given_back() {
        for round in 0..200 {
            let file = file(400_000);
            let mapped = Mapped::new(file.try_clone().unwrap()).unwrap();
            assert!(!mapped.is_cut(), "{round}");
            file.set_len(0).unwrap();
            std::thread::scope(|scope| {
                for thread in 0..4 {
                    let mapped = &mapped;
                    scope.spawn(move || assert_eq!(mapped[thread * 99_999], 0));
                }
            });
            assert!(mapped.is_cut(), "{round}");
        }
    }

    #[cfg_attr(target_arch = "arm", ignore)]
    #[test]
    fn a_map_that_is_not_watched_ends_the_program_as_ever() {
        let _watched = Mapped::new(file(5000)).unwrap();
        let file = file(5000);
        // SAFETY: bytes of a file that nobody but this test has; that they go is what it is about.
        let map = unsafe { Mmap::map(&file).unwrap() };
        file.set_len(0).unwrap();
        // SAFETY: the child touches nothing but the map, and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: the map is there, though its page is not; and a child ends without running anything of its parent's.
            unsafe { libc::_exit(i32::from(map.as_ptr().read_volatile())) };
        }
        let mut status = 0;
        // SAFETY: waits for the child, into memory of our own.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGBUS, "{status:#x}");
    }
}
