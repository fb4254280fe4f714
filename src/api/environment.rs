//! Environment variables of deployments.

use std::fmt;

use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use zeroize::Zeroizing;

use super::instant::Instant;

/// Environment variable of a deployment.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentVariable {
    /// Name of the variable.
    pub key: String,
    /// Value of the variable; absent if it is secret or unreadable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// True if the control plane can't read the value, because the key of its variables is missing or the value is damaged.
    /// Absent if it is false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "control", schema(required = false))]
    pub is_unreadable: bool,
    /// True if the value is secret.
    pub is_secret: bool,
    /// Time of the last change.
    pub updated_at: Instant,
}

/// Environment variable that a deployment is to have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewEnvironmentVariable {
    /// Name of the variable: letters, digits and underscores, none of the reserved names.
    #[cfg_attr(
        feature = "control",
        schema(min_length = 1, max_length = 255, pattern = "^[A-Za-z_][A-Za-z0-9_]*$")
    )]
    pub key: String,
    /// Value of the variable, at most 64 KiB. Without it, a variable that exists keeps its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "control", schema(value_type = Option<String>, max_length = 65536))]
    pub value: Option<VariableValue>,
    /// True if no answer may show the value. A secret variable becomes visible only together with a new value.
    #[serde(default)]
    pub is_secret: bool,
}

/// Value of a variable. It is wiped from memory, and neither `Debug` nor an error of its parser shows it.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct VariableValue(pub Zeroizing<String>);

impl fmt::Debug for VariableValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "VariableValue({} bytes)", self.0.len())
    }
}

impl From<String> for VariableValue {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl<'de> Deserialize<'de> for VariableValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        /// Error that names the kind of a value, without the value itself.
        fn no_text<T, E: de::Error>(kind: &str) -> Result<T, E> {
            Err(E::invalid_type(Unexpected::Other(kind), &"a string"))
        }

        impl Visitor<'_> for Text {
            type Value = VariableValue;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<VariableValue, E> {
                Ok(text.to_owned().into())
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<VariableValue, E> {
                Ok(text.into())
            }

            fn visit_bool<E: de::Error>(self, _: bool) -> Result<VariableValue, E> {
                no_text("boolean")
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<VariableValue, E> {
                no_text("number")
            }

            fn visit_u64<E: de::Error>(self, _: u64) -> Result<VariableValue, E> {
                no_text("number")
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<VariableValue, E> {
                no_text("number")
            }
        }

        // `deserialize_string` would have the parser write its own error, which quotes a number.
        deserializer.deserialize_any(Text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_value_is_shown_by_no_error_and_by_no_debug_output() {
        let read = |text: &str| serde_json::from_str::<NewEnvironmentVariable>(text);
        let good = read(r#"{"key":"A","value":"s3cret","isSecret":true}"#).unwrap();
        assert!(!format!("{good:?}").contains("s3cret"));
        assert_eq!(serde_json::to_string(&good).unwrap(), r#"{"key":"A","value":"s3cret","isSecret":true}"#);
        assert_eq!(
            read(r#"{"key":"A"}"#).unwrap(),
            NewEnvironmentVariable { key: "A".into(), value: None, is_secret: false }
        );
        for bad in ["741852963", "-741852963", "741852963.5", "true", "[\"741852963\"]", "{\"741852963\":1}"]
        {
            let error = read(&format!(r#"{{"key":"A","value":{bad}}}"#)).unwrap_err().to_string();
            assert!(error.contains("expected a string") && !error.contains("741852963"), "{error}");
        }
    }
}
