//! Counts the frames that a client sends: HTTP/2 limits only what is content, and leaves the rest to whoever reads it.
//!
//! It reads the nine bytes in front of each frame and skips the rest. A client that sends frames which carry nothing faster than honest
//! ones ever do is told off; so is one that announces a frame larger than it may send, before its bytes take memory.

use std::time::Duration;

use tokio::time::Instant;

use super::greeting::PREFACE;

const HEAD_BYTES: usize = 9;

/// Frames without content that a client may send at once …
const BURST: u64 = 10_000;
/// … and of each second, and for each so many bytes of content that went either way.
const PER_SECOND: u64 = 1_000;
const CONTENT_BYTES: u64 = 1024;

/// Most bytes of the metadata of a request as they are sent: several times what is taken, so that too many are refused and not
/// the connection with them.
const MAX_METADATA_BYTES: u32 = 128 * 1024;
/// Most bytes of a frame that is neither content nor metadata: HTTP/2's own least limit.
const MAX_OTHER_BYTES: u32 = 16 * 1024;

/// Why a client is told off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offence {
    /// Too many frames that carry nothing.
    Flood,
    /// More content than it may send.
    TooMuchContent,
    /// A frame that is larger than one of its kind may be.
    TooLarge,
}

/// Reads the frames of one connection, from its preface on.
#[derive(Debug)]
pub(super) struct Frames {
    /// Of the next head, as far as it has arrived.
    head: [u8; HEAD_BYTES],
    head_bytes: usize,
    /// Bytes to skip: what is left of the preface, or of a frame.
    skip: usize,
    /// Metadata of the request that is being announced.
    metadata_bytes: u32,
    allowance: u64,
    refilled: Instant,
    /// Bytes of content since the last refill.
    content: u64,
}

impl Frames {
    pub(super) fn new() -> Self {
        Self {
            head: [0; HEAD_BYTES],
            head_bytes: 0,
            skip: PREFACE.len(),
            metadata_bytes: 0,
            allowance: BURST,
            refilled: Instant::now(),
            content: 0,
        }
    }

    /// Content that was sent to the client.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.content += bytes as u64;
    }

    /// Looks at what has arrived. `window`: bytes of content that the client may send at most.
    pub(super) fn received(&mut self, mut bytes: &[u8], window: u32) -> Result<(), Offence> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let wanted = (HEAD_BYTES - self.head_bytes).min(bytes.len());
            self.head[self.head_bytes..self.head_bytes + wanted].copy_from_slice(&bytes[..wanted]);
            self.head_bytes += wanted;
            bytes = &bytes[wanted..];
            if self.head_bytes == HEAD_BYTES {
                self.head_bytes = 0;
                self.frame(window)?;
            }
        }
        Ok(())
    }

    /// A frame begins.
    fn frame(&mut self, window: u32) -> Result<(), Offence> {
        let [high, middle, low, kind, flags, ..] = self.head;
        let length = u32::from_be_bytes([0, high, middle, low]);
        self.skip = length as usize;
        match kind {
            // DATA. An empty one that ends its stream is how some clients end each of theirs.
            0 if length > window => Err(Offence::TooMuchContent),
            0 if length == 0 && flags & 1 == 0 => self.spend(),
            0 => {
                self.content += u64::from(length);
                Ok(())
            }
            // HEADERS begins a request, which costs more than its frame and is counted where requests are; CONTINUATION goes on.
            1 => {
                self.metadata_bytes = 0;
                self.metadata(length)
            }
            9 => {
                self.metadata(length)?;
                self.spend()
            }
            _ if length > MAX_OTHER_BYTES => Err(Offence::TooLarge),
            _ => self.spend(),
        }
    }

    fn metadata(&mut self, length: u32) -> Result<(), Offence> {
        self.metadata_bytes = self.metadata_bytes.saturating_add(length);
        if self.metadata_bytes > MAX_METADATA_BYTES { Err(Offence::TooLarge) } else { Ok(()) }
    }

    fn spend(&mut self) -> Result<(), Offence> {
        if self.allowance == 0 {
            self.refill();
        }
        self.allowance = self.allowance.checked_sub(1).ok_or(Offence::Flood)?;
        Ok(())
    }

    /// Only when all is spent, so that an honest client costs no look at the clock.
    fn refill(&mut self) {
        let elapsed = self.refilled.elapsed().min(Duration::from_secs(60));
        let earned = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX) * PER_SECOND / 1_000;
        self.refilled = Instant::now();
        self.allowance = (earned + self.content / CONTENT_BYTES).min(BURST);
        self.content = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::{BURST, Frames, Offence, PREFACE};
    use std::time::Duration;

    const WINDOW: u32 = 64 * 1024;
    const PING: u8 = 6;
    const WINDOW_UPDATE: u8 = 8;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        bytes.resize(9 + payload, 7);
        bytes
    }

    fn begun() -> Frames {
        let mut frames = Frames::new();
        frames.received(PREFACE, WINDOW).unwrap();
        frames
    }

    /// How many of these are taken at once, of twice what may be.
    fn taken(frames: &mut Frames, bytes: &[u8]) -> u64 {
        let taken = (0..2 * BURST).take_while(|_| frames.received(bytes, WINDOW).is_ok()).count() as u64;
        // What was refused was not skipped.
        frames.skip = 0;
        taken
    }

    #[tokio::test(start_paused = true)]
    async fn frames_without_content_are_few() {
        for kind in [2, 3, 4, PING, 7, WINDOW_UPDATE, 9, 42] {
            let bytes = frame(kind, 0, if kind == 9 { 0 } else { 4 });
            assert_eq!(taken(&mut begun(), &bytes), BURST, "kind {kind}");
        }
        assert_eq!(taken(&mut begun(), &frame(0, 0, 0)), BURST, "empty content");
        assert_eq!(taken(&mut begun(), &frame(0, 1, 0)), 2 * BURST, "the end of a stream");
        assert_eq!(taken(&mut begun(), &frame(0, 0, 1)), 2 * BURST, "content");
        assert_eq!(taken(&mut begun(), &frame(1, 4, 50)), 2 * BURST, "requests");
    }

    #[tokio::test(start_paused = true)]
    async fn time_and_content_allow_more() {
        let mut frames = begun();
        let ping = frame(PING, 0, 8);
        assert_eq!(taken(&mut frames, &ping), BURST);
        assert_eq!(frames.received(&ping, WINDOW), Err(Offence::Flood));
        frames.skip = 0;
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(taken(&mut frames, &ping), 2_000);
        // A client with small windows that downloads.
        for _ in 0..10 * BURST {
            frames.sent(16 * 1024);
            frames.received(&frame(WINDOW_UPDATE, 0, 4), WINDOW).unwrap();
            frames.received(&frame(WINDOW_UPDATE, 0, 4), WINDOW).unwrap();
        }
        // One that uploads, and acknowledges what we send meanwhile.
        for _ in 0..10 * BURST {
            frames.received(&frame(0, 0, 4_096), WINDOW).unwrap();
            frames.received(&frame(PING, 1, 8), WINDOW).unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn frames_are_found_wherever_reads_are_cut() {
        let bytes =
            [PREFACE.to_vec(), frame(4, 0, 18), frame(1, 4, 300), frame(0, 0, 5_000), frame(PING, 0, 8)]
                .concat();
        for size in [1, 2, 7, 8, 9, 10, 23, 24, 25, 1_000, 10_000] {
            let mut frames = Frames::new();
            for _ in bytes.chunks(size).map(|part| frames.received(part, WINDOW).unwrap()) {}
            assert_eq!((frames.skip, frames.head_bytes), (0, 0), "{size}");
            assert_eq!((frames.content, BURST - frames.allowance), (5_000, 2), "{size}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_large_is_noticed_by_its_head() {
        for (kind, length, outcome) in [
            (0, 65_536, Ok(())),
            (0, 65_537, Err(Offence::TooMuchContent)),
            (1, 128 * 1024, Ok(())),
            (1, 128 * 1024 + 1, Err(Offence::TooLarge)),
            (PING, 16 * 1024, Ok(())),
            (PING, 16 * 1024 + 1, Err(Offence::TooLarge)),
            (42, 16 * 1024 + 1, Err(Offence::TooLarge)),
        ] {
            assert_eq!(begun().received(&frame(kind, 0, length)[..9], WINDOW), outcome, "{kind} {length}");
        }
        let mut frames = begun();
        frames.received(&frame(1, 0, 100 * 1024), WINDOW).unwrap();
        frames.received(&frame(9, 0, 28 * 1024), WINDOW).unwrap();
        assert_eq!(frames.received(&frame(9, 4, 1), WINDOW), Err(Offence::TooLarge), "of one request");
        frames.received(&frame(1, 0, 100 * 1024), WINDOW).unwrap_or_default();
    }
}
