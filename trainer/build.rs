//! Tells the program which revision of its sources it is built from, where git knows.

use std::path::Path;
use std::process::Command;

fn main() {
    // Every commit and every checkout adds a line to it.
    let log = Path::new("../.git/logs/HEAD");
    if log.exists() {
        println!("cargo::rerun-if-changed={}", log.display());
    } else {
        println!("cargo::rerun-if-changed=build.rs");
    }
    let git = Command::new("git").args(["rev-parse", "--short=10", "HEAD"]).output();
    let revision = git.ok().filter(|output| output.status.success());
    let revision = revision.map_or_else(String::new, |output| {
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    });
    println!("cargo::rustc-env=WAVENET_REVISION={revision}");
}
