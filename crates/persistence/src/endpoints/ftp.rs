//! FTP and SFTP servers, without what opens them.

use coffer_domain::endpoint::{Folder, FtpSecurity, FtpServer, Host, HostKey, Server, SftpServer};
use coffer_domain::time::Timestamp;
use diesel::QueryDsl;
use diesel::pg::Pg;
use diesel::prelude::{AsChangeset, Insertable, Queryable, Selectable};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use crate::error::{Step, unreadable};
use crate::schema::ftp_endpoints;

#[derive(Debug, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = ftp_endpoints, check_for_backend(Pg))]
pub(super) struct FtpRow {
    pub(super) id: Uuid,
    host: String,
    port: i32,
    protocol: String,
    username: String,
    pub(super) created_at: Timestamp,
    security: Option<String>,
    host_key: Option<String>,
    path: String,
    pub(super) description: String,
}

impl FtpRow {
    pub(super) fn of_ftp(id: Uuid, server: FtpServer, description: String, created_at: Timestamp) -> Self {
        let FtpServer { host, port, security, username, folder } = server;
        Self {
            id,
            host: host.into(),
            port: port.into(),
            protocol: "ftp".to_owned(),
            username,
            created_at,
            security: Some(security.as_str().to_owned()),
            host_key: None,
            path: folder.into(),
            description,
        }
    }

    pub(super) fn of_sftp(id: Uuid, server: SftpServer, description: String, created_at: Timestamp) -> Self {
        let SftpServer { host, port, username, host_key, folder } = server;
        Self {
            id,
            host: host.into(),
            port: port.into(),
            protocol: "sftp".to_owned(),
            username,
            created_at,
            security: None,
            host_key: Some(host_key.into()),
            path: folder.into(),
            description,
        }
    }

    pub(super) fn server(&self) -> Step<Server> {
        let host = self.host.parse::<Host>().map_err(unreadable)?;
        let port = u16::try_from(self.port).map_err(unreadable)?;
        let username = self.username.clone();
        let folder = self.path.parse::<Folder>().map_err(unreadable)?;
        match (self.protocol.as_str(), &self.security, &self.host_key) {
            ("ftp", Some(security), None) => {
                let security = security.parse::<FtpSecurity>().map_err(unreadable)?;
                Ok(Server::Ftp(FtpServer { host, port, security, username, folder }))
            }
            ("sftp", None, Some(host_key)) => {
                let host_key = host_key.parse::<HostKey>().map_err(unreadable)?;
                Ok(Server::Sftp(SftpServer { host, port, username, host_key, folder }))
            }
            (other, _, _) => Err(unreadable(format!("protocol {other:?}"))),
        }
    }
}

/// Changes where a server is; what opens it stays.
pub(super) async fn update(c: &AsyncPgConnection, row: &FtpRow) -> Step<()> {
    diesel::update(ftp_endpoints::table.find(row.id)).set(row).execute(&mut &*c).await?;
    Ok(())
}
