//! Schema of the names that people give to objects.

/// Schema of a name that people give to an object. The pattern rejects control characters and the most frequent format
/// characters; the control plane rejects at least those.
#[cfg(feature = "control")]
#[derive(utoipa::ToSchema)]
#[schema(
    pattern = r"^[^ \u0000-\u001f\u007f-\u009f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]([^\u0000-\u001f\u007f-\u009f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]{0,98}[^ \u0000-\u001f\u007f-\u009f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff])?$"
)]
pub struct Name(pub String);
