//! Starting from another model.

use wavenet_engine::{Dtype, Weights};

use crate::{Folder, TINY, tone, training};

#[test]
fn a_model_goes_on_at_another_rate_and_with_classes() {
    let folder = Folder::new();
    folder.train("old.safetensors", "--steps 200");
    for voice in ["alice", "bob"] {
        for (take, hz) in [("one", 150.0), ("two", 233.0)] {
            folder.write(&format!("voices/{voice}/{take}.wav"), tone(hz, 0.3));
        }
    }
    // The shape is the old model's, whatever the trainer's default is.
    folder
        .write("rate.toml", "[model]\nsample_rate_hz = 15000\n[training]\nbatch = 2\nwindow = 256");
    let train = "--data voices --config rate.toml --finetune old.safetensors";
    let (_, said) = folder.succeed(&training("new.safetensors", &format!("{train} --steps 1")));
    assert!(
        said.contains(
            "from old.safetensors: 9040 of 10352 parameters; afresh: class_embedding.weight, \
             layers.*.filter.conditioning.weight, layers.*.gate.conditioning.weight\n"
        ),
        "{said}"
    );
    let load = |name: &str| Weights::load(&folder.path(name)).unwrap();
    let (old, new) = (load("old.safetensors"), load("new.safetensors"));
    assert_eq!(new.config().residual_channels, 8);
    assert_eq!(new.config().sample_rate_hz, 15_000);
    assert_eq!(new.config().classes, ["alice", "bob"]);
    let range = old.layout().end2.weight.clone();
    let new_range = new.layout().end2.weight.clone();
    let near = old.get(&range).iter().zip(new.get(&new_range)).all(|(a, b)| (a - b).abs() < 1e-3);
    assert!(near, "one step of warm-up moves hardly anything");

    // Resumed it is the same run, and starting from another model is another.
    let whole = folder.train("whole.safetensors", &format!("{train} --steps 12"));
    let parts = format!("{train} --steps 12 --checkpoint-steps 3 --resume");
    folder.succeed(&training("parts.safetensors", &parts));
    assert!(folder.read("parts.safetensors") == whole);
    let other = "with other settings (the model of --finetune";
    let parts = training("parts.safetensors", &parts);
    folder.refuse(&parts.replace("--finetune old.safetensors", ""), other);
    folder.refuse(&parts.replace("old.safetensors", "whole.safetensors"), other);
}

#[test]
fn what_was_learned_helps_from_the_first_step() {
    let folder = Folder::new();
    folder.train("old.safetensors", "--steps 300");
    folder.succeed("export --model old.safetensors --out small.safetensors --dtype int8");
    let bits = |out: &str, options: &str| -> f64 {
        folder.train(out, &format!("--steps 2 --overwrite {options}"));
        let (text, _) = folder.succeed(&format!("eval --model {out} --data tones --split train"));
        text.split(' ').next().unwrap().parse().unwrap()
    };
    let fresh = bits("a.safetensors", "");
    for from in ["old.safetensors", "small.safetensors", "old.state"] {
        let tuned = bits("b.safetensors", &format!("--finetune {from}"));
        assert!(tuned < 0.7 * fresh, "{tuned} of {fresh} from {from}");
        assert_eq!(Weights::load(&folder.path("b.safetensors")).unwrap().storage(), Dtype::F32);
    }
}

#[test]
fn models_that_are_none_or_have_another_residual_stack() {
    let folder = Folder::new();
    folder.train("old.safetensors", "--steps 2");
    folder.write("text.safetensors", "This is no model.");
    folder.write("wide.toml", TINY.replace("residual_channels = 8", "residual_channels = 9"));
    folder.write("deep.toml", TINY.replace("8, 16]", "8, 16, 32]"));
    for (options, expected) in [
        ("--finetune missing.safetensors", "cannot read the model: missing.safetensors"),
        ("--finetune text.safetensors", "text.safetensors (get a fresh copy"),
        ("--finetune bird", "bird is built into wavenet, and the trainer takes files"),
        ("--finetune missing.state", "missing.state is not a usable state"),
        ("--finetune tones", "tones is not a file"),
        (
            "--finetune old.safetensors --config wide.toml",
            "old.safetensors has residual_channels = 8, the config asks for 9",
        ),
        ("--finetune old.safetensors --config deep.toml", "has other dilations"),
    ] {
        let lines =
            folder.refuse(&training("x.safetensors", &format!("{options} --steps 2")), expected);
        assert_eq!(lines.len(), 1, "{lines:?}");
    }
    let same = training("old.safetensors", "--finetune old.safetensors --steps 2");
    folder.refuse(&same, "name another --out");
    let of_state = training("old.safetensors", "--finetune old.state --steps 2");
    folder.refuse(&of_state, "name another --out");
}
