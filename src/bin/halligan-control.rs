//! `halligan-control`: arguments in, exit code out.

fn main() {}
