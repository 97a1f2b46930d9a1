//! Pieces of an object that are objects of their own, and which of them count.

use std::{fmt, ops::Range};

/// Bytes of an upload that one writer put.
///
/// The name tells all: `{generation}-{begin}-{start}-{end}`, in hexadecimal. Writers of an upload follow each other; a later one has a
/// higher generation, and began at a byte from which on nothing of those before counts. What an abandoned writer sends may arrive late,
/// even after the next one has looked: it is known by its generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// When its writer began, in milliseconds of the clock; later than that of any writer it knew of.
    pub(crate) generation: u64,
    /// The first byte that its writer wrote.
    pub(crate) begin: u64,
    /// The bytes it has.
    pub(crate) range: Range<u64>,
}

impl Piece {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let mut numbers = name.split('-').map(|text| match text.len() {
            16 => u64::from_str_radix(text, 16).ok(),
            _ => None,
        });
        let mut next = || numbers.next().flatten();
        let (generation, begin, range) = (next()?, next()?, next()?..next()?);
        (numbers.next().is_none() && !range.is_empty()).then_some(Self { generation, begin, range })
    }
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { generation, begin, range } = self;
        write!(f, "{generation:016x}-{begin:016x}-{:016x}-{:016x}", range.start, range.end)
    }
}

/// Pieces, and what counts of each, that one after the other hold all from `start` to `end`; `None` if there is a gap.
pub(crate) fn cover(pieces: &[Piece], start: u64, end: u64) -> Option<Vec<(&Piece, Range<u64>)>> {
    // Where the bytes of a generation stop to count.
    let limit = |generation| {
        pieces
            .iter()
            .filter(|piece| piece.generation > generation)
            .map(|piece| piece.begin)
            .min()
            .unwrap_or(u64::MAX)
    };
    let counting: Vec<_> =
        pieces.iter().map(|piece| (piece, piece.range.end.min(limit(piece.generation)).min(end))).collect();
    let (mut chosen, mut at) = (Vec::new(), start);
    while at < end {
        let usable = counting.iter().filter(|(piece, end)| piece.range.start <= at && *end > at);
        let (piece, end) = usable.max_by_key(|(_, end)| *end)?;
        chosen.push((*piece, at..*end));
        at = *end;
    }
    Some(chosen)
}

/// A generation for a writer that follows these.
pub(crate) fn next_generation(pieces: &[Piece]) -> u64 {
    let now = u64::try_from(coffer_domain::time::now().timestamp_millis()).unwrap_or_default();
    pieces.iter().map(|piece| piece.generation.saturating_add(2)).max().unwrap_or_default().max(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(generation: u64, begin: u64, range: Range<u64>) -> Piece {
        Piece { generation, begin, range }
    }

    fn ranges(pieces: &[Piece], start: u64, end: u64) -> Option<Vec<(u64, Range<u64>)>> {
        let chosen = cover(pieces, start, end)?;
        Some(chosen.into_iter().map(|(piece, range)| (piece.generation, range)).collect())
    }

    #[test]
    fn names_read_back() {
        let whole = piece(1, 2, 3..4);
        assert_eq!(Piece::parse(&whole.to_string()), Some(whole.clone()));
        let name = whole.to_string();
        for bad in
            ["multipart", "1-2-3-4", &name[1..], &format!("{name}-{name}"), &piece(1, 2, 4..4).to_string()]
        {
            assert_eq!(Piece::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn pieces_cover_what_lies_between_them_without_a_gap() {
        let pieces = [
            piece(1, 0, 0..10),
            piece(1, 0, 10..20),
            piece(1, 0, 0..15),
            piece(1, 0, 25..30),
            piece(1, 0, 18..26),
        ];
        assert_eq!(ranges(&pieces, 0, 20), Some(vec![(1, 0..15), (1, 15..20)]));
        assert_eq!(ranges(&pieces, 12, 30), Some(vec![(1, 12..20), (1, 20..26), (1, 26..30)]));
        assert_eq!(ranges(&pieces, 5, 5), Some(vec![]));
        assert_eq!(ranges(&pieces, 0, 31), None);
        assert_eq!(ranges(&[piece(1, 0, 0..10), piece(1, 0, 11..20)], 0, 20), None);
    }

    #[test]
    fn what_a_later_writer_wrote_anew_counts_and_what_comes_late_does_not() {
        let mut pieces = vec![piece(1, 0, 0..10), piece(1, 0, 10..30), piece(7, 12, 12..20)];
        assert_eq!(ranges(&pieces, 0, 20), Some(vec![(1, 0..10), (1, 10..12), (7, 12..20)]));
        assert_eq!(ranges(&pieces, 0, 21), None, "bytes 20 to 30 are of another content");
        pieces.push(piece(1, 0, 5..25));
        assert_eq!(ranges(&pieces, 0, 21), None);
        assert!(next_generation(&pieces) > 8);
        assert_eq!(next_generation(&[piece(u64::MAX - 3, 0, 0..1)]), u64::MAX - 1);
    }
}
