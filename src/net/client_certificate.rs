//! The client's certificate and private key (`--cert`, `--key`), for servers that require them.

use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ConfigBuilder, InconsistentKeys, client::WantsClientCert};

use crate::files::read_value;

/// The files of a client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// PEM file with the certificate, and those of the authorities between it and the root.
    pub certificate_file: PathBuf,
    /// PEM file with the private key; `None`: it is in the file of the certificate.
    pub key_file: Option<PathBuf>,
}

/// Completes a client configuration with the certificate, if there is one.
///
/// # Errors
/// One line that names the flag and the file.
pub(super) fn with_certificate(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    files: Option<&ClientCertificate>,
) -> Result<ClientConfig, String> {
    let Some(files) = files else { return Ok(builder.with_no_client_auth()) };
    let chain = read_certificates(&files.certificate_file)?;
    let (flag, key_file) = match &files.key_file {
        Some(file) => ("--key", file),
        None => ("--cert", &files.certificate_file),
    };
    let key = read_key(flag, key_file)?;
    builder.with_client_auth_cert(chain, key).map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => format!(
            "--cert {}: the private key in {} belongs to another certificate",
            files.certificate_file.display(),
            key_file.display()
        ),
        // Of the key alone: an unknown algorithm, or damaged.
        rustls::Error::General(text) => {
            format!("{flag} {}: the private key cannot be used: {text}", key_file.display())
        }
        error => format!("--cert {}: {error}", files.certificate_file.display()),
    })
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |error: pem::Error| format!("--cert {}: {}", file.display(), describe_pem(&error));
    let bytes = read_value(file).map_err(|error| wrong(pem::Error::Io(error)))?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&bytes).collect::<Result<_, _>>().map_err(wrong)?;
    match chain.is_empty() {
        true => Err(format!("--cert {}: no certificate in this file (PEM is expected)", file.display())),
        false => Ok(chain),
    }
}

fn read_key(flag: &str, file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let shown = file.display();
    // PEM marks both forms of encrypted keys with this word.
    let bytes =
        read_value(file).map_err(|error| format!("{flag} {shown}: {}", describe_pem(&pem::Error::Io(error))))?;
    let is_encrypted = || memchr::memmem::find(&bytes, b"ENCRYPTED").is_some();
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
        _ if is_encrypted() => {
            format!(
                "{flag} {shown}: the private key is encrypted: decrypt it with 'openssl pkey -in {shown} -out FILE'"
            )
        }
        pem::Error::NoItemsFound if flag == "--cert" => {
            format!("--cert {shown}: no private key in this file: give it with --key FILE")
        }
        pem::Error::NoItemsFound => format!("{flag} {shown}: no private key in this file (PEM is expected)"),
        error => format!("{flag} {shown}: {}", describe_pem(&error)),
    })
}

/// The error without the quotes of Rust's debug format.
pub(super) fn describe_pem(error: &pem::Error) -> String {
    match error {
        pem::Error::Io(error) => format!("cannot read the file: {error}"),
        error => format!("the file is not valid PEM: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use crate::net::tls::{TlsPlan, config};

    use super::*;

    /// A certificate and its key, PEM.
    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["client".to_string()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn wrong_files_are_named_with_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let ((cert, key), (_, other_key)) = (pair(), pair());
        let good = write("cert.pem", &cert);
        let both = write("both.pem", &format!("{cert}{key}"));
        let key = write("key.pem", &key);
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        let broken = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let load = |certificate: &PathBuf, key: Option<&PathBuf>| {
            let client = ClientCertificate { certificate_file: certificate.clone(), key_file: key.cloned() };
            config(&TlsPlan { ca_file: None, insecure: true, client: Some(client) }).map(drop)
        };
        assert_eq!(load(&good, Some(&key)), Ok(()));
        assert_eq!(load(&both, None), Ok(()));
        for (certificate, key, words) in [
            (&write("empty.pem", ""), Some(&key), "no certificate in this file"),
            (&folder.path().join("none.pem"), Some(&key), "none.pem: cannot read the file"),
            (&good, Some(&folder.path().join("none.key")), "none.key: cannot read the file"),
            (&good, None, "give it with --key"),
            (&good, Some(&write("other.pem", &other_key)), "belongs to another certificate"),
            (&good, Some(&good), "no private key in this file"),
            (&good, Some(&write("encrypted.pem", encrypted)), "is encrypted: decrypt it with 'openssl pkey"),
            (&good, Some(&write("old.pem", old)), "is encrypted"),
            (&good, Some(&write("broken.pem", broken)), "broken.pem"),
        ] {
            let error = load(certificate, key).unwrap_err();
            assert!(error.starts_with("--") && error.contains(words), "{words}: {error}");
        }
    }
}
