//! The store's bookkeeping: what is refused, what is given back, what survives a file.

use proptest::prelude::*;

use super::layout::TILE_TOKENS;
use super::*;

fn shape(format: KvFormat) -> KvShape {
    KvShape { layers: 2, kv_heads: 3, head_dim: 20, slots: 4, tokens_max: 50, format }
}

/// A store whose slot 1 holds `len` tokens of bytes that tell where they are.
fn filled(format: KvFormat, len: u32) -> KvStore {
    let kv = KvStore::new(shape(format)).unwrap();
    let start = kv.layout.slot(1).start;
    let mut state = kv.lock();
    for piece in kv.layout.pieces(len as usize) {
        state.memory[start + piece.start..start + piece.end]
            .iter_mut()
            .enumerate()
            .for_each(|(i, b)| *b = i as u8 | 1);
    }
    let span = Span { slot: 1, position: 0, tokens: len };
    (0..2).for_each(|layer| kv.stored(&mut state, layer, &[span]));
    drop(state);
    kv
}

#[test]
fn impossible_shapes_are_refused_by_the_name_of_the_number() {
    type Spoil = fn(&mut KvShape);
    let cases: [(&str, Spoil); 5] = [
        ("layers", |s| s.layers = 0),
        ("kv_heads", |s| s.kv_heads = usize::MAX),
        ("head_dim", |s| s.head_dim = 0),
        ("slots", |s| s.slots = 1_000_000),
        ("tokens_max", |s| s.tokens_max = 0),
    ];
    for (name, spoil) in cases {
        let mut shape = shape(KvFormat::F16);
        spoil(&mut shape);
        let error = KvStore::new(shape).unwrap_err();
        assert!(matches!(error, BadKvShape::Number { field, .. } if field == name), "{error}");
    }
    let huge = KvShape { layers: usize::MAX, ..shape(KvFormat::Int8) };
    assert_eq!(huge.bytes(), None);
}

#[test]
fn a_store_declares_what_its_format_takes() {
    let shape =
        KvShape { layers: 28, kv_heads: 4, head_dim: 128, slots: 2, tokens_max: 4096, format: KvFormat::F16 };
    // GLM-Edge-1.5B: 56 KiB per token.
    assert_eq!(shape.bytes(), Some(2 * 4096 * 56 * 1024));
    assert_eq!(KvShape { format: KvFormat::F32, ..shape }.bytes(), Some(4 * 4096 * 56 * 1024));
    assert_eq!(KvShape { format: KvFormat::Int8, ..shape }.bytes(), Some(4096 * 56 * 1024 / 32 * 33));
}

#[test]
fn rooms_of_heads_do_not_overlap_and_lie_in_their_slot() {
    for format in KvFormat::ALL.iter().copied() {
        let layout = Layout::of(&shape(format)).unwrap();
        let mut pieces: Vec<_> = layout.pieces(50).filter(|piece| !piece.is_empty()).collect();
        assert_eq!(pieces.len(), 2 * 3 * if format == KvFormat::Int8 { 4 } else { 2 });
        pieces.sort_by_key(|piece| piece.start);
        assert!(pieces.windows(2).all(|two| two[0].end <= two[1].start));
        assert!(pieces.last().unwrap().end <= layout.slot(0).len());
        assert_eq!(layout.slot(3).end, layout.bytes);
    }
}

#[test]
fn a_run_that_ends_between_two_layers_leaves_the_length_of_the_shortest() {
    let kv = filled(KvFormat::F16, 20);
    kv.stored(&mut kv.lock(), 0, &[Span { slot: 1, position: 20, tokens: 5 }]);
    assert_eq!(kv.len(1), 20);
    // Beginning earlier: what the second layer holds from there on belongs to tokens that are gone.
    kv.stored(&mut kv.lock(), 0, &[Span { slot: 1, position: 7, tokens: 5 }]);
    assert_eq!(kv.len(1), 7);
    kv.stored(&mut kv.lock(), 1, &[Span { slot: 1, position: 7, tokens: 5 }]);
    assert_eq!(kv.len(1), 12);
}

#[test]
fn slots_that_do_not_exist_or_hold_too_little_are_refused() {
    let kv = filled(KvFormat::F16, 20);
    let unknown = BadSlot::Unknown { slot: 4, slots: 4 };
    assert_eq!(kv.truncate(4, 0), Err(unknown.clone()));
    assert_eq!(kv.clear(4), Err(unknown.clone()));
    assert_eq!(kv.copy_prefix(4, 0, 0), Err(unknown.clone()));
    assert_eq!(kv.copy_prefix(0, 4, 0), Err(unknown));
    let short = BadSlot::Short { slot: 1, len: 20, wanted: 21 };
    assert_eq!(kv.copy_prefix(1, 0, 21), Err(short.clone()));
    assert!(matches!(kv.save(1, 21, &mut Vec::new()), Err(BadSaved::Slot(slot)) if slot == short));
    assert_eq!((kv.len(0), kv.len(1), kv.len(4)), (0, 20, 0));
    kv.truncate(1, 30).unwrap();
    assert_eq!(kv.len(1), 20);
}

/// Bytes of pages behind a store. Neighbours of its mapping may be joined with it, so pages are counted one by one; they have
/// the same size everywhere on this processor only.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn resident(kv: &KvStore) -> usize {
    use std::os::unix::fs::FileExt;

    const PAGE: usize = 4096;
    let first = kv.lock().memory.as_ptr() as usize / PAGE;
    let mut entries = vec![0; kv.bytes() / PAGE * 8];
    let file = std::fs::File::open("/proc/self/pagemap").unwrap();
    file.read_exact_at(&mut entries, first as u64 * 8).unwrap();
    let is_present = |entry: &&[u8]| entry[7] & 0x80 != 0;
    entries.chunks_exact(8).filter(is_present).count() * PAGE
}

#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn memory_grows_with_use_and_a_cleared_slot_gives_it_back() {
    let shape = KvShape { slots: 2, tokens_max: 100_000, head_dim: 128, ..shape(KvFormat::F32) };
    let kv = KvStore::new(shape).unwrap();
    let mib = 1024 * 1024;
    assert!(kv.bytes() > 1000 * mib && resident(&kv) == 0);
    let start = kv.layout.slot(1).start;
    kv.lock().memory[start..start + 20 * mib].fill(1);
    let full = resident(&kv);
    // Where the system gives large pages unasked, some is rounded up.
    assert!((20 * mib..=24 * mib).contains(&full), "{full}");
    kv.clear(1).unwrap();
    assert_eq!(resident(&kv), 0);
}

#[test]
fn saved_tokens_come_back_and_nothing_of_others_is_saved() {
    for format in KvFormat::ALL.iter().copied() {
        let kv = filled(format, 45);
        let (mut all, mut some, mut again) = (Vec::new(), Vec::new(), Vec::new());
        kv.save(1, 45, &mut all).unwrap();
        kv.save(1, 21, &mut some).unwrap();
        assert_eq!(kv.load(2, &mut &some[..]).unwrap(), 21);
        assert_eq!(kv.load(0, &mut &all[..]).unwrap(), 45);
        kv.save(0, 45, &mut again).unwrap();
        assert_eq!(again, all);
        again.clear();
        kv.save(2, 21, &mut again).unwrap();
        assert_eq!(again, some);
        // Every stored byte is odd: an even one in the room of a later token was blanked.
        let tile = &some[HEAD_BYTES..][..32 * 32 * format.number_bytes()][16 * 32 * format.number_bytes()..];
        for element in tile.chunks_exact(TILE_TOKENS * format.number_bytes()) {
            let (kept, blank) = element.split_at(5 * format.number_bytes());
            assert!(kept.iter().all(|b| b % 2 == 1) && blank.iter().all(|b| *b == 0));
        }
    }
}

const HEAD_BYTES: usize = 32;

#[test]
fn a_saved_slot_of_another_shape_version_or_length_is_refused() {
    let kv = filled(KvFormat::F16, 45);
    let mut saved = Vec::new();
    kv.save(1, 45, &mut saved).unwrap();
    let other = KvStore::new(KvShape { kv_heads: 2, ..shape(KvFormat::F16) }).unwrap();
    let refused = other.load(0, &mut &saved[..]).unwrap_err();
    assert!(matches!(refused, BadSaved::Shape { field: "kv_heads", saved: 3, needed: 2 }), "{refused}");
    let other = KvStore::new(shape(KvFormat::Int8)).unwrap();
    assert!(matches!(other.load(0, &mut &saved[..]), Err(BadSaved::Shape { field: "format", .. })));
    let short = KvStore::new(KvShape { tokens_max: 44, ..shape(KvFormat::F16) }).unwrap();
    let refused = short.load(0, &mut &saved[..]).unwrap_err();
    assert!(matches!(refused, BadSaved::Shape { field: "tokens", saved: 45, needed: 44 }), "{refused}");
    saved[8] += 1;
    assert!(matches!(kv.load(0, &mut &saved[..]), Err(BadSaved::Foreign)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_damaged_or_shortened_save_is_refused_and_leaves_the_slot_empty(at: prop::sample::Index, bit in 0_u8..8, cuts: bool) {
        let kv = filled(KvFormat::Int8, 18);
        let mut saved = Vec::new();
        kv.save(1, 18, &mut saved).unwrap();
        kv.load(2, &mut &saved[..]).unwrap();
        let at = at.index(saved.len());
        if cuts { saved.truncate(at) } else { saved[at] ^= 1_u8 << bit }
        prop_assert!(kv.load(2, &mut &saved[..]).is_err());
        prop_assert_eq!(kv.len(2), 0);
    }

    #[test]
    fn no_bytes_make_loading_panic(bytes: Vec<u8>, valid_head: bool, len: u32) {
        let kv = filled(KvFormat::F16, 1);
        let mut saved = Vec::new();
        kv.save(1, 1, &mut saved).unwrap();
        saved.truncate(28);
        saved.extend(len.to_le_bytes());
        let bytes = if valid_head { [saved, bytes].concat() } else { bytes };
        prop_assert!(kv.load(0, &mut &bytes[..]).is_err());
    }

    /// Against the rules in other words: the batch is played on a list of lengths.
    #[test]
    fn a_batch_passes_if_and_only_if_every_span_continues_a_slot_of_its_own(
        lens in prop::collection::vec(0_u32..=50, 4),
        spans in prop::collection::vec((0_u32..5, 0_u32..60, 0_u32..30), 0..4),
        off in prop_oneof![4 => Just(0_usize), 1 => 1..3_usize],
        huge in prop_oneof![9 => Just(None), 1 => any::<(u32, u32, u32)>().prop_map(Some)],
    ) {
        let kv = KvStore::new(shape(KvFormat::F16)).unwrap();
        for (slot, &tokens) in lens.iter().enumerate() {
            let span = Span { slot: slot as u32, position: 0, tokens };
            (0..2).for_each(|layer| kv.stored(&mut kv.lock(), layer, &[span]));
        }
        let spans: Vec<Span> = (spans.into_iter().chain(huge))
            .map(|(slot, position, tokens)| Span { slot, position, tokens }).collect();
        // Only of what does not fit anyway is it more than 32 bits.
        let sum = spans.iter().fold(off, |sum, span| sum.saturating_add(span.tokens as usize));
        let mut left: Vec<Option<u32>> = lens.into_iter().map(Some).collect();
        let fits = spans.iter().all(|span| {
            let len = left.get_mut(span.slot as usize).and_then(Option::take);
            let ends_at = u64::from(span.position) + u64::from(span.tokens);
            len.is_some_and(|len| span.position <= len) && span.tokens > 0 && ends_at <= 50
        });
        prop_assert_eq!(kv.check(&spans, sum).is_ok(), fits && off == 0);
        let state = kv.lock();
        prop_assert_eq!(kv.check_layer(&state, 1, &spans, sum).is_ok(), fits && off == 0);
    }
}
