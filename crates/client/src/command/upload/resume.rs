//! Going on with an upload: finding it, and telling how.

use super::{Context, Failure};
use coffer_client::{Error, Uploaded, v1};
use indicatif::BinaryBytes;
use std::path::Path;

/// The command line that goes on with an upload.
pub(super) fn command(file: &Path, path: Option<&str>, volume: Option<&str>) -> String {
    let mut command = "coffer upload --resume".to_owned();
    if let Some(volume) = volume {
        command.push_str(&format!(" --volume {}", quoted(volume)));
    }
    let file = file.to_string_lossy();
    // A name that looks like an option has to come after all options.
    if file.starts_with('-') {
        command.push_str(" --");
    }
    for argument in [Some(file.as_ref()), path].into_iter().flatten() {
        command.push_str(&format!(" {}", quoted(argument)));
    }
    command
}

/// As a shell takes it for one word.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "_@%+=:,./-".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The upload to go on with, if there is one; tells from where.
pub(super) async fn find(
    context: &Context,
    file: &Path,
    spec: &v1::UploadSpec,
) -> Result<Option<v1::Upload>, Failure> {
    let found = context.client.unfinished_upload(file, spec).await?;
    context.output.note(&match &found {
        Some(upload) => format!(
            "resumed at {} of {}",
            bytes(upload.persisted_size),
            bytes(upload.size_bytes.unwrap_or_default())
        ),
        None => "no unfinished upload of this file: starting anew".to_owned(),
    });
    Ok(found)
}

fn bytes(value: i64) -> BinaryBytes {
    BinaryBytes(u64::try_from(value).unwrap_or(0))
}

/// Tells what it took, where it was not one go.
pub(super) fn tell_effort(context: &Context, uploaded: &Uploaded, is_resumed: bool) {
    let sent = BinaryBytes(uploaded.sent_bytes);
    match uploaded.attempts {
        1 if is_resumed => context.output.note(&format!("sent {sent}")),
        1 => {}
        attempts => context.output.note(&format!("sent {sent} in {attempts} attempts")),
    }
}

/// An error of an upload of a file, with the command that goes on.
pub(super) fn failure(error: Error, command: String) -> Failure {
    match error {
        Error::Unfinished { error, persisted_bytes, .. } => {
            Failure::Unfinished { error: *error, persisted_bytes, command }
        }
        error => Failure::Client(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_can_be_pasted_into_a_shell() {
        let command = |file: &str, path, volume| command(Path::new(file), path, volume);
        assert_eq!(command("a.bin", None, None), "coffer upload --resume a.bin");
        assert_eq!(
            command("dir/a b.bin", Some("x/it's"), Some("main")),
            r"coffer upload --resume --volume main 'dir/a b.bin' 'x/it'\''s'"
        );
        assert_eq!(command("-a", Some(""), None), "coffer upload --resume -- -a ''");
    }

    #[test]
    fn only_unfinished_uploads_have_a_way_on() {
        let lost = || Error::Lost("reset".to_owned());
        let unfinished =
            Error::Unfinished { upload_id: "u".to_owned(), persisted_bytes: 7, error: Box::new(lost()) };
        let with = failure(unfinished, "again".to_owned());
        assert!(matches!(with, Failure::Unfinished { error: Error::Lost(_), persisted_bytes: 7, .. }));
        assert!(matches!(failure(lost(), "again".to_owned()), Failure::Client(Error::Lost(_))));
    }
}
