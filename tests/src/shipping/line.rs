//! A line that says which one it is, and whether it is whole.

use std::fmt;

use crate::tree::Dice;

/// Which line it is: of which log, and the how-manieth of it. Every line is written once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Line {
    /// The number of the log.
    pub log: u32,
    /// Counted from 0.
    pub number: u64,
}

/// Why a text is not a line of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineError {
    /// It has not the form.
    Form,
    /// It has the form, but not the checksum.
    Checksum,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} of log {}", self.number, self.log)
    }
}

impl Line {
    /// Its text without an end: `log number padding checksum`. Now and then the padding is long.
    pub fn text(self, seed: u64) -> String {
        let own = (u64::from(self.log) << 40) ^ self.number;
        let mut dice = Dice::new(seed ^ own.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let length = if dice.once_in(50) { dice.below(9000) } else { dice.below(160) };
        let letters = ["a", "Z", "0", "ä", "€", "\"", "\\", "\t", "-", "🙂"];
        let padding: String = (0..length).map(|_| *dice.pick(&letters)).collect();
        let text = format!("{} {} x{padding}x", self.log, self.number);
        format!("{text} {:08x}", crc32fast::hash(text.as_bytes()))
    }

    /// Which line a text is.
    pub fn parse(text: &str) -> Result<Self, LineError> {
        let (rest, sum) = text.rsplit_once(' ').ok_or(LineError::Form)?;
        let sum = u32::from_str_radix(sum, 16).map_err(|_| LineError::Form)?;
        let mut words = rest.splitn(3, ' ');
        let log = words.next().and_then(|word| word.parse().ok()).ok_or(LineError::Form)?;
        let number = words.next().and_then(|word| word.parse().ok()).ok_or(LineError::Form)?;
        if crc32fast::hash(rest.as_bytes()) != sum {
            return Err(LineError::Checksum);
        }
        Ok(Self { log, number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written_and_a_part_of_it_is_not() {
        for number in 0..300 {
            let line = Line { log: 3, number };
            let text = line.text(9);
            assert_eq!(Line::parse(&text), Ok(line));
            let shorter: String = text.chars().take(text.chars().count() - 1).collect();
            assert!(Line::parse(&shorter).is_err());
            assert_eq!(Line::parse(&text.replacen('x', "y", 1)), Err(LineError::Checksum));
        }
    }
}
