//! The model file: what is written is read back to the bit, and any other bytes give one line that
//! says what is wrong.

use std::collections::HashMap;

use proptest::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use wavenet_engine::{Config, Dtype as Storage, Error, KeyTable, NoteRecipe, Recipe, Weights};

fn config() -> Config {
    let start_turns = vec![0.1, 0.2, 0.3];
    let table = |key, inharmonicity| KeyTable {
        key,
        cents: -2.5,
        inharmonicity,
        start_turns: start_turns.clone(),
        ..KeyTable::default()
    };
    let keys = vec![table(40, 0.000_123_456_789), table(70, 1.0 / 3000.0)];
    let recipe = NoteRecipe { partials: 3, keys, ..NoteRecipe::default() };
    Config {
        levels: 8,
        residual_channels: 3,
        gate_channels: 2,
        skip_channels: 4,
        end_channels: 3,
        dilations: vec![1, 2],
        classes: vec!["bell".into(), "drum".into()],
        class_channels: 2,
        conditioning: Recipe::Note(recipe),
        ..Config::default()
    }
}

fn model() -> Weights {
    let mut weights = Weights::random(config(), 5).unwrap();
    // What a careless reader or writer would lose.
    weights.values_mut()[..4].copy_from_slice(&[-0.0, 1e-42, f32::MIN_POSITIVE, f32::MAX]);
    weights
}

/// The same in a smaller file: what a bf16 or an int8 cannot hold is left out.
fn stored(dtype: Storage) -> Weights {
    let mut weights = Weights::random(config(), 5).unwrap();
    weights.store_as(dtype);
    weights
}

fn bits(weights: &Weights) -> Vec<u32> {
    weights.values().iter().map(|value| value.to_bits()).collect()
}

/// One tensor on its way into a file.
#[derive(Clone)]
struct Raw {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// A model file taken apart, to be put together wrongly.
struct Parts {
    tensors: Vec<Raw>,
    metadata: Option<HashMap<String, String>>,
}

impl Parts {
    fn new() -> Self {
        Self::of(&model())
    }

    fn of(model: &Weights) -> Self {
        let bytes = model.to_bytes().unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let raw = |(name, view): (String, TensorView<'_>)| Raw {
            name,
            dtype: view.dtype(),
            shape: view.shape().to_vec(),
            bytes: view.data().to_vec(),
        };
        let tensors = SafeTensors::deserialize(&bytes).unwrap().tensors().into_iter().map(raw);
        Self { tensors: tensors.collect(), metadata: metadata.metadata().clone() }
    }

    fn tensor(&mut self, name: &str) -> &mut Raw {
        self.tensors.iter_mut().find(|raw| raw.name == name).unwrap()
    }

    /// Replaces text in the `wavenet` entry of the metadata.
    fn edit(mut self, from: &str, to: &str) -> Self {
        let header = self.metadata.as_mut().unwrap().get_mut("wavenet").unwrap();
        assert!(header.contains(from), "{from} is not in {header}");
        *header = header.replace(from, to);
        self
    }

    fn bytes(self) -> Vec<u8> {
        let views = self.tensors.iter().map(|raw| {
            let view = TensorView::new(raw.dtype, raw.shape.clone(), &raw.bytes).unwrap();
            (raw.name.clone(), view)
        });
        safetensors::serialize(views, self.metadata).unwrap()
    }

    fn error(self) -> Error {
        refused(&self.bytes())
    }
}

/// Reads bytes that are no model, and checks the manners of the answer.
fn refused(bytes: &[u8]) -> Error {
    let error = Weights::from_bytes(bytes).expect_err("damaged bytes were taken for a model");
    mannerly(&error);
    error
}

fn mannerly(error: &Error) {
    let text = error.to_string();
    assert!(!text.chars().any(char::is_control) && text.len() > 20, "{text:?}");
}

#[test]
fn what_is_saved_is_loaded_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let weights = model();
    weights.save(&path).unwrap();
    let loaded = Weights::load(&path).unwrap();
    assert_eq!(loaded.config(), weights.config());
    assert_eq!(bits(&loaded), bits(&weights));
    // Saving over an older file leaves nothing else in the folder.
    Weights::zeros(config()).unwrap().save(&path).unwrap();
    assert!(Weights::load(&path).unwrap().values().iter().all(|&value| value == 0.0));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn equal_models_are_equal_bytes() {
    let bytes = model().to_bytes().unwrap();
    for _ in 0..8 {
        assert_eq!(model().to_bytes().unwrap(), bytes);
    }
    assert_eq!(Weights::from_bytes(&bytes).unwrap().to_bytes().unwrap(), bytes);
}

#[test]
fn bf16_tensors_widen_exactly() {
    let mut parts = Parts::new();
    let mut expected = HashMap::new();
    for raw in &mut parts.tensors {
        let stored: Vec<half::bf16> = raw
            .bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]).clamp(-1e30, 1e30))
            .map(half::bf16::from_f32)
            .collect();
        raw.dtype = Dtype::BF16;
        raw.bytes = stored.iter().flat_map(|value| value.to_le_bytes()).collect();
        // A bf16 is the upper half of an f32.
        let widened = stored.iter().map(|value| u32::from(value.to_bits()) << 16);
        expected.insert(raw.name.clone(), widened.collect::<Vec<u32>>());
    }
    let loaded = Weights::from_bytes(&parts.bytes()).unwrap();
    for spec in &loaded.layout().specs {
        let got: Vec<u32> = loaded.get(&spec.range).iter().map(|value| value.to_bits()).collect();
        assert_eq!(got, expected[&spec.name], "{}", spec.name);
    }
}

#[test]
fn each_kind_of_damage_is_named() {
    // A tensor of another shape, though of as many values.
    let mut parts = Parts::new();
    parts.tensor("end1.weight").shape = vec![4, 3];
    let error = parts.error();
    assert!(
        matches!(&error, Error::Shape { tensor, expected, got }
            if tensor == "end1.weight" && expected == &[3, 4] && got == &[4, 3]),
        "{error}"
    );

    let mut parts = Parts::new();
    parts.tensors.retain(|raw| raw.name != "layers.1.skip.bias");
    let error = parts.error();
    assert!(
        matches!(&error, Error::Shape { tensor, got, .. }
            if tensor == "layers.1.skip.bias" && got.is_empty()),
        "{error}"
    );

    let mut parts = Parts::new();
    let extra = Raw { name: "layers.1.residual.bias".into(), ..parts.tensor("end2.bias").clone() };
    parts.tensors.push(extra);
    assert!(parts.error().to_string().contains("layers.1.residual.bias"));

    for (value, name) in [(f32::NAN, "embedding.weight"), (f32::NEG_INFINITY, "end2.bias")] {
        let mut parts = Parts::new();
        parts.tensor(name).bytes[..4].copy_from_slice(&value.to_le_bytes());
        let text = parts.error().to_string();
        assert!(text.contains(name) && text.contains("NaN or infinity"), "{text}");
    }

    let mut parts = Parts::new();
    let raw = parts.tensor("end2.bias");
    (raw.dtype, raw.bytes) = (Dtype::F16, vec![0; 16]);
    let error = parts.error();
    assert!(matches!(&error, Error::Unsupported(what) if what.contains("F16")), "{error}");
}

#[test]
fn damaged_metadata_is_named() {
    for metadata in [None, Some(HashMap::new())] {
        let text = Parts { metadata, ..Parts::new() }.error().to_string();
        assert!(text.contains("`wavenet`"), "{text}");
    }
    for version in ["0", "5", "4294967295"] {
        let to = format!("\"format_version\":{version}");
        let error = Parts::new().edit("\"format_version\":1", &to).error();
        let named = matches!(&error, Error::Unsupported(what) if what.contains(version));
        assert!(named, "{error}");
    }
    let damaged = [
        ("\"format_version\":1", "\"format_version\":-1"),
        ("\"levels\":8", "\"levels\":0"),
        ("\"levels\":8", "\"levels\":18446744073709551615"),
        ("\"levels\":8", "\"lev\\u000aels\":8"),
        ("\"dilations\":[1,2]", "\"dilations\":[1,18446744073709551615]"),
        ("\"dilations\":[1,2]", "\"dilations\":[]"),
        ("\"residual_channels\":3", "\"residual_channels\":1024"),
        ("\"kind\":\"note\"", "\"kind\":\"no\\u000ate\""),
        ("\"bell\",\"drum\"", "\"be\\u000all\",\"be\\u000all\""),
        ("\"key\":70", "\"key\":40"),
        ("0.3]", "1e99]"),
    ];
    for (from, to) in damaged {
        Parts::new().edit(from, to).error();
    }
}

#[test]
fn a_line_break_in_a_name_does_not_break_the_message() {
    let mut parts = Parts::new();
    let extra = Raw { name: "two\nlines".into(), ..parts.tensor("end2.bias").clone() };
    parts.tensors.push(extra);
    parts.error();
}

#[test]
fn every_truncation_is_refused() {
    let bytes = model().to_bytes().unwrap();
    for len in 0..bytes.len() {
        refused(&bytes[..len]);
    }
    refused(&[bytes.as_slice(), &[0]].concat());
}

#[test]
fn notes_with_levels_are_of_a_newer_version_and_their_tables_are_checked() {
    let table = |key| KeyTable {
        key,
        velocity: 64,
        start_turns: vec![0.5; 3],
        level_db: vec![-10.0, -20.0],
        partial_db: vec![vec![-12.0, -40.5]; 2],
        ..KeyTable::default()
    };
    let recipe = NoteRecipe {
        partials: 2,
        summed_partials: 3,
        ages_ms: vec![0.0, 100.0],
        keys: vec![table(60), table(64)],
        ..NoteRecipe::default()
    };
    let weights = |recipe: &NoteRecipe| {
        let conditioning = Recipe::Note(recipe.clone());
        Weights::random(Config { conditioning, ..config() }, 1)
    };
    let bytes = weights(&recipe).unwrap().to_bytes().unwrap();
    let parts = Parts::of(&weights(&recipe).unwrap());
    assert!(parts.metadata.as_ref().unwrap()["wavenet"].contains("\"format_version\":3"));
    assert_eq!(
        Weights::from_bytes(&bytes).unwrap().config().conditioning,
        Recipe::Note(recipe.clone())
    );
    let refused = |change: &dyn Fn(&mut NoteRecipe)| {
        let mut recipe = recipe.clone();
        change(&mut recipe);
        let error = weights(&recipe).unwrap_err();
        assert!(matches!(&error, Error::Unsupported(_)), "{error}");
    };
    let mut remainder = recipe.clone();
    remainder.remainder = true;
    let parts = Parts::of(&weights(&remainder).unwrap());
    assert!(parts.metadata.as_ref().unwrap()["wavenet"].contains("\"format_version\":4"));
    // An older reader would not know what the file says.
    for older in 1..4 {
        let mut parts = Parts::of(&weights(&remainder).unwrap());
        let header = parts.metadata.as_mut().unwrap().get_mut("wavenet").unwrap();
        *header = header.replace("\"format_version\":4", &format!("\"format_version\":{older}"));
        assert!(matches!(parts.error(), Error::Format(_)));
    }
    refused(&|recipe| recipe.ages_ms = vec![0.0]);
    refused(&|recipe| (recipe.ages_ms, recipe.remainder, recipe.keys) = (vec![], true, vec![]));
    refused(&|recipe| recipe.ages_ms = vec![5.0, 100.0]);
    refused(&|recipe| recipe.ages_ms[1] = f32::NAN);
    refused(&|recipe| recipe.summed_partials = 129);
    refused(&|recipe| recipe.keys.swap(0, 1));
    refused(&|recipe| recipe.keys[0].class = 9);
    refused(&|recipe| recipe.keys[0].level_db = vec![-10.0]);
    refused(&|recipe| recipe.keys[0].level_db[1] = f32::INFINITY);
    refused(&|recipe| recipe.keys[1].partial_db[0] = vec![]);
    refused(&|recipe| recipe.keys[1].partial_db = vec![vec![0.0; 2]; 4]);
}

#[test]
fn smaller_files_keep_what_kernels_do_not_round() {
    let wide = Weights::random(config(), 5).unwrap();
    let f32_bytes = wide.to_bytes().unwrap();
    for (dtype, kind, version) in [(Storage::Bf16, Dtype::BF16, 1), (Storage::Int8, Dtype::I8, 2)] {
        let narrow = stored(dtype);
        let parts = Parts::of(&narrow);
        let header = &parts.metadata.as_ref().unwrap()["wavenet"];
        assert!(header.contains(&format!("\"format_version\":{version}")), "{header}");
        let of_kind = parts.tensors.iter().filter(|raw| raw.dtype == kind);
        let names: Vec<&str> = of_kind.map(|raw| raw.name.as_str()).collect();
        assert!(names.contains(&"end1.weight") && names.contains(&"layers.0.skip.weight"));
        assert!(!names.iter().any(|name| name.ends_with(".bias") || name.contains("embedding")));
        let only_bf16 = ["layers.0.filter.weight", "layers.0.gate.weight"];
        assert!(only_bf16.iter().all(|name| names.contains(name) == (dtype == Storage::Bf16)));

        let loaded = Weights::from_bytes(&narrow.to_bytes().unwrap()).unwrap();
        assert_eq!((loaded.storage(), loaded.config().default_dtype), (dtype, dtype));
        let mut largest = 0.0_f32;
        for spec in &loaded.layout().specs {
            for (narrow, wide) in loaded.get(&spec.range).iter().zip(wide.get(&spec.range)) {
                let is_kept = !names.contains(&spec.name.as_str());
                assert!(!is_kept || narrow.to_bits() == wide.to_bits(), "{}", spec.name);
                largest = largest.max((narrow - wide).abs());
            }
        }
        // Random weights lie within 1.8: half a step of 1 / 127 or of 2^-8 of that.
        assert!(largest > 1e-4 && largest < 0.008, "{dtype}: {largest}");

        // Back to a wide file, of version 1: the numbers stay what they are.
        let mut back = loaded.clone();
        back.store_as(Storage::F32);
        let bytes = back.to_bytes().unwrap();
        assert_eq!(bytes.len(), f32_bytes.len());
        assert_eq!(bits(&Weights::from_bytes(&bytes).unwrap()), bits(&loaded));
    }
}

#[test]
fn damaged_int8_is_named() {
    let parts = || Parts::of(&stored(Storage::Int8));
    let scale = "end1.weight.scale";
    for value in [0.0, -0.0, -1.0, f32::NAN, f32::INFINITY, 1e-40, 0.1] {
        let mut parts = parts();
        parts.tensor(scale).bytes[4..8].copy_from_slice(&f32::to_le_bytes(value));
        let text = parts.error().to_string();
        assert!(text.contains(scale) && text.contains("no scale"), "{text}");
    }
    let mut none = parts();
    none.tensors.retain(|raw| raw.name != scale);
    let error = none.error();
    assert!(
        matches!(&error, Error::Shape { tensor, got, .. } if tensor == scale && got.is_empty()),
        "{error}"
    );
    let mut short = parts();
    let raw = short.tensor(scale);
    (raw.shape, raw.bytes) = (vec![2], raw.bytes[..8].to_vec());
    let error = short.error();
    assert!(matches!(&error, Error::Shape { expected, .. } if expected == &[3]), "{error}");
    let mut narrow = parts();
    let raw = narrow.tensor(scale);
    (raw.dtype, raw.bytes) = (Dtype::BF16, vec![1; 6]);
    let error = narrow.error();
    assert!(matches!(&error, Error::Unsupported(what) if what.contains(scale)), "{error}");

    let mut lowest = parts();
    lowest.tensor("end1.weight").bytes[0] = 0x80;
    assert!(lowest.error().to_string().contains("-128"));
    let mut beyond = parts();
    beyond.tensor(scale).bytes[..4]
        .copy_from_slice(&1e38_f32.to_bits().next_multiple_of(256).to_le_bytes());
    assert!(beyond.error().to_string().contains("infinity"));
    // Scales of what is no int8, int8 without rows, and int8 where the version has none.
    let mut extra = parts();
    let copy = Raw { name: "embedding.weight.scale".into(), ..extra.tensor("end2.bias").clone() };
    extra.tensors.push(copy);
    assert!(extra.error().to_string().contains("embedding.weight.scale"));
    let mut vector = parts();
    let raw = vector.tensor("end2.bias");
    (raw.dtype, raw.bytes) = (Dtype::I8, vec![1; 8]);
    let error = vector.error();
    assert!(matches!(&error, Error::Unsupported(what) if what.contains("I8")), "{error}");
    let older = parts().edit("\"format_version\":2", "\"format_version\":1").error();
    assert!(matches!(&older, Error::Unsupported(what) if what.contains("I8")), "{older}");
}

#[test]
fn a_missing_file_and_a_folder_are_named_by_their_path() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().join("none.safetensors"), folder.path().to_owned()] {
        let error = Weights::load(&path).unwrap_err();
        mannerly(&error);
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
    let nowhere = folder.path().join("no/folder/model.safetensors");
    mannerly(&model().save(&nowhere).unwrap_err());
}

#[test]
fn numbers_that_are_not_finite_are_not_saved() {
    let mut weights = model();
    weights.values_mut()[9] = f32::NAN;
    mannerly(&weights.to_bytes().unwrap_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        refused(&bytes);
    }

    #[test]
    fn changed_bytes_are_read_or_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        in_header in any::<bool>(),
        dtype in prop::sample::select(vec![Storage::F32, Storage::Bf16, Storage::Int8]),
    ) {
        let mut bytes = stored(dtype).to_bytes().unwrap();
        let header_len = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let end = if in_header { header_len } else { bytes.len() };
        for (index, value) in changes {
            bytes[index.index(end)] = value;
        }
        match Weights::from_bytes(&bytes) {
            Ok(weights) => prop_assert!(weights.values().iter().all(|value| value.is_finite())),
            Err(error) => mannerly(&error),
        }
    }

    #[test]
    fn any_tables_and_numbers_come_back_to_the_bit(
        seed in any::<u64>(),
        inharmonicity in 0.0..0.1_f64,
        turns in prop::array::uniform3(-10.0_f32..10.0),
        range_db in 0.0_f32..96.0,
    ) {
        let mut config = config();
        if let Recipe::Note(note) = &mut config.conditioning {
            note.keys[1].inharmonicity = inharmonicity;
            note.keys[1].start_turns = turns.to_vec();
            note.velocity_range_db = range_db;
        }
        let weights = Weights::random(config, seed).unwrap();
        let loaded = Weights::from_bytes(&weights.to_bytes().unwrap()).unwrap();
        prop_assert_eq!(bits(&loaded), bits(&weights));
        prop_assert_eq!(loaded.config(), weights.config());
    }
}
