//! The 16 bytes that name a MySQL server, as `8-4-4-4-12` hexadecimal digits.

use std::fmt;
use std::str::FromStr;

/// Places of the hyphens in the text.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

/// A UUID; nothing is made of its inner structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, byte) in self.0.iter().enumerate() {
            if matches!(place, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl FromStr for Uuid {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let is_formed = text.len() == 36
            && text.bytes().enumerate().all(|(place, byte)| {
                if HYPHENS.contains(&place) { byte == b'-' } else { byte.is_ascii_hexdigit() }
            });
        if !is_formed {
            return Err(());
        }
        let digits = text.replace('-', "");
        let mut bytes = [0; 16];
        for (place, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * place..2 * place + 2], 16).map_err(|_| ())?;
        }
        Ok(Self(bytes))
    }
}
