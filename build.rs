//! Writes into the program what it was built from: `ringmark version` prints it.

use std::env;
use std::process::Command;

fn main() {
    let variable = |name: &str| env::var(name).unwrap_or_default();
    let is_release = variable("PROFILE") == "release";
    let features: Vec<String> = env::vars()
        .filter_map(|(name, _)| Some(name.strip_prefix("CARGO_FEATURE_")?.to_lowercase().replace('_', "-")))
        .collect();
    let features = if features.is_empty() { "none".to_string() } else { features.join(", ") };
    // Of a development build only the compiler has the current state, and the commit would be another one soon.
    let commit = if is_release { commit() } else { "not recorded in a debug build".to_string() };
    println!("cargo:rustc-env=RINGMARK_COMMIT={commit}");
    println!("cargo:rustc-env=RINGMARK_TARGET={}", variable("TARGET"));
    println!("cargo:rustc-env=RINGMARK_BUILD={}", if is_release { "release" } else { "debug" });
    println!("cargo:rustc-env=RINGMARK_FEATURES={features}");
    println!("cargo:rerun-if-changed=build.rs");
}

/// The commit of the source, with `-dirty` if files differ from it; of a published crate the one that `cargo publish`
/// recorded; else `unknown`.
fn commit() -> String {
    let recorded = std::fs::read_to_string(".cargo_vcs_info.json").ok();
    if let Some(hash) = recorded.as_deref().and_then(|info| info.split('"').find(|part| is_hash(part))) {
        return hash[..12].to_string();
    }
    // A crate that was unpacked inside of another repository is not part of it.
    let is_own = git(&["ls-files", "--error-unmatch", "build.rs"]).is_some();
    let Some(hash) = git(&["rev-parse", "--short=12", "HEAD"]).filter(|_| is_own) else {
        return "unknown".to_string();
    };
    for path in ["src", "Cargo.toml", "Cargo.lock"] {
        println!("cargo:rerun-if-changed={path}");
    }
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", name]).filter(|path| std::path::Path::new(path).exists()) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    let changed = git(&["--no-optional-locks", "status", "--porcelain", "--untracked-files=no"])
        .is_none_or(|files| !files.is_empty());
    if changed { format!("{hash}-dirty") } else { hash }
}

fn is_hash(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The output of git; `None` if it is missing or failed.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
}
