//! TLS 1.3 whose certificates are the nodes' own public keys (RFC 7250): whoever completes a handshake holds the private half of
//! the name that it goes by. Whether it belongs to the network is proven after (`session`).

use crate::error::Error;
use kairn_mesh_protocol::{Identity, NodeId};
use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error as TlsError, ServerConfig, SignatureScheme,
    version::TLS13,
};
use std::sync::Arc;
use std::time::Duration;

/// What both sides must speak.
const PROTOCOL: &[u8] = b"kairn-mesh/1";
/// What both sides of a pairing speak.
const PAIRING: &[u8] = b"kairn-pairing/1";
/// In a pairing something is sent this often, so that a person may take their time.
const PAIRING_KEEPALIVE: Duration = Duration::from_secs(5);
/// A pairing whose other side is silent for so long is over.
const PAIRING_IDLE: Duration = Duration::from_secs(20);
/// What both sides of a session for services speak.
const SERVICE: &[u8] = b"kairn-service/1";
/// What both sides of a session for a shell speak.
const SHELL: &[u8] = b"kairn-shell/1";
/// How often something is sent in a session for a shell, and how long nothing may come: whoever is gone is to be noticed.
const SHELL_ALIVE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(20));
/// How often something is sent in a session for services: a connection may be silent for long (RFC 9000, 10.1.2).
const KEEPALIVE: Duration = Duration::from_secs(20);
/// A session without traffic ends after this long.
const IDLE: Duration = Duration::from_secs(60);
/// What the size of datagrams is searched to, and how close: in one step, from the 1,200 bytes that pass anywhere (RFC 9000, 14) to
/// those of Ethernet. Most sessions are one question, and a finer search would send more than it.
const SIZES: (u16, u16) = (1_452, 1_452 - 1_200);
/// The most bytes of a session that wait to be read: one message of the largest size.
const RECEIVED: u32 = 1024 * 1024;
/// DER of a `PrivateKeyInfo` of an Ed25519 seed, up to the seed (RFC 8410, 7).
const PRIVATE: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
/// DER of a `SubjectPublicKeyInfo` of an Ed25519 key, up to the key (RFC 8410, 4).
const PUBLIC: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];

/// How a node answers and calls.
pub struct Configs {
    /// For those who call.
    pub server: quinn::ServerConfig,
    /// For calling.
    pub client: quinn::ClientConfig,
    /// For calling to connect to services.
    pub service: quinn::ClientConfig,
    /// For calling for a shell.
    pub shell: quinn::ClientConfig,
}

/// The configurations for one identity.
///
/// # Errors
/// The library refuses the key, which it never should.
pub fn configs(identity: &Identity) -> Result<Configs, Error> {
    let (mut server, mut client) = sides(identity).map_err(|error| Error::Tls(error.to_string()))?;
    server.alpn_protocols = vec![PROTOCOL.to_vec(), SERVICE.to_vec(), SHELL.to_vec()];
    let (mut service, mut shell) = (client.clone(), client.clone());
    client.alpn_protocols = vec![PROTOCOL.to_vec()];
    service.alpn_protocols = vec![SERVICE.to_vec()];
    shell.alpn_protocols = vec![SHELL.to_vec()];
    let (mut server, mut client) = (quic_server(server)?, quic_client(client)?);
    let (mut service, mut shell) = (quic_client(service)?, quic_client(shell)?);
    let mut watchful = transport(SHELL_ALIVE.1)?;
    watchful.keep_alive_interval(Some(SHELL_ALIVE.0));
    shell.transport_config(Arc::new(watchful));
    let mut silent = transport(IDLE)?;
    silent.keep_alive_interval(Some(KEEPALIVE));
    service.transport_config(Arc::new(silent));
    let transport = Arc::new(transport(IDLE)?);
    server.transport_config(Arc::clone(&transport));
    client.transport_config(transport);
    Ok(Configs { server, client, service, shell })
}

/// How a machine that waits to be paired answers with this key, and how a sender with it calls one.
///
/// # Errors
/// The library refuses the key, which it never should.
pub fn pairing(identity: &Identity) -> Result<(quinn::ServerConfig, quinn::ClientConfig), Error> {
    let (mut server, mut client) = sides(identity).map_err(|error| Error::Tls(error.to_string()))?;
    server.alpn_protocols = vec![PAIRING.to_vec()];
    client.alpn_protocols = vec![PAIRING.to_vec()];
    let (mut server, mut client) = (quic_server(server)?, quic_client(client)?);
    let mut transport = transport(PAIRING_IDLE)?;
    transport.max_concurrent_bidi_streams(1_u8.into());
    transport.keep_alive_interval(Some(PAIRING_KEEPALIVE));
    let transport = Arc::new(transport);
    server.transport_config(Arc::clone(&transport));
    client.transport_config(transport);
    Ok((server, client))
}

/// TLS with a key, for both sides of a connection.
fn sides(identity: &Identity) -> Result<(ServerConfig, rustls::ClientConfig), TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from([PRIVATE.as_slice(), &identity.seed()].concat()));
    let key = provider.key_provider.load_private_key(private)?;
    let certificate = CertificateDer::from(spki(&identity.id()));
    let certified = Arc::new(CertifiedKey::new(vec![certificate], key));
    let verifier = Arc::new(Verifier { algorithms: provider.signature_verification_algorithms });

    let server = server(&provider, Arc::clone(&verifier), Arc::clone(&certified))?;
    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(certified)));
    // The proof is bound to a full handshake.
    client.resumption = Resumption::disabled();
    Ok((server, client))
}

fn quic_server(config: ServerConfig) -> Result<quinn::ServerConfig, Error> {
    let quic = QuicServerConfig::try_from(config).map_err(|_| Error::Tls("no cipher suite for QUIC".to_owned()))?;
    Ok(quinn::ServerConfig::with_crypto(Arc::new(quic)))
}

fn quic_client(config: rustls::ClientConfig) -> Result<quinn::ClientConfig, Error> {
    let quic = QuicClientConfig::try_from(config).map_err(|_| Error::Tls("no cipher suite for QUIC".to_owned()))?;
    Ok(quinn::ClientConfig::new(Arc::new(quic)))
}

fn server(
    provider: &Arc<CryptoProvider>,
    verifier: Arc<Verifier>,
    certified: Arc<CertifiedKey>,
) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(certified)));
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn transport(idle: Duration) -> Result<quinn::TransportConfig, Error> {
    let mut transport = quinn::TransportConfig::default();
    let idle = quinn::IdleTimeout::try_from(idle).map_err(|error| Error::Tls(error.to_string()))?;
    transport.max_idle_timeout(Some(idle));
    transport.max_concurrent_bidi_streams(4_u8.into());
    // Of all streams together, before anything is proven too.
    transport.receive_window(RECEIVED.into());
    transport.stream_receive_window(RECEIVED.into());
    transport.max_concurrent_uni_streams(0_u8.into());
    transport.datagram_receive_buffer_size(None);
    let mut sizes = quinn::MtuDiscoveryConfig::default();
    sizes.upper_bound(SIZES.0).minimum_change(SIZES.1);
    transport.mtu_discovery_config(Some(sizes));
    Ok(transport)
}

fn spki(id: &NodeId) -> Vec<u8> {
    [PUBLIC.as_slice(), id.as_bytes()].concat()
}

/// Whether a connection is one for services.
pub fn is_for_services(connection: &quinn::Connection) -> bool {
    speaks(connection, SERVICE)
}

/// Whether a connection is one for a shell.
pub fn is_for_shell(connection: &quinn::Connection) -> bool {
    speaks(connection, SHELL)
}

fn speaks(connection: &quinn::Connection, protocol: &[u8]) -> bool {
    let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    data.is_some_and(|data| data.protocol.as_deref() == Some(protocol))
}

/// The node whose key the other side of a connection has proven to hold.
pub fn peer(connection: &quinn::Connection) -> Option<NodeId> {
    let identity = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    identity.first().and_then(key)
}

fn key(certificate: &CertificateDer<'_>) -> Option<NodeId> {
    certificate.as_ref().strip_prefix(PUBLIC.as_slice()).and_then(|key| key.try_into().ok()).map(NodeId::new)
}

/// Lets every Ed25519 key in that signs the handshake.
#[derive(Debug)]
struct Verifier {
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn check(certificate: &CertificateDer<'_>) -> Result<(), TlsError> {
        key(certificate).map(|_| ()).ok_or(TlsError::InvalidCertificate(CertificateError::BadEncoding))
    }

    fn check_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let key = SubjectPublicKeyInfoDer::from(certificate.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signed, &self.algorithms)
    }

    fn only_tls13() -> TlsError {
        TlsError::PeerIncompatible(rustls::PeerIncompatible::Tls12NotOffered)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Self::check(end_entity).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(Self::only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        Self::check(end_entity).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(Self::only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket;
    use quinn::{Endpoint, EndpointConfig, TokioRuntime};
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
    use std::time::Instant;

    #[tokio::test]
    async fn the_size_of_datagrams_takes_one_attempt_to_find() {
        let [here, there] = [1, 2].map(|seed| configs(&Identity::from_seed(&[seed; 32])).unwrap());
        let endpoint = |server| {
            let (udp, _) = socket::bind_near(0).unwrap();
            Endpoint::new(EndpointConfig::default(), server, udp, Arc::new(TokioRuntime)).unwrap()
        };
        let (caller, called) = (endpoint(None), endpoint(Some(there.server)));
        let bound = called.local_addr().unwrap();
        let near = if bound.is_ipv6() { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
        let address = SocketAddr::new(near, bound.port());
        let call = caller.connect_with(here.client, address, "there").unwrap();
        let (one, other) = tokio::join!(call, async { called.accept().await.unwrap().await });
        for connection in [one.unwrap(), other.unwrap()] {
            let began = Instant::now();
            while connection.stats().path.current_mtu < SIZES.0 {
                assert!(began.elapsed() < Duration::from_secs(10), "{:?}", connection.stats().path);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            // One that is taken to be lost on a busy machine is sent again, twice at most.
            assert!(connection.stats().path.sent_plpmtud_probes <= 3, "{:?}", connection.stats().path);
        }
    }
}
