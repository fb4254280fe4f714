//! Client of the control plane's API.

use std::path::Path;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, ETAG, HeaderMap, HeaderValue};
use reqwest::{Certificate, Client, Method, RequestBuilder, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::failure::{Failure, cause, read, refused};
use super::id::check_path;
use crate::api::dual_control::Request;
use crate::api::id::OrganizationId;
use crate::api::organization::OrganizationPage;
use crate::platform::net::origin::keeps_secrets;
use crate::platform::net::provider;

/// Name of the control plane in errors.
const CONTROL_PLANE: &str = "the control plane";

/// Client of the control plane, with the organization that its calls are about.
pub(super) struct Control {
    client: Client,
    url: String,
    organization: Option<OrganizationId>,
}

/// Result of a call that a second owner may have to approve.
pub(super) enum Done<T> {
    /// The call was carried out.
    Now(T),
    /// Another owner has to approve the request.
    Requested(Box<Request>),
}

/// Answer that is no refusal. It may hold the value of a token.
struct Answered {
    status: StatusCode,
    tag: Option<HeaderValue>,
    body: Zeroizing<Vec<u8>>,
}

/// Reads the token that authenticates the calls. It is never an argument, because every user of the host can read
/// command lines.
pub(super) fn api_token(file: Option<&Path>) -> Result<Zeroizing<String>, Failure> {
    if let Some(path) = file {
        return read_secret(path);
    }
    ["HALLIGAN_API_TOKEN", "ASTRO_API_TOKEN"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
        .map(Zeroizing::new)
        .ok_or_else(|| Failure::Usage("no API token; set HALLIGAN_API_TOKEN, or use --api-token-file".into()))
}

/// Reads a secret from a file, or from standard input for `-`.
pub(super) fn read_secret(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let read = if path == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(path)
    };
    let text = Zeroizing::new(read.map_err(|source| Failure::File { path: path.into(), source })?);
    Ok(Zeroizing::new(text.trim().to_owned()))
}

/// Returns an HTTP client that authenticates with a token, if it is given one.
pub(super) fn client(token: Option<&str>, ca_file: Option<&Path>) -> Result<Client, Failure> {
    let mut headers = HeaderMap::new();
    if let Some(token) = token {
        let invalid = "the API token has characters that no token has; check HALLIGAN_API_TOKEN or the file of --api-token-file";
        let mut value =
            HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| Failure::Usage(invalid.into()))?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    provider::install();
    let mut builder = Client::builder()
        .default_headers(headers)
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(30))
        .user_agent(concat!("halligan/", env!("CARGO_PKG_VERSION")));
    if let Some(path) = ca_file {
        let pem = std::fs::read(path).map_err(|source| Failure::File { path: path.into(), source })?;
        let authorities = Certificate::from_pem_bundle(&pem)
            .map_err(|error| Failure::Usage(format!("{}: {}", path.display(), cause(&error))))?;
        builder = builder.tls_certs_merge(authorities);
    }
    builder.build().map_err(|error| Failure::Usage(cause(&error)))
}

impl Control {
    pub(super) fn new(
        url: Option<&str>,
        token_file: Option<&Path>,
        ca_file: Option<&Path>,
        organization: Option<OrganizationId>,
    ) -> Result<Self, Failure> {
        let url =
            url.ok_or_else(|| Failure::Usage("no control plane; set HALLIGAN_URL, or use --url".into()))?;
        if !keeps_secrets(url) {
            return Err(Failure::Usage(format!(
                "{url:?} is not https:// (or http:// on loopback), and the API token would be sent there in the clear; use https://"
            )));
        }
        let client = client(Some(&api_token(token_file)?), ca_file)?;
        Ok(Self { client, url: url.trim_end_matches('/').to_owned(), organization })
    }

    /// Reads `path`, which begins with `/v1`.
    pub(super) async fn get_at<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        check_path(path)?;
        self.send(self.client.get(format!("{}{path}", self.url))).await
    }

    /// Sends a request made with [`Self::in_organization`] and returns the answer's body.
    pub(super) async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Failure> {
        Ok(self.receive(request).await?.0)
    }

    /// Reads `path` below the organization.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.send(self.in_organization(Method::GET, path).await?).await
    }

    /// Posts to `path` below the organization.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        self.send(self.in_organization(Method::POST, path).await?.json(body)).await
    }

    /// Posts to `path` below the organization, for a call that may take minutes.
    pub(super) async fn post_at_leisure<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let request = self.in_organization(Method::POST, path).await?.json(body);
        self.send(request.timeout(Duration::from_mins(15))).await
    }

    /// Posts to `path` below the organization, for a call that a second owner may have to approve.
    pub(super) async fn post_or_request<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Done<T>, Failure> {
        self.done_or_requested(self.in_organization(Method::POST, path).await?.json(body)).await
    }

    /// Posts nothing to `path` below the organization, for a call that a second owner may have to approve.
    pub(super) async fn order_or_request<T: DeserializeOwned>(&self, path: &str) -> Result<Done<T>, Failure> {
        self.done_or_requested(self.in_organization(Method::POST, path).await?).await
    }

    async fn done_or_requested<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<Done<T>, Failure> {
        let answer = self.answered(request).await?;
        if answer.status == StatusCode::ACCEPTED {
            return Ok(Done::Requested(Box::new(read(CONTROL_PLANE, &answer.body)?)));
        }
        Ok(Done::Now(read(CONTROL_PLANE, &answer.body)?))
    }

    /// Puts `body` at `path` below the organization.
    pub(super) async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        self.send(self.in_organization(Method::PUT, path).await?.json(body)).await
    }

    /// Reads every item of a list below the organization, page by page. `items` takes them and the next cursor out of a
    /// page.
    pub(super) async fn all<T: DeserializeOwned, I>(
        &self,
        path: &str,
        items: impl Fn(T) -> (Vec<I>, Option<String>),
    ) -> Result<Vec<I>, Failure> {
        let (mut found, mut cursor) = (Vec::new(), None);
        loop {
            let page = self.list(path, &[("limit", Some("1000".to_owned())), ("cursor", cursor)]).await?;
            let (more, next) = items(page);
            found.extend(more);
            cursor = next;
            if cursor.is_none() {
                return Ok(found);
            }
        }
    }

    /// Posts nothing to `path` below the organization, for a call without a body.
    pub(super) async fn order<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.send(self.in_organization(Method::POST, path).await?).await
    }

    /// Deletes `path` below the organization.
    pub(super) async fn delete(&self, path: &str) -> Result<(), Failure> {
        self.answered(self.in_organization(Method::DELETE, path).await?).await.map(drop)
    }

    /// Reads a list below the organization. Absent members of `query` are left out.
    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, Option<String>)],
    ) -> Result<T, Failure> {
        let asked: Vec<_> =
            query.iter().filter_map(|(name, value)| value.as_ref().map(|value| (name, value))).collect();
        self.send(self.in_organization(Method::GET, path).await?.query(&asked)).await
    }

    /// Sends a request and returns the answer's body and entity tag (RFC 9110 section 8.8.3). A change sent with that
    /// tag in `If-Match` is rejected if another change came first.
    pub(super) async fn receive<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<(T, Option<HeaderValue>), Failure> {
        let answer = self.answered(request).await?;
        // A call without an answer's body is read as null.
        let body = if answer.body.is_empty() { &b"null"[..] } else { &answer.body };
        Ok((read(CONTROL_PLANE, body)?, answer.tag))
    }

    /// Sends a request and returns the answer, if it is no refusal.
    async fn answered(&self, request: RequestBuilder) -> Result<Answered, Failure> {
        let unreachable = |error: reqwest::Error| Failure::Unreachable {
            what: format!("the control plane at {}", self.url),
            why: cause(&error),
        };
        let answer = request.send().await.map_err(unreachable)?;
        let (status, tag) = (answer.status(), answer.headers().get(ETAG).cloned());
        let body = Zeroizing::new(Vec::from(answer.bytes().await.map_err(unreachable)?));
        if !status.is_success() {
            return Err(refused(CONTROL_PLANE, status.as_u16(), &body));
        }
        Ok(Answered { status, tag, body })
    }

    /// Starts a request below the organization: the one that was named, or else the only one that the caller belongs
    /// to.
    pub(super) async fn in_organization(
        &self,
        method: Method,
        path: &str,
    ) -> Result<RequestBuilder, Failure> {
        check_path(path)?;
        let organization = if let Some(id) = &self.organization {
            id.to_string()
        } else {
            let all: OrganizationPage = self.get_at("/v1/organizations").await?;
            match all.organizations.as_slice() {
                [only] => only.id.to_string(),
                _ => return Err(Failure::Usage("name the organization with --organization".into())),
            }
        };
        Ok(self.client.request(method, format!("{}/v1/organizations/{organization}{path}", self.url)))
    }
}
