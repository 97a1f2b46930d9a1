//! What is wrong with the settings, and who said it.

use std::fmt;
use std::path::PathBuf;

/// Who set something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Default,
    File { path: PathBuf, line: usize },
    Environment(String),
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// One thing to correct.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistake(String);

impl Mistake {
    /// A value that a setting does not take.
    pub(super) fn of(key: &str, source: &Source, problem: impl fmt::Display) -> Self {
        Self::together(format!("{source}: {key} {problem}"))
    }

    /// Something a source says that is no value of a setting.
    pub(super) fn at(source: &Source, problem: impl fmt::Display) -> Self {
        Self::together(format!("{source}: {problem}"))
    }

    /// Values that do not go together.
    pub(super) fn together(problem: impl Into<String>) -> Self {
        // One line, whatever was given.
        Self(problem.into().replace(char::is_control, " "))
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Everything that is wrong. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub(super) Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the settings are not usable:")?;
        for mistake in &self.0 {
            write!(f, "\n  {mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}
