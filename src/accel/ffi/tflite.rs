//! TensorFlow Lite's C library, found when the program runs.
//!
//! tflitec is linked against nothing (`cross/tflite`); the functions that it calls are defined here and hand every call on to
//! the library that was loaded. Before [`load`], or where it failed, each gives what stands for failure, so that tflitec
//! returns an error. One is not handed on as it comes: options are made with our ears on what the library says, and with the
//! delegate that is attached, which tflitec knows nothing of.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::PathBuf;
use std::ptr::{null, null_mut};
use std::sync::OnceLock;

use super::delegate;
use super::library::Library;
use crate::accel::{Refused, Stage, TFLITE};

/// `TfLiteQuantizationParams`.
#[repr(C)]
struct Quantization {
    scale: f32,
    zero_point: i32,
}

/// `kTfLiteError`.
const ERROR: c_int = 1;
type Ptr = *mut c_void;
type Const = *const c_void;
type Text = *const c_char;

macro_rules! trampolines {
    ($($name:ident($($arg:ident: $type:ty),*) $(-> $ret:ty = $without:expr)?;)+
     [own] $($own:ident($($own_type:ty),*) $(-> $own_ret:ty)?;)+) => {
        /// The functions of a loaded library.
        #[allow(non_snake_case, reason = "the names are the library's")]
        struct Api {
            $($name: unsafe extern "C" fn($($type),*) $(-> $ret)?,)+
            $($own: unsafe extern "C" fn($($own_type),*) $(-> $own_ret)?,)+
        }

        impl Api {
            fn of(library: &Library) -> Result<Self, String> {
                Ok(Self {
                    // SAFETY: each symbol is the function of that name in TensorFlow Lite's C interface, whose signature has
                    // not changed since its first version.
                    $($name: unsafe {
                        std::mem::transmute::<Ptr, unsafe extern "C" fn($($type),*) $(-> $ret)?>(
                            address(library, concat!(stringify!($name), "\0"))?
                        )
                    },)+
                    // SAFETY: as above.
                    $($own: unsafe {
                        std::mem::transmute::<Ptr, unsafe extern "C" fn($($own_type),*) $(-> $own_ret)?>(
                            address(library, concat!(stringify!($own), "\0"))?
                        )
                    },)+
                })
            }
        }

        $(
            // SAFETY: nobody else defines this name, since the library is loaded with its symbols kept to itself.
            #[unsafe(no_mangle)]
            #[allow(non_snake_case, reason = "the names are the library's")]
            unsafe extern "C" fn $name($($arg: $type),*) $(-> $ret)? {
                match LOADED.get() {
                    // SAFETY: the arguments are handed on as they came.
                    Some(Ok(loaded)) => unsafe { (loaded.api.$name)($($arg),*) },
                    _ => { $($without)? }
                }
            }
        )+
    };
}

trampolines! {
    TfLiteVersion() -> Text = c"none".as_ptr();
    TfLiteModelCreate(data: Const, size: usize) -> Ptr = null_mut();
    TfLiteModelCreateFromFile(path: Text) -> Ptr = null_mut();
    TfLiteModelDelete(model: Ptr);
    TfLiteInterpreterOptionsDelete(options: Ptr);
    TfLiteInterpreterOptionsSetNumThreads(options: Ptr, threads: i32);
    TfLiteInterpreterCreate(model: Const, options: Const) -> Ptr = null_mut();
    TfLiteInterpreterDelete(interpreter: Ptr);
    TfLiteInterpreterGetInputTensorCount(interpreter: Const) -> i32 = 0;
    TfLiteInterpreterGetOutputTensorCount(interpreter: Const) -> i32 = 0;
    TfLiteInterpreterGetInputTensor(interpreter: Const, index: i32) -> Ptr = null_mut();
    TfLiteInterpreterGetOutputTensor(interpreter: Const, index: i32) -> Const = null();
    TfLiteInterpreterResizeInputTensor(interpreter: Ptr, index: i32, dims: *const c_int, rank: i32) -> c_int = ERROR;
    TfLiteInterpreterAllocateTensors(interpreter: Ptr) -> c_int = ERROR;
    TfLiteInterpreterInvoke(interpreter: Ptr) -> c_int = ERROR;
    TfLiteInterpreterGetSignatureCount(interpreter: Const) -> i32 = 0;
    TfLiteInterpreterGetSignatureKey(interpreter: Const, index: i32) -> Text = null();
    TfLiteInterpreterGetSignatureRunner(interpreter: Const, key: Text) -> Ptr = null_mut();
    TfLiteTensorType(tensor: Const) -> c_int = 0;
    TfLiteTensorNumDims(tensor: Const) -> i32 = 0;
    TfLiteTensorDim(tensor: Const, index: i32) -> i32 = 0;
    TfLiteTensorByteSize(tensor: Const) -> usize = 0;
    TfLiteTensorData(tensor: Const) -> Ptr = null_mut();
    TfLiteTensorName(tensor: Const) -> Text = null();
    TfLiteTensorQuantizationParams(tensor: Const) -> Quantization = Quantization { scale: 0.0, zero_point: 0 };
    TfLiteTensorCopyFromBuffer(tensor: Ptr, data: Const, size: usize) -> c_int = ERROR;
    TfLiteSignatureRunnerGetInputCount(runner: Const) -> usize = 0;
    TfLiteSignatureRunnerGetInputName(runner: Const, index: i32) -> Text = null();
    TfLiteSignatureRunnerResizeInputTensor(runner: Ptr, name: Text, dims: *const c_int, rank: i32) -> c_int = ERROR;
    TfLiteSignatureRunnerAllocateTensors(runner: Ptr) -> c_int = ERROR;
    TfLiteSignatureRunnerGetInputTensor(runner: Ptr, name: Text) -> Ptr = null_mut();
    TfLiteSignatureRunnerInvoke(runner: Ptr) -> c_int = ERROR;
    TfLiteSignatureRunnerGetOutputCount(runner: Const) -> usize = 0;
    TfLiteSignatureRunnerGetOutputName(runner: Const, index: i32) -> Text = null();
    TfLiteSignatureRunnerGetOutputTensor(runner: Const, name: Text) -> Const = null();
    TfLiteSignatureRunnerDelete(runner: Ptr);
    [own]
    TfLiteInterpreterOptionsCreate() -> Ptr;
    TfLiteInterpreterOptionsSetErrorReporter(Ptr, delegate::Reporter, Ptr);
    TfLiteInterpreterOptionsAddDelegate(Ptr, Ptr);
}

fn address(library: &Library, name: &'static str) -> Result<Ptr, String> {
    let name = CStr::from_bytes_with_nul(name.as_bytes()).unwrap_or_default();
    Ok(library.symbol(name)?.as_ptr())
}

/// The library's options with our reporter, and with the delegate that this thread has attached.
// SAFETY: nobody else defines this name, since the library is loaded with its symbols kept to itself.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "the name is the library's")]
unsafe extern "C" fn TfLiteInterpreterOptionsCreate() -> Ptr {
    let Some(Ok(Loaded { api, .. })) = LOADED.get() else { return null_mut() };
    // SAFETY: the options are those that the library has just made; the reporter has the type that it expects, and a delegate
    // is attached as long as it lives.
    unsafe {
        let options = (api.TfLiteInterpreterOptionsCreate)();
        if !options.is_null() {
            (api.TfLiteInterpreterOptionsSetErrorReporter)(options, delegate::heard, null_mut());
            if let Some(attached) = delegate::attached() {
                (api.TfLiteInterpreterOptionsAddDelegate)(options, attached);
            }
        }
        options
    }
}

/// The library of this process.
static LOADED: OnceLock<Result<Loaded, Refused>> = OnceLock::new();

struct Loaded {
    api: Api,
    xnnpack: Option<delegate::Xnnpack>,
    path: PathBuf,
}

/// Loads TensorFlow Lite, once per process: `find` names the file. Errors: why there is none, the same for everybody who asks.
pub fn load(find: impl FnOnce() -> Result<PathBuf, Refused>) -> Result<(), Refused> {
    LOADED.get_or_init(|| open(find()?)).as_ref().map(drop).map_err(Clone::clone)
}

fn open(path: PathBuf) -> Result<Loaded, Refused> {
    let told = |why: String| {
        let what =
            format_args!("{} is no TensorFlow Lite library: {why}; install another one", path.display());
        Refused::new(TFLITE, Stage::Load, what)
    };
    let library = Library::open(&path).map_err(told)?;
    let api = Api::of(&library).map_err(told)?;
    Ok(Loaded { api, xnnpack: delegate::Xnnpack::of(&library), path })
}

/// The delegate of TensorFlow Lite itself that makes the CPU fast. Errors: the loaded library was built without it.
pub fn xnnpack() -> Result<delegate::Delegate, String> {
    let Some(Ok(loaded)) = LOADED.get() else { return Err("TensorFlow Lite is not loaded".into()) };
    loaded.xnnpack.and_then(|xnnpack| xnnpack.create()).ok_or_else(|| {
        format!("{} was built without XNNPACK; set tflite.xnnpack = false", loaded.path.display())
    })
}
