//! Servers of FTP that misbehave.

mod cuts;
mod hostile;
mod scripted;
mod trust;

use super::{assert_kind, impatient, open_ftp};
use coffer_domain::secret::Secret;
use coffer_drivers::{
    Patience, WireOptions,
    ftp::{Config, Security},
};
use scripted::{Act, Server};
use std::{net::SocketAddr, time::Duration};

/// A server whose user may be anybody.
fn config(address: SocketAddr) -> Config {
    let patience = Patience { connect: Duration::from_millis(400), ..impatient().patience };
    Config {
        wire: WireOptions { patience, ..impatient() },
        ..Config::new(address.ip().to_string(), address.port(), Security::Plain, "ann", Secret::new("secret"))
    }
}
