//! zstd frames (RFC 8878) made by hand of raw blocks: their bytes do not depend on the version of a compressor.

/// How a frame departs from what a bundle is.
#[derive(Clone, Copy, Default)]
pub struct Shape {
    /// No content checksum.
    pub unchecked: bool,
    /// A window of so many bytes, as the exponent of two.
    pub window: Option<u8>,
}

/// `content` as one frame.
pub fn frame(content: &[u8], shape: Shape) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd];
    let checksum = u8::from(!shape.unchecked) << 2;
    if let Some(window) = shape.window {
        // The content's size is not stated; the window is.
        frame.extend([checksum, (window - 10) << 3]);
    } else {
        // A single segment, whose size is stated in four bytes.
        frame.push(0b1010_0000 | checksum);
        frame.extend(u32::try_from(content.len()).unwrap().to_le_bytes());
    }
    let blocks = content.chunks(100_000);
    let count = blocks.len();
    for (number, block) in blocks.enumerate() {
        let last = u32::from(number + 1 == count);
        let header = last | (u32::try_from(block.len()).unwrap() << 3);
        frame.extend(&header.to_le_bytes()[..3]);
        frame.extend(block);
    }
    if count == 0 {
        frame.extend([1, 0, 0]);
    }
    if !shape.unchecked {
        frame.extend(checksum_of(content));
    }
    frame
}

/// The last four bytes of a frame over `content`, whoever compressed it: the lower half of its XXH64.
fn checksum_of(content: &[u8]) -> [u8; 4] {
    let frame = crate::world::frame(content);
    frame[frame.len() - 4..].try_into().unwrap()
}
