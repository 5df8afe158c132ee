//! This module decides which servers are trusted: those that the system's CAs vouch for, and those
//! of the CAs in the option `ca_file`. Connections are opened by [`crate::http::client`].

use std::sync::{Arc, Mutex, PoisonError};

use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use rustls_platform_verifier::Verifier;

use crate::error::{Error, Kind, Result};

/// Files of CAs that one backend uses beside one another.
const KNOWN: usize = 8;

/// Reading the system's CAs takes 10 ms of CPU, so it is done once for all connections of a
/// backend. What `ca_file` holds is looked at for each: an edit acts at the next connection.
#[derive(Default)]
pub struct Trust {
    /// By the content of `ca_file`, if there is one.
    known: Mutex<Vec<(Option<Vec<u8>>, ClientConfig)>>,
}

impl Trust {
    pub fn config(&self, ca_file: Option<&str>) -> Result<ClientConfig> {
        let read = |path: &str| std::fs::read(path).map_err(|error| unusable(path, &error));
        let pem = ca_file.map(read).transpose()?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, config)) = known.iter().find(|(content, _)| *content == pem) {
            return Ok(config.clone());
        }
        let further = match (ca_file, &pem) {
            (Some(path), Some(pem)) => certificates(path, pem)?,
            _ => Vec::new(),
        };
        let config = trusting(further).map_err(|error| {
            Error::new(Kind::Unreachable, "cannot set up HTTPS").detail(format!("{error}."))
        })?;
        known.truncate(KNOWN - 1);
        known.insert(0, (pem, config.clone()));
        Ok(config)
    }
}

fn certificates(path: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(path, &error))?;
    if certificates.is_empty() {
        Err(unusable(path, &"no certificate in PEM form"))
    } else {
        Ok(certificates)
    }
}

fn unusable(path: &str, error: &dyn std::fmt::Display) -> Error {
    Error::new(Kind::BadOption, "cannot use the server option \"ca_file\"")
        .detail(format!("{path}: {error}."))
}

fn trusting(further: Vec<CertificateDer<'static>>) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Verifier::new_with_extra_roots(further, provider.clone())?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use pancake_simulator::{Settings, Simulator};

    use super::*;

    #[test]
    fn is_read_once_and_again_when_the_file_has_changed() {
        let trust = Trust::default();
        let path = std::env::temp_dir().join(format!("pancake-ca-{}.pem", std::process::id()));
        let file = path.to_str().unwrap();
        let write = |pem: &str| std::fs::write(&path, pem).unwrap();
        let known = || trust.known.lock().unwrap().len();
        let ca = || {
            let simulator = Simulator::start(Settings { tls: true, ..Settings::of(0) }).unwrap();
            simulator.ca_pem().unwrap().to_owned()
        };
        trust.config(None).unwrap();
        trust.config(None).unwrap();
        assert_eq!(known(), 1);
        for expected in [2, 3] {
            write(&ca());
            trust.config(Some(file)).unwrap();
            trust.config(Some(file)).unwrap();
            assert_eq!(known(), expected);
        }
        for (pem, why) in [("", "no certificate in PEM form"), ("-----BEGIN CERTIFICATE-----\n?", "")] {
            write(pem);
            let error = trust.config(Some(file)).unwrap_err();
            assert_eq!(
                (error.sqlstate(), error.detail_text().unwrap().contains(why)),
                ("HV024", true),
                "{error:?}"
            );
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(trust.config(Some(file)).unwrap_err().sqlstate(), "HV024");
    }
}
