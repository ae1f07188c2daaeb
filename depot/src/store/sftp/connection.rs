//! One SSH connection with its SFTP channel.
//!
//! Every call into libssh2 is bounded by the session's timeout. libssh2's own keepalive is not
//! used: in blocking calls it shortens the timeout to the time until the next probe. The kernel
//! probes the line instead.

use std::io;
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use ssh2::{MethodType, Session, Sftp};

use super::known_hosts::{self, KnownKeys};
use super::login::Login;
use super::{SftpConfig, StoreError, failure};

/// Ciphers, most wanted first. libssh2 would take ChaCha20, which it computes in plain C: two
/// thirds of the time of an upload. AES is computed by the processor.
const CIPHERS: &str = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,\
    aes128-ctr,aes192-ctr,aes256-ctr";

/// Unanswered probes before the kernel gives a silent line up.
const PROBES_MAX: u32 = 3;

pub(super) struct Connection {
    // Dropped in this order: the channel before the session.
    pub sftp: Sftp,
    session: Session,
    socket: TcpStream,
    used_at: Instant,
}

impl Connection {
    /// Connects, checks the host key, logs in and opens the SFTP channel.
    pub fn open(config: &SftpConfig, login: &Login) -> Result<Self, StoreError> {
        let known = KnownKeys::load(config)?;
        let (socket, session) = match greet(config, &known.algorithms()) {
            Ok(greeted) => greeted,
            // Perhaps the server has other keys now: ask for any, to tell the user which.
            Err(Greeting::NoAgreement(_)) if !known.is_empty() => {
                greet(config, &known_hosts::all_algorithms()).map_err(|e| e.into_error(config))?
            }
            Err(error) => return Err(error.into_error(config)),
        };
        known.check(config, &session)?;
        login.perform(&session, config)?;
        let sftp = session.sftp().map_err(|error| {
            StoreError::unreachable(format!("open SFTP on {}", config.host), error)
        })?;
        Ok(Self { sftp, session, socket, used_at: Instant::now() })
    }

    pub fn set_timeout(&self, timeout: Duration) {
        set_timeout(&self.session, timeout);
    }

    /// Remembers that the server was there a moment ago.
    pub fn touch(&mut self) {
        self.used_at = Instant::now();
    }

    /// Whether it can be used again: not closed by the other side, and tried if it was idle for
    /// longer than this.
    pub fn is_good(&self, idle_max: Duration) -> bool {
        // libssh2 made the socket non-blocking.
        match self.socket.peek(&mut [0]) {
            Ok(0) => false,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.used_at.elapsed() < idle_max || self.answers()
            }
            Ok(_) => self.answers(),
            Err(_) => false,
        }
    }

    fn answers(&self) -> bool {
        self.sftp.stat(Path::new(".")).is_ok()
    }

    /// Cuts the line, so that nothing waits for the other side any more: libssh2 would, on each
    /// close.
    pub fn cut(&self) {
        drop(self.socket.shutdown(Shutdown::Both));
    }

    /// Maps an error of a call, and cuts the line if it is broken.
    pub fn failure(&self, step: &str, name: &str, error: ssh2::Error) -> StoreError {
        let error = failure::failure(step, name, error);
        if !error.is_answer() {
            self.cut();
        }
        error
    }

    /// A transfer failed, and the line with it.
    pub fn lost(&self, name: &str, error: io::Error) -> StoreError {
        self.cut();
        StoreError::unreachable(format!("transfer `{name}`: the connection was lost"), error)
    }
}

/// Why two sides did not come to terms.
enum Greeting {
    Unreachable(io::Error),
    NoAgreement(ssh2::Error),
    Broken(ssh2::Error),
}

impl Greeting {
    fn into_error(self, config: &SftpConfig) -> StoreError {
        let what = format!("connect to {}:{}", config.host, config.port);
        match self {
            Self::Unreachable(error) => StoreError::unreachable(what, error),
            Self::NoAgreement(error) | Self::Broken(error) => StoreError::unreachable(what, error),
        }
    }
}

/// Connects and exchanges keys, with one of these host key algorithms.
fn greet(config: &SftpConfig, algorithms: &str) -> Result<(TcpStream, Session), Greeting> {
    let socket = connect(config).map_err(Greeting::Unreachable)?;
    let ours = socket.try_clone().map_err(Greeting::Unreachable)?;
    let mut session = Session::new().map_err(Greeting::Broken)?;
    set_timeout(&session, config.timeout.0);
    session.method_pref(MethodType::HostKey, algorithms).map_err(Greeting::Broken)?;
    session.method_pref(MethodType::CryptCs, CIPHERS).map_err(Greeting::Broken)?;
    session.method_pref(MethodType::CryptSc, CIPHERS).map_err(Greeting::Broken)?;
    session.set_tcp_stream(socket);
    match session.handshake() {
        Ok(()) => Ok((ours, session)),
        Err(error) if failure::is_key_exchange(&error) => Err(Greeting::NoAgreement(error)),
        Err(error) => Err(Greeting::Broken(error)),
    }
}

/// Tries all addresses of the host; the last error counts.
fn connect(config: &SftpConfig) -> io::Result<TcpStream> {
    let mut outcome = Err(io::Error::new(io::ErrorKind::NotFound, "the host has no address"));
    for address in (config.host.as_str(), config.port).to_socket_addrs()? {
        outcome = TcpStream::connect_timeout(&address, config.timeout.0);
        if outcome.is_ok() {
            break;
        }
    }
    let socket = outcome?;
    socket.set_nodelay(true)?;
    keep_alive(&socket, config)?;
    Ok(socket)
}

/// Lets the kernel probe a silent line, and give up what stays unacknowledged.
fn keep_alive(socket: &TcpStream, config: &SftpConfig) -> io::Result<()> {
    let interval = config.keepalive.0.max(Duration::from_secs(1));
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, interval)?;
    sockopt::set_tcp_keepintvl(socket, interval)?;
    sockopt::set_tcp_keepcnt(socket, PROBES_MAX)?;
    sockopt::set_tcp_user_timeout(socket, millis(config.timeout.0))?;
    Ok(())
}

fn set_timeout(session: &Session, timeout: Duration) {
    // Zero would mean for ever.
    session.set_timeout(millis(timeout).max(1));
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
