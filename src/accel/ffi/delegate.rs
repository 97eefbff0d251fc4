//! TensorFlow Lite's delegates: what takes operators away from the interpreter, and how many it takes.
//!
//! A vendor's external delegate is two functions, whatever the vendor. It says nowhere what it has taken, so its `Prepare` is
//! watched: operators that stood in the execution plan before it and not after it are claimed. That needs two fields of two
//! structures, which have stood at their places since the first version of delegates.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr::{NonNull, null, null_mut};

use super::library::Library;
use crate::accel::{Placement, Refused, Stage};
use crate::limits;

/// The beginning of `TfLiteDelegate`.
#[repr(C)]
struct CDelegate {
    data: *mut c_void,
    prepare: Option<Prepare>,
}

/// The beginning of `TfLiteContext`.
#[repr(C)]
struct CContext {
    tensors_count: usize,
    execution_plan: unsafe extern "C" fn(*mut CContext, *mut *const CIntArray) -> c_int,
}

/// `TfLiteIntArray`: so many numbers follow.
#[repr(C)]
struct CIntArray {
    size: c_int,
    data: [c_int; 0],
}

type Prepare = unsafe extern "C" fn(*mut CContext, *mut CDelegate) -> c_int;
type Create = unsafe extern "C" fn(
    *const *const c_char,
    *const *const c_char,
    usize,
    unsafe extern "C" fn(*const c_char),
) -> *mut CDelegate;
type CreateXnnpack = unsafe extern "C" fn(*const c_void) -> *mut CDelegate;
type Destroy = unsafe extern "C" fn(*mut CDelegate);
/// `void (*)(void *data, const char *format, va_list)`. A `va_list` is handed over as one pointer by the calling conventions of
/// all processors that this program is built for.
pub type Reporter = unsafe extern "C" fn(*mut c_void, *const c_char, *mut c_void);

/// The library of a vendor's external delegate.
#[derive(Debug, Clone)]
pub struct DelegateLibrary {
    path: PathBuf,
    create: Create,
    destroy: Destroy,
}

/// The delegate of TensorFlow Lite itself that makes the CPU fast.
#[derive(Debug, Clone, Copy)]
pub(super) struct Xnnpack {
    create: CreateXnnpack,
    destroy: Destroy,
}

/// A delegate; it must live as long as the interpreters that were made while it was attached.
#[derive(Debug)]
pub struct Delegate {
    raw: NonNull<CDelegate>,
    destroy: Destroy,
}

impl DelegateLibrary {
    /// Loads the library at `path`. Errors: at stage `load`, with the file.
    pub fn open(path: &Path) -> Result<Self, Refused> {
        let refuse =
            |why: String| Refused::new("delegate", Stage::Load, format_args!("{}: {why}", path.display()));
        let library = Library::open(path).map_err(refuse)?;
        let symbol = |name: &CStr| library.symbol(name).map(NonNull::as_ptr).map_err(refuse);
        // SAFETY: each symbol is taken for the function that TensorFlow Lite's documentation of external delegates declares
        // under its name; a library that exports another one under it harms the worker process alone.
        unsafe {
            Ok(Self {
                path: path.to_owned(),
                create: std::mem::transmute::<*mut c_void, Create>(symbol(c"tflite_plugin_create_delegate")?),
                destroy: std::mem::transmute::<*mut c_void, Destroy>(symbol(
                    c"tflite_plugin_destroy_delegate",
                )?),
            })
        }
    }

    /// A delegate with `options`: `key=value`, parted by commas. Errors: at stage `create`, with the file and the
    /// delegate's own words.
    pub fn create(&self, options: &str) -> Result<Delegate, Refused> {
        let file = self.path.display();
        let refuse = |why: String| Refused::new("delegate", Stage::Create, format_args!("{file}: {why}"));
        let (keys, values) = pairs(options).map_err(refuse)?;
        let pointers = |texts: &[CString]| texts.iter().map(|text| text.as_ptr()).collect::<Vec<_>>();
        let (keys_at, values_at) = (pointers(&keys), pointers(&values));
        words();
        // SAFETY: both lists have as many texts as told, which live until the call returns.
        let raw = unsafe { (self.create)(keys_at.as_ptr(), values_at.as_ptr(), keys.len(), told) };
        let raw = NonNull::new(raw).ok_or_else(|| {
            refuse(words().unwrap_or_else(|| {
                "it makes no delegate and does not say why: is its device there, and may this user open it?".into()
            }))
        })?;
        let made = Delegate { raw, destroy: self.destroy };
        if made.prepare().is_none() {
            return Err(refuse(
                "it has no Prepare, which counts what it takes; install a version with it".into(),
            ));
        }
        Ok(made)
    }
}

impl Xnnpack {
    /// None where `library` was built without it.
    pub(super) fn of(library: &Library) -> Option<Self> {
        let create = library.symbol(c"TfLiteXNNPackDelegateCreate").ok()?.as_ptr();
        let destroy = library.symbol(c"TfLiteXNNPackDelegateDelete").ok()?.as_ptr();
        // SAFETY: both are the functions of those names in TensorFlow Lite's interface.
        unsafe {
            Some(Self {
                create: std::mem::transmute::<*mut c_void, CreateXnnpack>(create),
                destroy: std::mem::transmute::<*mut c_void, Destroy>(destroy),
            })
        }
    }

    /// A delegate with the defaults; none if there is no room for one.
    pub(super) fn create(&self) -> Option<Delegate> {
        // SAFETY: no options stand for the defaults, whatever this version's structure of options looks like.
        let raw = unsafe { (self.create)(null()) };
        Some(Delegate { raw: NonNull::new(raw)?, destroy: self.destroy })
    }
}

impl Delegate {
    /// Runs `make` with this delegate on every interpreter that it makes in this thread. Returns what it claimed, too, or the
    /// status of its `Prepare` where that failed.
    pub fn attach<T>(&self, make: impl FnOnce() -> T) -> (T, Result<Placement, c_int>) {
        let prepare = self.prepare();
        WATCHED.set(Watched { raw: self.raw.as_ptr(), prepare, placement: Placement::default(), status: 0 });
        self.set_prepare(Some(watched));
        let made = make();
        self.set_prepare(prepare);
        let seen = WATCHED.replace(Watched::NONE);
        (made, if seen.status == 0 { Ok(seen.placement) } else { Err(seen.status) })
    }

    fn prepare(&self) -> Option<Prepare> {
        // SAFETY: the delegate lives until it is dropped, and nobody else uses it meanwhile.
        unsafe { (*self.raw.as_ptr()).prepare }
    }

    fn set_prepare(&self, prepare: Option<Prepare>) {
        // SAFETY: as above; delegates are made in memory that can be written.
        unsafe { (*self.raw.as_ptr()).prepare = prepare }
    }
}

impl Drop for Delegate {
    fn drop(&mut self) {
        // SAFETY: the delegate is one that this function's library made; nobody has it after this.
        unsafe { (self.destroy)(self.raw.as_ptr()) };
    }
}

/// The delegate that is attached, with what was seen of it.
#[derive(Clone, Copy)]
struct Watched {
    raw: *mut CDelegate,
    prepare: Option<Prepare>,
    placement: Placement,
    status: c_int,
}

impl Watched {
    const NONE: Self =
        Self { raw: null_mut(), prepare: None, placement: Placement { claimed: 0, total: 0 }, status: 0 };
}

thread_local! {
    static WATCHED: Cell<Watched> = const { Cell::new(Watched::NONE) };
    static WORDS: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The delegate that this thread has attached.
pub(super) fn attached() -> Option<*mut c_void> {
    let raw = WATCHED.get().raw;
    (!raw.is_null()).then(|| raw.cast())
}

/// The delegate's `Prepare`, with a look at the plan before and after it; called once per graph of the model.
unsafe extern "C" fn watched(context: *mut CContext, delegate: *mut CDelegate) -> c_int {
    let mut seen = WATCHED.get();
    let Some(prepare) = seen.prepare else { return FAILED };
    // SAFETY: TensorFlow Lite calls this with its context and the delegate that was attached, as it would call the delegate's own.
    let (before, status, after) = unsafe { (plan(context), prepare(context, delegate), plan(context)) };
    seen.placement.claimed += before.iter().filter(|node| !after.contains(node)).count();
    seen.placement.total += before.len();
    if status != 0 {
        seen.status = status;
    }
    WATCHED.set(seen);
    status
}

/// The numbers of the operators that run, in their order.
///
/// # Safety
/// `context` is TensorFlow Lite's, while a delegate is prepared.
unsafe fn plan(context: *mut CContext) -> Vec<c_int> {
    let mut array: *const CIntArray = null();
    // SAFETY: the context is sound; it gives an array that lives until the plan changes, with as many numbers as it says.
    unsafe {
        if ((*context).execution_plan)(context, &raw mut array) != 0 || array.is_null() {
            return Vec::new();
        }
        let count = usize::try_from((*array).size).unwrap_or(0);
        std::slice::from_raw_parts((&raw const (*array).data).cast(), count).to_vec()
    }
}

/// `kTfLiteError`.
const FAILED: c_int = 1;

/// What the library or a delegate has said in this thread since this was asked last, on one line.
pub fn words() -> Option<String> {
    let said = WORDS.take();
    let text = said.split_whitespace().collect::<Vec<_>>().join(" ");
    (!text.is_empty()).then_some(text)
}

/// Hears a delegate that fails to be created.
unsafe extern "C" fn told(text: *const c_char) {
    if !text.is_null() {
        // SAFETY: the text ends with a nought.
        remember(&unsafe { CStr::from_ptr(text) }.to_string_lossy());
    }
}

/// Hears what the interpreter and its operators report.
pub(super) unsafe extern "C" fn heard(_data: *mut c_void, format: *const c_char, arguments: *mut c_void) {
    let mut line: [c_char; 512] = [0; 512];
    // SAFETY: the line has the room told; format and arguments are the library's and fit each other.
    unsafe { vsnprintf(line.as_mut_ptr(), line.len(), format, arguments) };
    // SAFETY: the line was all nought, and vsnprintf ends it with one.
    remember(&unsafe { CStr::from_ptr(line.as_ptr()) }.to_string_lossy());
}

fn remember(line: &str) {
    // A library that talks without end, or while its thread ends, is not heard.
    let _ = WORDS.try_with(|words| {
        if let Ok(mut words) = words.try_borrow_mut()
            && words.len() + line.len() < limits::BACKEND_WORDS_BYTES_MAX
        {
            words.push_str(line);
            words.push(' ');
        }
    });
}

unsafe extern "C" {
    fn vsnprintf(into: *mut c_char, room: usize, format: *const c_char, arguments: *mut c_void) -> c_int;
}

/// The keys and the values of `key=value`, parted by commas.
fn pairs(options: &str) -> Result<(Vec<CString>, Vec<CString>), String> {
    let text = |part: &str| CString::new(part.trim().replace('\0', " ")).unwrap_or_default();
    let pair = |option: &str| {
        let (key, value) = option
            .split_once('=')
            .ok_or_else(|| format!("the option {option} has no value; write key=value, parted by commas"))?;
        Ok((text(key), text(value)))
    };
    let pairs: Result<Vec<_>, String> =
        options.split(',').filter(|o| !o.trim().is_empty()).map(pair).collect();
    Ok(pairs?.into_iter().unzip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_pairs_and_one_without_a_value_is_named() {
        let texts =
            |list: &[CString]| list.iter().map(|t| t.to_str().unwrap().to_owned()).collect::<Vec<_>>();
        let (keys, values) = pairs("device=0, cache=/var/cache/a=b").unwrap();
        assert_eq!(
            (texts(&keys), texts(&values)),
            (vec!["device".into(), "cache".into()], vec!["0".into(), "/var/cache/a=b".into()])
        );
        assert_eq!(pairs("").unwrap().0.len(), 0);
        assert!(pairs("device=0,fast").unwrap_err().contains("fast has no value"));
    }

    #[test]
    fn what_is_said_is_kept_within_bounds_and_told_once() {
        (0..1000).for_each(|_| remember("the device\nis gone"));
        let said = words().unwrap();
        assert!(said.starts_with("the device is gone the") && said.len() <= limits::BACKEND_WORDS_BYTES_MAX);
        assert_eq!(words(), None);
    }
}
