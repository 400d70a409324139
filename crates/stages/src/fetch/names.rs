//! Names of hosts, without the C library: a static program must never go through NSS.

use hickory_resolver::TokioResolver;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// Asks `/etc/hosts` and the servers of `/etc/resolv.conf`, as they are at the moment of the question.
#[derive(Debug)]
pub(super) struct Names;

/// The longest that one question may take, whatever the request's own deadline.
const MOST: Duration = Duration::from_secs(30);

impl Resolver for Names {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let host = uri.host().ok_or(Error::HostNotFound)?;
        let port = match (uri.port_u16(), uri.scheme_str()) {
            (Some(port), _) => port,
            (None, Some("https")) => 443,
            (None, _) => 80,
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let addresses = match bare.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => ask(bare, (*timeout.after).min(MOST))?,
        };
        let mut found = self.empty();
        let family = config.ip_family();
        let wanted = family.keep_wanted(addresses.into_iter().map(|address| SocketAddr::new(address, port)));
        for address in wanted.take(MOST_ADDRESSES) {
            found.push(address);
        }
        if found.is_empty() { Err(Error::HostNotFound) } else { Ok(found) }
    }
}

/// As many as fit into what is returned.
const MOST_ADDRESSES: usize = 16;

fn ask(host: &str, within: Duration) -> Result<Vec<IpAddr>, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let failed =
        |error: &dyn std::fmt::Display| Error::Io(std::io::Error::other(format!("no address of {host}: {error}")));
    runtime.block_on(async {
        let resolver = TokioResolver::builder_tokio().and_then(|builder| builder.build()).map_err(|e| failed(&e))?;
        match tokio::time::timeout(within, resolver.lookup_ip(host)).await {
            Ok(Ok(found)) => Ok(found.iter().collect()),
            Ok(Err(error)) => Err(failed(&error)),
            Err(_) => Err(Error::Timeout(ureq::Timeout::Resolve)),
        }
    })
}
