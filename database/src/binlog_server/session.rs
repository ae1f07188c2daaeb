//! One replica: it logs in, asks a few questions, says what it has, and asks for the log.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use mysql_common::constants::{CapabilityFlags, StatusFlags};
use mysql_common::packets::{AuthPlugin, HandshakePacket};
use mysql_common::proto::MySerialize;
use mysql_common::scramble::{scramble_native, scramble_sha256};

use super::stream::EventStream;
use super::{After, Identity, Login};
use crate::binlog::set_of_bytes;
use crate::gtid::GtidSet;
use crate::replica::Have;
use crate::version::Flavour;

/// Commands of the protocol.
const COM_QUIT: u8 = 1;
const COM_QUERY: u8 = 3;
const COM_BINLOG_DUMP: u8 = 18;
const COM_BINLOG_DUMP_GTID: u8 = 30;
/// An answer without rows that says that all is well.
const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
const END_OF_ROWS: &[u8] = &[0xfe, 0, 0, 2, 0];
/// `caching_sha2_password`: the password was right.
const FAST_AUTH_DONE: &[u8] = &[1, 3];
/// Real servers of MariaDB put this before their version, for old replicas.
const MARIADB_PREFIX: &str = "5.5.5-";
/// utf8mb4_general_ci.
const COLLATION: u8 = 45;
const NONCE_BYTES: usize = 20;
/// How long to wait for a word before looking around.
const POLL: Duration = Duration::from_millis(100);
/// A replica that takes nothing for so long has hung.
const WRITE_TIME_MAX: Duration = Duration::from_hours(12);

pub(super) struct Session<'a> {
    pub stream: EventStream,
    identity: &'a Identity,
    login: &'a Login,
    is_stopped: &'a dyn Fn() -> bool,
    have: Have,
}

impl<'a> Session<'a> {
    pub fn new(
        socket: TcpStream,
        identity: &'a Identity,
        login: &'a Login,
        is_stopped: &'a dyn Fn() -> bool,
    ) -> Result<Self> {
        socket.set_nonblocking(false).context("set up connection")?;
        socket.set_nodelay(true).context("set up connection")?;
        socket.set_read_timeout(Some(POLL)).context("set up connection")?;
        socket.set_write_timeout(Some(WRITE_TIME_MAX)).context("set up connection")?;
        let have = Have::nothing(identity.flavour);
        Ok(Self { stream: EventStream::new(socket), identity, login, is_stopped, have })
    }

    /// Serves it until it leaves, or until it is to stop.
    pub fn run(
        &mut self,
        feed: &mut impl FnMut(&Have, &mut EventStream) -> Result<After>,
    ) -> Result<()> {
        if !self.log_in()? {
            return Ok(());
        }
        while let Some(packet) = self.packet()? {
            let (command, rest) = packet.split_first().context("an empty command")?;
            match *command {
                COM_QUIT => return Ok(()),
                COM_QUERY => self.query(&String::from_utf8_lossy(rest))?,
                COM_BINLOG_DUMP | COM_BINLOG_DUMP_GTID => {
                    if *command == COM_BINLOG_DUMP_GTID {
                        self.have = Have::Set(requested(rest).context("read the replica's set")?);
                    }
                    self.stream.rotation(self.identity.server_id)?;
                    if feed(&self.have, &mut self.stream)? == After::HangUp {
                        return Ok(());
                    }
                    self.stream.flush()?;
                }
                _ => self.stream.send(OK)?,
            }
        }
        Ok(())
    }

    /// The next thing that it says; none if we are to stop.
    fn packet(&mut self) -> Result<Option<Vec<u8>>> {
        while !(self.is_stopped)() {
            if let Some(packet) = self.stream.receive()? {
                return Ok(Some(packet));
            }
        }
        Ok(None)
    }

    fn log_in(&mut self) -> Result<bool> {
        let nonce = nonce();
        let (plugin, expected) = self.expected(&nonce)?;
        let flags = CapabilityFlags::CLIENT_PROTOCOL_41
            | CapabilityFlags::CLIENT_LONG_PASSWORD
            | CapabilityFlags::CLIENT_SECURE_CONNECTION
            | CapabilityFlags::CLIENT_TRANSACTIONS
            | CapabilityFlags::CLIENT_PLUGIN_AUTH;
        let prefix = if self.identity.flavour == Flavour::MariaDb { MARIADB_PREFIX } else { "" };
        let mut first = [0; 8];
        first.copy_from_slice(&nonce[..8]);
        let greeting = HandshakePacket::new(
            10,
            format!("{prefix}{}", self.identity.version).into_bytes(),
            1,
            first,
            Some([&nonce[8..], &[0]].concat()),
            flags,
            COLLATION,
            StatusFlags::SERVER_STATUS_AUTOCOMMIT,
            Some(plugin.as_bytes().to_vec()),
        );
        let mut payload = Vec::new();
        greeting.serialize(&mut payload);
        self.stream.send(&payload)?;
        let Some(packet) = self.packet()? else { return Ok(false) };
        let (user, mut scramble) = login_of(&packet).context("read the replica's login")?;
        let is_user = user == self.login.user.as_bytes();
        if is_user && scramble != expected {
            // It may have tried another way first.
            let switch = [&[0xfe], plugin.as_bytes(), &[0], &nonce[..], &[0]].concat();
            self.stream.send(&switch)?;
            let Some(packet) = self.packet()? else { return Ok(false) };
            scramble = packet;
        }
        if !is_user || scramble != expected {
            self.refuse(1045, "28000", "wrong user or password")?;
            return Ok(false);
        }
        if plugin == AuthPlugin::CachingSha2Password {
            self.stream.send(FAST_AUTH_DONE)?;
        }
        self.stream.send(OK)?;
        Ok(true)
    }

    /// The way of logging in that replicas of a flavour know, and the right answer.
    fn expected(&self, nonce: &[u8]) -> Result<(AuthPlugin<'static>, Vec<u8>)> {
        let password = self.login.password.expose().as_bytes();
        ensure!(!password.is_empty(), "the replica has no password");
        let answer = match self.identity.flavour {
            Flavour::MariaDb => (
                AuthPlugin::MysqlNativePassword,
                scramble_native(nonce, password).map(|bytes| bytes.to_vec()),
            ),
            Flavour::MySql | Flavour::Percona => (
                AuthPlugin::CachingSha2Password,
                scramble_sha256(nonce, password).map(|bytes| bytes.to_vec()),
            ),
        };
        Ok((answer.0, answer.1.context("scramble password")?))
    }

    fn refuse(&mut self, code: u16, state: &str, message: &str) -> Result<()> {
        let mut payload = vec![0xff];
        payload.extend_from_slice(&code.to_le_bytes());
        payload.extend_from_slice(format!("#{state}{message}").as_bytes());
        Ok(self.stream.send(&payload)?)
    }

    /// What a replica asks before it asks for the log.
    fn query(&mut self, text: &str) -> Result<()> {
        let upper = text.to_uppercase();
        if upper.starts_with("SET") {
            if let Some(position) = value_of(text, "@slave_connect_state") {
                self.have = Have::parse(Flavour::MariaDb, &position)
                    .context("read the replica's position")?;
            }
            return Ok(self.stream.send(OK)?);
        }
        let has = |word: &str| upper.contains(word);
        if upper.starts_with("SHOW VARIABLES") && has("SERVER_ID") {
            let id = self.identity.server_id.to_string();
            return self.row(&["server_id", &id]);
        }
        if !upper.starts_with("SELECT") {
            return self.refuse(1064, "42000", "this server has nothing but a binary log");
        }
        let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let answer = match () {
            () if has("UNIX_TIMESTAMP") => seconds.as_secs().to_string(),
            () if has("BINLOG_CHECKSUM") => "CRC32".to_owned(),
            () if has("SERVER_UUID") => "686f6c64-6661-7374-0000-000000000001".to_owned(),
            () if has("SERVER_ID") => self.identity.server_id.to_string(),
            () if has("GTID_MODE") => "ON".to_owned(),
            () if has("GTID_DOMAIN_ID") => "0".to_owned(),
            () => return self.refuse(1193, "HY000", "this server has no such variable"),
        };
        self.row(&[&answer])
    }

    /// One row of texts.
    fn row(&mut self, values: &[&str]) -> Result<()> {
        self.stream.send(&[values.len() as u8])?;
        for _ in values {
            // catalog "def", no names, then: charset, length, type, flags, decimals, filler.
            let mut column = b"\x03def\x00\x00\x00\x01v\x00\x0c".to_vec();
            column.extend_from_slice(&[COLLATION, 0]);
            column.extend_from_slice(&1024_u32.to_le_bytes());
            column.extend_from_slice(&[0xfd, 0, 0, 0, 0, 0]);
            self.stream.send(&column)?;
        }
        self.stream.send(END_OF_ROWS)?;
        let mut row = Vec::new();
        for value in values {
            row.push(value.len() as u8);
            row.extend_from_slice(value.as_bytes());
        }
        self.stream.send(&row)?;
        Ok(self.stream.send(END_OF_ROWS)?)
    }
}

/// User and scrambled password. What comes behind depends on flags that clients set as they like.
fn login_of(packet: &[u8]) -> Option<(&[u8], Vec<u8>)> {
    // Flags, longest packet, collation, filler.
    let rest = packet.get(4 + 4 + 1 + 23..)?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    let (user, rest) = (&rest[..end], &rest[end + 1..]);
    let length = usize::from(*rest.first()?);
    Some((user, rest.get(1..=length)?.to_vec()))
}

/// The text that a variable is set to.
fn value_of(statement: &str, variable: &str) -> Option<String> {
    let (_, rest) = statement.split_once(variable)?;
    let rest = rest.trim_start().strip_prefix('=')?.trim_start().strip_prefix('\'')?;
    Some(rest.split('\'').next().unwrap_or_default().to_owned())
}

/// The set in a request for the log: flags, id, name of a file, position, and then the set.
fn requested(rest: &[u8]) -> Result<GtidSet> {
    let number = |at: usize| {
        let bytes = rest.get(at..at + 4).context("it is cut short")?;
        Ok::<_, anyhow::Error>(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize)
    };
    let name_length = number(6)?;
    let at = 10 + name_length.min(rest.len()) + 8;
    let length = number(at)?;
    let Some(bytes) = rest.get(at + 4..at + 4 + length) else { bail!("it is cut short") };
    set_of_bytes(bytes).context("it is no set")
}

fn nonce() -> [u8; NONCE_BYTES] {
    let nonce = rand::random::<[u8; NONCE_BYTES]>();
    // A zero would end it, and a dollar has a meaning to some clients.
    nonce.map(|byte| b'0' + byte % 75)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_is_found_in_what_a_replica_sets() {
        let set = "SET @slave_connect_state='0-1-100,5-2-7'";
        assert_eq!(value_of(set, "@slave_connect_state").as_deref(), Some("0-1-100,5-2-7"));
        assert_eq!(
            value_of("SET @slave_connect_state=''", "@slave_connect_state").as_deref(),
            Some("")
        );
        assert_eq!(value_of("SET @x=1", "@slave_connect_state"), None);
    }
}
