//! Users and tokens as the authors of changes.

use serde::{Deserialize, Serialize};

/// User or token that created or changed an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// Id of the user or token.
    pub id: String,
    /// Kind of the subject.
    pub subject_type: SubjectType,
    /// Name of a user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_name: Option<String>,
    /// Email address of a user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Picture of a user; empty, since there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avatar_url: Option<String>,
    /// Name of a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_token_name: Option<String>,
}

/// Kind of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "control", derive(utoipa::ToSchema))]
pub enum SubjectType {
    /// A user.
    #[serde(rename = "USER")]
    User,
    /// An API token, or a program of the control plane itself.
    #[serde(rename = "SERVICEKEY")]
    ServiceKey,
}

impl Subject {
    /// Returns a user.
    #[must_use]
    pub fn user(id: String, email: String) -> Self {
        Self {
            id,
            subject_type: SubjectType::User,
            full_name: Some(email.clone()),
            username: Some(email),
            avatar_url: Some(String::new()),
            api_token_name: None,
        }
    }

    /// Returns a token, or a program that has a name.
    #[must_use]
    pub fn service_key(id: String, name: String) -> Self {
        Self {
            id,
            subject_type: SubjectType::ServiceKey,
            full_name: None,
            username: None,
            avatar_url: None,
            api_token_name: Some(name),
        }
    }

    /// Returns the name that people know the subject by.
    #[must_use]
    pub fn name(&self) -> &str {
        self.username.as_deref().or(self.api_token_name.as_deref()).unwrap_or(&self.id)
    }
}
