//! Pages of lists.

use crate::error::{Error, Result};

/// Most items of a page; more is taken as this.
pub const MAX_PAGE_SIZE: u32 = 1_000;
/// Items of a page when the caller names no number.
pub const DEFAULT_PAGE_SIZE: u32 = 100;
/// Most items that can be left out first.
pub const MAX_SKIP: u32 = 10_000;

/// A page that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// Items, 1 to 1,000.
    pub size: u32,
    /// Items to leave out first, at most 10,000.
    pub skip: u32,
    /// Where the page before ended: opaque to callers, checked by whoever made it.
    pub after: Option<Cursor>,
}

/// Where a page ended: the last item's sort value and id.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Cursor {
    /// The sort value, in the order's own text form; empty where the id alone decides.
    pub value: String,
    /// The id.
    pub id: uuid::Uuid,
}

impl PageRequest {
    /// Takes the numbers of a request.
    pub fn new(size: i32, skip: i32, after: Option<Cursor>) -> Result<Self> {
        let size = match u32::try_from(size) {
            Ok(0) => DEFAULT_PAGE_SIZE,
            Ok(n) => n.min(MAX_PAGE_SIZE),
            Err(_) => return Err(Error::invalid("page_size", "must not be negative")),
        };
        let skip = u32::try_from(skip)
            .ok()
            .filter(|n| *n <= MAX_SKIP)
            .ok_or_else(|| Error::invalid("skip", "must be 0 to 10,000"))?;
        Ok(Self { size, skip, after })
    }
}

/// Items of a page and where it ended; `None`: it was the last.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// In order.
    pub items: Vec<T>,
    /// To go on from.
    pub next: Option<Cursor>,
}
