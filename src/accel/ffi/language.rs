//! A vendor's language runtime behind the interface of `outpost_plugin.h`.

use std::ffi::{CString, c_char, c_int, c_void};
use std::path::Path;
use std::ptr::NonNull;

use super::plugin::{ERROR_BYTES, Symbols, text, words};
use crate::accel::{Placement, Refused, Stage, Telling, Told};

#[repr(C)]
struct CLanguageModel {
    path: *const c_char,
    options: *const c_char,
}

#[repr(C)]
struct CMessage {
    role: *const c_char,
    content: *const c_char,
}

#[repr(C)]
struct CTalk {
    messages: *const CMessage,
    messages_count: usize,
    tokens_max: u32,
    temperature: f32,
    top_k: u32,
    top_p: f32,
    seed: u64,
}

#[repr(C)]
#[derive(Default)]
struct CTold {
    prompt_tokens: u32,
    answer_tokens: u32,
    is_cut: u32,
}

/// `OUTPOST_TALK_REFUSED`.
const TALK_REFUSED: c_int = -1;

type Piece = unsafe extern "C" fn(*mut c_void, *const c_char, usize) -> c_int;
type Load = unsafe extern "C" fn(*const CLanguageModel, *mut c_char, usize) -> *mut c_void;
type PlacementOf = unsafe extern "C" fn(*mut c_void, *mut u32, *mut u32);
type Tell = unsafe extern "C" fn(
    *mut c_void,
    *const CTalk,
    Piece,
    *mut c_void,
    *mut CTold,
    *mut c_char,
    usize,
) -> c_int;
type Free = unsafe extern "C" fn(*mut c_void);

/// A language model that a plug-in has loaded.
#[derive(Debug)]
pub struct LanguageModel {
    model: NonNull<c_void>,
    placement: PlacementOf,
    tell: Tell,
    free: Free,
}

impl LanguageModel {
    /// Loads the plug-in at `library` and lets it load `model`. Blocks for as long as that takes. Errors: with the stage and the
    /// file.
    pub fn open(library: &Path, model: &Path, options: &str) -> Result<Self, Refused> {
        let symbols = Symbols::open(library)?;
        let lacks = "it runs no language models";
        let symbol = |name| symbols.optional(name).ok_or_else(|| symbols.refuse(lacks));
        // SAFETY: each symbol is taken for the function that outpost_plugin.h declares under its name; a library that exports
        // another one under it is not a plug-in, and harms the worker process alone.
        let (load, placement, tell, free) = unsafe {
            (
                std::mem::transmute::<*mut c_void, Load>(symbol(c"outpost_plugin_language_load")?),
                std::mem::transmute::<*mut c_void, PlacementOf>(symbol(
                    c"outpost_plugin_language_placement",
                )?),
                std::mem::transmute::<*mut c_void, Tell>(symbol(c"outpost_plugin_language_tell")?),
                std::mem::transmute::<*mut c_void, Free>(symbol(c"outpost_plugin_language_free")?),
            )
        };
        let origin = model.display().to_string();
        let (path, options) = (text(&origin), text(options));
        let c_model = CLanguageModel { path: path.as_ptr(), options: options.as_ptr() };
        let mut error = [0; ERROR_BYTES];
        // SAFETY: both texts live until the call returns, and the error has the room told.
        let loaded = unsafe { load(&raw const c_model, error.as_mut_ptr(), ERROR_BYTES) };
        let model = NonNull::new(loaded).ok_or_else(|| {
            Refused::new("plugin", Stage::Create, format_args!("{origin}: {}", words(&error)))
        })?;
        Ok(Self { model, placement, tell, free })
    }

    /// How many of its layers run on the device.
    pub fn placement(&self) -> Placement {
        let (mut claimed, mut total) = (0, 0);
        // SAFETY: the model is one that this plug-in made and that was not freed.
        unsafe { (self.placement)(self.model.as_ptr(), &raw mut claimed, &raw mut total) };
        Placement { claimed: claimed as usize, total: total as usize }
    }

    /// Lets it answer; `listen` is given each piece and says whether it wants another one. Blocks for as long as that takes.
    pub fn tell(
        &mut self,
        telling: &Telling,
        listen: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<Told, Refused> {
        let texts: Vec<(CString, CString)> =
            telling.messages.iter().map(|(role, content)| (text(role), text(content))).collect();
        let messages: Vec<CMessage> = texts
            .iter()
            .map(|(role, content)| CMessage { role: role.as_ptr(), content: content.as_ptr() })
            .collect();
        let talk = CTalk {
            messages: messages.as_ptr(),
            messages_count: messages.len(),
            tokens_max: telling.tokens_max,
            temperature: telling.temperature,
            top_k: telling.top_k,
            top_p: telling.top_p,
            seed: telling.seed,
        };
        let mut told = CTold::default();
        let mut error = [0; ERROR_BYTES];
        let mut listener: Listener<'_> = listen;
        // SAFETY: everything that the talk points to, the listener and `told` live until the call returns, by which time the
        // plug-in gives no more pieces; the error has the room told, and the model was not freed.
        let code = unsafe {
            (self.tell)(
                self.model.as_ptr(),
                &raw const talk,
                hear,
                (&raw mut listener).cast(),
                &raw mut told,
                error.as_mut_ptr(),
                ERROR_BYTES,
            )
        };
        let CTold { prompt_tokens, answer_tokens, is_cut } = told;
        let told = Told { prompt_tokens, answer_tokens, is_cut: is_cut != 0, refused: None };
        match code {
            0 => Ok(told),
            TALK_REFUSED => Ok(Told { refused: Some(words(&error)), ..told }),
            _ => Err(Refused::new("plugin", Stage::Invoke, format_args!("code {code}: {}", words(&error)))),
        }
    }
}

type Listener<'a> = &'a mut dyn FnMut(&[u8]) -> bool;

/// What a plug-in calls with each piece. A panic in here ends the worker process.
unsafe extern "C" fn hear(listener: *mut c_void, utf8: *const c_char, bytes: usize) -> c_int {
    if utf8.is_null() || bytes == 0 {
        return 1;
    }
    // SAFETY: the listener is the one that `LanguageModel::tell` has given out and waits behind, pieces come one at a time, and
    // each lives until this returns.
    let (listener, piece) = unsafe {
        (&mut *listener.cast::<Listener<'_>>(), std::slice::from_raw_parts(utf8.cast::<u8>(), bytes))
    };
    c_int::from(listener(piece))
}

impl Drop for LanguageModel {
    fn drop(&mut self) {
        // SAFETY: the model is one that this plug-in made; nobody has it after this.
        unsafe { (self.free)(self.model.as_ptr()) };
    }
}
