//! Reading and writing the TLS presentation language as RFC 9420 §2.1 uses it. The reader never
//! copies, never allocates, and accepts one encoding only.

use crate::error::MalformedError;

/// Appends encoded values to a buffer.
#[derive(Debug, Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    /// The bytes as they are, without a length.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// `opaque value<V>`: the shortest variable-size length (RFC 9420 §2.1.2), then the bytes.
    /// Nothing of ours comes near the limit of 2^30 bytes.
    pub(crate) fn opaque(&mut self, bytes: &[u8]) {
        let length = bytes.len() as u64;
        debug_assert!(length < 1 << 30);
        match length {
            0..=0x3f => self.u8(length as u8),
            0x40..=0x3fff => self.u16(0x4000 | length as u16),
            _ => self.u32(0x8000_0000 | length as u32),
        }
        self.raw(bytes);
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Takes encoded values from the front of a slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// What has not been read yet.
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], MalformedError> {
        let (head, tail) = self.0.split_at_checked(length).ok_or(MalformedError::Truncated)?;
        self.0 = tail;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], MalformedError> {
        let (head, tail) = self.0.split_first_chunk().ok_or(MalformedError::Truncated)?;
        self.0 = tail;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, MalformedError> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, MalformedError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, MalformedError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, MalformedError> {
        self.array().map(u64::from_be_bytes)
    }

    /// The bytes of a `<V>` vector. A length that is not in its shortest form is malformed.
    pub(crate) fn opaque(&mut self) -> Result<&'a [u8], MalformedError> {
        let first = self.u8()?;
        let low = u32::from(first & 0x3f);
        let length = match first >> 6 {
            0 => low,
            1 => {
                let length = low << 8 | u32::from(self.u8()?);
                if length < 0x40 {
                    return Err(MalformedError::Length);
                }
                length
            }
            2 => {
                let [a, b, c] = self.array::<3>()?;
                let length = u32::from_be_bytes([low as u8, a, b, c]);
                if length < 0x4000 {
                    return Err(MalformedError::Length);
                }
                length
            }
            _ => return Err(MalformedError::Length),
        };
        self.take(length as usize)
    }

    /// A `<V>` vector as a reader of its own.
    pub(crate) fn vector(&mut self) -> Result<Reader<'a>, MalformedError> {
        self.opaque().map(Reader)
    }

    /// A `<V>` vector of exactly `N` bytes.
    pub(crate) fn opaque_array<const N: usize>(&mut self) -> Result<[u8; N], MalformedError> {
        self.opaque()?.try_into().map_err(|_| MalformedError::Length)
    }

    /// What was read since `start`, an earlier copy of this reader.
    pub(crate) fn since(&self, start: Self) -> &'a [u8] {
        start.0.get(..start.0.len().saturating_sub(self.0.len())).unwrap_or_default()
    }

    /// Requires that everything has been read.
    pub(crate) const fn finish(self) -> Result<(), MalformedError> {
        if self.0.is_empty() { Ok(()) } else { Err(MalformedError::TrailingBytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_one_encoding() {
        for length in [0usize, 1, 63, 64, 16383, 16384, 100_000] {
            let mut writer = Writer::new();
            writer.opaque(&vec![7; length]);
            let bytes = writer.into_bytes();
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.opaque().unwrap().len(), length);
            reader.finish().unwrap();
        }
        // 5 in two bytes, 5 and 64 in four, and the reserved prefix.
        for bytes in
            [&[0x40, 5, 1, 2, 3, 4, 5][..], &[0x80, 0, 0, 5, 1, 2, 3, 4, 5], &[0xc0, 0, 0, 0]]
        {
            assert_eq!(Reader::new(bytes).opaque(), Err(MalformedError::Length));
        }
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        assert_eq!(Reader::new(&[3, 1, 2]).opaque(), Err(MalformedError::Truncated));
        assert_eq!(Reader::new(&[1]).u16(), Err(MalformedError::Truncated));
        assert_eq!(Reader::new(&[1]).finish(), Err(MalformedError::TrailingBytes));
    }
}
