//! zstd frames (RFC 8878) of raw blocks, made without a compressor, so that their bytes do not depend on its version.

/// Deviation of a frame from that of a bundle.
#[derive(Clone, Copy, Default)]
pub struct Shape {
    /// True if the frame has no content checksum.
    pub unchecked: bool,
    /// Window size, as the exponent of two, or `None` for a single segment.
    pub window: Option<u8>,
}

/// Returns `content` as one frame.
pub fn frame(content: &[u8], shape: Shape) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd];
    let checksum = u8::from(!shape.unchecked) << 2;
    if let Some(window) = shape.window {
        // This header states the window, but not the size of the content.
        frame.extend([checksum, (window - 10) << 3]);
    } else {
        // This header states a single segment, and its size in four bytes.
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

/// Returns the checksum of a frame over `content`: the lower half of its XXH64, the same for every compressor.
fn checksum_of(content: &[u8]) -> [u8; 4] {
    let frame = crate::world::frame(content);
    frame[frame.len() - 4..].try_into().unwrap()
}
