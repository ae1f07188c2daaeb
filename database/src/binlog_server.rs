//! A server that has nothing but a binary log: a replica logs in, says what it has, and gets what
//! comes after that, from wherever the caller has it.
//!
//! It listens on a port of the loopback address, lets in who knows a password that was made for this
//! one run, and serves one replica at a time. What it sends ends where the caller ends: that is how a
//! replay is cut at a transaction, for both flavours alike and with parallel appliers too. Then the
//! connection stays open and silent until the replica leaves.
//!
//! Sources: MariaDB 10.11 `sql/slave.cc: get_master_version_and_clock`, `sql/sql_repl.cc`; MySQL 8.4
//! `sql/rpl_replica.cc`.

mod feed;
mod session;
mod stream;

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use chassis::config::Secret;

pub use self::feed::Feed;
pub use self::stream::EventStream;
use crate::replica::Have;
use crate::version::Flavour;

/// How often to look whether somebody connects, or whether to stop.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// The name that the replica logs in with.
const USER: &str = "replay";

/// Where and how a replica logs in.
#[derive(Clone, Debug)]
pub struct Login {
    /// The address.
    pub address: SocketAddr,
    /// The user.
    pub user: &'static str,
    /// The password.
    pub password: Secret,
}

/// What the server says that it is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Who made the server that the log is of.
    pub flavour: Flavour,
    /// Its version, as it says it.
    pub version: String,
    /// Its id in replication.
    pub server_id: u32,
}

/// What becomes of a connection when all was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It stays, and is silent.
    Stay,
    /// It is cut, in the middle of whatever was sent last: the replica is to begin anew.
    HangUp,
}

/// A server that listens.
#[derive(Debug)]
pub struct BinlogServer {
    listener: TcpListener,
    identity: Identity,
    login: Login,
}

impl BinlogServer {
    /// Begins to listen, with a password of its own.
    pub fn listen(identity: Identity) -> Result<Self> {
        let password = Secret::new(format!("{:032x}", rand::random::<u128>()));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen on loopback")?;
        listener.set_nonblocking(true).context("listen on loopback")?;
        let address = listener.local_addr().context("listen on loopback")?;
        Ok(Self { listener, identity, login: Login { address, user: USER, password } })
    }

    /// Where to log in.
    pub fn login(&self) -> &Login {
        &self.login
    }

    /// Serves replicas, one after another, until it is told to stop. `feed` is told what a replica
    /// has, and sends what comes next. A connection that breaks is the replica's business: it comes
    /// again. Any other error of `feed` ends the service.
    pub fn serve(
        &self,
        is_stopped: &dyn Fn() -> bool,
        mut feed: impl FnMut(&Have, &mut EventStream) -> Result<After>,
    ) -> Result<()> {
        while !is_stopped() {
            match self.listener.accept() {
                Ok((socket, _)) => {
                    let mut session =
                        session::Session::new(socket, &self.identity, &self.login, is_stopped)?;
                    match session.run(&mut feed) {
                        Err(error) if session.stream.is_gone() => {
                            tracing::debug!("the replica left: {error:#}");
                        }
                        done => done?,
                    }
                }
                Err(error) if is_nothing(&error) => thread::sleep(POLL_INTERVAL),
                Err(error) => return Err(error).context("let a replica in"),
            }
        }
        Ok(())
    }
}

fn is_nothing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
