//! The control plane: accounts and tokens, issuing, publishing, its HTTP API and its store.
