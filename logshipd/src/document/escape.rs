//! JSON strings: runs that need no escape are found eight bytes at a time and copied whole.

/// Appends a value in quotes.
#[inline]
pub(super) fn string(json: &mut Vec<u8>, value: &[u8]) {
    json.reserve(value.len() + 3);
    json.push(b'"');
    let plain = plain_run(value);
    json.extend_from_slice(&value[..plain]);
    if plain < value.len() {
        rest(json, &value[plain..]);
    }
    json.push(b'"');
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// How many bytes at the beginning are printable ASCII other than `"` and `\`.
#[inline]
fn plain_run(value: &[u8]) -> usize {
    let (chunks, tail) = value.as_chunks::<8>();
    for (index, chunk) in chunks.iter().enumerate() {
        let odd = odd_bytes(u64::from_le_bytes(*chunk));
        if odd != 0 {
            return index * 8 + odd.trailing_zeros() as usize / 8;
        }
    }
    let at = tail.iter().position(|&byte| !is_plain(byte)).unwrap_or(tail.len());
    value.len() - tail.len() + at
}

/// The high bit of each byte that is not plain; exact for the lowest such byte.
#[inline]
fn odd_bytes(word: u64) -> u64 {
    let quotes = word ^ (ONES * u64::from(b'"'));
    let slashes = word ^ (ONES * u64::from(b'\\'));
    let is_zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let is_control = word.wrapping_sub(ONES * 0x20) & !word;
    (is_zero(quotes) | is_zero(slashes) | is_control | word) & HIGHS
}

#[inline]
fn is_plain(byte: u8) -> bool {
    (0x20..0x80).contains(&byte) && byte != b'"' && byte != b'\\'
}

#[cold]
fn rest(json: &mut Vec<u8>, value: &[u8]) {
    for chunk in value.utf8_chunks() {
        let mut text = chunk.valid().as_bytes();
        while let Some(at) =
            text.iter().position(|&byte| byte < 0x20 || matches!(byte, b'"' | b'\\'))
        {
            json.extend_from_slice(&text[..at]);
            character(json, text[at]);
            text = &text[at + 1..];
        }
        json.extend_from_slice(text);
        if !chunk.invalid().is_empty() {
            json.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

fn character(json: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' | b'\\' => json.extend_from_slice(&[b'\\', byte]),
        b'\n' => json.extend_from_slice(b"\\n"),
        b'\r' => json.extend_from_slice(b"\\r"),
        b'\t' => json.extend_from_slice(b"\\t"),
        _ => {
            let [high, low] = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
            json.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_at_each_place_is_told_right() {
        for byte in 0..=255_u8 {
            for place in 0..20 {
                let mut value = vec![b'a'; 20];
                value[place] = byte;
                let expected = if is_plain(byte) { 20 } else { place };
                assert_eq!(plain_run(&value), expected, "{byte} at {place}");
            }
        }
    }
}
