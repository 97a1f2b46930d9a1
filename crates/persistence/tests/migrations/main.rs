//! The schema, its migrations and the connections to it, on a real PostgreSQL.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test, also in what the tests share")]

mod cached;
mod catalogue;
mod connections;
mod documents;
mod operations;
mod reservations;
mod rules;
mod runner;
mod support;
mod tls;
