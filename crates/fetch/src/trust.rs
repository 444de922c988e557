//! Whom an https server must be vouched for by, and what is wrong when it is not, in words.

use std::env;

use rustls::pki_types::CertificateDer;
use rustls::{AlertDescription, CertificateError, RootCertStore};

use crate::{Error, Result};

/// The certificates of the authorities that this machine trusts: those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name, else
/// the system's.
///
/// # Errors
/// There are none.
pub(crate) fn authorities() -> Result<Vec<CertificateDer<'static>>> {
    let found = rustls_native_certs::load_native_certs();
    // A store may hold certificates that are none; one of them must not spoil the others.
    let mut store = RootCertStore::empty();
    let usable: Vec<_> = found.certs.into_iter().filter(|certificate| store.add(certificate.clone()).is_ok()).collect();
    let named: Vec<_> =
        ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().filter(|name| env::var_os(name).is_some()).collect();
    let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
    if usable.is_empty() {
        let reason = match (named.is_empty(), errors.is_empty()) {
            (true, true) => "this machine has none".to_owned(),
            (true, false) => format!("none can be read on this machine ({})", errors.join("; ")),
            (false, true) => format!("there are none where {} says", named.join(" or ")),
            (false, false) => format!("none can be read where {} says ({})", named.join(" or "), errors.join("; ")),
        };
        return Err(Error::NoAuthorities { reason });
    }
    for error in errors {
        if named.is_empty() {
            log::debug!("certificates of authorities: {error}");
        } else {
            log::warn!("{}: {error}", named.join(" or "));
        }
    }
    Ok(usable)
}

/// Why there is no trusted connection to `host`, if trying again will not change that.
pub(crate) fn lasting(error: &rustls::Error, host: &str) -> Option<String> {
    const CLOCK: &str = "or this machine's clock is wrong";
    const NOT_SPOKEN: &str = "it does not speak a TLS that this program knows";
    Some(match error {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            // An authority may have had another key under the same name.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => "no authority that this machine trusts has signed its certificate; if the site \
                                                has an authority of its own, name the file of its certificate in SSL_CERT_FILE"
                .to_owned(),
            CertificateError::NotValidForName => format!("its certificate is for another name than {host}"),
            CertificateError::NotValidForNameContext { presented, .. } => {
                let names = presented.iter().map(|name| in_words(name)).collect::<Vec<_>>();
                match &names[..] {
                    [] => format!("its certificate is for no name at all, and so not for {host}"),
                    names => format!("its certificate is for {}, not for {host}", names.join(", ")),
                }
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                format!("its certificate has expired, {CLOCK}")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                format!("its certificate is not valid yet, {CLOCK}")
            }
            CertificateError::Revoked => "its certificate has been revoked".to_owned(),
            other => format!("its certificate is not valid: {other}"),
        },
        rustls::Error::NoCertificatesPresented => "it shows no certificate".to_owned(),
        rustls::Error::UnsupportedNameType => format!("no certificate can be for the name {host}"),
        rustls::Error::PeerIncompatible(_) | rustls::Error::InvalidMessage(_) => format!("{NOT_SPOKEN} ({error})"),
        rustls::Error::AlertReceived(AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure) => {
            format!("{NOT_SPOKEN} ({error})")
        }
        rustls::Error::AlertReceived(AlertDescription::UnrecognisedName) => format!("it does not know the name {host}"),
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired | AlertDescription::AccessDenied) => {
            format!("it wants a certificate from this side, which is not supported ({error})")
        }
        _ => return None,
    })
}

/// A name of a certificate as webpki writes it: `DnsName("host")`, `IpAddress(127.0.0.1)`.
fn in_words(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"')
}
