//! What a pull asks of a registry (OCI distribution specification, "pull"; Docker's token authentication): logs in where that is
//! wanted and hands out the answer.
//!
//! Invariant: no answer is taken into memory beyond a limit, whoever sends it: descriptions, tokens and errors are read by [`bounded`],
//! anything longer is handed on in chunks.

use crate::Error;
use oci_client::Reference;
use oci_client::secrets::RegistryAuth;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, RANGE, WWW_AUTHENTICATE};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Largest answer to the question for a token, in bytes; real ones have some kilobytes.
const MAX_TOKEN: u64 = 64 << 10;
/// What is read of the text of an error, in bytes.
const MAX_REFUSAL: usize = 64 << 10;
/// What is shown of the text of an error, in characters.
const SHOWN: usize = 400;

/// Why a request was in vain.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The registry was not reached, or fell silent.
    Transport(reqwest::Error),
    /// It answered with an error.
    Answer(Box<Answer>),
    /// What needs no second try.
    Final(Error),
}

/// An error that a registry answered with.
#[derive(Debug, thiserror::Error)]
#[error("{url}: status {status}{text}")]
pub(crate) struct Answer {
    url: Url,
    pub(crate) status: u16,
    /// What it says to people, shortened.
    text: String,
    /// Codes of the distribution specification ("error codes").
    codes: Vec<String>,
}

impl Answer {
    /// Says whether the image is not there.
    pub(crate) fn is_absence(&self) -> bool {
        let absent = |code: &String| matches!(code.as_str(), "MANIFEST_UNKNOWN" | "NAME_UNKNOWN" | "NOT_FOUND");
        self.status == 404 || self.codes.iter().any(absent)
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        Self::Transport(error)
    }
}

/// A client that remembers how it is logged in where.
pub(crate) struct Http {
    client: Client,
    /// `HOST[:PORT]` of registries that speak plain HTTP.
    insecure: Vec<String>,
    /// `Authorization` by registry and repository: a token is good for one repository.
    logins: RefCell<BTreeMap<(String, String), HeaderValue>>,
}

impl Http {
    pub(crate) fn new(client: Client, insecure: Vec<String>) -> Self {
        Self { client, insecure, logins: RefCell::default() }
    }

    /// Asks for an object of the reference's repository, such as `blobs/sha256:…`, from an offset; logs in when the registry wants it,
    /// and anew when a token has expired.
    pub(crate) async fn get(
        &self,
        reference: &Reference,
        auth: &RegistryAuth,
        object: &str,
        accept: &str,
        offset: u64,
    ) -> Result<Response, Failure> {
        let registry = reference.resolve_registry();
        let url = format!("{}://{registry}/v2/{}/{object}", self.scheme(registry), reference.repository());
        let of_repository = (registry.to_owned(), reference.repository().to_owned());
        let ask = || {
            let mut request = self.client.get(&url).header(ACCEPT, accept);
            if offset > 0 {
                request = request.header(RANGE, format!("bytes={offset}-"));
            }
            match self.logins.borrow().get(&of_repository) {
                Some(login) => request.header(AUTHORIZATION, login.clone()),
                None => request,
            }
        };
        let answer = ask().send().await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return success(answer).await;
        }
        let Some(login) = self.log_in(reference, auth, answer.headers()).await? else { return success(answer).await };
        self.logins.borrow_mut().insert(of_repository.clone(), login);
        success(ask().send().await?).await
    }

    fn scheme(&self, registry: &str) -> &'static str {
        if self.insecure.iter().any(|insecure| insecure == registry) { "http" } else { "https" }
    }

    /// Makes the `Authorization` that a registry asks for; `None` when there is nothing to answer it with.
    async fn log_in(
        &self,
        reference: &Reference,
        auth: &RegistryAuth,
        headers: &HeaderMap,
    ) -> Result<Option<HeaderValue>, Failure> {
        if let RegistryAuth::Bearer(token) = auth {
            return secret(format!("Bearer {token}")).map(Some);
        }
        let asked: Vec<_> = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).collect();
        let challenges = asked.iter().filter_map(|value| http_auth::parse_challenges(value).ok()).flatten();
        for challenge in challenges {
            if challenge.scheme.eq_ignore_ascii_case("Bearer") {
                let parameters = challenge.params.iter();
                let parameters = parameters.map(|(name, value)| (name.to_ascii_lowercase(), value.to_unescaped()));
                return self.token(reference, auth, &parameters.collect()).await.map(Some);
            }
            if let (true, RegistryAuth::Basic(user, password)) = (challenge.scheme.eq_ignore_ascii_case("Basic"), auth)
            {
                // The one encoder of such a header that is here is the client's.
                let request = self.client.get("http://none.invalid").basic_auth(user, Some(password)).build()?;
                return Ok(request.headers().get(AUTHORIZATION).cloned());
            }
        }
        Ok(None)
    }

    async fn token(
        &self,
        reference: &Reference,
        auth: &RegistryAuth,
        challenge: &BTreeMap<String, String>,
    ) -> Result<HeaderValue, Failure> {
        let registry = reference.resolve_registry();
        let wrong =
            |reason: String| Failure::Final(Error::malformed(format!("{registry}: question for a token"), reason));
        let realm = challenge.get("realm").ok_or_else(|| wrong("it names no realm".to_owned()))?;
        let mut url: Url = realm.parse().map_err(|error| wrong(format!("`{realm}`: {error}")))?;
        if url.scheme() != "https" && self.scheme(registry) == "https" {
            return Err(wrong(format!("`{realm}` would take the credentials in the clear")));
        }
        let usual = format!("repository:{}:pull", reference.repository());
        let scope = challenge.get("scope").unwrap_or(&usual);
        url.query_pairs_mut().append_pair("scope", scope);
        if let Some(service) = challenge.get("service") {
            url.query_pairs_mut().append_pair("service", service);
        }
        let request = self.client.get(url);
        let request = match auth {
            RegistryAuth::Basic(user, password) => RequestBuilder::basic_auth(request, user, Some(password)),
            _ => request,
        };
        let bytes = bounded(success(request.send().await?).await?, MAX_TOKEN).await?;
        let token: Token = serde_json::from_slice(&bytes).map_err(|error| wrong(format!("the answer: {error}")))?;
        let token = token.token.or(token.access_token).ok_or_else(|| wrong("the answer has no token".to_owned()))?;
        secret(format!("Bearer {token}"))
    }
}

/// Answer to the question for a token; both names are in use.
#[derive(serde::Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// Makes a header's value that no log shows.
fn secret(text: String) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::try_from(text)
        .map_err(|_| Failure::Final(Error::malformed("token", "it has characters that no header carries")))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Lets an answer pass that is none of an error.
async fn success(mut answer: Response) -> Result<Response, Failure> {
    if matches!(answer.status(), StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
        return Ok(answer);
    }
    let mut text = Vec::new();
    // A text that breaks off says still more than that it did.
    while let Ok(Some(chunk)) = answer.chunk().await {
        text.extend_from_slice(chunk.get(..chunk.len().min(MAX_REFUSAL - text.len())).unwrap_or_default());
        if text.len() >= MAX_REFUSAL {
            break;
        }
    }
    let mut codes = Vec::new();
    let mut said = String::from_utf8_lossy(&text).into_owned();
    if let Ok(serde_json::Value::Object(object)) = serde_json::from_slice(&text) {
        let errors = object.get("errors").and_then(serde_json::Value::as_array).into_iter().flatten();
        let errors: Vec<_> = errors.collect();
        let texts = |key: &str| errors.iter().filter_map(|error| error.get(key)?.as_str()).map(str::to_owned).collect();
        codes = texts("code");
        let messages: Vec<String> = texts("message");
        said = if messages.is_empty() { codes.join(", ") } else { messages.join("; ") };
    }
    // It goes to a terminal.
    let shown: String = said.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN).collect();
    let text = if shown.is_empty() { shown } else { format!(": {shown}") };
    let (url, status) = (answer.url().clone(), answer.status().as_u16());
    Err(Failure::Answer(Box::new(Answer { url, status, text, codes })))
}

/// Reads an answer of at most so many bytes.
pub(crate) async fn bounded(mut answer: Response, limit: u64) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if (bytes.len() + chunk.len()) as u64 > limit {
            let what = answer.url().to_string();
            return Err(Failure::Final(Error::TooLarge { what, limit }));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
