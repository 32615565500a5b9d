use std::sync::atomic::AtomicBool;

use wavenet_engine::Config;

use super::*;
use crate::network::{Device, Precision};
use crate::prepared::{Entry, Facts, Index, Prepared, PreparedWriter, Split, VERSION};
use crate::settings::{Training, default_model};
use crate::training::{Budget, train};

const EVIL: &str = "<script>alert('x')</script>&\"x\".wav";

/// A corpus of two sines, whose names try to get out of the page.
fn corpus(folder: &Path) -> Prepared {
    let mut writer = PreparedWriter::create(&folder.join("p")).unwrap();
    let mut entries = Vec::new();
    for (split, name) in [(Split::Train, EVIL), (Split::Valid, "b.wav")] {
        let samples: Vec<f32> = (0..4_000).map(|at| 0.5 * libm::sinf(0.1 * at as f32)).collect();
        entries.push(Entry {
            name: name.into(),
            label: Some(format!("{name}<b>")),
            key: None,
            velocity: None,
            at_frame: None,
            split,
            offset_frames: writer.append(name, &samples, &Facts::default()).unwrap(),
            frames: 4_000,
            source_rate_hz: 44_100,
            source_channels: 2,
            clipped_samples: 0,
            dropped_frames: 0,
            damaged_packets: 0,
            offset: 0.0,
            peak: 0.5,
        });
    }
    let skipped = crate::prepared::Skipped {
        name: EVIL.into(),
        reason: "is <img src=x onerror=alert(1)>".into(),
        silent_frames: 0,
    };
    let index = Index {
        format: String::new(),
        version: VERSION,
        revision: 0,
        rate_hz: 16_000,
        trimmed: true,
        fingerprint: String::new(),
        entries,
        skipped: vec![skipped],
        left_notes: vec![],
        notices: vec!["a note <i>".into()],
    };
    writer.finish(index).unwrap()
}

#[test]
fn names_from_outside_stay_text_and_nothing_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let classes = vec!["<u>".to_owned(), EVIL.to_owned() + "<b>", "b.wav<b>".to_owned()];
    let config = Config { dilations: vec![1, 2, 4], classes, ..default_model() };
    let training = Training { batch: 1, window: 64, ..Training::default() };
    let options = TrainOptions {
        out: folder.path().join("<script>it's.safetensors"),
        budget: Budget::Steps(3),
        seed: 1,
        device: Device::Cpu,
        precision: Precision::F32,
        threads: 1,
        patience: None,
        finetune: None,
        checkpoint_steps: 2,
        resume: false,
        training,
        findings: Vec::new(),
        log: None,
    };
    let material = Material::new(corpus(folder.path()), &config, None, &[0]).unwrap();
    let outcome = train(&material, &config, &options, &AtomicBool::new(false)).unwrap();
    check(&options.out).unwrap();
    let html = std::fs::read_to_string(write(&material, &options, &outcome).unwrap()).unwrap();

    // The document's own tags are the only ones: what opens a tag was written by us.
    let known = [
        "!DOCTYPE",
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "main",
        "header",
        "p",
        "h1",
        "h2",
        "h3",
        "strong",
        "code",
        "dl",
        "div",
        "dt",
        "dd",
        "section",
        "ul",
        "li",
        "figure",
        "img",
        "audio",
        "figcaption",
        "span",
        "svg",
        "rect",
        "line",
        "polyline",
        "text",
        "circle",
        "table",
        "tr",
        "th",
        "td",
        "details",
        "summary",
        "footer",
    ];
    for tag in html.split('<').skip(1) {
        let name = tag.trim_start_matches('/').split([' ', '>', '\n', '/']).next().unwrap();
        assert!(known.contains(&name), "<{tag}");
    }
    assert!(html.contains("&lt;script&gt;alert('x')&lt;/script&gt;&amp;&quot;x&quot;.wav"));
    assert!(html.contains(r"'\''s.safetensors'"), "a shell would split the name");
    let html = html.replace(r#"xmlns="http://www.w3.org/2000/svg""#, "");
    for outside in ["http://www", "https://", "//cdn", "url(", "@import", " onerror=alert(1)\""] {
        assert!(!html.contains(outside), "{outside}");
    }
    // Recordings and model, one of each class that has recordings; a curve over steps and one over time.
    assert_eq!(html.matches("data:audio/wav;base64,").count(), 4);
    assert_eq!(html.matches("data:image/png;base64,").count(), 4);
    assert_eq!(html.matches("<svg").count(), 2);
    assert!(html.contains(REVISION));
    // Of one validation, at the end, the number: a point is no curve.
    let once = format!("(once: {:.2} after step 3)", outcome.history.validated[0].bits);
    assert!(html.contains(&once) && html.contains("<td>3 steps</td>"));
}
