//! Mutations that are safe to send twice.

use crate::{
    error::{Conflict, Error, Result},
    id::RequestId,
};
use serde::{Serialize, de::DeserializeOwned};

/// The method under which uploads are kept, however they were sent.
pub const UPLOAD_METHOD: &str = "WriteFile";

/// How long an answer is kept.
pub const ANSWER_TTL_HOURS: i64 = 24;

/// What a caller names a mutation by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Who may use the id: [`crate::caller::Principal::scope`].
    pub scope: String,
    /// The id.
    pub id: RequestId,
    /// The RPC.
    pub method: &'static str,
    /// SHA-256 of the request's content: the same id with another is refused.
    pub fingerprint: [u8; 32],
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The RPC.
    pub method: String,
    /// SHA-256 of the request's content.
    pub fingerprint: Vec<u8>,
    /// The answer as JSON.
    pub answer: Vec<u8>,
}

impl Answered {
    /// The answer, if it was to the same request.
    pub fn to<T: DeserializeOwned>(&self, request: &Request) -> Result<T> {
        if self.method != request.method || self.fingerprint != request.fingerprint {
            return Err(Error::RequestIdReused);
        }
        serde_json::from_slice(&self.answer).map_err(|e| Error::internal("read a stored answer", e))
    }
}

/// An answer as it is stored.
pub fn to_answer<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Error::internal("store an answer", e))
}

/// The refusal while a request with the same id is being worked on.
pub fn in_flight() -> Error {
    Error::Conflict(Conflict::InFlight)
}
