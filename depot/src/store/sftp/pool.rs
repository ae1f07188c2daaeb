//! A few connections, lent to one caller each.
//!
//! Whoever comes when all are lent waits for one; the wait ends because every call has its own
//! deadline. A connection comes back only if the server's last answer made sense; otherwise it is
//! cut and made again.

use std::sync::{Condvar, Mutex, MutexGuard};

use super::connection::Connection;
use super::login::Login;
use super::{SftpConfig, StoreError};

pub(super) struct Pool {
    config: SftpConfig,
    login: Login,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Default)]
struct State {
    idle: Vec<Connection>,
    lent: usize,
}

/// The right to one connection; given back on drop, come what may.
struct Permit<'a>(&'a Pool);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.lock().lent -= 1;
        self.0.freed.notify_one();
    }
}

impl Pool {
    pub fn new(config: SftpConfig, login: Login) -> Self {
        Self { config, login, state: Mutex::default(), freed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// Does some work on a connection.
    pub fn with<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let permit = self.permit();
        let mut connection = self.connect()?;
        let outcome = work(&connection);
        if outcome.as_ref().err().is_none_or(StoreError::is_answer) {
            connection.touch();
            self.lock().idle.push(connection);
        } else {
            connection.cut();
        }
        drop(permit);
        outcome
    }

    fn permit(&self) -> Permit<'_> {
        let most = self.config.connections.max(1);
        let mut state = self
            .freed
            .wait_while(self.lock(), |state| state.lent >= most)
            .expect("no holder of this lock panics");
        state.lent += 1;
        Permit(self)
    }

    /// The connection used last if it is still good, else a new one.
    fn connect(&self) -> Result<Connection, StoreError> {
        loop {
            let idle = self.lock().idle.pop();
            match idle {
                Some(connection) if connection.is_good(self.config.keepalive.0) => {
                    return Ok(connection);
                }
                Some(connection) => connection.cut(),
                None => return Connection::open(&self.config, &self.login),
            }
        }
    }
}
