#![doc = include_str!("../README.md")]

mod error;
pub mod local;
mod opener;
pub mod wrap;

pub use opener::Opener;
