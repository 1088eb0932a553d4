//! TLS sessions that process bytes already read. The read itself happens outside, so that the kernel's timestamp of the
//! TCP data is also the arrival time of the decrypted data.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore,
    SignatureScheme,
};

use super::client_certificate::{ClientCertificate, describe_pem, with_certificate};
use super::socket::send;
use crate::files::read_value;
use crate::protocol::tunnel::TunnelAnswer;
use crate::time::Tick;

/// How certificates are verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsPlan {
    /// PEM file of roots to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Accept any certificate.
    pub insecure: bool,
    /// What the client identifies itself with, if the server asks for it.
    pub client: Option<ClientCertificate>,
}

/// Decrypted data of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plain<'a> {
    Bytes(&'a [u8]),
    /// The peer has closed the session.
    Eof,
}

/// One connection's TLS session.
pub struct Tls {
    session: ClientConnection,
    plain: Vec<u8>,
    /// Bytes that the socket has not accepted yet. Requests and the session's own replies share this queue, so that a
    /// reply cannot be sent in the middle of a request's record.
    outgoing: Vec<u8>,
    /// The parser of the proxy's response to CONNECT; `None` after the response and without a proxy.
    tunnel: Option<TunnelAnswer>,
    /// When the proxy opened the tunnel.
    tunnel_open: Option<Tick>,
    records: RecordBoundaries,
}

/// Follows the records of a session, to tell whether a read ended between two of them.
#[derive(Debug, Default)]
struct RecordBoundaries {
    /// The bytes of the header that have arrived, if it is incomplete.
    header: [u8; 5],
    header_len: usize,
    /// Bytes of the current record that have not arrived.
    remaining: usize,
}

impl RecordBoundaries {
    fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.remaining > 0 {
                let taken = self.remaining.min(bytes.len());
                self.remaining -= taken;
                bytes = &bytes[taken..];
                continue;
            }
            self.header[self.header_len] = bytes[0];
            self.header_len += 1;
            bytes = &bytes[1..];
            if self.header_len == self.header.len() {
                self.header_len = 0;
                self.remaining = usize::from(u16::from_be_bytes([self.header[3], self.header[4]]));
            }
        }
    }
}

/// Builds the client configuration: the system's root certificates (without any, Mozilla's), those of `--cacert`, or no
/// verification. Sessions are resumed, which is the default of rustls.
pub fn config(plan: &TlsPlan) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    if plan.insecure {
        let verifier = Arc::new(AcceptAny(provider));
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        return with_certificate(builder, plan.client.as_ref()).map(Arc::new);
    }
    let roots = match &plan.ca_file {
        Some(path) => roots_from_file(path)?,
        None => system_roots()?,
    };
    with_certificate(builder.with_root_certificates(roots), plan.client.as_ref()).map(Arc::new)
}

fn roots_from_file(path: &Path) -> Result<RootCertStore, String> {
    let unreadable =
        |error: rustls::pki_types::pem::Error| format!("--cacert {}: {}", path.display(), describe_pem(&error));
    let mut roots = RootCertStore::empty();
    let bytes = read_value(path).map_err(|error| unreadable(rustls::pki_types::pem::Error::Io(error)))?;
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let certificate = certificate.map_err(unreadable)?;
        roots.add(certificate).map_err(|error| format!("--cacert {}: {error}", path.display()))?;
    }
    if roots.is_empty() {
        return Err(format!("--cacert {}: no certificate in this file (PEM is expected)", path.display()));
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, String> {
    let found = system_certificates()?;
    let mut roots = RootCertStore::empty();
    if found.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        return Ok(roots);
    }
    roots.add_parsable_certificates(found);
    if roots.is_empty() {
        return Err(
            "none of this system's root certificates is valid: reinstall ca-certificates, or give --cacert FILE"
                .to_string(),
        );
    }
    Ok(roots)
}

/// The system's root certificates. Empty where it has none, as in a container that has nothing but this program; the
/// ones to trust are then Mozilla's, which are part of the program.
///
/// # Errors
/// A variable names certificates, and they cannot be read. Others in their place would trust more than the user chose.
pub fn system_certificates() -> Result<Vec<CertificateDer<'static>>, String> {
    let found = rustls_native_certs::load_native_certs();
    let variable = ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().find(|name| std::env::var_os(name).is_some());
    match variable {
        Some(name) if found.certs.is_empty() => Err(format!(
            "{name} names no readable root certificate: correct or unset this variable, or give --cacert FILE"
        )),
        _ => Ok(found.certs),
    }
}

/// `--insecure`: accepts every certificate. Signatures of the handshake are still verified.
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

/// Maximum number of decrypted bytes passed to the consumer at once: one TLS record.
const PLAIN_LEN: usize = 16 * 1024;

impl Tls {
    /// Creates a session that has not sent its ClientHello. `host` is the name to verify, also used for SNI.
    pub fn new(config: Arc<ClientConfig>, host: &str) -> Result<Tls, String> {
        let name = ServerName::try_from(host.to_string())
            .map_err(|_| format!("'{host}' is not a name that a certificate can be checked against"))?;
        let session = ClientConnection::new(config, name).map_err(|error| error.to_string())?;
        Ok(Tls {
            session,
            plain: Vec::new(),
            outgoing: Vec::new(),
            tunnel: None,
            tunnel_open: None,
            records: RecordBoundaries::default(),
        })
    }

    /// Makes the session send its ClientHello only after a proxy has accepted `request`, a CONNECT.
    pub(crate) fn behind_proxy(self, request: String) -> Tls {
        Tls { tunnel: Some(TunnelAnswer::default()), outgoing: request.into_bytes(), ..self }
    }

    /// Whether the proxy has not yet responded.
    pub(crate) fn awaits_tunnel(&self) -> bool {
        self.tunnel.is_some()
    }

    /// When the proxy opened the tunnel, if there is one.
    pub(crate) fn tunnel_open(&self) -> Option<Tick> {
        self.tunnel_open
    }

    /// Whether the last read ended with the end of a record.
    pub(crate) fn is_between_records(&self) -> bool {
        self.records.header_len == 0 && self.records.remaining == 0
    }

    pub fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    /// Whether bytes are queued; see [`Tls::flush`].
    pub(crate) fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Queues the encrypted `request`, after everything else that the session has to send.
    pub(crate) fn encrypt(&mut self, request: &[u8]) -> Result<(), String> {
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

    /// Writes the queued bytes without blocking; false if the socket's buffer is full before all of them are written.
    pub fn flush(&mut self, fd: &OwnedFd) -> io::Result<bool> {
        self.flush_with(|bytes| send(fd, bytes))
    }

    /// The same, with a function that writes bytes without blocking and returns how many were accepted.
    pub(crate) fn flush_with(&mut self, send: impl Fn(&[u8]) -> io::Result<usize>) -> io::Result<bool> {
        let mut taken = 0;
        let flushed = loop {
            if taken == self.outgoing.len() {
                break Ok(true);
            }
            match send(&self.outgoing[taken..]) {
                Ok(sent) => taken += sent,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(false),
                Err(error) => break Err(error),
            }
        };
        self.outgoing.drain(..taken);
        flushed
    }

    /// Decrypts the bytes of one read, which arrived at `at`, and passes the decrypted data to `consume`. All bytes are
    /// decrypted, also those after the end of a response: they may hold another one, or belong to the session alone, which
    /// cannot go on without them. Handshake and alert replies, and the ClientHello after a tunnel has been opened, are sent immediately through `fd`. Bytes that
    /// the socket does not accept stay queued, see [`Tls::flush`].
    ///
    /// # Errors
    /// One line with what is wrong with the session or with the proxy's response.
    pub fn receive(
        &mut self,
        mut bytes: &[u8],
        at: Tick,
        fd: Option<&OwnedFd>,
        consume: &mut impl FnMut(Plain<'_>),
    ) -> Result<(), String> {
        if let Some(tunnel) = &mut self.tunnel {
            if tunnel.push(bytes)? {
                self.tunnel = None;
                self.tunnel_open = Some(at);
                self.send_replies(fd);
            }
            return Ok(());
        }
        self.records.push(bytes);
        self.plain.resize(PLAIN_LEN, 0);
        while !bytes.is_empty() {
            self.session.read_tls(&mut bytes).map_err(|error| error.to_string())?;
            let state = self.session.process_new_packets();
            self.send_replies(fd);
            let state = state.map_err(|error| describe(&error))?;
            self.deliver_plain(consume);
            if state.peer_has_closed() {
                consume(Plain::Eof);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Passes all decrypted data to `consume`.
    fn deliver_plain(&mut self, consume: &mut impl FnMut(Plain<'_>)) {
        while let Ok(length) = self.session.reader().read(&mut self.plain) {
            if length == 0 {
                break;
            }
            consume(Plain::Bytes(&self.plain[..length]));
        }
    }

    /// Sends the session's replies. An error is ignored here, because the next read or write fails with it as well.
    fn send_replies(&mut self, fd: Option<&OwnedFd>) {
        if self.queue_pending().is_ok()
            && let Some(fd) = fd
        {
            let _ = self.flush(fd);
        }
    }
}

/// The error of rustls, with a hint on what to do if the cause is known.
fn describe(error: &rustls::Error) -> String {
    match error {
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            format!("{error}: the server requires a client certificate; give one with --cert FILE and --key FILE")
        }
        rustls::Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::DecryptError,
        ) => format!("{error}: the server rejects the client certificate of --cert"),
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

    /// A client session, and a server for the name `localhost`.
    fn session_pair() -> (Tls, rustls::ServerConnection) {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certificate = rcgen::generate_simple_self_signed(["localhost".to_string()]).unwrap();
        let key = certificate.signing_key.serialize_der().try_into().unwrap();
        let server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.cert.der().clone()], key)
            .unwrap();
        let client = config(&TlsPlan { insecure: true, ..TlsPlan::default() }).unwrap();
        (Tls::new(client, "localhost").unwrap(), rustls::ServerConnection::new(Arc::new(server)).unwrap())
    }

    /// Fills the socket's buffer and returns the number of bytes.
    fn fill(socket: &OwnedFd) -> usize {
        let mut filled = 0;
        while let Ok(sent) = send(socket, &[0; 4096]) {
            filled += sent;
        }
        filled
    }

    /// Empties the socket's buffer, flushes the session, and returns the bytes that it sends.
    fn make_room_and_flush(tls: &mut Tls, ours: &OwnedFd, theirs: &mut UnixStream, filled: usize) -> Vec<u8> {
        theirs.read_exact(&mut vec![0; filled]).unwrap();
        assert!(tls.flush(ours).unwrap() && !tls.has_outgoing());
        let mut sent = vec![0; 64 * 1024];
        let length = theirs.read(&mut sent).unwrap();
        sent.truncate(length);
        sent
    }

    /// Completes the handshake of a pair, and returns the tickets that the server then sends.
    fn shake_hands(tls: &mut Tls, server: &mut rustls::ServerConnection) -> Vec<u8> {
        tls.encrypt(&[]).unwrap();
        let mut flight = Vec::new();
        while tls.is_handshaking() || server.is_handshaking() {
            let hello = std::mem::take(&mut tls.outgoing);
            server.read_tls(&mut &hello[..]).unwrap();
            server.process_new_packets().unwrap();
            flight = written(server);
            if server.is_handshaking() {
                let mut nothing = |plain: Plain<'_>| panic!("a handshake has no data, but {plain:?} was delivered");
                tls.receive(&flight, Tick(1), None, &mut nothing).unwrap();
            }
        }
        flight
    }

    /// What the server has to send.
    fn written(server: &mut rustls::ServerConnection) -> Vec<u8> {
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    #[test]
    fn all_records_of_a_large_read_are_decrypted() {
        let (mut tls, mut server) = session_pair();
        let mut read = shake_hands(&mut tls, &mut server);
        assert!(!read.is_empty(), "the server sends session tickets");
        // Two answers in one read, which is larger than what the session takes at once.
        for answer in [vec![b'a'; 1000], vec![b'b'; 30_000]] {
            server.writer().write_all(&answer).unwrap();
            read.extend(written(&mut server));
        }
        server.send_close_notify();
        read.extend(written(&mut server));
        let (mut plain, mut ended) = (Vec::new(), false);
        let mut consume = |data: Plain<'_>| match data {
            Plain::Bytes(bytes) => plain.extend_from_slice(bytes),
            Plain::Eof => ended = true,
        };
        tls.receive(&read, Tick(2), None, &mut consume).unwrap();
        assert_eq!((plain.len(), plain[999], plain[1000], ended), (31_000, b'a', b'b', true));
    }

    #[test]
    fn ends_of_records_are_found_in_any_pieces() {
        let stream = [&[23, 3, 3, 0, 2, 9, 9][..], &[22, 3, 3, 1, 0], &[7; 256]].concat();
        for size in [1, 2, 5, 7, 100] {
            let mut records = RecordBoundaries::default();
            let mut at = 0;
            for piece in stream.chunks(size) {
                records.push(piece);
                at += piece.len();
                let ended = records.header_len == 0 && records.remaining == 0;
                assert_eq!(ended, at == 7 || at == stream.len(), "{at} of {size}");
            }
        }
    }

    #[test]
    fn queued_bytes_survive_a_full_socket() {
        let (mut tls, mut server) = session_pair();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let ours = OwnedFd::from(ours);
        let filled = fill(&ours);
        tls.encrypt(&[]).unwrap();
        assert!(!tls.flush(&ours).unwrap() && tls.has_outgoing());
        let hello = make_room_and_flush(&mut tls, &ours, &mut theirs, filled);
        server.read_tls(&mut &hello[..]).unwrap();
        server.process_new_packets().unwrap();
        let mut flight = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut flight).unwrap();
        }

        // The socket is full when the session's reply, and a request after it, are sent.
        let filled = fill(&ours);
        let mut nothing = |plain: Plain<'_>| panic!("a handshake has no data, but {plain:?} was delivered");
        assert_eq!(tls.receive(&flight, Tick(1), Some(&ours), &mut nothing), Ok(()));
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
