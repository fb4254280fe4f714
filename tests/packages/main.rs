//! Tests of the Debian packages and the static build, installed and run. They are a program of their own:
//! packaging/build replaces target/debug/halligand, so no other test may start a daemon meanwhile.

mod environment;
#[path = "../rig/mod.rs"]
mod rig;
mod static_build;
mod systemd;
