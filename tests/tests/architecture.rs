//! The invariants of ARCHITECTURE.md that are about the shape of the house.

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Names of the packages that a package is built from (without those for its tests).
fn built_from(package: &str) -> Vec<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["tree", "--locked", "--offline", "-p", package, "-e", "normal"])
        .args(["--prefix", "none", "--format", "{p}"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("names are UTF-8");
    let mut names: Vec<String> =
        text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
    names.sort();
    names.dedup();
    assert!(names.len() > 5, "cargo tree listed {names:?}");
    names
}

#[test]
fn dependencies_run_one_way() {
    for (package, ours) in [
        ("wavenet-engine", vec!["wavenet-engine"]),
        ("wavenet-models", vec!["wavenet-engine", "wavenet-models"]),
        ("wavenet-plugin", vec!["wavenet-engine", "wavenet-models", "wavenet-plugin"]),
        ("wavenet-picture", vec!["wavenet-engine", "wavenet-picture"]),
        ("wavenet-midi", vec!["wavenet-engine", "wavenet-midi"]),
        (
            "wavenet-standalone",
            vec![
                "wavenet-engine",
                "wavenet-midi",
                "wavenet-models",
                "wavenet-picture",
                "wavenet-standalone",
            ],
        ),
        (
            "wavenet-trainer",
            vec!["wavenet-engine", "wavenet-midi", "wavenet-picture", "wavenet-trainer"],
        ),
    ] {
        let found = built_from(package);
        let found: Vec<&str> =
            found.iter().map(String::as_str).filter(|name| name.starts_with("wavenet-")).collect();
        assert_eq!(found, ours, "what {package} is built from");
    }
}

#[test]
fn the_plugin_draws_no_pictures() {
    let names = built_from("wavenet-plugin");
    assert!(!names.iter().any(|name| name.starts_with("plotters")), "{names:?}");
}

#[test]
fn players_carry_no_candle() {
    for package in ["wavenet-engine", "wavenet-plugin", "wavenet-standalone"] {
        let names = built_from(package);
        let candle: Vec<&String> = names.iter().filter(|name| name.starts_with("candle")).collect();
        assert!(candle.is_empty(), "{package} is built from {candle:?}");
    }
}

/// All Rust files below a folder.
fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the project").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn unsafe_stays_in_the_kernels() {
    let mut files = Vec::new();
    for room in [
        "engine/src",
        "midi/src",
        "models/src",
        "picture/src",
        "trainer/src",
        "standalone/src",
        "plugin/src",
    ] {
        sources(&root().join(room), &mut files);
    }
    assert!(files.len() > 30);
    // The GPU's driver is spoken to in C.
    let rooms = [
        "engine/src/kernels.rs",
        "engine/src/kernels",
        "engine/src/cuda",
        "trainer/src/kernels",
        "trainer/src/card/cuda",
    ];
    for path in files {
        let in_kernels = rooms.iter().any(|room| path.starts_with(root().join(room)));
        let text = std::fs::read_to_string(&path).expect("sources are UTF-8");
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let has_unsafe = code.flat_map(str::split_whitespace).any(|word| word == "unsafe");
        assert!(in_kernels || !has_unsafe, "{} has unsafe", path.display());
    }
}

#[test]
fn the_engines_rooms_import_downwards_only() {
    // Each may use those before it, never those after.
    let order = [
        "error",
        "files",
        "crew",
        "config",
        "math",
        "mulaw",
        "sampling",
        "queue",
        "layout",
        "rounding",
        "storage",
        "weights",
        "kernels",
        "cuda",
        "conditioning",
        "resample",
        "synth",
        "renderer",
        "stream",
    ];
    for (place, module) in order.iter().enumerate() {
        let mut files = vec![root().join(format!("engine/src/{module}.rs"))];
        let inside = root().join(format!("engine/src/{module}"));
        if inside.is_dir() {
            sources(&inside, &mut files);
        }
        for path in files.iter().filter(|path| !path.ends_with("tests.rs")) {
            let text = std::fs::read_to_string(path).expect("the room is there");
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            assert!(!code.contains("crate::{"), "{}: name each room by itself", path.display());
            for above in &order[place + 1..] {
                let imports = code.contains(&format!("crate::{above}::"));
                assert!(!imports, "{} imports {above}", path.display());
            }
        }
    }
}
