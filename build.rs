//! Compiles `proto/` with protox, so that no `protoc` is needed.

use prost::Message;
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = ["peer", "client", "blob", "enrolment"]
        .map(|name| format!("proto/hustings/v1/{name}.proto"));
    let descriptors = protox::compile(files, ["proto"])?;
    // What reflection tells of: all but the comments.
    let mut told = descriptors.clone();
    for file in &mut told.file {
        file.source_code_info = None;
    }
    let out = std::env::var("OUT_DIR")?;
    std::fs::write(Path::new(&out).join("hustings.v1.descriptors"), told.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
