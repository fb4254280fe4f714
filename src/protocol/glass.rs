//! Glass: what stands before direct access to a deployment. The control plane says how it is kept; an operator on a host
//! can break it there, for a time and with a reason.

use serde::{Deserialize, Serialize};

/// How a deployment's glass is kept, as its record says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum GlassMode {
    /// Direct-access tokens are accepted at any time.
    #[default]
    Always,
    /// They are accepted while the control plane is judged unreachable.
    Outage,
    /// They are accepted only after an operator has broken the glass on the host.
    Sealed,
}

impl GlassMode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Always, Self::Outage, Self::Sealed];

    /// The mode as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Outage => "outage",
            Self::Sealed => "sealed",
        }
    }

    /// Reads what [`Self::as_str`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == text)
    }

    /// Whether it is the mode a record that says nothing has.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How a deployment's glass stands at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GlassState {
    /// There is none.
    Always,
    /// Open, since the control plane can't be reached.
    Outage,
    /// Shut.
    Sealed,
    /// An operator has broken it.
    Broken,
}

impl GlassState {
    /// The state as events name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Outage => "outage",
            Self::Sealed => "sealed",
            Self::Broken => "broken",
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_mode_is_written_one_way() {
        for mode in GlassMode::ALL {
            assert_eq!(GlassMode::parse(mode.as_str()), Some(mode));
            assert_eq!(serde_json::to_value(mode).unwrap(), mode.as_str());
        }
        assert_eq!(GlassMode::parse("Always"), None);
    }
}
