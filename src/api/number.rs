//! Whole numbers in JSON. `30.0` is one as well, as in JSON Schema, and some clients write it.

use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer};

#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Whole(i64),
    Other(f64),
}

impl Number {
    fn read<E: serde::de::Error>(self) -> Result<i64, E> {
        match self {
            Self::Whole(number) => Ok(number),
            // Beyond 2^53, a float does not identify one whole number.
            Self::Other(number) if number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0 =>
            {
                #[expect(clippy::cast_possible_truncation, reason = "it is whole and in range")]
                Ok(number as i64)
            }
            Self::Other(number) => Err(E::invalid_value(Unexpected::Float(number), &"a whole number")),
        }
    }
}

/// Reads a whole number.
pub(crate) fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    Number::deserialize(deserializer).map_err(|_| D::Error::custom("expected a whole number"))?.read()
}

/// Reads a whole number, or none if it is null.
pub(crate) fn maybe<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let number = Option::<Number>::deserialize(deserializer)
        .map_err(|_| D::Error::custom("expected a whole number"))?;
    number.map(Number::read).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Days {
        #[serde(default, deserialize_with = "maybe")]
        days: Option<i64>,
    }

    #[test]
    fn a_float_without_a_fraction_is_a_whole_number() {
        let read = |text| serde_json::from_str::<Days>(text).map(|read| read.days).ok();
        assert_eq!(read(r#"{"days": 30}"#), Some(Some(30)));
        assert_eq!(read(r#"{"days": 30.0}"#), Some(Some(30)));
        assert_eq!(read(r#"{"days": null}"#), Some(None));
        assert_eq!(read("{}"), Some(None));
        for bad in [r#"{"days": 1.5}"#, r#"{"days": "30"}"#, r#"{"days": 1e300}"#, r#"{"days": true}"#] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
