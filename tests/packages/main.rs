//! The Debian packages and the static build, installed and run. They stand in a program of their own: packaging/build
//! replaces target/debug/halligand while it builds, and no other test may start a daemon meanwhile.

mod environment;
#[path = "../rig/mod.rs"]
mod rig;
mod static_build;
mod systemd;
