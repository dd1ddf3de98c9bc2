//! Finds loopback ports for programs that cannot be told to take a free one themselves.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::{Context, Outcome};

/// `N` different loopback addresses nobody listens on just now.
///
/// # Errors
/// When there is none left.
pub fn free_addresses<const N: usize>() -> Outcome<[SocketAddr; N]> {
    let mut addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); N];
    let mut held = Vec::with_capacity(N);
    for address in &mut addresses {
        let listener = TcpListener::bind(*address).context(|| "find a free port")?;
        *address = listener.local_addr().context(|| "find a free port")?;
        held.push(listener);
    }
    Ok(addresses)
}
