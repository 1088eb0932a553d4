//! TLS over the inbox: rustls between the bytes of a read and the answer, so that the kernel's stamp of the TCP data
//! stays the arrival of what it decrypts to.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
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
    /// Bytes the socket has not taken yet. Requests and replies go through this one queue: a reply that overtook the
    /// rest of a request would stand in the middle of a record.
    outgoing: Vec<u8>,
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
        Ok(Tls { session, plain: Vec::new(), outgoing: Vec::new(), tunnel: None, tunnel_open: None })
    }

    /// A session whose hello waits until a proxy has answered `request`, a CONNECT.
    pub fn behind_proxy(self, request: String) -> Tls {
        Tls { tunnel: Some(TunnelAnswer::default()), outgoing: request.into_bytes(), ..self }
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

    /// Whether bytes wait for room in the socket; see [`Tls::flush`].
    pub fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Queues the encrypted form of `request`, with whatever else the session has to send before it.
    pub fn encrypt(&mut self, request: &[u8]) -> Result<(), String> {
        let mut rest = request;
        while !rest.is_empty() {
            let taken = self.session.writer().write(rest).map_err(|error| error.to_string())?;
            rest = &rest[taken..];
            self.queue_pending()?;
        }
        self.queue_pending()
    }

    fn queue_pending(&mut self) -> Result<(), String> {
        while self.session.wants_write() {
            self.session.write_tls(&mut self.outgoing).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Hands what is queued to the kernel; false when the socket's buffer is full before all of it is.
    pub fn flush(&mut self, fd: RawFd) -> io::Result<bool> {
        let mut taken = 0;
        let flushed = loop {
            if taken == self.outgoing.len() {
                break Ok(true);
            }
            match send(fd, &self.outgoing[taken..]) {
                Ok(sent) => taken += sent,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(false),
                Err(error) => break Err(error),
            }
        };
        self.outgoing.drain(..taken);
        flushed
    }

    /// Takes one read's encrypted bytes and hands what they decrypt to on to the answer. Handshake and alert replies
    /// go out at once through `fd`, the hello too where a tunnel has just opened; where the socket has no room for them,
    /// they stay queued for the lane.
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

    /// An error is no news here: the next read, or the next write, meets it too and is heard.
    fn reply(&mut self, fd: Option<&OwnedFd>) {
        if self.queue_pending().is_ok()
            && let Some(fd) = fd
        {
            let _ = self.flush(fd.as_raw_fd());
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
        rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "the server's certificate has expired: renew it, or set this machine's clock (--insecure accepts any)"
                .to_string()
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "the server's certificate is not valid yet: set this machine's clock (--insecure accepts any)".to_string(),
        rustls::Error::InvalidCertificate(_) => format!("{error} (--insecure accepts any)"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    use crate::api::Dialect;
    use crate::api::answer::AnswerOptions;

    /// Both ends of a handshake in memory: our session and a server for the name `localhost`.
    fn ends() -> (Tls, rustls::ServerConnection) {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let made = rcgen::generate_simple_self_signed(["localhost".to_string()]).unwrap();
        let key = made.signing_key.serialize_der().try_into().unwrap();
        let server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let client = config(&TlsPlan { ca_file: None, insecure: true }).unwrap();
        (Tls::new(client, "localhost").unwrap(), rustls::ServerConnection::new(Arc::new(server)).unwrap())
    }

    /// Fills the socket, and says with how many bytes.
    fn fill(socket: &OwnedFd) -> usize {
        let mut filled = 0;
        while let Ok(sent) = send(socket.as_raw_fd(), &[0; 4096]) {
            filled += sent;
        }
        filled
    }

    /// Reads what filled the socket, so that there is room again, then what the session sends into it.
    fn make_room_and_flush(tls: &mut Tls, ours: &OwnedFd, theirs: &mut UnixStream, filled: usize) -> Vec<u8> {
        theirs.read_exact(&mut vec![0; filled]).unwrap();
        assert!(tls.flush(ours.as_raw_fd()).unwrap() && !tls.has_outgoing());
        let mut sent = vec![0; 64 * 1024];
        let length = theirs.read(&mut sent).unwrap();
        sent.truncate(length);
        sent
    }

    #[test]
    fn nothing_is_lost_when_the_socket_is_full() {
        let (mut tls, mut server) = ends();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let ours = OwnedFd::from(ours);
        let options = AnswerOptions {
            dialect: Dialect::Chat,
            stream: true,
            keep_text: false,
            keep_raw: false,
            max_event_bytes: 1 << 20,
        };
        let mut answer = Answer::new(options);

        let filled = fill(&ours);
        tls.encrypt(&[]).unwrap();
        assert!(!tls.flush(ours.as_raw_fd()).unwrap() && tls.has_outgoing());
        let hello = make_room_and_flush(&mut tls, &ours, &mut theirs, filled);
        server.read_tls(&mut &hello[..]).unwrap();
        server.process_new_packets().unwrap();
        let mut flight = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut flight).unwrap();
        }

        // Our reply, and a request behind it, meet a full socket.
        let filled = fill(&ours);
        assert_eq!(tls.receive(&flight, &mut answer, Tick(1), Some(&ours)), Ok(Step::More));
        assert!(!tls.is_handshaking() && tls.has_outgoing());
        tls.encrypt(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let rest = make_room_and_flush(&mut tls, &ours, &mut theirs, filled);
        server.read_tls(&mut &rest[..]).unwrap();
        server.process_new_packets().unwrap();
        assert!(!server.is_handshaking());
        let mut request = [0; 64];
        let length = server.reader().read(&mut request).unwrap();
        assert_eq!(&request[..length], b"GET / HTTP/1.1\r\n\r\n");
    }
}
