//! Tests of the formats and signatures that both planes share, and of inputs that a reader must reject. Other
//! implementations read and write these formats, too.

#[path = "../../fuzz/src/lib.rs"]
mod fuzz;
mod fuzz_corpus;
mod interop;
mod newer_control_plane;
#[path = "../world/nodes.rs"]
mod nodes;
mod protocol_vectors;
#[path = "../rig/mod.rs"]
mod rig;
mod roots;
mod tamper;
mod vectors;

// Uses the world of the fuzz targets, which include the same file.
use fuzz::world;
