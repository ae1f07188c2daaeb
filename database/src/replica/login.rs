//! Logging in: the ways of both flavours, encrypted first if the option file says so.

use chassis::config::Secret;
use mysql_common::constants::CapabilityFlags;
use mysql_common::io::ParseBuf;
use mysql_common::packets::{AuthPlugin, HandshakePacket, HandshakeResponse, SslRequest};
use mysql_common::proto::MySerialize;

use super::packets::Wire;
use super::{ReplicaError, query};
use crate::options::{Endpoint, OptionFile};
use crate::server::user_of;

/// What the server may send, and we.
const PACKET_BYTES_MAX: u32 = 1 << 30;
/// `utf8mb4_general_ci`.
const UTF8MB4: u8 = 45;
/// Answers of `caching_sha2_password`.
const FAST_AUTH_DONE: &[u8] = &[1, 3];
const FULL_AUTH_WANTED: &[u8] = &[1, 4];
const KEY_WANTED: &[u8] = &[2];

/// Logs in as an option file says.
pub(super) fn log_in(wire: &mut Wire, options: &OptionFile) -> Result<(), ReplicaError> {
    let greeting = wire.packet()?;
    let protocol = |what: &str| ReplicaError::Protocol(what.to_owned());
    let greeting: HandshakePacket<'_> =
        ParseBuf(&greeting).parse(()).map_err(|_| protocol("the greeting"))?;
    let password = options.password.as_ref().map(Secret::expose).unwrap_or_default();
    let plugin = greeting.auth_plugin().unwrap_or(AuthPlugin::MysqlNativePassword).into_owned();
    let nonce = greeting.nonce();
    let data = answer(&plugin, password, &nonce);
    let wanted = CapabilityFlags::CLIENT_PROTOCOL_41
        | CapabilityFlags::CLIENT_LONG_PASSWORD
        | CapabilityFlags::CLIENT_SECURE_CONNECTION
        | CapabilityFlags::CLIENT_TRANSACTIONS
        | CapabilityFlags::CLIENT_PLUGIN_AUTH
        | CapabilityFlags::CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA;
    let wanted = encrypt(wire, options, wanted, greeting.capabilities())?;
    let response = HandshakeResponse::new(
        Some(data),
        greeting.server_version_parsed().unwrap_or((5, 6, 0)),
        Some(user_of(options).into_bytes()),
        None::<Vec<u8>>,
        Some(plugin.clone()),
        wanted & greeting.capabilities(),
        None,
        PACKET_BYTES_MAX,
    );
    let mut payload = Vec::new();
    response.serialize(&mut payload);
    wire.send(&payload)?;
    finish(wire, plugin, password, nonce)?;
    query(wire, "SET NAMES utf8mb4").map(drop)
}

/// Asks for TLS before anything is said that others should not hear.
fn encrypt(
    wire: &mut Wire,
    options: &OptionFile,
    wanted: CapabilityFlags,
    offered: CapabilityFlags,
) -> Result<CapabilityFlags, ReplicaError> {
    let (Endpoint::Tcp(host, _), Some(_)) = (options.endpoint(), options.tls.check) else {
        return Ok(wanted);
    };
    if !offered.contains(CapabilityFlags::CLIENT_SSL) {
        return Err(ReplicaError::Protocol(
            "it has no TLS, which the option file wants".to_owned(),
        ));
    }
    let wanted = wanted | CapabilityFlags::CLIENT_SSL;
    let mut request = Vec::new();
    SslRequest::new(wanted & offered, PACKET_BYTES_MAX, UTF8MB4).serialize(&mut request);
    wire.send(&request)?;
    wire.encrypt(&options.tls, &host)?;
    Ok(wanted)
}

/// Answers what the server still wants to know, until it says yes or no.
fn finish(
    wire: &mut Wire,
    mut plugin: AuthPlugin<'static>,
    password: &str,
    mut nonce: Vec<u8>,
) -> Result<(), ReplicaError> {
    loop {
        let packet = wire.packet()?;
        match packet.first() {
            Some(0) => return Ok(()),
            Some(0xfe) => {
                let rest = &packet[1..];
                let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
                plugin = AuthPlugin::from_bytes(&rest[..end]).into_owned();
                let data = rest.get(end + 1..).unwrap_or_default();
                nonce = data.strip_suffix(&[0]).unwrap_or(data).to_vec();
                wire.send(&answer(&plugin, password, &nonce))?;
            }
            Some(1) if packet == FAST_AUTH_DONE => {}
            Some(1) if packet == FULL_AUTH_WANTED => send_password(wire, password, &nonce)?,
            _ => return Err(ReplicaError::Protocol(format!("login by {plugin:?}"))),
        }
    }
}

/// The answer to a nonce.
fn answer(plugin: &AuthPlugin<'_>, password: &str, nonce: &[u8]) -> Vec<u8> {
    match plugin {
        AuthPlugin::CachingSha2Password | AuthPlugin::MysqlNativePassword | AuthPlugin::Ed25519 => {
            plugin.gen_data(Some(password), nonce).map(|data| data.to_vec()).unwrap_or_default()
        }
        // Such as `unix_socket`: the server looks who is at the other end.
        _ => Vec::new(),
    }
}

/// `caching_sha2_password` wants the password itself the first time: in the clear over a socket, to
/// the server's key over a network.
fn send_password(wire: &mut Wire, password: &str, nonce: &[u8]) -> Result<(), ReplicaError> {
    let mut secret = password.as_bytes().to_vec();
    secret.push(0);
    if wire.is_private {
        return wire.send(&secret);
    }
    wire.send(KEY_WANTED)?;
    let answer = wire.packet()?;
    let key = answer.get(1..).unwrap_or_default();
    if !key.starts_with(b"-----BEGIN PUBLIC KEY") || nonce.is_empty() {
        return Err(ReplicaError::Protocol("the server's public key".to_owned()));
    }
    for (place, byte) in secret.iter_mut().enumerate() {
        *byte ^= nonce[place % nonce.len()];
    }
    wire.send(&mysql_common::crypto::encrypt(&secret, key))
}
