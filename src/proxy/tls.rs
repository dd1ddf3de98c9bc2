//! TLS towards the portal: whom we believe, and who we say we are.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};

use crate::certificates::{Wrong, certificates, private_key, provider};
use crate::config;

/// What a connection over TLS to the portal needs.
#[derive(Clone, Debug)]
pub struct PortalTls {
    /// Trust anchors, our own certificate, and sessions to resume.
    pub config: Arc<ClientConfig>,
    /// The name in the portal's certificate, when it is not the host of its address.
    name: Option<ServerName<'static>>,
}

impl PortalTls {
    /// Reads the files that the configuration names; `None` when no address of the portal wants TLS.
    ///
    /// # Errors
    /// What is [`Wrong`] with them.
    pub fn load(portal: &config::Portal) -> Result<Option<PortalTls>, Wrong> {
        if portal.urls.iter().all(|url| !url.https) {
            return Ok(None);
        }
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(Wrong::Unusable)?
            .with_root_certificates(trust_anchors(&portal.tls)?);
        let mut config = match &portal.tls.client {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => config
                .with_client_auth_cert(certificates(certificate)?, private_key(key)?.0)
                .map_err(Wrong::Unusable)?,
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = portal.tls.server_name.clone().and_then(|name| ServerName::try_from(name).ok());
        Ok(Some(PortalTls { config: Arc::new(config), name }))
    }

    /// The name that the certificate of this host must have.
    pub fn name_of(&self, host: &str) -> Option<ServerName<'static>> {
        self.name.clone().or_else(|| ServerName::try_from(host.to_owned()).ok())
    }
}

fn trust_anchors(settings: &config::PortalTls) -> Result<RootCertStore, Wrong> {
    let mut roots = RootCertStore::empty();
    match &settings.ca {
        Some(file) => {
            certificates(file)?.into_iter().try_for_each(|anchor| roots.add(anchor)).map_err(Wrong::Unusable)?
        }
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    Ok(roots)
}
