//! Replacing a token's roles.

use super::Token;
use crate::controlplane::ControlPlane;
use crate::controlplane::authorization::Actor;
use crate::controlplane::error::Error;
use crate::protocol::token::TokenKind;

impl ControlPlane {
    /// Refuses to change a direct-access token's role: it is fixed at creation.
    pub fn replace_roles(&self, actor: &Actor, organization: &str, id: &str) -> Result<Token, Error> {
        let token = self.show_token(actor, organization, id)?;
        token.managed_by(actor, organization)?;
        let detail = match token.kind {
            TokenKind::DirectAccess => {
                "a direct-access token's role is fixed at creation; create another token with the role you need"
            }
            TokenKind::Standard => "the only role this token can have is the one it has",
        };
        Err(Error::Conflict { code: "role_fixed", detail: detail.into() })
    }
}
