//! Promises that the code does not keep yet: no story asks for them until it does.

/// A control plane that was restored from a backup learns anew of revocations that hosts had told it of before.
pub const RESTORED_REVOCATIONS: bool = false;
