//! One control connection. Every command has a limit, and whoever leaves one unanswered spoils the session: the next would get its answer.

use super::{
    connect::Problem,
    error::{failure, is_clean},
    lines::{Line, Lines},
    sums::Sum,
};
use crate::{
    remote::Failure,
    wire::{self, Patience},
};
use coffer_domain::driver::ErrorKind;
use std::{
    sync::PoisonError,
    time::{Duration, Instant},
};
use suppaftp::{
    FtpResult, Status,
    tokio::{AsyncRustlsStream, ImplAsyncFtpStream, TransferStream},
    types::Response,
};
use tokio::{io::AsyncReadExt as _, time::timeout};

/// The client library's control connection.
pub(super) type Control = ImplAsyncFtpStream<AsyncRustlsStream>;
/// Its data connection.
pub(super) type Transfer = TransferStream<AsyncRustlsStream>;

/// What a server says that it can do.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Offers {
    /// Listings and looks for machines (RFC 3659).
    pub(super) mlst: bool,
    /// The date of a file.
    pub(super) mdtm: bool,
    /// Passive mode that names a port and no address.
    pub(super) epsv: bool,
    /// Names in UTF-8.
    pub(super) utf8: bool,
    /// The best sum of files that it tells.
    pub(super) sum: Option<Sum>,
}

impl Offers {
    pub(super) fn new(features: impl IntoIterator<Item = (String, Option<String>)>) -> Self {
        let mut offers = Self::default();
        for (name, value) in features {
            match name.to_ascii_uppercase().as_str() {
                "MLST" | "MLSD" => offers.mlst = true,
                "MDTM" => offers.mdtm = true,
                "EPSV" => offers.epsv = true,
                "UTF8" => offers.utf8 = true,
                name => offers.sum = offers.sum.max(Sum::of_feature(name, value.as_deref())),
            }
        }
        offers
    }
}

/// Where an upload puts its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    /// At the beginning of a new file, in place of what is there.
    Anew,
    /// Into the file, at this byte.
    At(u64),
    /// Behind its last byte.
    End,
}

/// What a data connection is opened for.
enum Opening<'a> {
    Store(&'a str),
    Append(&'a str),
    Retrieve(&'a str),
    /// A whole command.
    List(String),
}

/// A control connection that is logged in.
pub(super) struct Session {
    control: Control,
    /// Whether something was asked for and it is not known that all of it was answered.
    is_busy: bool,
    used: Instant,
    problem: Problem,
    pub(super) offers: Offers,
    pub(super) patience: Patience,
}

impl Session {
    pub(super) fn new(control: Control, offers: Offers, problem: Problem, patience: Patience) -> Self {
        Self { control, is_busy: false, used: Instant::now(), problem, offers, patience }
    }

    /// Whether nobody may use it any more.
    pub(super) fn is_spoiled(&self) -> bool {
        self.is_busy
    }

    /// How long nobody has used it.
    pub(super) fn idle(&self) -> Duration {
        self.used.elapsed()
    }

    /// A command that is answered at once.
    pub(super) async fn ask(
        &mut self,
        verb: &str,
        name: &str,
        expected: &[Status],
    ) -> Result<Response, Failure> {
        let line = command(verb, name)?;
        let limit = self.patience.answer;
        let Self { control, is_busy, .. } = self;
        let answered = watch(is_busy, limit, control.custom_command(line, expected)).await;
        self.used = Instant::now();
        answered
    }

    pub(super) async fn noop(&mut self) -> Result<(), Failure> {
        self.ask("NOOP", "", &[Status::CommandOk]).await.map(|_| ())
    }

    /// Where the log-in leads.
    pub(super) async fn home(&mut self) -> Result<String, Failure> {
        let limit = self.patience.answer;
        let Self { control, is_busy, .. } = self;
        let path = watch(is_busy, limit, control.pwd()).await?;
        Ok(path.replace("\"\"", "\""))
    }

    /// The size of a file.
    pub(super) async fn size(&mut self, path: &str) -> Result<u64, Failure> {
        let reply = self.ask("SIZE", path, &[Status::File]).await?;
        let size = words(&reply).and_then(|text| text.trim().parse().ok());
        size.ok_or_else(|| Failure::wrong(ErrorKind::BadAnswer, "a size that is none"))
    }

    /// When a file was changed.
    pub(super) async fn modified(&mut self, path: &str) -> Result<coffer_domain::time::Timestamp, Failure> {
        let reply = self.ask("MDTM", path, &[Status::File]).await?;
        let moment = words(&reply).and_then(|text| super::lines::moment(text.trim()));
        moment.ok_or_else(|| Failure::wrong(ErrorKind::BadAnswer, "a date that is none"))
    }

    /// What RFC 3659 tells of a name.
    pub(super) async fn facts(&mut self, path: &str) -> Result<Line, Failure> {
        let reply = self.ask("MLST", path, &[Status::RequestedFileActionOk]).await?;
        let line = reply.body.split(|byte| *byte == b'\n').find(|line| line.first() == Some(&b' '));
        let told = line.and_then(|line| super::lines::facts(line.trim_ascii_start()));
        told.ok_or_else(|| Failure::wrong(ErrorKind::BadAnswer, "facts that are none"))
    }

    /// Goes into a folder, if it is one.
    pub(super) async fn enter(&mut self, path: &str) -> Result<bool, Failure> {
        match self.ask("CWD", path, &[Status::RequestedFileActionOk, Status::CommandOk]).await {
            Ok(_) => Ok(true),
            Err(failure) if matches!(failure.status(), Some(501 | 550 | 553)) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    pub(super) async fn make_folder(&mut self, path: &str) -> Result<(), Failure> {
        self.ask("MKD", path, &[Status::PathCreated, Status::CommandOk, Status::RequestedFileActionOk])
            .await
            .map(|_| ())
    }

    pub(super) async fn remove_folder(&mut self, path: &str) -> Result<(), Failure> {
        self.ask("RMD", path, &[Status::RequestedFileActionOk, Status::CommandOk]).await.map(|_| ())
    }

    pub(super) async fn remove(&mut self, path: &str) -> Result<(), Failure> {
        self.ask("DELE", path, &[Status::RequestedFileActionOk, Status::CommandOk]).await.map(|_| ())
    }

    pub(super) async fn rename(&mut self, from: &str, to: &str) -> Result<(), Failure> {
        check(to)?;
        self.ask("RNFR", from, &[Status::RequestFilePending]).await?;
        self.ask("RNTO", to, &[Status::RequestedFileActionOk, Status::CommandOk]).await.map(|_| ())
    }

    /// Begins to send a file. Until [`Session::end`] nothing else may be asked.
    pub(super) async fn upload(&mut self, path: &str, to: To) -> Result<Transfer, Failure> {
        match to {
            To::Anew => self.open(Opening::Store(path), 0).await,
            To::At(start) => self.open(Opening::Store(path), start).await,
            To::End => self.open(Opening::Append(path), 0).await,
        }
    }

    /// Begins to read a file from a byte on. Until [`Session::end`] nothing else may be asked.
    pub(super) async fn download(&mut self, path: &str, start: u64) -> Result<Transfer, Failure> {
        self.open(Opening::Retrieve(path), start).await
    }

    async fn open(&mut self, opening: Opening<'_>, start: u64) -> Result<Transfer, Failure> {
        let start = usize::try_from(start)
            .map_err(|_| Failure::wrong(ErrorKind::Unsupported, "a place that is too far"))?;
        if let Opening::Store(name) | Opening::Append(name) | Opening::Retrieve(name) = opening {
            check(name)?;
        }
        let limit = self.patience.answer;
        let Self { control, is_busy, .. } = self;
        let opened = watch(is_busy, limit, async {
            control.resume_transfer(start).await?;
            match opening {
                Opening::Store(path) => control.put_with_stream(path).await,
                Opening::Append(path) => control.append_with_stream(path).await,
                Opening::Retrieve(path) => control.retr_as_stream(path).await,
                Opening::List(line) => {
                    let expected = [Status::AboutToSend, Status::AlreadyOpen];
                    control.custom_data_command(line, &expected).await.map(|(_, transfer)| transfer)
                }
            }
        })
        .await;
        // A refusal may leave the server with a place at which the next transfer would begin.
        self.is_busy = opened.is_ok() || self.is_busy || start > 0;
        let told = self.problem.lock().unwrap_or_else(PoisonError::into_inner).take();
        match told {
            Some(told) if opened.is_err() => Err(told.into()),
            _ => opened,
        }
    }

    /// Closes a data connection, and reads what the server says of the transfer.
    pub(super) async fn end(&mut self, transfer: Transfer) -> Result<(), Failure> {
        let limit = self.patience.answer;
        let ended = watch(&mut self.is_busy, limit, transfer.finish()).await;
        self.used = Instant::now();
        ended
    }

    /// What is in a folder; `None` if there is no such folder.
    pub(super) async fn list(&mut self, path: &str) -> Result<Option<Vec<Line>>, Failure> {
        let (line, mut lines) = match self.offers.mlst {
            true => (command("MLSD", path)?, Lines::of_facts()),
            false => {
                if !self.enter(path).await? {
                    return Ok(None);
                }
                // What begins with a dot is told only to who asks for it.
                ("LIST -a".to_owned(), Lines::of_unix())
            }
        };
        let opened = self.open(Opening::List(line), 0).await;
        let mut transfer = match opened {
            Ok(transfer) => transfer,
            Err(failure) if matches!(failure.status(), Some(501 | 550)) => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match timeout(self.patience.piece, transfer.read(&mut buffer)).await {
                Ok(Ok(0)) => break,
                Ok(Ok(read)) => lines.push(&buffer[..read])?,
                Ok(Err(error)) => return Err(super::error::of_connection(&error).into()),
                Err(_elapsed) => return Err(wire::Failure::Silent("the next piece").into()),
            }
        }
        self.end(transfer).await?;
        lines.end().map(Some)
    }
}

/// Waits for an answer. The session is busy before, and free only after one that is understood.
async fn watch<T>(
    is_busy: &mut bool,
    limit: Duration,
    asking: impl Future<Output = FtpResult<T>>,
) -> Result<T, Failure> {
    *is_busy = true;
    match timeout(limit, asking).await {
        Ok(Ok(answer)) => {
            *is_busy = false;
            Ok(answer)
        }
        Ok(Err(error)) => {
            *is_busy = !is_clean(&error);
            Err(failure(error))
        }
        Err(_elapsed) => Err(wire::Failure::Silent("an answer").into()),
    }
}

/// Refuses what would be another command, before anything is sent.
fn check(name: &str) -> Result<(), Failure> {
    match name.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        true => Err(Failure::wrong(ErrorKind::Denied, "no command can hold this name")),
        false => Ok(()),
    }
}

/// A command's line.
fn command(verb: &str, name: &str) -> Result<String, Failure> {
    check(name)?;
    Ok(if name.is_empty() { verb.to_owned() } else { format!("{verb} {name}") })
}

/// What follows the code of a reply of one line.
fn words(reply: &Response) -> Option<&str> {
    std::str::from_utf8(reply.body.get(4..)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_be_commands_are_refused() {
        assert_eq!(command("SIZE", "/a b").unwrap(), "SIZE /a b");
        assert_eq!(command("NOOP", "").unwrap(), "NOOP");
        for name in ["a\r\nDELE b", "a\nb", "a\rb", "a\0b"] {
            assert_eq!(command("SIZE", name).unwrap_err().kind(), ErrorKind::Denied, "{name:?}");
        }
    }

    #[test]
    fn features_are_read_in_any_case() {
        let offers = Offers::new(["mlst", "MDTM", "xmd5", "SIZE"].map(|name| (name.to_owned(), None)));
        assert!(offers.mlst && offers.mdtm && !offers.epsv && !offers.utf8);
        assert_eq!(offers.sum, Some(Sum::Md5));
    }
}
