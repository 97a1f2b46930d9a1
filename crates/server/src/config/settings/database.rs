//! Where the metadata is.

use std::num::NonZeroUsize;

use coffer_persistence::Database;

use super::{Setting, path, put, text};
use crate::config::value::Value;
use crate::config::{DatabaseMode, Migrate, redact};

pub(super) const TABLE: &[Setting] = &[
    Setting {
        key: "database.mode",
        doc: "`embedded`: a private PostgreSQL below the data directory. `external`: the one of `database.url`, which must then be given. `auto`: external if there is a URL.",
        set: |c, v| put(&mut c.database.mode, DatabaseMode::read(v)),
        show: |c| text(c.database.mode.word()),
    },
    Setting {
        key: "database.url",
        doc: "`postgres://user:password@host:port/database?parameters`, also with several hosts. Read from `DATABASE_URL` too, which `database.mode` = `embedded` ignores.",
        set: |c, v| put(&mut c.database.url, database_url(v).map(Some)),
        show: |c| c.database.url.as_deref().and_then(|url| text(redact::url(url))),
    },
    Setting {
        key: "database.schema",
        doc: "PostgreSQL schema of Coffer's tables.",
        set: |c, v| put(&mut c.database.schema, schema(v)),
        show: |c| text(&c.database.schema),
    },
    Setting {
        key: "database.pool_size",
        doc: "Connections to PostgreSQL at most, 2 to 500; a few more are made beside the pool.",
        set: |c, v| {
            let size = v.number(2, 500)?;
            put(&mut c.database.pool_size, NonZeroUsize::new(size).ok_or_else(|| "must not be 0".to_owned()))
        },
        show: |c| Some(c.database.pool_size.to_string()),
    },
    Setting {
        key: "database.root_certificates",
        doc: "PEM file of certificates to trust for PostgreSQL's TLS, beside the system's.",
        set: |c, v| put(&mut c.database.root_certificates, v.text().map(|text| Some(text.into()))),
        show: |c| c.database.root_certificates.as_deref().and_then(path),
    },
    Setting {
        key: "database.migrate",
        doc: "What `serve` does with pending migrations of an external database. `check`: refuses to start and says what to run. `auto`: applies them. The embedded one is always migrated.",
        set: |c, v| put(&mut c.database.migrate, Migrate::read(v)),
        show: |c| text(c.database.migrate.word()),
    },
];

fn database_url(value: &Value) -> Result<String, String> {
    let url = value.text()?;
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err("must begin with postgres://".to_owned());
    }
    match Database::new(url, coffer_persistence::database::Options::default()) {
        Ok(_) => Ok(url.to_owned()),
        Err(error) => Err(format!("is {error}")),
    }
}

fn schema(value: &Value) -> Result<coffer_persistence::database::SchemaName, String> {
    value.text()?.parse().map_err(|error: coffer_persistence::database::Error| format!("is wrong: {error}"))
}
