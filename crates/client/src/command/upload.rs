//! `coffer upload`

mod resume;

use super::{Context, Interrupted, bar::Bar, exit::Failure, json, output::printable};
use clap::{Args, ValueEnum};
use coffer_client::{Uploaded, v1};
use indicatif::BinaryBytes;
use prost_types::{Struct, Value, value::Kind};
use serde_json::json;
use std::{
    fs::File,
    io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};
use uuid::Uuid;

#[derive(Args)]
pub(super) struct Upload {
    /// The file to upload; - is standard input
    file: PathBuf,
    /// Where to put it in the volume; ending with / the file's name is added. Without it the service chooses a path
    #[arg(required_if_eq("file", "-"))]
    path: Option<String>,
    /// Go on with an upload of this file to this place that was cut off, if there is one; its description stays as first given
    #[arg(long)]
    resume: bool,
    /// UUID or name of the volume, instead of the service's default one
    #[arg(long, value_name = "VOLUME")]
    volume: Option<String>,
    /// MIME type, instead of one by the file's extension
    #[arg(long, value_name = "TYPE")]
    mime: Option<String>,
    /// A tag; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Custom metadata, a text; may be repeated
    #[arg(long = "meta", value_name = "KEY=VALUE", value_parser = key_value)]
    metadata: Vec<(String, String)>,
    /// How sensitive it is [default: internal]
    #[arg(long, value_enum, value_name = "LEVEL")]
    classification: Option<Level>,
    /// Anybody may read it without a token
    #[arg(long)]
    public: bool,
    /// Fail if there is a file at the path, instead of making a new version of it
    #[arg(long)]
    create_only: bool,
    /// Project whose quota is charged as well
    #[arg(long, value_name = "PROJECT")]
    project: Option<String>,
    /// Your own name for a new file, by which id:NAME finds it
    #[arg(long, value_name = "NAME")]
    file_id: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Level {
    Public,
    Internal,
    Confidential,
    Restricted,
}

impl From<Level> for v1::Classification {
    fn from(level: Level) -> Self {
        match level {
            Level::Public => Self::Public,
            Level::Internal => Self::Internal,
            Level::Confidential => Self::Confidential,
            Level::Restricted => Self::Restricted,
        }
    }
}

impl Upload {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let uploaded = if self.file == Path::new("-") {
            self.send_stdin(context).await?
        } else {
            self.send_file(context).await?
        };
        if context.output.json {
            let Uploaded { file, resumed_from_bytes, sent_bytes, attempts } = &uploaded;
            let mut line = json::message("File", file);
            line["upload"] = json!({
                "resumed_from_bytes": resumed_from_bytes,
                "sent_bytes": sent_bytes,
                "attempts": attempts,
            });
            return context.output.line(line);
        }
        let file = &uploaded.file;
        let size = BinaryBytes(u64::try_from(file.size_bytes).unwrap_or(0));
        let line = format!("{}  {}  version {}  {size}", file.id, printable(&file.path), file.version);
        context.output.line(line)
    }

    async fn send_file(self, context: &Context) -> Result<Uploaded, Failure> {
        let (source, is_resumed) = (self.file.clone(), self.resume);
        let again = resume::command(&source, self.path.as_deref(), self.volume.as_deref());
        context.when_interrupted(Interrupted::Tell(again.clone()));
        let spec = self.spec()?;
        let found = if is_resumed { resume::find(context, &source, &spec).await? } else { None };
        let uploaded = {
            let bar = Bar::new(printable(&source.to_string_lossy()).into_owned());
            let progress = |progress| bar.update(progress);
            match found {
                Some(upload) => context.client.resume_file(&source, &upload.id, progress).await,
                None => context.client.upload_file(&source, spec, progress).await,
            }
        };
        let uploaded = uploaded.map_err(|error| resume::failure(error, again))?;
        resume::tell_effort(context, &uploaded, is_resumed);
        Ok(uploaded)
    }

    async fn send_stdin(self, context: &Context) -> Result<Uploaded, Failure> {
        if self.resume {
            return Err(Failure::Usage(
                "standard input cannot be resumed: it can be read only once".to_owned(),
            ));
        }
        let spec = v1::UploadSpec { request_id: Uuid::new_v4().to_string(), ..self.spec()? };
        context.when_interrupted(Interrupted::Cancel(Box::new(spec.clone())));
        // Not `tokio::io::stdin`: this is the same thing with a reader that can be dropped.
        let stdin = io::stdin().as_fd().try_clone_to_owned().map_err(Failure::stdin)?;
        let stdin = tokio::fs::File::from_std(File::from(stdin));
        let uploaded = {
            let bar = Bar::new("-".to_owned());
            context.client.upload(stdin, spec, |progress| bar.update(progress)).await?
        };
        resume::tell_effort(context, &uploaded, false);
        Ok(uploaded)
    }

    fn spec(self) -> Result<v1::UploadSpec, Failure> {
        let mut path = self.path.unwrap_or_default();
        if let Some(stripped) = path.strip_prefix('/') {
            path = stripped.to_owned();
        }
        if path.ends_with('/') {
            let name = self.file.file_name().and_then(|name| name.to_str());
            let name = name.filter(|name| *name != "-");
            let name = name.ok_or_else(|| Failure::Usage(format!("give a name after {path}")))?;
            path.push_str(name);
        }
        let mut fields = std::collections::BTreeMap::new();
        for (key, value) in self.metadata {
            if fields.insert(key.clone(), Value { kind: Some(Kind::StringValue(value)) }).is_some() {
                return Err(Failure::Usage(format!("--meta {key} is given twice")));
            }
        }
        Ok(v1::UploadSpec {
            volume: self.volume.unwrap_or_default(),
            path,
            file_id: self.file_id.unwrap_or_default(),
            mime_type: self.mime.unwrap_or_default(),
            classification: self.classification.map_or(0, |level| v1::Classification::from(level).into()),
            tags: self.tags,
            custom_metadata: (!fields.is_empty()).then_some(Struct { fields }),
            is_public: self.public,
            project_id: self.project.unwrap_or_default(),
            create_only: self.create_only,
            ..Default::default()
        })
    }
}

impl Failure {
    fn stdin(error: io::Error) -> Self {
        Self::Other(format!("cannot read standard input: {error}"))
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("must be KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory as _, FromArgMatches as _, error::ErrorKind};

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        upload: Upload,
    }

    fn spec(line: &[&str]) -> Result<v1::UploadSpec, Failure> {
        let matches = Line::command().get_matches_from(std::iter::once("upload").chain(line.iter().copied()));
        Line::from_arg_matches(&matches).unwrap().upload.spec()
    }

    #[test]
    fn places() {
        let path = |line: &[&str]| spec(line).unwrap().path;
        assert_eq!(path(&["dir/a.txt"]), "");
        assert_eq!(path(&["dir/a.txt", "x/b.txt"]), "x/b.txt");
        assert_eq!(path(&["dir/a.txt", "/x/b.txt"]), "x/b.txt");
        assert_eq!(path(&["dir/a.txt", "x/"]), "x/a.txt");
        assert_eq!(path(&["-", "x/b.txt"]), "x/b.txt");
        assert!(matches!(spec(&["-", "x/"]), Err(Failure::Usage(_))));
        let bare = Line::command().try_get_matches_from(["upload", "-"]).err().map(|error| error.kind());
        assert_eq!(bare, Some(ErrorKind::MissingRequiredArgument));
    }

    #[test]
    fn descriptions() {
        let spec = spec(&[
            "a.txt",
            "--volume=v",
            "--mime=text/plain",
            "--tag=a",
            "--tag=b",
            "--meta=k=v=w",
            "--meta=e=",
            "--classification=restricted",
            "--public",
            "--create-only",
            "--project=p",
            "--file-id=i",
        ])
        .unwrap();
        let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
        let fields = [("k".to_owned(), text("v=w")), ("e".to_owned(), text(""))].into();
        let expected = v1::UploadSpec {
            volume: "v".to_owned(),
            mime_type: "text/plain".to_owned(),
            tags: vec!["a".to_owned(), "b".to_owned()],
            custom_metadata: Some(Struct { fields }),
            classification: v1::Classification::Restricted.into(),
            is_public: true,
            create_only: true,
            project_id: "p".to_owned(),
            file_id: "i".to_owned(),
            ..Default::default()
        };
        assert_eq!(spec, expected);
    }

    #[test]
    fn metadata_must_be_pairs_and_unique() {
        assert!(matches!(spec(&["a", "--meta=k=1", "--meta=k=2"]), Err(Failure::Usage(_))));
        for bad in ["k", "=v", ""] {
            assert!(key_value(bad).is_err(), "{bad}");
        }
    }
}
