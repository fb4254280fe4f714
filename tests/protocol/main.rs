//! Tests of the formats and signatures that both planes share, and of what a reader must refuse. Other people's
//! implementations read and write them, too.

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

// The fuzz targets compile the same keys and records.
use fuzz::world;
