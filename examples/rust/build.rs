//! Generates the client from the protos, without protoc.

use std::error::Error;

const PROTOS: [&str; 3] = [
    "headwater/v1/connections.proto",
    "headwater/v1/events.proto",
    "headwater/v1/pipelines.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let descriptors = protox::compile(PROTOS, ["../../protos", "../../third_party/googleapis"])?;
    tonic_prost_build::configure()
        .build_server(false)
        .compile_fds(descriptors)?;
    println!("cargo::rerun-if-changed=../../protos");
    Ok(())
}
