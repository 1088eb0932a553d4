//! TLS over the inbox: rustls between the bytes of a read and the answer, so that the kernel's stamp of the TCP data
//! stays the arrival of what it decrypts to.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::inbox::socket::send;
use crate::api::answer::{Answer, Step};
use crate::plan::TlsPlan;
use crate::protocol::tunnel::TunnelAnswer;
use crate::time::Tick;

/// One connection's TLS session.
pub struct Tls {
    session: ClientConnection,
    plain: Vec<u8>,
    /// The proxy has not yet answered CONNECT: what comes is its answer.
    tunnel: Option<TunnelAnswer>,
    /// When it did.
    tunnel_open: Option<Tick>,
}

/// The client configuration of a plan: the system's roots, those of `--cacert`, or no verification at all. Sessions are
/// resumed, as every client library does by default.
pub fn config(plan: &TlsPlan) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    if plan.insecure {
        let verifier = Arc::new(AcceptAny(provider));
        return Ok(Arc::new(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()));
    }
    let roots = match &plan.ca_file {
        Some(path) => roots_from_file(path)?,
        None => system_roots()?,
    };
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

fn roots_from_file(path: &Path) -> Result<RootCertStore, String> {
    let unreadable = |error: rustls::pki_types::pem::Error| format!("--cacert {}: {error}", path.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
        let certificate = certificate.map_err(unreadable)?;
        roots.add(certificate).map_err(|error| format!("--cacert {}: {error}", path.display()))?;
    }
    if roots.is_empty() {
        return Err(format!("--cacert {}: no certificate in this file (PEM is expected)", path.display()));
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("this system has no root certificates: install ca-certificates, or give --cacert FILE".to_string());
    }
    Ok(roots)
}

/// `--insecure`: every certificate is accepted; signatures are still checked, since the handshake needs them anyway.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Decrypted bytes handed on at a time: one TLS record.
const PLAIN_LEN: usize = 16 * 1024;

impl Tls {
    /// A session that has not yet said hello. `host` is the name to verify and for SNI.
    pub fn new(config: Arc<ClientConfig>, host: &str) -> Result<Tls, String> {
        let name = ServerName::try_from(host.to_string())
            .map_err(|_| format!("'{host}' is no name that a certificate can be checked against"))?;
        let session = ClientConnection::new(config, name).map_err(|error| error.to_string())?;
        Ok(Tls { session, plain: Vec::new(), tunnel: None, tunnel_open: None })
    }

    /// A session whose hello waits until a proxy has answered CONNECT.
    pub fn behind_proxy(self) -> Tls {
        Tls { tunnel: Some(TunnelAnswer::default()), ..self }
    }

    /// Whether the proxy has still to answer.
    pub fn awaits_tunnel(&self) -> bool {
        self.tunnel.is_some()
    }

    /// When the proxy opened the tunnel, where there is one.
    pub fn tunnel_open(&self) -> Option<Tick> {
        self.tunnel_open
    }

    pub fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    /// The encrypted form of `request`, with whatever else the session has to send before it.
    pub fn encrypt(&mut self, request: &[u8]) -> Result<Vec<u8>, String> {
        let mut wire = Vec::with_capacity(request.len() + 512);
        let mut rest = request;
        while !rest.is_empty() {
            let taken = self.session.writer().write(rest).map_err(|error| error.to_string())?;
            rest = &rest[taken..];
            self.pending_into(&mut wire)?;
        }
        self.pending_into(&mut wire)?;
        Ok(wire)
    }

    fn pending_into(&mut self, wire: &mut Vec<u8>) -> Result<(), String> {
        while self.session.wants_write() {
            self.session.write_tls(wire).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Takes one read's encrypted bytes and hands what they decrypt to on to the answer. Handshake and alert replies
    /// go out at once through `fd`, the hello too where a tunnel has just opened.
    pub fn receive(
        &mut self,
        mut bytes: &[u8],
        answer: &mut Answer,
        at: Tick,
        fd: Option<&OwnedFd>,
    ) -> Result<Step, String> {
        if let Some(tunnel) = &mut self.tunnel {
            if tunnel.push(bytes)? {
                self.tunnel = None;
                self.tunnel_open = Some(at);
                self.reply(fd);
            }
            return Ok(Step::More);
        }
        self.plain.resize(PLAIN_LEN, 0);
        while !bytes.is_empty() {
            self.session.read_tls(&mut bytes).map_err(|error| error.to_string())?;
            let state = self.session.process_new_packets();
            self.reply(fd);
            let state = state.map_err(|error| plain_words(&error))?;
            let step = self.hand_on(answer, at);
            if step != Step::More {
                return Ok(step);
            }
            if state.peer_has_closed() {
                return Ok(answer.push_eof(at));
            }
        }
        Ok(Step::More)
    }

    fn hand_on(&mut self, answer: &mut Answer, at: Tick) -> Step {
        let mut step = Step::More;
        while let Ok(length) = self.session.reader().read(&mut self.plain) {
            if length == 0 {
                break;
            }
            step = answer.push(&self.plain[..length], at);
        }
        step
    }

    /// Handshake replies are a few hundred bytes on a fresh connection: the socket's buffer has room for them. Where it
    /// has not, the handshake does not end and the connect timeout says so.
    fn reply(&mut self, fd: Option<&OwnedFd>) {
        let mut wire = Vec::new();
        if self.pending_into(&mut wire).is_ok()
            && !wire.is_empty()
            && let Some(fd) = fd
        {
            let _ = send(fd.as_raw_fd(), &wire);
        }
    }
}

/// rustls' error, with a hint where the reason can be told.
fn plain_words(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidMessage(_) => {
            format!("{error}: the server does not speak TLS on this port; use http:// instead of https://")
        }
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            format!("{error}: give the certificate of its authority with --cacert FILE (--insecure accepts any)")
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => format!("{error}: use a name in --url that the certificate has (--insecure accepts any)"),
        rustls::Error::InvalidCertificate(_) => format!("{error} (--insecure accepts any)"),
        other => other.to_string(),
    }
}
