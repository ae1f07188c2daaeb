//! A `log-format` as elements: variables, samples and the literals between them.

/// A format has this many bytes at most.
pub const FORMAT_BYTES_MAX: usize = 16 * 1024;

/// Why a `log-format` cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatProblem {
    /// Nothing tells where the first ends and the second begins.
    #[error("nothing is between `{0}` and `{1}`, so their values cannot be told apart")]
    Adjacent(String, String),
    /// A format of literals only.
    #[error("it holds no variable")]
    NoVariable,
    /// `%` with nothing that HAProxy knows behind it.
    #[error("`%` at byte {0} begins no variable")]
    BadVariable(usize),
    /// Longer than any that is written by people.
    #[error("it is longer than {FORMAT_BYTES_MAX} bytes")]
    TooLong,
    /// More formats than a configuration has.
    #[error("there are more than {max} formats", max = super::CUSTOM_FORMATS_MAX)]
    TooMany,
}

/// A literal and the variable behind it.
#[derive(Clone, Debug)]
pub(super) struct Element {
    pub field: Field,
    /// What follows the value.
    pub literal: Box<[u8]>,
}

/// What a variable becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// What is before the first variable.
    Begin,
    ClientAddress,
    ClientPort,
    /// Local time with milliseconds.
    Time,
    /// `%T` and `%Tl`: with the offset.
    TimeZoned,
    /// `%Ts` and `%ms` beside it.
    TimeUnix,
    Frontend,
    /// With `~` behind it where TLS was spoken.
    FrontendTls,
    Long(&'static str),
    /// A list separated by commas has `+` where `option logasap` is set.
    Duration,
    Status,
    Bytes,
    Text(&'static str),
    Retries,
    Termination,
    RequestHeaders,
    ResponseHeaders,
    Request,
    Uri,
    Version,
    Hexadecimal(&'static str),
    Flag(&'static str),
    TlsVersion,
    /// Read and not kept.
    Ignored,
    /// Without a field; the key that it gets.
    Other(Box<str>),
}

impl Field {
    #[rustfmt::skip]
    fn of(name: &str) -> Self {
        match name {
            "ci" | "[src]" => Self::ClientAddress,
            "cp" | "[src_port]" => Self::ClientPort,
            "t" | "tr" => Self::Time,
            "T" | "Tl" | "trg" | "trl" => Self::TimeZoned,
            "Ts" => Self::TimeUnix,
            "f" => Self::Frontend,
            "ft" => Self::FrontendTls,
            "b" => Self::Text("haproxy.backend_name"),
            "s" => Self::Text("haproxy.server_name"),
            "si" => Self::Text("destination.address"),
            "sp" => Self::Long("destination.port"),
            "TR" => Self::Long("haproxy.http.request.time_wait_ms"),
            "Tr" => Self::Long("haproxy.http.request.time_wait_without_data_ms"),
            "Tw" => Self::Long("haproxy.total_waiting_time_ms"),
            "Tc" => Self::Long("haproxy.connection_wait_time_ms"),
            "Th" => Self::Long("haproxy.handshake_time_ms"),
            "Ti" => Self::Long("haproxy.idle_time_ms"),
            "Td" => Self::Long("haproxy.data_time_ms"),
            "Tq" => Self::Long("haproxy.http.request.time_total_ms"),
            "Ta" | "Tt" => Self::Duration,
            "ST" => Self::Status,
            "B" => Self::Bytes,
            "U" => Self::Long("http.request.bytes"),
            "CC" => Self::Text("haproxy.http.request.captured_cookie"),
            "CS" => Self::Text("haproxy.http.response.captured_cookie"),
            "ts" | "tsc" => Self::Termination,
            "ac" => Self::Long("haproxy.connections.active"),
            "fc" => Self::Long("haproxy.connections.frontend"),
            "bc" => Self::Long("haproxy.connections.backend"),
            "sc" => Self::Long("haproxy.connections.server"),
            "rc" => Self::Retries,
            "sq" => Self::Long("haproxy.server_queue"),
            "bq" => Self::Long("haproxy.backend_queue"),
            "hr" | "hrl" => Self::RequestHeaders,
            "hs" | "hsl" => Self::ResponseHeaders,
            "r" => Self::Request,
            "HM" => Self::Text("http.request.method"),
            "HU" | "HP" | "HPO" => Self::Uri,
            "HQ" => Self::Text("url.query"),
            "HV" => Self::Version,
            "ID" | "[unique-id]" => Self::Text("http.request.id"),
            "H" | "pid" => Self::Ignored,
            "sslv" => Self::TlsVersion,
            "sslc" => Self::Text("tls.cipher"),
            "[fc_err]" => Self::Long("haproxy.connections.fc_err"),
            "[ssl_fc_err,hex]" => Self::Hexadecimal("haproxy.connections.ssl_fc_err"),
            "[ssl_fc_err]" => Self::Long("haproxy.connections.ssl_fc_err"),
            "[ssl_c_err]" => Self::Long("haproxy.connections.ssl_c_err"),
            "[ssl_c_ca_err]" => Self::Long("haproxy.connections.ssl_c_ca_err"),
            "[ssl_fc_is_resumed]" => Self::Flag("tls.resumed"),
            "[ssl_fc_sni]" => Self::Text("tls.client.server_name"),
            _ if name.contains("req.hdr(host)") || name.contains("hdr(host)") => Self::Text("url.domain"),
            _ if name.to_ascii_lowercase().contains("hdr(user-agent)") => Self::Text("user_agent.original"),
            _ if name.to_ascii_lowercase().contains("hdr(referer)") => Self::Text("http.request.referrer"),
            _ => {
                let is_key = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
                let name = name.replace(['.', '(', ','], "_");
                let name: String = name.chars().filter(is_key).collect();
                Self::Other(format!("haproxy.variable.{name}").into())
            }
        }
    }

    /// Two fields that write the same key.
    fn repeats(&self, other: &Self) -> bool {
        let key = |field: &Self| match field {
            Self::Frontend | Self::FrontendTls => "frontend",
            Self::Time | Self::TimeZoned | Self::TimeUnix => "time",
            Self::Uri | Self::Request => "request",
            _ => "",
        };
        let name = |field: &Self| match field {
            Self::Long(name) | Self::Text(name) | Self::Hexadecimal(name) | Self::Flag(name) => {
                *name
            }
            _ => "",
        };
        let part_of_request = |field: &Self| {
            matches!(field, Self::Version | Self::Text("http.request.method" | "url.query"))
        };
        self == other && !matches!(self, Self::Ignored | Self::Begin)
            || !key(self).is_empty() && key(self) == key(other)
            || !name(self).is_empty() && name(self) == name(other)
            || *other == Self::Request && part_of_request(self)
    }
}

/// Compiles the text of a `log-format`.
pub(super) fn compile(text: &str) -> Result<super::LogFormat, FormatProblem> {
    if text.len() > FORMAT_BYTES_MAX {
        return Err(FormatProblem::TooLong);
    }
    let parts = split(text)?;
    if parts.len() < 2 {
        return Err(FormatProblem::NoVariable);
    }
    let mut unknown = Vec::new();
    let mut elements: Vec<Element> = Vec::with_capacity(parts.len());
    // What says less comes second: the request line before its parts.
    let has_request = parts.iter().any(|part| part.name == "r");
    for (index, part) in parts.iter().enumerate() {
        let mut field = if index == 0 { Field::Begin } else { Field::of(part.name) };
        if let Field::Other(_) = field {
            unknown.push(format!("%{}", part.name));
        }
        let is_repeated = elements.iter().any(|element| field.repeats(&element.field))
            || has_request && field != Field::Request && field.repeats(&Field::Request);
        if is_repeated {
            field = Field::Ignored;
        }
        let is_last = index + 1 == parts.len();
        if index > 0 && !is_last && part.literal.is_empty() {
            let next = parts[index + 1].name;
            return Err(FormatProblem::Adjacent(format!("%{}", part.name), format!("%{next}")));
        }
        elements.push(Element { field, literal: part.literal.clone().into_bytes().into() });
    }
    Ok(super::LogFormat { elements, unknown })
}

struct Part<'a> {
    name: &'a str,
    /// What is behind it, with the quotes that `{+Q}` puts around the value moved into it.
    literal: String,
}

/// The parts; the first has no name.
fn split(text: &str) -> Result<Vec<Part<'_>>, FormatProblem> {
    let mut parts = vec![Part { name: "", literal: String::new() }];
    let mut quotes_all = false;
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let place = text.len() - rest.len() + at;
        let last = parts.len() - 1;
        parts[last].literal.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(behind) = rest.strip_prefix('%') {
            parts[last].literal.push('%');
            rest = behind;
            continue;
        }
        let mut is_quoted = quotes_all;
        if let Some(behind) = rest.strip_prefix('{') {
            let (inside, behind) =
                behind.split_once('}').ok_or(FormatProblem::BadVariable(place))?;
            let flags = inside;
            is_quoted = (is_quoted || flags.contains("+Q")) && !flags.contains("-Q");
            rest = behind;
        }
        let length = name_length(rest).ok_or(FormatProblem::BadVariable(place))?;
        let (name, behind) = rest.split_at(length);
        rest = behind;
        if name == "o" {
            // `%{+Q}o` sets flags for all that follow, and prints nothing; a blank behind it is its own.
            quotes_all = is_quoted;
            rest = rest.strip_prefix(' ').unwrap_or(rest);
            continue;
        }
        let quote = if is_quoted { "\"" } else { "" };
        parts[last].literal.push_str(quote);
        parts.push(Part { name, literal: quote.to_owned() });
    }
    let last = parts.len() - 1;
    parts[last].literal.push_str(rest);
    Ok(parts)
}

/// How long the name of a variable is, or a sample with its brackets.
fn name_length(text: &str) -> Option<usize> {
    if text.starts_with('[') {
        let mut depth = 0_usize;
        for (at, byte) in text.bytes().enumerate() {
            match byte {
                b'(' => depth += 1,
                b')' => depth = depth.saturating_sub(1),
                b']' if depth == 0 => return Some(at + 1),
                _ => {}
            }
        }
        return None;
    }
    let length = text.bytes().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(text.len());
    (length > 0).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Vec<(String, String)> {
        let of = |part: &Part| (part.name.to_owned(), part.literal.clone());
        split(text).unwrap().iter().map(of).collect()
    }

    fn check(text: &str, expected: &[(&str, &str)]) {
        let owned = |(name, literal): &(&str, &str)| ((*name).to_owned(), (*literal).to_owned());
        assert_eq!(parts(text), expected.iter().map(owned).collect::<Vec<_>>(), "{text}");
    }

    #[test]
    fn a_format_is_split_at_its_variables() {
        check("%ci:%cp [%tr]", &[("", ""), ("ci", ":"), ("cp", " ["), ("tr", "]")]);
        check("a%%b %{+Q}r", &[("", "a%b \""), ("r", "\"")]);
        check("%{+Q}o %t %s", &[("", "\""), ("t", "\" \""), ("s", "\"")]);
        check("x=%[var(txn.a),hex]", &[("", "x="), ("[var(txn.a),hex]", "")]);
    }

    #[test]
    fn a_format_that_cannot_be_read_back_is_refused() {
        let problem = |text: &str| compile(text).unwrap_err();
        assert_eq!(problem("%ci%cp"), FormatProblem::Adjacent("%ci".into(), "%cp".into()));
        assert_eq!(problem("x"), FormatProblem::NoVariable);
        assert_eq!(problem("x % y"), FormatProblem::BadVariable(2));
        assert_eq!(problem("%{+Q"), FormatProblem::BadVariable(0));
        assert_eq!(problem("%[a(b"), FormatProblem::BadVariable(0));
    }

    #[test]
    fn a_key_is_written_once() {
        let format = compile("%[ssl_fc_err] %[ssl_fc_err,hex] %ci %[src]").unwrap();
        let fields: Vec<&Field> = format.elements.iter().map(|element| &element.field).collect();
        let errors = Field::Long("haproxy.connections.ssl_fc_err");
        assert_eq!(fields[1..], [&errors, &Field::Ignored, &Field::ClientAddress, &Field::Ignored]);
    }

    #[test]
    fn the_formats_of_haproxy_compile() {
        let formats = super::super::Formats::default();
        for format in [&formats.http, &formats.https, &formats.tcp] {
            assert_eq!(format.unknown, Vec::<String>::new());
        }
    }
}
