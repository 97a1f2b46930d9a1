#![doc = include_str!("../README.md")]

mod error;
pub mod local;
mod names;
mod opener;
mod pieces;
pub mod s3;
mod wire;
pub mod wrap;
mod xml;

pub use opener::Opener;
pub use wire::{Options as WireOptions, Patience};
