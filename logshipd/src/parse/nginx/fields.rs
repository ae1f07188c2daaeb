//! The variables of nginx that have a field of their own.

/// What a variable becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    RemoteAddress,
    RemotePort,
    RemoteUser,
    Forwarded,
    TimeLocal,
    TimeIso,
    TimeUnix,
    Request,
    Method,
    Uri,
    Arguments,
    Protocol,
    Status,
    BodyBytes,
    BytesSent,
    RequestBytes,
    Referrer,
    Agent,
    Host,
    ServerName,
    ServerAddress,
    ServerPort,
    Scheme,
    Duration,
    UpstreamResponseTime,
    UpstreamHeaderTime,
    UpstreamConnectTime,
    UpstreamAddress,
    UpstreamStatus,
    CacheStatus,
    RequestId,
    TlsProtocol,
    TlsCipher,
    Connection,
    ConnectionRequests,
    /// Read and not kept: another variable of the format says the same and more.
    Repeated,
    /// Without a field; the key that it gets.
    Other(Box<str>),
}

impl Field {
    pub(super) fn of(name: &str) -> Self {
        match name {
            "remote_addr" | "realip_remote_addr" | "binary_remote_addr" => Self::RemoteAddress,
            "remote_port" | "realip_remote_port" => Self::RemotePort,
            "remote_user" => Self::RemoteUser,
            "http_x_forwarded_for" | "proxy_add_x_forwarded_for" => Self::Forwarded,
            "time_local" => Self::TimeLocal,
            "time_iso8601" => Self::TimeIso,
            "msec" => Self::TimeUnix,
            "request" => Self::Request,
            "request_method" => Self::Method,
            "request_uri" | "uri" | "document_uri" => Self::Uri,
            "args" | "query_string" => Self::Arguments,
            "server_protocol" => Self::Protocol,
            "status" => Self::Status,
            "body_bytes_sent" => Self::BodyBytes,
            "bytes_sent" => Self::BytesSent,
            "request_length" => Self::RequestBytes,
            "http_referer" => Self::Referrer,
            "http_user_agent" => Self::Agent,
            "host" | "http_host" => Self::Host,
            "server_name" => Self::ServerName,
            "server_addr" => Self::ServerAddress,
            "server_port" => Self::ServerPort,
            "scheme" => Self::Scheme,
            "request_time" => Self::Duration,
            "upstream_response_time" => Self::UpstreamResponseTime,
            "upstream_header_time" => Self::UpstreamHeaderTime,
            "upstream_connect_time" => Self::UpstreamConnectTime,
            "upstream_addr" => Self::UpstreamAddress,
            "upstream_status" => Self::UpstreamStatus,
            "upstream_cache_status" => Self::CacheStatus,
            "request_id" | "http_x_request_id" => Self::RequestId,
            "ssl_protocol" => Self::TlsProtocol,
            "ssl_cipher" => Self::TlsCipher,
            "connection" => Self::Connection,
            "connection_requests" => Self::ConnectionRequests,
            _ => {
                let is_key = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
                let name: String =
                    name.chars().filter(|c| is_key(*c as u8) && c.is_ascii()).collect();
                Self::Other(format!("nginx.access.variable.{name}").into())
            }
        }
    }

    /// The value itself shows where it ends.
    pub(super) fn is_told_from_next(&self) -> bool {
        matches!(
            self,
            Self::TimeLocal
                | Self::TimeIso
                | Self::Status
                | Self::Uri
                | Self::Host
                | Self::Scheme
                | Self::BodyBytes
                | Self::BytesSent
                | Self::RequestBytes
        )
    }

    /// How long a value is at the beginning of a text, if it shows where it ends.
    pub(super) fn length(&self, text: &[u8]) -> usize {
        let run = |satisfies: fn(u8) -> bool| {
            text.iter().position(|&byte| !satisfies(byte)).unwrap_or(text.len())
        };
        match self {
            Self::TimeLocal => 26.min(text.len()),
            Self::TimeIso => 25.min(text.len()),
            Self::Status => 3.min(text.len()),
            Self::Uri => run(|byte| byte != b'?' && byte != b' ' && byte != b'"'),
            Self::Host => run(|byte| byte != b'/' && byte != b' ' && byte != b'"'),
            Self::Scheme => run(|byte| byte.is_ascii_lowercase()),
            _ => run(|byte| byte.is_ascii_digit()),
        }
    }
}

/// A key is written once: of two variables that say the same, the one that says more is kept.
pub(super) fn keep_one_of_each(fields: &mut [Field]) {
    let has = |fields: &[Field], field: &Field| fields.contains(field);
    let has_request = has(fields, &Field::Request);
    let has_unix = has(fields, &Field::TimeUnix);
    let has_local = has(fields, &Field::TimeLocal);
    for index in 0..fields.len() {
        let is_repeated = match fields[index] {
            Field::Method | Field::Uri | Field::Arguments | Field::Protocol => has_request,
            Field::TimeLocal => has_unix,
            Field::TimeIso => has_unix || has_local,
            _ => false,
        };
        if is_repeated || fields[..index].contains(&fields[index]) {
            fields[index] = Field::Repeated;
        }
    }
}
