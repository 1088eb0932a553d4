//! A TLS server that decrypts requests, forwards them to another server, and encrypts the responses.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, RootCertStore, ServerConfig, ServerConnection};

/// A running server; its threads end with the process.
pub struct TlsServer {
    pub addr: SocketAddr,
    /// The certificate of its certificate authority, PEM.
    pub authority: String,
    handshakes: Arc<[AtomicU32; 2]>,
}

/// How a TLS server behaves.
#[derive(Clone)]
struct Behavior {
    config: Arc<ServerConfig>,
    backend: SocketAddr,
    /// Time from the end of a handshake to its session tickets.
    tickets_after: Duration,
}

impl TlsServer {
    /// Serves `backend` with a new certificate for 127.0.0.1 and localhost.
    pub fn start(backend: SocketAddr) -> TlsServer {
        TlsServer::named(backend, &["localhost", "127.0.0.1"])
    }

    /// Like `start`, for other names.
    pub fn named(backend: SocketAddr, names: &[&str]) -> TlsServer {
        TlsServer::valid(backend, names, (2000, 4000))
    }

    /// Like `start`, with a certificate that is valid from the start of one year to the start of another.
    pub fn valid(backend: SocketAddr, names: &[&str], years: (i32, i32)) -> TlsServer {
        TlsServer::serve(backend, names, years, None, Duration::ZERO)
    }

    /// Like `start`, for clients with a certificate of the authority `clients` only.
    pub fn for_clients_of(backend: SocketAddr, clients: &CertifiedIssuer<'static, KeyPair>) -> TlsServer {
        TlsServer::serve(backend, &["localhost", "127.0.0.1"], (2000, 4000), Some(clients), Duration::ZERO)
    }

    /// Like `start`, but the session tickets of TLS 1.3 come this long after the handshake.
    pub fn with_late_tickets(backend: SocketAddr, tickets_after: Duration) -> TlsServer {
        TlsServer::serve(backend, &["127.0.0.1"], (2000, 4000), None, tickets_after)
    }

    fn serve(
        backend: SocketAddr,
        names: &[&str],
        years: (i32, i32),
        clients: Option<&CertifiedIssuer<'static, KeyPair>>,
        tickets_after: Duration,
    ) -> TlsServer {
        let authority = authority();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(years.0, 1, 1);
        params.not_after = date_time_ymd(years.1, 1, 1);
        let certificate = params.signed_by(&key, &authority).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(clients.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let handshakes = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
        let server = TlsServer {
            addr: listener.local_addr().unwrap(),
            authority: authority.pem(),
            handshakes: handshakes.clone(),
        };
        let behavior = Behavior { config: Arc::new(config), backend, tickets_after };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (behavior, handshakes) = (behavior.clone(), handshakes.clone());
                std::thread::spawn(move || forward(client, behavior, &handshakes));
            }
        });
        server
    }

    /// The numbers of full handshakes and of resumed sessions.
    pub fn handshakes(&self) -> (u32, u32) {
        (self.handshakes[0].load(Ordering::Relaxed), self.handshakes[1].load(Ordering::Relaxed))
    }
}

/// A new certificate authority.
pub fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A client certificate of an authority, and its key, PEM.
pub fn client_certificate(authority: &CertifiedIssuer<'static, KeyPair>) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["client".to_string()]).unwrap();
    (params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem())
}

/// Forwards bytes in both directions until one side closes.
fn forward(mut client: TcpStream, behavior: Behavior, handshakes: &[AtomicU32; 2]) {
    let Behavior { config, backend, tickets_after } = behavior;
    let session = Arc::new(Mutex::new(ServerConnection::new(config).unwrap()));
    let Ok(mut upstream) = TcpStream::connect(backend) else { return };
    let back = {
        let (session, upstream, client) = (session.clone(), upstream.try_clone().unwrap(), client.try_clone().unwrap());
        std::thread::spawn(move || send_back(&session, upstream, client))
    };
    let mut buffer = [0; 16 * 1024];
    let mut plain = Vec::new();
    let mut counted = false;
    while let Ok(length @ 1..) = client.read(&mut buffer) {
        let mut session = session.lock().unwrap();
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            session.read_tls(&mut rest).unwrap();
            let processed = session.process_new_packets();
            if !counted && !session.is_handshaking() {
                std::thread::sleep(tickets_after);
            }
            write_pending(&mut session, &mut client);
            if processed.is_err() {
                let _ = client.shutdown(Shutdown::Both);
                let _ = upstream.shutdown(Shutdown::Both);
                return;
            }
            plain.clear();
            let _ = session.reader().read_to_end(&mut plain);
            let _ = upstream.write_all(&plain);
        }
        if !counted && !session.is_handshaking() {
            counted = true;
            let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
            handshakes[usize::from(resumed)].fetch_add(1, Ordering::Relaxed);
        }
    }
    let _ = upstream.shutdown(Shutdown::Both);
    let _ = back.join();
}

fn send_back(session: &Mutex<ServerConnection>, mut upstream: TcpStream, mut client: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(length @ 1..) = upstream.read(&mut buffer) {
        let mut session = session.lock().unwrap();
        session.writer().write_all(&buffer[..length]).unwrap();
        write_pending(&mut session, &mut client);
    }
    let mut session = session.lock().unwrap();
    session.send_close_notify();
    write_pending(&mut session, &mut client);
    let _ = client.shutdown(Shutdown::Both);
}

fn write_pending(session: &mut ServerConnection, client: &mut TcpStream) {
    while session.wants_write() && session.write_tls(client).is_ok_and(|written| written > 0) {}
}
