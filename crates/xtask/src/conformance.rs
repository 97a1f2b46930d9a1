//! `cargo xtask conformance`: the contract of drivers against every server, as a table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use crate::process::run as run_command;
use crate::setup;
use crate::tests::is_ci;
use crate::workspace::Workspace;

/// Tells the tests where to say how each case ended.
const FILE: &str = "COFFER_CONFORMANCE";

/// Runs the conformance tests alone and prints their table.
///
/// # Errors
/// When a case fails. Where `CI` is set, also when one is ignored because its server is missing.
pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    let is_ci = is_ci();
    match setup::ensure(workspace, &setup::TESTS) {
        Err(error) if is_ci => return Err(error),
        Err(error) => eprintln!("{error:#}\nwhat needs it is ignored"),
        Ok(()) => {}
    }
    let report = Report::begin(workspace)?;
    let mut command = workspace.cargo();
    command.args(["test", "-p", "coffer-drivers", "--test", "suite", "--", "conformance::"]);
    if is_ci {
        command.env("COFFER_REQUIRE_BACKENDS", "1");
    }
    let outcome = run_command(report.ask(&mut command));
    let judged = report.print_and_judge(Extent::Whole { is_ci });
    outcome.and(judged)
}

/// Which cases have to be in a table.
#[derive(Clone, Copy)]
pub(crate) enum Extent {
    /// All of them; in CI none may be ignored.
    Whole {
        /// Whether it is CI.
        is_ci: bool,
    },
    /// Those that were asked for, be it none.
    Part,
}

/// A file in which a run of tests says how cases end.
pub(crate) struct Report {
    path: PathBuf,
}

impl Report {
    /// An empty one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn begin(workspace: &Workspace) -> anyhow::Result<Self> {
        let path = workspace.target("conformance.tsv");
        let made = fs::create_dir_all(workspace.target("")).and_then(|()| fs::write(&path, ""));
        made.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { path })
    }

    /// Has a run of tests write to it.
    pub(crate) fn ask<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.env(FILE, &self.path)
    }

    /// Prints the table, if any case ran.
    ///
    /// # Errors
    /// When a case failed, or is missing from the table and may not be.
    pub(crate) fn print_and_judge(&self, extent: Extent) -> anyhow::Result<()> {
        let text =
            fs::read_to_string(&self.path).with_context(|| format!("cannot read {}", self.path.display()))?;
        let table = Table::read(&text)?;
        if !table.cells.is_empty() {
            println!("\n{table}");
        }
        table.judge(extent)
    }
}

/// How a case ended on a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Kept,
    NotOffered,
    Ignored,
    Failed,
    /// It did not run, or its process ended with it.
    Absent,
}

impl Outcome {
    const ALL: [Self; 5] = [Self::Kept, Self::NotOffered, Self::Ignored, Self::Failed, Self::Absent];

    fn word(self) -> &'static str {
        match self {
            Self::Kept => "ok",
            Self::NotOffered => "-",
            Self::Ignored => "ignored",
            Self::Failed => "failed",
            Self::Absent => "?",
        }
    }
}

/// Cases as rows, servers as columns.
#[derive(Debug, Default)]
struct Table {
    servers: BTreeSet<String>,
    cells: BTreeMap<String, BTreeMap<String, Outcome>>,
    /// What servers lack that a case needs.
    needs: BTreeMap<String, BTreeSet<String>>,
}

impl Table {
    fn read(text: &str) -> anyhow::Result<Self> {
        let mut table = Self::default();
        for line in text.lines() {
            let [server, case, word, note] = line.split('\t').collect::<Vec<_>>()[..] else {
                bail!("a line of another form: {line:?}");
            };
            let outcome = Outcome::ALL.into_iter().find(|outcome| outcome.word() == word);
            let outcome = outcome.with_context(|| format!("an outcome that is none: {line:?}"))?;
            table.servers.insert(server.to_owned());
            let row = table.cells.entry(case.to_owned()).or_default();
            // A case that runs twice has failed if it did so once.
            let cell = row.entry(server.to_owned()).or_insert(outcome);
            *cell = outcome.max(*cell);
            if !note.is_empty() {
                table.needs.entry(case.to_owned()).or_default().insert(note.to_owned());
            }
        }
        Ok(table)
    }

    fn outcome(&self, case: &str, server: &str) -> Outcome {
        self.cells.get(case).and_then(|row| row.get(server)).copied().unwrap_or(Outcome::Absent)
    }

    fn count(&self, wanted: Outcome) -> usize {
        let all = self
            .cells
            .keys()
            .flat_map(|case| self.servers.iter().map(move |server| self.outcome(case, server)));
        all.filter(|outcome| *outcome == wanted).count()
    }

    fn judge(&self, extent: Extent) -> anyhow::Result<()> {
        let (failed, ignored, absent) =
            (self.count(Outcome::Failed), self.count(Outcome::Ignored), self.count(Outcome::Absent));
        ensure!(failed == 0, "{failed} cases of the drivers' contract failed");
        if let Extent::Whole { is_ci } = extent {
            ensure!(!self.cells.is_empty(), "no case of the drivers' contract ran");
            ensure!(absent == 0, "{absent} cases of the drivers' contract did not end");
            ensure!(!is_ci || ignored == 0, "{ignored} cases of the drivers' contract were ignored");
        }
        Ok(())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "The contract of drivers: {} cases on {} backends",
            self.cells.len(),
            self.servers.len()
        )?;
        for (at, server) in self.servers.iter().enumerate() {
            writeln!(f, "  [{}] {server}", at + 1)?;
        }
        let width = self.cells.keys().map(String::len).max().unwrap_or_default();
        // As wide as its widest word, so that a table in which all is well is narrow.
        let words = self
            .cells
            .keys()
            .flat_map(|case| self.servers.iter().map(move |server| self.outcome(case, server).word().len()));
        let cell = words.max().unwrap_or_default().max(format!("[{}]", self.servers.len()).len());
        write!(f, "{:width$}", "")?;
        for at in 1..=self.servers.len() {
            write!(f, " {:>cell$}", format!("[{at}]"))?;
        }
        writeln!(f)?;
        for case in self.cells.keys() {
            write!(f, "{case:width$}")?;
            for server in &self.servers {
                write!(f, " {:>cell$}", self.outcome(case, server).word())?;
            }
            match self.needs.get(case) {
                Some(needs) => writeln!(
                    f,
                    "  needs {}",
                    needs.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
                )?,
                None => writeln!(f)?,
            }
        }
        let counts = Outcome::ALL.map(|outcome| (outcome, self.count(outcome)));
        let counts = counts.into_iter().filter(|(outcome, count)| *count > 0 || *outcome != Outcome::Absent);
        let counts: Vec<_> = counts.map(|(outcome, count)| format!("{} {count}", outcome.word())).collect();
        write!(f, "{} (-: not offered)", counts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Extent = Extent::Whole { is_ci: true };

    #[test]
    fn a_line_is_a_cell() {
        let text = "s3\tb_case\tok\t\nlocal\ta_case\tok\t\nlocal\tb_case\tok\t\ns3\ta_case\t-\trename\n";
        let table = Table::read(text).unwrap();
        let expected = "The contract of drivers: 2 cases on 2 backends\n  [1] local\n  [2] s3\n       [1] [2]\n\
                        a_case  ok   -  needs rename\nb_case  ok  ok\nok 3, - 1, ignored 0, failed 0 (-: not offered)";
        assert_eq!(table.to_string(), expected);
        table.judge(WHOLE).unwrap();
    }

    #[test]
    fn a_hole_in_the_table_is_told() {
        let judged =
            |text: &str, extent| Table::read(text).unwrap().judge(extent).map_err(|error| error.to_string());
        let ignored = "s3\ta\tignored\t\n";
        assert_eq!(judged(ignored, WHOLE).unwrap_err(), "1 cases of the drivers' contract were ignored");
        assert_eq!(judged(ignored, Extent::Whole { is_ci: false }), Ok(()));
        let failed_once = "s3\ta\tok\t\ns3\ta\tfailed\t\ns3\ta\tok\t\n";
        assert_eq!(judged(failed_once, Extent::Part).unwrap_err(), "1 cases of the drivers' contract failed");
        let hole = "s3\ta\tok\t\ns3\tb\tok\t\nlocal\ta\tok\t\n";
        assert_eq!(judged(hole, WHOLE).unwrap_err(), "1 cases of the drivers' contract did not end");
        assert_eq!(judged(hole, Extent::Part), Ok(()));
        assert_eq!(judged("", WHOLE).unwrap_err(), "no case of the drivers' contract ran");
        assert_eq!(judged("", Extent::Part), Ok(()));
        assert!(Table::read("s3\ta\tok\n").is_err() && Table::read("s3\ta\tfine\t\n").is_err());
    }
}
