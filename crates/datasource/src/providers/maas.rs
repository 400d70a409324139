//! MAAS (maas.io): the kernel command line names a preseed, which names the metadata service and the keys for it.

use super::{Datasource, Machine};
use crate::http::{DATA, Question, Service, shown};
use crate::{Error, Found};
use kairn_config::yaml;
use std::time::{SystemTime, UNIX_EPOCH};

/// The version of its interface.
const VERSION: &str = "2012-03-01";

pub(super) struct Maas;

impl Datasource for Maas {
    fn read(&self, machine: &Machine<'_>) -> Result<Found, Error> {
        let preseed = machine
            .hints
            .preseed
            .as_ref()
            .ok_or_else(|| machine.not_here("the kernel command line has no `cloud-config-url=`"))?;
        let url = preseed.reveal().as_str();
        let answer = machine.client.ask(&Question { limit: DATA, ..Question::get(url, &[]) })?;
        if answer.status != 200 {
            return Err(Error::Status { url: shown(url), status: answer.status });
        }
        let keys = Keys::read(&answer.body)
            .ok_or_else(|| Error::Malformed { origin: shown(url), wanted: "a preseed with `datasource.MAAS`" })?;
        let base = machine.options.bases.get(&machine.provider).unwrap_or(&keys.url).clone();
        let mut found = machine.found();
        let read = |path: &str| {
            // Signatures are good for one question.
            let headers = vec![("Authorization", keys.authorization())];
            let base = base.clone();
            Service { client: machine.client, provider: machine.provider, base, headers }
                .data(&format!("{VERSION}/{path}"))
        };
        let text = |path: &str| {
            let bytes = read(path)?.unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes).trim().to_owned();
            Ok::<_, Error>(Some(text).filter(|text| !text.is_empty()))
        };
        let missing = |what| Error::Missing { provider: machine.provider, what };
        found.instance_id = Some(text("meta-data/instance-id")?.ok_or(missing("instance-id"))?);
        found.hostname = Some(text("meta-data/local-hostname")?.ok_or(missing("local-hostname"))?);
        found.keys(&text("meta-data/public-keys")?.unwrap_or_default());
        found.vendor(read("meta-data/vendor-data")?);
        found.user(read("user-data")?);
        Ok(found)
    }
}

/// What signs a question.
struct Keys {
    url: String,
    consumer: String,
    consumer_secret: String,
    token: String,
    token_secret: String,
}

impl Keys {
    fn read(preseed: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(preseed).ok()?;
        let root = yaml::read("preseed", text).root?;
        let maas = root.get("datasource")?.get("MAAS")?;
        let field = |key: &str| maas.get(key).and_then(|node| node.scalar()).map(|scalar| scalar.text.clone());
        Some(Self {
            url: field("metadata_url")?,
            consumer: field("consumer_key")?,
            // MAAS gives consumers no secret.
            consumer_secret: field("consumer_secret").unwrap_or_default(),
            token: field("token_key")?,
            token_secret: field("token_secret").unwrap_or_default(),
        })
    }

    /// OAuth 1.0 with the method PLAINTEXT (RFC 5849, 3.4.4).
    fn authorization(&self) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let [key, token] = [&self.consumer, &self.token].map(|text| escaped(text));
        // The signature is two escaped secrets and an ampersand, escaped once more as a parameter.
        let signature = escaped(&format!("{}&{}", escaped(&self.consumer_secret), escaped(&self.token_secret)));
        format!(
            "OAuth oauth_consumer_key=\"{key}\", oauth_token=\"{token}\", oauth_signature_method=\"PLAINTEXT\", \
             oauth_signature=\"{signature}\", oauth_nonce=\"{}\", oauth_timestamp=\"{}\", oauth_version=\"1.0\"",
            now.as_nanos(),
            now.as_secs(),
        )
    }
}

/// RFC 5849, 3.6.
fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_signed_with_both_secrets() {
        let preseed = b"#cloud-config\ndatasource:\n  MAAS: {consumer_key: c/k, metadata_url: 'http://m/', token_key: t, token_secret: 's 1'}\n";
        let keys = Keys::read(preseed).unwrap();
        let header = keys.authorization();
        assert!(header.starts_with("OAuth oauth_consumer_key=\"c%2Fk\", oauth_token=\"t\""), "{header}");
        assert!(header.contains("oauth_signature=\"%26s%25201\""), "{header}");
        assert!(Keys::read(b"a: 1").is_none());
    }
}
