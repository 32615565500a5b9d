//! The GPU's kernel, compiled for every card by NVIDIA's own compiler: `peers/nvrtc.py`. No GPU is needed.
//!
//! `WAVENET_PYTHON` names a python that has it; without it this test says so and passes.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Threads of a block at most, where the entry says no other number, and registers of a multiprocessor.
const THREADS: u64 = 512;
const REGISTERS: u64 = 65_536;
/// All that the program carries.
const MOST_BYTES: u64 = 3_900_000;

/// The python to ask, or `None` with the reason said aloud. `./run test` names one that has it.
fn python() -> Option<String> {
    let Ok(python) = std::env::var("WAVENET_PYTHON") else {
        eprintln!("skipped: WAVENET_PYTHON does not name a python with nvidia-cuda-nvrtc");
        return None;
    };
    let has_it = Command::new(&python).args(["-c", "import nvidia.cuda_nvrtc"]).status().unwrap();
    assert!(has_it.success(), "{python} has no nvidia-cuda-nvrtc");
    Some(python)
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/src/cuda/ptx")
}

#[test]
fn what_the_program_carries_is_what_the_text_gives_and_fits_every_card() {
    let Some(python) = python() else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/nvrtc.py");
    let output = Command::new(&python).arg(script).arg("check").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let stale = found["stale"].as_array().unwrap();
    assert!(stale.is_empty(), "{stale:?}: run `{python} tests/peers/nvrtc.py build`");
    let kernels = found["kernels"].as_array().unwrap();
    // Entries, types of weights or shapes, cards; batch and single-stream kernels are for the newer two, pipelines for
    // the newest.
    assert_eq!(kernels.len(), 2 * 3 * 3 + 4 * 3 * 2 + 2 * 2 + 2 * 2);
    for kernel in kernels {
        let number = |name: &str| kernel[name].as_u64().unwrap();
        let entry = kernel["entry"].as_str().unwrap();
        // The batch kernel of the smallest shape has three blocks of 128 threads side by side.
        let is_small = kernel["defines"].as_array().unwrap().contains(&"R=32".into());
        let threads = match entry {
            "wavenet_single_32_64_128" => 320,
            "wavenet_single_64_256_256" => 576,
            _ if is_small => 384,
            _ => THREADS,
        };
        assert!(number("registers") > 0 && number("registers") * threads <= REGISTERS, "{kernel}");
        // Nothing in local memory; and all of shared memory is the host's to lay out.
        assert!(number("stack") == 0 && number("spilled") == 0, "{kernel}");
        assert_eq!(number("shared"), 0, "{kernel}");
    }
    // The trainer's, each for f32 and bf16, in blocks of 256 threads.
    let training = found["training"].as_array().unwrap();
    assert_eq!(training.len(), 3 * 2 * 9);
    for kernel in training {
        let number = |name: &str| kernel[name].as_u64().unwrap();
        assert!((1..=REGISTERS / 256).contains(&number("registers")), "{kernel}");
        assert!(number("stack") == 0 && number("spilled") == 0, "{kernel}");
    }
}

#[test]
fn what_the_program_carries_obeys_the_numeric_contract() {
    let mut bytes = 0;
    // What is compiled for, and the shape of the matrix units' instruction.
    let files = [
        ("f32", "sm_75", None),
        ("bf16", "sm_75", None),
        ("int8", "sm_75", Some("m8n8k16")),
        ("int8_wide", "sm_80", Some("m16n8k32")),
        ("single", "sm_80", Some("m16n8k32")),
        ("batch_32_64_128", "sm_80", Some("m16n8k32")),
        ("batch_64_256_256", "sm_80", Some("m16n8k32")),
        ("batch_128_256_256", "sm_80", Some("m16n8k32")),
        ("pipeline_int8", "sm_90", Some("m16n8k32")),
    ];
    for (dtype, card, units) in files {
        let text = std::fs::read_to_string(folder().join(format!("{dtype}.ptx"))).unwrap();
        bytes += text.len() as u64;
        let target = format!(".target {card}\n");
        // Messages between blocks are younger than all else.
        let version = if card == "sm_90" { ".version 8.1" } else { ".version 8.0" };
        assert!(text.contains(&target) && text.contains(version), "{dtype}");
        let is_of_shape = !matches!(dtype, "f32" | "bf16" | "int8" | "int8_wide");
        let entries = match dtype {
            "single" => &["wavenet_single_32_64_128", "wavenet_single_64_256_256"][..],
            "pipeline_int8" => {
                &["wavenet_pipeline_int8_64_256_256", "wavenet_pipeline_int8_128_256_256"]
            }
            _ if is_of_shape => {
                &["wavenet_batch_8", "wavenet_batch_16", "wavenet_batch_24", "wavenet_batch_32"]
            }
            _ => &["wavenet_general_single", "wavenet_general_batch"],
        };
        for entry in entries {
            assert!(text.contains(&format!(".entry {entry}(")), "{dtype} {entry}");
        }
        // Nothing flushed to zero, nothing approximated, no division but the exact one.
        for word in text.split(|c: char| c.is_whitespace() || c == ';') {
            // What a quotient begins with, whose steps make it exact (`divide` in common/arithmetic.cuh).
            if !matches!(dtype, "f32" | "bf16") && word == "rcp.approx.ftz.f32" {
                continue;
            }
            let is_float = word.contains(".f32");
            assert!(!(is_float && (word.contains(".ftz") || word.contains(".approx"))), "{word}");
            assert!(!word.starts_with("div.full"), "{word}");
            // A sum or product that does not say how it rounds may be contracted with another.
            let may_contract = ["add", "sub", "mul"].iter().any(|of| word == format!("{of}.f32"));
            assert!(!may_contract, "{dtype}: {word}");
            assert!(!word.starts_with("mad.f32") && !word.starts_with("mad.rn.f32"), "{word}");
            // Of the matrix units only whole numbers, which are exact; and every lane of a warp takes part.
            if word.starts_with("mma") {
                let shape = units.unwrap_or_default();
                assert_eq!(word, format!("mma.sync.aligned.{shape}.row.col.s32.s8.s8.s32"));
            }
        }
        assert_eq!(text.contains("mma.sync"), units.is_some(), "{dtype}");
        // No path and no moment of this or any machine.
        assert!(!text.contains('/') && !text.contains(".file"), "{dtype}");
        assert_eq!(text.contains("dp4a"), dtype.starts_with("int8"), "{dtype}");
    }
    // The fast mode is not of the contract, and says so by what it computes with.
    let pipeline = std::fs::read_to_string(folder().join("pipeline_bf16.ptx")).unwrap();
    bytes += pipeline.len() as u64;
    assert!(pipeline.contains(".target sm_90\n") && pipeline.contains(".version 8.1"));
    for told in [
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32",
        "tanh.approx.f32",
        "st.async",
        ".entry wavenet_pipeline_bf16_32_64_128(",
        ".entry wavenet_pipeline_bf16_64_256_256(",
    ] {
        assert!(pipeline.contains(told), "{told}");
    }
    assert!(
        !pipeline.contains(".local") && !pipeline.contains(".file") && !pipeline.contains("dp4a")
    );
    for name in ["micro", "micro_cluster", "micro_message", "micro_products", "micro_products_wide"]
    {
        bytes += std::fs::metadata(folder().join(format!("{name}.ptx"))).unwrap().len();
    }
    assert!(bytes < MOST_BYTES, "{bytes}");
}
