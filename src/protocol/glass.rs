//! Defines the glass of a deployment: the barrier before direct access. The control plane sets the mode; an operator can
//! break the glass on a host, for a limited time and with a reason. docs/glass.md describes the procedure.

use serde::{Deserialize, Serialize};

/// Mode of a deployment's glass, set in the deployment's record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum GlassMode {
    /// Direct-access tokens are accepted at any time.
    #[default]
    Always,
    /// Direct-access tokens are accepted while the node judges the control plane unreachable.
    Outage,
    /// Direct-access tokens are accepted only after an operator has broken the glass on the host.
    Sealed,
}

impl GlassMode {
    /// Lists every mode.
    pub const ALL: [Self; 3] = [Self::Always, Self::Outage, Self::Sealed];

    /// Returns the mode as records and the API write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Outage => "outage",
            Self::Sealed => "sealed",
        }
    }

    /// Parses the text of [`Self::as_str`]. Returns `None` for any other text.
    ///
    /// ```
    /// use halligan::protocol::glass::GlassMode;
    ///
    /// assert_eq!(GlassMode::parse("outage"), Some(GlassMode::Outage));
    /// // `broken` is a state of one host, and no mode of a deployment.
    /// assert_eq!(GlassMode::parse("broken"), None);
    /// ```
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == text)
    }

    /// Returns true for [`GlassMode::Always`], which records omit.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// State of a deployment's glass on one node at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GlassState {
    /// Direct access is open at all times: the mode is [`GlassMode::Always`].
    Always,
    /// Direct access is open because the control plane is unreachable.
    Outage,
    /// Direct access is closed.
    Sealed,
    /// Direct access is open because an operator broke the glass.
    Broken,
}

impl GlassState {
    /// Returns the state as audit events write it.
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
