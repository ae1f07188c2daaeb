//! The state of a server, read in one connection: version and flavour, binary log, positions,
//! Galera, grants, size.
//!
//! [`ServerState::read`] blocks and brings its own runtime, so it must not be called from async
//! code; there is [`connect`] for that. Nothing is changed on the server. Every question has a
//! deadline.

mod state;

use std::time::Duration;

use chassis::config::Secret;
use chassis::failure::{Exit, Failure};
use mysql_async::{Conn, OptsBuilder, SslOpts};

pub use self::state::{GaleraState, ServerState};
use crate::options::{Endpoint, OptionFile};
use crate::tls::Check;

/// How long connecting and reading the state may take altogether.
pub const READ_TIME_MAX: Duration = Duration::from_secs(30);

/// Server error: access denied for a user.
const ACCESS_DENIED: u16 = 1045;

/// Connects as an option file says.
///
/// Fails with a [`Failure`] that tells a refused login from a server that is not there.
pub async fn connect(options: &OptionFile) -> Result<Conn, Failure> {
    let endpoint = options.endpoint();
    let builder = OptsBuilder::default()
        .user(Some(user_of(options)))
        .pass(options.password.as_ref().map(Secret::expose))
        .prefer_socket(false)
        .ssl_opts(tls_of(options));
    let builder = match &endpoint {
        Endpoint::Socket(path) => builder.socket(Some(path.to_string_lossy())),
        Endpoint::Tcp(host, port) => builder.ip_or_hostname(host.as_str()).tcp_port(*port),
    };
    Conn::new(builder).await.map_err(|error| explain(error, options, &endpoint))
}

fn tls_of(options: &OptionFile) -> Option<SslOpts> {
    let check = options.tls.check?;
    // Another crate of the program may bring another provider: then one has to be chosen, once.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let authority = options.tls.authority.iter().map(|path| path.clone().into()).collect();
    let opts = SslOpts::default()
        .with_root_certs(authority)
        .with_disable_built_in_roots(options.tls.authority.is_some())
        .with_danger_accept_invalid_certs(check == Check::Nothing);
    Some(opts)
}

/// The user of an option file, or the system user who runs us, as the tools take it.
pub(crate) fn user_of(options: &OptionFile) -> String {
    options.user.clone().unwrap_or_else(|| {
        let uid = rustix::process::getuid().as_raw();
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let mut entries = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
        entries
            .find(|entry| entry.get(2).is_some_and(|id| *id == uid.to_string()))
            .map_or_else(|| "root".to_owned(), |entry| entry[0].to_owned())
    })
}

fn explain(error: mysql_async::Error, options: &OptionFile, endpoint: &Endpoint) -> Failure {
    let file = options.path.display();
    match error {
        mysql_async::Error::Server(server) if server.code == ACCESS_DENIED => Failure::new(
            Exit::Failed,
            format!("log in to the server at {endpoint}: {}", server.message),
        )
        .hint(format!("check user and password in {file}")),
        mysql_async::Error::Server(server) => Failure::new(
            Exit::Failed,
            format!("log in to the server at {endpoint}: {}", server.message),
        ),
        mysql_async::Error::Io(mysql_async::IoError::Io(cause)) => {
            Failure::new(Exit::Failed, format!("connect to the server at {endpoint}"))
                .hint(format!("check that the server runs, and socket, host and port in {file}"))
                .because(cause)
        }
        other => Failure::new(Exit::Failed, format!("connect to the server at {endpoint}"))
            .because(other.to_string()),
    }
}

/// Runs a future of the server to its end, with a deadline, on a runtime of its own.
pub(crate) fn block_on<T>(
    options: &OptionFile,
    future: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
            Failure::new(Exit::Failed, "start the runtime of a connection").because(error)
        })?;
    let outcome = runtime.block_on(async { tokio::time::timeout(READ_TIME_MAX, future).await });
    outcome.unwrap_or_else(|_| {
        let seconds = READ_TIME_MAX.as_secs();
        let message = format!("server at {} did not answer in {seconds} s", options.endpoint());
        Err(Failure::new(Exit::Failed, message)
            .hint("look at its process list and error log")
            .into())
    })
}
