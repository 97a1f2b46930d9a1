//! Where an endpoint is, on the command line.

use crate::command::exit::Failure;
use clap::Args;
use coffer_client::v1::{self, endpoint::Server};

/// A bucket or a server of HTTP. The service checks it.
#[derive(Args, Default)]
pub(super) struct Where {
    /// A bucket on S3 or what speaks like it: URL of the API
    #[arg(long, value_name = "URL", requires = "bucket", conflicts_with = "http")]
    s3: Option<String>,
    /// Name of the bucket
    #[arg(long, value_name = "NAME", requires = "s3", conflicts_with = "http")]
    bucket: Option<String>,
    /// What requests are signed for [default: us-east-1]
    #[arg(long, value_name = "NAME", requires = "s3", conflicts_with = "http")]
    region: Option<String>,
    /// The bucket stands before the host, and not in the path
    #[arg(long, requires = "s3", conflicts_with = "http")]
    bucket_in_host: bool,
    /// An HTTP or WebDAV server: URL that keys are put behind
    #[arg(long, value_name = "URL")]
    pub(super) http: Option<String>,
}

impl Where {
    /// What is given of it; `None` if nothing is.
    pub(super) fn server(self) -> Result<Option<Server>, Failure> {
        let Self { s3, bucket, region, bucket_in_host, http } = self;
        Ok(match (s3, bucket, http) {
            (Some(endpoint_url), Some(bucket_name), None) => Some(Server::S3Bucket(v1::S3Bucket {
                endpoint_url,
                bucket_name,
                region: region.unwrap_or_default(),
                use_ssl: None,
                use_path_style: Some(!bucket_in_host),
            })),
            (None, None, Some(url)) => Some(Server::Http(v1::HttpServer { url })),
            (None, None, None) => None,
            // What the arguments require of each other lets nothing else through.
            _ => return Err(Failure::Usage("--s3 goes with --bucket, and not with --http".to_owned())),
        })
    }
}
