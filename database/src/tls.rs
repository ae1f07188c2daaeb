//! TLS to a server: on or off, and how much of its certificate is checked, as its option file says.
//!
//! Who checks at all checks the name too: `VERIFY_CA` and a bare `ssl-ca` are as strict as `VERIFY_IDENTITY`. So the
//! certificate that a MySQL makes for itself, which is of no host, goes with `REQUIRED` only.
//! A unix socket is never wrapped: nobody else can listen there. Client certificates are not used.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// How much of a server's certificate is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// Nothing: who listens hears nothing, who stands between hears all.
    #[default]
    Nothing,
    /// That an authority of `ssl-ca` has signed it, and that it is of the host that is connected to.
    Name,
}

/// What an option file says about TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// `ssl-ca`: the certificates of authorities.
    pub authority: Option<PathBuf>,
    /// Whether it is on, and how the server is checked.
    pub check: Option<Check>,
}

impl Tls {
    /// Takes a setting of an option file. MySQL has levels, MariaDB switches; a later one wins.
    pub(crate) fn set(&mut self, key: &str, value: &str) -> Result<(), &'static str> {
        let is_off = matches!(value.to_ascii_lowercase().as_str(), "0" | "off" | "false" | "no");
        match key {
            "ssl-ca" => {
                self.authority = (!value.is_empty()).then(|| value.into());
                self.check = Some(Check::Name);
            }
            "ssl-verify-server-cert" if is_off => {}
            "ssl-verify-server-cert" => self.check = Some(Check::Name),
            "skip-ssl" | "disable-ssl" => self.check = None,
            "ssl" if is_off => self.check = None,
            "ssl" => self.check = self.check.or(Some(Check::Nothing)),
            "ssl-mode" => self.set_mode(value)?,
            _ => {}
        }
        Ok(())
    }

    fn set_mode(&mut self, mode: &str) -> Result<(), &'static str> {
        self.check = match mode.to_ascii_uppercase().as_str() {
            // What is only preferred protects from nobody.
            "DISABLED" | "PREFERRED" => None,
            "REQUIRED" => self.check.or(Some(Check::Nothing)),
            "VERIFY_CA" | "VERIFY_IDENTITY" => Some(Check::Name),
            _ => return Err("ssl-mode is none that MySQL knows"),
        };
        Ok(())
    }

    /// What the library needs for it.
    pub(crate) fn client(&self, check: Check) -> Result<Arc<ClientConfig>, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let web = match check {
            Check::Nothing => None,
            Check::Name => {
                let path = self.authority.as_deref().ok_or("ssl-ca is not set")?;
                let roots = Arc::new(read_roots(path)?);
                let verifier =
                    WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
                Some(verifier.build().map_err(|error| error.to_string())?)
            }
        };
        let verifier = Arc::new(Verifier { provider, web });
        Ok(Arc::new(
            builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth(),
        ))
    }
}

fn read_roots(path: &Path) -> Result<RootCertStore, String> {
    let cannot = |error: &dyn std::fmt::Display| format!("ssl-ca {}: {error}", path.display());
    let mut roots = RootCertStore::empty();
    let found = CertificateDer::pem_file_iter(path).map_err(|error| cannot(&error))?;
    for certificate in found {
        let certificate = certificate.map_err(|error| cannot(&error))?;
        roots.add(certificate).map_err(|error| cannot(&error))?;
    }
    if roots.is_empty() { Err(cannot(&"there is no certificate in it")) } else { Ok(roots) }
}

/// Checks what [`Check`] says; the signatures of the handshake always.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    web: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(web) = &self.web else { return Ok(ServerCertVerified::assertion()) };
        web.verify_server_cert(certificate, others, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
