//! The command line: what the nouns of `halligan` do.
