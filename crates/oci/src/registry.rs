//! Registries: resolve a reference, pull into a layout with digest check and resume, push from a layout.
//!
//! The client runs on a runtime of its own, so that callers stay synchronous. Names are resolved from `/etc/hosts` and
//! `/etc/resolv.conf` by a resolver in the program, never through libc.

use crate::http::{Failure, Http, bounded};
use crate::layout::{MAX_JSON, choose, digest_of_descriptor, image, is_index, parse};
use crate::{Error, Image, Layout};
use docker_credential::{CredentialRetrievalError, DockerCredential};
use futures_util::Stream;
use kairn_lifecycle::{Architecture, Digest};
use kairn_report::{Event, Sink};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use oci_spec::image::{ImageIndex, ImageManifest, MediaType};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Media types of manifests and indexes that a pull accepts.
const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";
/// Tries of one blob without a byte of progress before a pull gives up.
const TRIES: u32 = 5;
/// Bytes between two progress events.
const PROGRESS_STEP: u64 = 4 << 20;

/// How registries are talked to.
#[derive(Clone, Debug)]
pub struct Options {
    /// `HOST[:PORT]` of registries that speak plain HTTP.
    pub insecure: Vec<String>,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long a connection may be silent.
    pub read_timeout: Duration,
    /// How long finding an image may take altogether: manifests and configuration, some mebibytes at most.
    pub resolve_timeout: Duration,
    /// Pause before the second try; doubles with each.
    pub pause: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            insecure: Vec::new(),
            connect_timeout: Duration::from_secs(20),
            read_timeout: Duration::from_secs(60),
            resolve_timeout: Duration::from_secs(300),
            pause: Duration::from_secs(1),
        }
    }
}

/// A client of registries.
pub struct Registry {
    /// Pushes.
    client: Client,
    /// Pulls: the pushing client would take whole answers into memory, however long.
    http: Http,
    runtime: tokio::runtime::Runtime,
    resolve_timeout: Duration,
    pause: Duration,
}

/// An image found in a registry; nothing of it but manifest and configuration was fetched.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The image.
    pub image: Image,
    reference: Reference,
    manifest: Vec<u8>,
    config: Vec<u8>,
}

impl Resolved {
    /// The configuration as the registry gave it.
    pub(crate) fn config(&self) -> &[u8] {
        &self.config
    }
}

impl Registry {
    /// Makes a client.
    ///
    /// # Errors
    /// The system gives no event loop.
    pub fn new(options: &Options) -> Result<Self, Error> {
        // A second client in one process finds the provider installed; that is the wanted state.
        if rustls::crypto::CryptoProvider::get_default().is_none()
            && rustls::crypto::ring::default_provider().install_default().is_err()
        {
            tracing::debug!("another thread installed the TLS provider first");
        }
        let client = Client::new(ClientConfig {
            protocol: ClientProtocol::HttpsExcept(options.insecure.clone()),
            connect_timeout: Some(options.connect_timeout),
            read_timeout: Some(options.read_timeout),
            use_monolithic_push: true,
            user_agent: concat!("kairn/", env!("CARGO_PKG_VERSION")),
            https_proxy: proxy("HTTPS_PROXY", "https_proxy"),
            http_proxy: proxy("HTTP_PROXY", "http_proxy"),
            no_proxy: proxy("NO_PROXY", "no_proxy"),
            ..ClientConfig::default()
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::path("start", "the event loop"))?;
        let http = reqwest::Client::builder()
            .connect_timeout(options.connect_timeout)
            .read_timeout(options.read_timeout)
            .user_agent(concat!("kairn/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Error::path("start", "the client of registries")(io::Error::other(error)))?;
        let http = Http::new(http, options.insecure.clone());
        Ok(Self { client, http, runtime, resolve_timeout: options.resolve_timeout, pause: options.pause })
    }

    /// Finds the image for an architecture: manifest and configuration, checked against their digests.
    ///
    /// # Errors
    /// Unreachable, refused, absent, malformed, or not for this architecture.
    pub fn resolve(&self, reference: &str, wanted: Architecture) -> Result<Resolved, Error> {
        let parsed = parse_reference(reference)?;
        let registry = parsed.resolve_registry().to_owned();
        let resolved = async { tokio::time::timeout(self.resolve_timeout, self.resolve_async(parsed, wanted)).await };
        self.runtime.block_on(resolved).unwrap_or_else(|_| {
            let why = format!("it did not describe the image within {} s", self.resolve_timeout.as_secs_f32());
            Err(Error::Unreachable { registry, source: why.into() })
        })
    }

    async fn resolve_async(&self, reference: Reference, wanted: Architecture) -> Result<Resolved, Error> {
        let mut at = reference.clone();
        for _ in 0..4 {
            let (bytes, digest) = self.manifest(&at).await?;
            let media: Media = parse(&at.whole(), &bytes)?;
            if is_index(&media.media_type.unwrap_or(MediaType::ImageManifest)) || media.manifests.is_some() {
                let index: ImageIndex = parse(&at.whole(), &bytes)?;
                let chosen = digest_of_descriptor(choose(&index, wanted, &reference.whole())?)?;
                at = reference.clone_with_digest(format!("sha256:{chosen}"));
                continue;
            }
            let manifest: ImageManifest = parse(&at.whole(), &bytes)?;
            let pinned = reference.clone_with_digest(format!("sha256:{digest}"));
            let config = self.small_blob(&pinned, manifest.config()).await?;
            let image = image(digest, &manifest, &parse(&pinned.whole(), &config)?)?;
            let image = image.must_be_for(wanted, &reference.whole())?;
            return Ok(Resolved { image, reference: pinned, manifest: bytes, config });
        }
        Err(Error::malformed(reference.whole(), "indexes nest deeper than four levels"))
    }

    async fn manifest(&self, reference: &Reference) -> Result<(Vec<u8>, Digest), Error> {
        let name = reference.digest().or(reference.tag()).unwrap_or("latest");
        let bytes = self.small(reference, &format!("manifests/{name}"), MAX_JSON).await?;
        let found = Digest::of(&bytes);
        match reference.digest().map(str::parse::<Digest>) {
            Some(Ok(expected)) if expected != found => Err(Error::Digest { expected, found }),
            Some(Err(error)) => Err(Error::Reference { reference: reference.whole(), reason: error.to_string() }),
            _ => Ok((bytes, found)),
        }
    }

    async fn small_blob(
        &self,
        reference: &Reference,
        descriptor: &oci_spec::image::Descriptor,
    ) -> Result<Vec<u8>, Error> {
        let digest = digest_of_descriptor(descriptor)?;
        let object = format!("blobs/sha256:{digest}");
        if descriptor.size() > MAX_JSON {
            let what = format!("the configuration {digest} of {}", reference.whole());
            return Err(Error::TooLarge { what, limit: MAX_JSON });
        }
        let bytes = self.small(reference, &object, descriptor.size()).await.map_err(|error| match error {
            Error::TooLarge { .. } => too_long(&digest, descriptor.size()),
            error => error,
        })?;
        let found = Digest::of(&bytes);
        if found == digest { Ok(bytes) } else { Err(Error::Digest { expected: digest, found }) }
    }

    /// Fetches an object of at most so many bytes into memory.
    async fn small(&self, reference: &Reference, object: &str, limit: u64) -> Result<Vec<u8>, Error> {
        let auth = credentials(reference)?;
        let answer = self.http.get(reference, &auth, object, ACCEPTED, 0).await;
        let answer = answer.map_err(|failure| told(reference, failure))?;
        bounded(answer, limit).await.map_err(|failure| told(reference, failure))
    }

    /// Opens a blob from an offset.
    async fn blob(&self, reference: &Reference, digest: &Digest, offset: u64) -> Result<reqwest::Response, Failure> {
        let auth = credentials(reference).map_err(Failure::Final)?;
        self.http.get(reference, &auth, &format!("blobs/sha256:{digest}"), "*/*", offset).await
    }

    /// Opens a blob and hands out a function that gives its bytes chunk by chunk, `None` at the end.
    pub(crate) fn chunks(
        &self,
        resolved: &Resolved,
        digest: &Digest,
    ) -> Result<impl FnMut() -> io::Result<Option<bytes::Bytes>>, Error> {
        let opened = self.runtime.block_on(self.blob(&resolved.reference, digest, 0));
        let mut answer = opened.map_err(|failure| told(&resolved.reference, failure))?;
        Ok(move || self.runtime.block_on(answer.chunk()).map_err(io::Error::other))
    }

    /// Pulls an image into a layout. Blobs that are there are kept, partial ones go on where they stopped.
    ///
    /// # Errors
    /// No progress in five tries, a corrupt blob, or the file system refuses. What was fetched stays for the next attempt.
    pub fn pull(&self, resolved: &Resolved, layout: &Layout, sink: &mut dyn Sink) -> Result<(), Error> {
        let layers = &resolved.image.layers;
        for (number, layer) in layers.iter().enumerate() {
            let step = format!("pull-layer-{}", number + 1);
            let size = crate::unpack::Size(layer.size);
            sink.event(Event::start(&step, format!("pulling layer {} of {} ({size})", number + 1, layers.len())));
            if layout.has(&layer.digest, layer.size) {
                sink.event(Event::skipped(&step, "already here"));
                continue;
            }
            let blob = (layer.digest, layer.size);
            if let Err(error) = self.runtime.block_on(self.pull_blob(&resolved.reference, blob, layout, &step, sink)) {
                sink.event(Event::failed(&step, error.to_string()));
                return Err(error);
            }
            sink.event(Event::done(&step));
        }
        layout.put(&resolved.config)?;
        let digest = layout.put(&resolved.manifest)?;
        let media: Media = parse("manifest", &resolved.manifest)?;
        let media_type = media.media_type.unwrap_or(MediaType::ImageManifest);
        layout.set_image(&digest, resolved.manifest.len() as u64, media_type, resolved.reference.tag())
    }

    async fn pull_blob(
        &self,
        reference: &Reference,
        (digest, size): (Digest, u64),
        layout: &Layout,
        step: &str,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        let path = layout.partial(&digest);
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(Error::path("open", &path))?;
        let (mut tries, mut pause) = (0, self.pause);
        // The most that was ever there: a registry without ranges begins anew each time, and getting as far as before is no progress.
        let mut most = file.seek(SeekFrom::End(0)).map_err(Error::path("read", &path))?;
        loop {
            let source = match self.fetch(reference, (digest, size), (&mut file, &path), step, sink).await {
                Ok(()) => break,
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::Passing(source)) => source,
            };
            let at = file.seek(SeekFrom::End(0)).map_err(Error::path("read", &path))?;
            if at > most {
                (most, tries, pause) = (at, 0, self.pause);
            }
            tries += 1;
            if tries == TRIES {
                return Err(Error::GaveUp { digest, tries, at, size, source });
            }
            sink.event(Event::warning(format!("{source}; going on at byte {at} in {} s", pause.as_secs_f32())));
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2);
        }
        layout.admit(&digest, size)
    }

    /// Fetches what is missing of a blob, to the end of the file.
    async fn fetch(
        &self,
        reference: &Reference,
        (digest, size): (Digest, u64),
        (file, path): (&mut File, &Path),
        step: &str,
        sink: &mut dyn Sink,
    ) -> Result<(), Trouble> {
        let mut at = file.seek(SeekFrom::End(0)).map_err(|error| Trouble::Final(Error::path("read", path)(error)))?;
        if at == size {
            return Ok(());
        }
        if at > size {
            // Of a manifest that said another size.
            at = empty(file, path)?;
        }
        let opened = self.blob(reference, &digest, at).await;
        let mut answer = opened.map_err(|failure| trouble(reference, failure))?;
        if at > 0 && answer.status() != reqwest::StatusCode::PARTIAL_CONTENT {
            // The registry knows no ranges: from the start.
            at = empty(file, path)?;
        }
        let mut reported = at;
        while let Some(chunk) = answer.chunk().await.map_err(|error| Trouble::Passing(Box::new(error)))? {
            at += chunk.len() as u64;
            if at > size {
                return Err(Trouble::Final(too_long(&digest, size)));
            }
            file.write_all(&chunk).map_err(|error| Trouble::Final(Error::path("write", path)(error)))?;
            if at - reported >= PROGRESS_STEP {
                reported = at;
                sink.event(Event::Progress { step: step.to_owned(), done: at, total: size });
            }
        }
        if at < size {
            let what = format!("the registry stopped after {at}");
            return Err(Trouble::Passing(Box::new(Error::Length { digest, expected: size, what })));
        }
        Ok(())
    }

    /// Pushes a layout's image and returns the digest under which it can be pulled.
    ///
    /// # Errors
    /// Unreachable or refused.
    pub fn push(&self, layout: &Layout, image: &Image, reference: &str, sink: &mut dyn Sink) -> Result<Digest, Error> {
        self.runtime.block_on(self.push_async(layout, image, &parse_reference(reference)?, sink))
    }

    async fn push_async(
        &self,
        layout: &Layout,
        image: &Image,
        reference: &Reference,
        sink: &mut dyn Sink,
    ) -> Result<Digest, Error> {
        let auth = credentials(reference)?;
        let failed = |error| said(reference, error);
        self.client.auth(reference, &auth, oci_client::RegistryOperation::Push).await.map_err(failed)?;
        let blobs = image.layers.iter().map(|layer| (layer.digest, layer.size)).chain([image.config]);
        for (number, (digest, size)) in blobs.enumerate() {
            let step = format!("push-blob-{}", number + 1);
            sink.event(Event::start(&step, format!("pushing {digest} ({})", crate::unpack::Size(size))));
            let name = format!("sha256:{digest}");
            if self.client.blob_exists(reference, &name).await.map_err(failed)? {
                sink.event(Event::skipped(&step, "the registry has it"));
                continue;
            }
            let path = layout.blob(&digest);
            let stream = chunks(File::open(&path).map_err(Error::path("open", &path))?);
            self.client.push_blob_stream(reference, stream, &name, Some(size)).await.map_err(failed)?;
            sink.event(Event::done(&step));
        }
        let path = layout.blob(&image.digest);
        let manifest = std::fs::read(&path).map_err(Error::path("read", &path))?;
        let media: Media = parse("manifest", &manifest)?;
        let media_type = media.media_type.unwrap_or(MediaType::ImageManifest).to_string();
        let header = media_type.parse().map_err(|error| Error::malformed(media_type, error))?;
        self.client.push_manifest_raw(reference, manifest, header).await.map_err(failed)?;
        Ok(image.digest)
    }
}

/// What tells a manifest from an index.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Media {
    media_type: Option<MediaType>,
    manifests: Option<serde_json::Value>,
}

/// Begins a download anew; returns its length so far.
fn empty(file: &mut File, path: &Path) -> Result<u64, Trouble> {
    let emptied = file.set_len(0).and_then(|()| file.rewind());
    emptied.map(|()| 0).map_err(|error| Trouble::Final(Error::path("empty", path)(error)))
}

/// Whether trying again may help.
enum Trouble {
    Passing(Box<dyn std::error::Error + Send + Sync>),
    Final(Error),
}

fn trouble(reference: &Reference, failure: Failure) -> Trouble {
    match failure {
        Failure::Transport(error) => Trouble::Passing(Box::new(error)),
        Failure::Answer(answer) if answer.status >= 500 || answer.status == 429 => Trouble::Passing(answer),
        failure => Trouble::Final(told(reference, failure)),
    }
}

/// Sorts what a pull came upon into our kinds.
fn told(reference: &Reference, failure: Failure) -> Error {
    let unreachable = |source| Error::Unreachable { registry: reference.resolve_registry().to_owned(), source };
    match failure {
        Failure::Transport(error) => unreachable(Box::new(error)),
        Failure::Answer(answer) if answer.is_absence() => Error::NotFound { reference: reference.whole() },
        Failure::Answer(answer) if answer.status >= 500 => unreachable(answer),
        Failure::Answer(answer) => Error::Refused { reference: reference.whole(), source: answer },
        Failure::Final(error) => error,
    }
}

/// Sorts what a push came upon into our kinds.
fn said(reference: &Reference, error: OciDistributionError) -> Error {
    match error {
        OciDistributionError::ImageManifestNotFoundError(_) => Error::NotFound { reference: reference.whole() },
        OciDistributionError::ServerError { code: 404, .. } => Error::NotFound { reference: reference.whole() },
        OciDistributionError::RegistryError { ref envelope, .. }
            if envelope.errors.iter().any(|error| {
                use oci_client::errors::OciErrorCode::{ManifestUnknown, NameUnknown, NotFound};
                matches!(error.code, ManifestUnknown | NameUnknown | NotFound)
            }) =>
        {
            Error::NotFound { reference: reference.whole() }
        }
        OciDistributionError::RequestError(_) | OciDistributionError::IoError(_) => {
            Error::Unreachable { registry: reference.resolve_registry().to_owned(), source: Box::new(error) }
        }
        OciDistributionError::ServerError { code, .. } if code >= 500 => {
            Error::Unreachable { registry: reference.resolve_registry().to_owned(), source: Box::new(error) }
        }
        _ => Error::Refused { reference: reference.whole(), source: Box::new(error) },
    }
}

fn parse_reference(text: &str) -> Result<Reference, Error> {
    let wrong =
        |error: oci_client::ParseError| Error::Reference { reference: text.to_owned(), reason: error.to_string() };
    text.parse().map_err(wrong)
}

fn too_long(digest: &Digest, size: u64) -> Error {
    Error::Length { digest: *digest, expected: size, what: "the registry sent more".to_owned() }
}

/// Finds credentials in docker's configuration; none there means anonymous.
fn credentials(reference: &Reference) -> Result<RegistryAuth, Error> {
    match docker_credential::get_credential(reference.resolve_registry()) {
        Ok(DockerCredential::UsernamePassword(name, password)) => Ok(RegistryAuth::Basic(name, password)),
        Ok(DockerCredential::IdentityToken(token)) => Ok(RegistryAuth::Bearer(token)),
        Err(CredentialRetrievalError::ConfigNotFound | CredentialRetrievalError::NoCredentialConfigured) => {
            Ok(RegistryAuth::Anonymous)
        }
        // The library says the same of a file that is absent and of one that is wrong.
        Err(CredentialRetrievalError::ConfigReadError) if !docker_configuration().is_some_and(|path| path.exists()) => {
            Ok(RegistryAuth::Anonymous)
        }
        Err(source) => Err(Error::Credentials { registry: reference.resolve_registry().to_owned(), source }),
    }
}

/// Where the library looks for credentials.
fn docker_configuration() -> Option<PathBuf> {
    let dir = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let dir = dir.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".docker")));
    dir.map(|dir| dir.join("config.json"))
}

fn proxy(upper: &str, lower: &str) -> Option<String> {
    std::env::var(upper).or_else(|_| std::env::var(lower)).ok().filter(|value| !value.is_empty())
}

/// Reads a file as a stream of chunks of one mebibyte.
fn chunks(file: File) -> impl Stream<Item = Result<bytes::Bytes, OciDistributionError>> + Send + 'static {
    futures_util::stream::unfold(file, |mut file| async move {
        let mut chunk = Vec::with_capacity(1 << 20);
        match io::Read::by_ref(&mut file).take(1 << 20).read_to_end(&mut chunk) {
            Ok(0) => None,
            Ok(_) => Some((Ok(chunk.into()), file)),
            Err(error) => Some((Err(error.into()), file)),
        }
    })
}
