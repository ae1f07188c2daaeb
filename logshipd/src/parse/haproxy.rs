//! What HAProxy logs: requests and connections by its `log-format`, errors of connections, and what
//! becomes of servers, backends and the process itself. The header of syslog is already taken off.
//!
//! Source: `doc/configuration.txt` chapter 8 and `src/server.c` of HAProxy 2.2 to 3.2.

mod fields;
mod line;
mod state;

pub use fields::FormatProblem;
use fields::{Element, compile};

use crate::document::Document;

use super::{Context, Unparsed};

/// `option httplog`; the captured headers are there only if some are captured.
const HTTP: &str = "%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc \
                    %ac/%fc/%bc/%sc/%rc %sq/%bq %hr %hs %{+Q}r";
/// `option httpslog`
const HTTPS: &str = "%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc \
                     %ac/%fc/%bc/%sc/%rc %sq/%bq %hr %hs %{+Q}r %[fc_err]/%[ssl_fc_err,hex]/\
                     %[ssl_c_err]/%[ssl_c_ca_err]/%[ssl_fc_is_resumed] %[ssl_fc_sni]/%sslv/%sslc";
/// `option tcplog`
const TCP: &str = "%ci:%cp [%t] %ft %b/%s %Tw/%Tc/%Tt %B %ts %ac/%fc/%bc/%sc/%rc %sq/%bq";

/// A `log-format` that is compiled.
#[derive(Clone, Debug)]
pub struct LogFormat {
    elements: Vec<Element>,
    /// Samples and variables that this program has no field for.
    pub unknown: Vec<String>,
}

/// The formats that lines of an HAProxy may have; the first that fits is taken.
#[derive(Clone, Debug)]
pub struct Formats {
    custom: Vec<LogFormat>,
    http: LogFormat,
    https: LogFormat,
    tcp: LogFormat,
}

/// Formats of its own that an HAProxy has at most.
pub const CUSTOM_FORMATS_MAX: usize = 16;

impl Default for Formats {
    fn default() -> Self {
        let own = |text| compile(text).expect("a test compiles it");
        Self { custom: Vec::new(), http: own(HTTP), https: own(HTTPS), tcp: own(TCP) }
    }
}

impl Formats {
    /// Also lines of a `log-format` or `error-log-format` of the configuration, its quotes removed.
    pub fn add(&mut self, log_format: &str) -> Result<&LogFormat, FormatProblem> {
        if self.custom.len() == CUSTOM_FORMATS_MAX {
            return Err(FormatProblem::TooMany);
        }
        let format = compile(log_format)?;
        self.custom.push(format);
        Ok(&self.custom[self.custom.len() - 1])
    }

    /// Writes the fields of a message.
    pub(super) fn parse(
        &self,
        message: &[u8],
        context: &Context,
        to: &mut Document,
    ) -> Result<(), Unparsed> {
        let mark = to.mark();
        for format in &self.custom {
            if format.parse(message, context, to).is_some() {
                return Ok(());
            }
            to.roll_back(mark);
        }
        if message.first().is_some_and(|&b| b.is_ascii_uppercase() || b == b'[')
            && state::parse(message, context, to).is_some()
        {
            return Ok(());
        }
        to.roll_back(mark);
        let own = if message.ends_with(b"\"") {
            [&self.http, &self.https, &self.tcp]
        } else {
            [&self.tcp, &self.https, &self.http]
        };
        for format in own {
            if format.parse(message, context, to).is_some() {
                return Ok(());
            }
            to.roll_back(mark);
        }
        if state::connection_error(message, context, to).is_some() {
            return Ok(());
        }
        to.roll_back(mark);
        state::other(message, context, to)
    }
}
