//! A vendor's runtime behind the interface of `outpost_plugin.h`.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::ptr::NonNull;

use super::library::Library;
use crate::accel::{ComputeBackend, ModelFile, Placement, Refused, Runner, Stage};

/// Version of the interface.
const ABI: u32 = 1;
/// Room for an error's text.
pub(super) const ERROR_BYTES: usize = 1024;

#[repr(C)]
struct CModel {
    origin: *const c_char,
    bytes: *const c_void,
    bytes_count: usize,
    input_bytes: usize,
    output_bytes: usize,
    options: *const c_char,
}

type Abi = unsafe extern "C" fn() -> u32;
type Create = unsafe extern "C" fn(*const CModel, *mut c_char, usize) -> *mut c_void;
type PlacementOf = unsafe extern "C" fn(*mut c_void, *mut u32, *mut u32);
type Run = unsafe extern "C" fn(*mut c_void, *const c_void, *mut c_void, *mut c_char, usize) -> c_int;
type Takes = unsafe extern "C" fn(*const c_char, *const c_char) -> c_int;
type Destroy = unsafe extern "C" fn(*mut c_void);

/// A loaded plug-in with its configured options.
#[derive(Debug)]
pub struct Plugin {
    options: CString,
    functions: Functions,
}

#[derive(Debug, Clone, Copy)]
struct Functions {
    create: Create,
    placement: PlacementOf,
    run: Run,
    destroy: Destroy,
    /// None: it takes no segments.
    takes: Option<Takes>,
}

/// A model that a plug-in has made ready.
#[derive(Debug)]
struct PluginModel {
    plugin: Functions,
    runtime: NonNull<c_void>,
    input_bytes: usize,
    output_bytes: usize,
}

impl Plugin {
    /// Loads the plug-in at `path`. Errors: at stage `load`, with the file.
    pub fn open(path: &Path, options: &str) -> Result<Self, Refused> {
        let symbols = Symbols::open(path)?;
        // SAFETY: as for `Symbols::open`.
        let functions = unsafe {
            Functions {
                create: std::mem::transmute::<*mut c_void, Create>(symbols.get(c"outpost_plugin_create")?),
                placement: std::mem::transmute::<*mut c_void, PlacementOf>(
                    symbols.get(c"outpost_plugin_placement")?,
                ),
                run: std::mem::transmute::<*mut c_void, Run>(symbols.get(c"outpost_plugin_run")?),
                destroy: std::mem::transmute::<*mut c_void, Destroy>(symbols.get(c"outpost_plugin_destroy")?),
                takes: symbols
                    .optional(c"outpost_plugin_takes")
                    .map(|s| std::mem::transmute::<*mut c_void, Takes>(s)),
            }
        };
        Ok(Self { options: text(options), functions })
    }
}

/// A plug-in that is made for this version of the interface.
pub(super) struct Symbols<'a> {
    path: &'a Path,
    library: Library,
}

impl<'a> Symbols<'a> {
    /// Loads the plug-in at `path`. Errors: at stage `load`, with the file.
    pub(super) fn open(path: &'a Path) -> Result<Self, Refused> {
        let library = Library::open(path).map_err(|why| refuse(path, &why))?;
        let symbols = Self { path, library };
        let abi = symbols.get(c"outpost_plugin_abi")?;
        // SAFETY: the symbol is taken for the function that outpost_plugin.h declares under its name; a library that exports
        // another one under it is not a plug-in, and harms the worker process alone.
        let abi = unsafe { std::mem::transmute::<*mut c_void, Abi>(abi)() };
        if abi == ABI {
            return Ok(symbols);
        }
        Err(symbols.refuse(&format!(
            "it is made for version {abi} of the interface, not {ABI}; install a matching one"
        )))
    }

    fn get(&self, name: &CStr) -> Result<*mut c_void, Refused> {
        self.library.symbol(name).map(NonNull::as_ptr).map_err(|why| self.refuse(&why))
    }

    /// The function `name`; none: the plug-in leaves it out.
    pub(super) fn optional(&self, name: &CStr) -> Option<*mut c_void> {
        self.library.symbol(name).ok().map(NonNull::as_ptr)
    }

    /// Why the plug-in does not do.
    pub(super) fn refuse(&self, why: &str) -> Refused {
        refuse(self.path, why)
    }
}

fn refuse(path: &Path, why: &str) -> Refused {
    Refused::new("plugin", Stage::Load, format_args!("{}: {why}", path.display()))
}

impl ComputeBackend for Plugin {
    fn name(&self) -> &str {
        "plugin"
    }

    fn computes(&self, op: &str) -> bool {
        let op = text(op);
        // SAFETY: both texts end with a nought and live until the call returns.
        self.functions.takes.is_some_and(|takes| unsafe { takes(op.as_ptr(), self.options.as_ptr()) } != 0)
    }

    fn load(&self, model: &ModelFile) -> Result<Box<dyn Runner>, Refused> {
        let origin = text(&model.origin);
        let (input_bytes, output_bytes) = (model.input.bytes(), model.output.bytes());
        let c_model = CModel {
            origin: origin.as_ptr(),
            bytes: model.bytes.as_ptr().cast(),
            bytes_count: model.bytes.len(),
            input_bytes,
            output_bytes,
            options: self.options.as_ptr(),
        };
        let mut error = [0; ERROR_BYTES];
        // SAFETY: everything that the structure points to lives until the call returns, and the error has the room told.
        let runtime = unsafe { (self.functions.create)(&raw const c_model, error.as_mut_ptr(), ERROR_BYTES) };
        let runtime = NonNull::new(runtime).ok_or_else(|| {
            Refused::new("plugin", Stage::Create, format_args!("{}: {}", model.origin, words(&error)))
        })?;
        Ok(Box::new(PluginModel { plugin: self.functions, runtime, input_bytes, output_bytes }))
    }
}

impl Runner for PluginModel {
    fn placement(&self) -> Placement {
        let (mut claimed, mut total) = (0, 0);
        // SAFETY: the runtime is one that this plug-in made and that was not destroyed.
        unsafe { (self.plugin.placement)(self.runtime.as_ptr(), &raw mut claimed, &raw mut total) };
        Placement { claimed: claimed as usize, total: total as usize }
    }

    fn run(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<(), Refused> {
        if input.len() != self.input_bytes {
            let why = format!("the input has {} bytes, not {}", input.len(), self.input_bytes);
            return Err(Refused::new("plugin", Stage::Invoke, why));
        }
        output.clear();
        output.resize(self.output_bytes, 0);
        let mut error = [0; ERROR_BYTES];
        // SAFETY: both buffers have the sizes that the plug-in was told, and the runtime was not destroyed.
        let code = unsafe {
            (self.plugin.run)(
                self.runtime.as_ptr(),
                input.as_ptr().cast(),
                output.as_mut_ptr().cast(),
                error.as_mut_ptr(),
                ERROR_BYTES,
            )
        };
        if code == 0 {
            return Ok(());
        }
        Err(Refused::new("plugin", Stage::Invoke, format_args!("code {code}: {}", words(&error))))
    }
}

impl Drop for PluginModel {
    fn drop(&mut self) {
        // SAFETY: the runtime is one that this plug-in made; nobody has it after this.
        unsafe { (self.plugin.destroy)(self.runtime.as_ptr()) };
    }
}

pub(super) fn text(s: &str) -> CString {
    CString::new(s.replace('\0', " ")).unwrap_or_default()
}

/// The text of an error, on one line.
pub(super) fn words(error: &[c_char; ERROR_BYTES]) -> String {
    let bytes: Vec<u8> = error.iter().map(|c| c.to_ne_bytes()[0]).take_while(|b| *b != 0).collect();
    let text = String::from_utf8_lossy(&bytes).split_whitespace().collect::<Vec<_>>().join(" ");
    if text.is_empty() { "it does not say why".into() } else { text }
}
