//! The columns that hold sealed secrets.

use coffer_domain::Result;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Sealed;

/// A column of sealed secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    /// `s3_credentials.secret_key`.
    S3SecretKey,
    /// `http_credentials.credentials`.
    HttpCredentials,
    /// `ftp_endpoints.password`.
    FtpPassword,
    /// `ftp_endpoints.private_key`.
    FtpPrivateKey,
}

impl Column {
    /// All of them, in the order in which they are sealed anew; where a task is in it, is stored.
    pub(crate) const ALL: [Self; 4] =
        [Self::S3SecretKey, Self::HttpCredentials, Self::FtpPassword, Self::FtpPrivateKey];

    /// Its table.
    pub(crate) fn table(self) -> &'static str {
        match self {
            Self::S3SecretKey => "s3_credentials",
            Self::HttpCredentials => "http_credentials",
            Self::FtpPassword | Self::FtpPrivateKey => "ftp_endpoints",
        }
    }

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::S3SecretKey => "secret_key",
            Self::HttpCredentials => "credentials",
            Self::FtpPassword => "password",
            Self::FtpPrivateKey => "private_key",
        }
    }

    /// Its type in SQL.
    pub(crate) fn sql_type(self) -> &'static str {
        match self {
            Self::S3SecretKey | Self::FtpPassword | Self::FtpPrivateKey => "text",
            Self::HttpCredentials => "jsonb",
        }
    }

    /// The name of the key a value says it is sealed under, in SQL; null where there is none. Never fails, whatever is stored.
    pub(crate) fn key_sql(self) -> &'static str {
        match self {
            Self::S3SecretKey => "split_part(secret_key, '.', 2)",
            Self::HttpCredentials => "coalesce(credentials ->> 'kid', '')",
            Self::FtpPassword => "split_part(password, '.', 2)",
            Self::FtpPrivateKey => "split_part(private_key, '.', 2)",
        }
    }

    /// Reads what is stored, as PostgreSQL shows it as text.
    pub(crate) fn read(self, stored: &str) -> Result<Sealed> {
        match self {
            Self::S3SecretKey | Self::FtpPassword | Self::FtpPrivateKey => Sealed::from_text(stored),
            Self::HttpCredentials => Sealed::from_json(&serde_json::from_str(stored).unwrap_or(Value::Null)),
        }
    }

    /// What is stored, as PostgreSQL reads it from text.
    pub(crate) fn write(self, sealed: &Sealed) -> String {
        match self {
            Self::S3SecretKey | Self::FtpPassword | Self::FtpPrivateKey => sealed.to_text(),
            Self::HttpCredentials => sealed.to_json().to_string(),
        }
    }

    /// What a value is bound to: moved to another row or column it cannot be opened.
    pub(crate) fn binding(self, row: Uuid) -> Vec<u8> {
        json!(["coffer secret", Sealed::FORMAT, self.table(), self.name(), row]).to_string().into_bytes()
    }
}
