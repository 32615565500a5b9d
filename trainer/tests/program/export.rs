//! `export`: smaller files of the same model.

use wavenet_engine::{Config, Dtype, Weights};

use crate::Folder;

/// A folder with `wide.safetensors`, of random numbers.
fn folder() -> Folder {
    let folder = Folder(tempfile::tempdir().unwrap());
    let config = Config { residual_channels: 16, dilations: vec![1, 2], ..Config::default() };
    Weights::random(config, 3).unwrap().save(&folder.path("wide.safetensors")).unwrap();
    folder
}

fn export(folder: &Folder, from: &str, to: &str, dtype: &str) -> String {
    let files = format!("--model {from}.safetensors --out {to}.safetensors --overwrite");
    let (told, said) = folder.succeed(&format!("export {files} --dtype {dtype}"));
    assert_eq!(said, "");
    told
}

#[test]
fn smaller_files_say_what_they_are() {
    let folder = folder();
    let wide = folder.read("wide.safetensors");
    for (dtype, expected) in [("bf16", Dtype::Bf16), ("int8", Dtype::Int8)] {
        let told = export(&folder, "wide", dtype, dtype);
        let bytes = folder.read(&format!("{dtype}.safetensors"));
        assert!(bytes.len() * 4 < wide.len() * 3, "{} of {}", bytes.len(), wide.len());
        let parts =
            [bytes.len().to_string(), wide.len().to_string(), format!("as {dtype} by default")];
        assert!(parts.iter().all(|part| told.contains(part)), "{told}");
        assert_eq!(told.lines().count(), 1);
        let weights = Weights::from_bytes(&bytes).unwrap();
        assert_eq!((weights.storage(), weights.config().default_dtype), (expected, expected));
        // Once more: nothing is lost twice.
        export(&folder, dtype, "again", dtype);
        assert!(folder.read("again.safetensors") == bytes);
        // A wide file of the same numbers.
        export(&folder, dtype, "again", "f32");
        assert_eq!(folder.read("again.safetensors").len(), wide.len());
    }
    export(&folder, "wide", "same", "f32");
    assert!(folder.read("same.safetensors") == wide);
    assert_eq!(folder.names().len(), 5, "{:?}", folder.names());
}

#[test]
fn int8_rounds_by_recordings() {
    let folder = folder();
    folder.succeed("synth --out recordings --timbre sine --seconds 1");
    let options = "--model wide.safetensors --dtype int8 --data recordings/sine";
    for out in ["careful", "again"] {
        let told = folder.succeed(&format!("export {options} --out {out}.safetensors")).0;
        assert!(told.contains("rounded by") && told.lines().count() == 1, "{told}");
    }
    export(&folder, "wide", "nearest", "int8");
    let read = |name: &str| folder.read(&format!("{name}.safetensors"));
    assert!(read("careful") == read("again"));
    let [careful, nearest] =
        ["careful", "nearest"].map(|name| Weights::from_bytes(&read(name)).unwrap());
    for spec in &careful.layout().specs {
        let is_same = careful.get(&spec.range) == nearest.get(&spec.range);
        assert_eq!(is_same, spec.name != "end2.weight", "{}", spec.name);
    }
}

#[test]
fn models_that_would_be_lost() {
    let folder = folder();
    let export = "export --model wide.safetensors --dtype int8 --out";
    folder.succeed(&format!("{export} small.safetensors"));
    folder.write("other.safetensors", "hours of training");
    for there in ["small", "other"] {
        let expected = "exists; add --overwrite to replace it, or choose another --out";
        let lines = folder.refuse(&format!("{export} {there}.safetensors"), expected);
        assert_eq!(lines.len(), 1, "{lines:?}");
    }
    let small = folder.read("small.safetensors");
    folder.succeed(&format!("{export} other.safetensors --overwrite"));
    assert!(folder.read("other.safetensors") == small);
    // Its own input stays, whatever is said.
    folder.refuse(&format!("{export} wide.safetensors --overwrite"), "name another file");
}

#[test]
fn what_cannot_be_exported() {
    let folder = folder();
    folder.write("broken.safetensors", &folder.read("wide.safetensors")[..1000]);
    for (arguments, expected) in [
        ("--model wide.safetensors --out x", "--dtype"),
        ("--model wide.safetensors --dtype int8", "--out"),
        ("--out x.safetensors --dtype int8", "--model"),
        ("--model wide.safetensors --out x.safetensors --dtype int4", "int8"),
        ("--model wide.safetensors --out x.txt --dtype int8", "did you mean x.safetensors?"),
        ("--model wide.safetensors --out ./wide.safetensors --dtype int8", "name another file"),
        (
            "--model none.safetensors --out x.safetensors --dtype int8",
            "cannot read the model: none.safetensors",
        ),
        ("--model broken.safetensors --out x.safetensors --dtype int8", "get a fresh copy"),
        ("--model . --out x.safetensors --dtype int8", "is not a file"),
        ("--model wide.safetensors --out x.safetensors --dtype bf16 --data .", "int8 only"),
        ("--model wide.safetensors --out x.safetensors --dtype int8 --data none", "none"),
        (
            "--model wide.safetensors --out no/x.safetensors --dtype int8",
            "create the folder no first",
        ),
        ("--model wide.safetensors --out . --dtype int8", "name a file"),
    ] {
        let lines = folder.refuse(&format!("export {arguments}"), expected);
        assert_eq!(lines.len(), 1, "{arguments}: {lines:?}");
    }
}
