//! The `mydocker` binary.

fn main() {}
