-- FTP and SFTP servers get what their use needs: how connections are protected, which key a server has to show, which folder keys are put in,
-- and a credential. No release has written a row of this table.

ALTER TABLE ftp_endpoints
    ADD COLUMN security text,
    ADD COLUMN host_key text,
    ADD COLUMN path text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN description text NOT NULL DEFAULT '',
    ADD COLUMN private_key text,
    ADD COLUMN credential_id uuid,
    ADD COLUMN credential_description text NOT NULL DEFAULT '',
    ADD COLUMN credential_created_at timestamptz,
    ADD CONSTRAINT ftp_endpoints_security_check CHECK (
        CASE protocol WHEN 'ftp' THEN security IS NOT NULL AND security IN ('plain', 'explicit', 'implicit')
                      ELSE security IS NULL END
    ),
    -- A server that anybody could stand in for is never logged in to.
    ADD CONSTRAINT ftp_endpoints_host_key_check CHECK (
        CASE protocol WHEN 'sftp' THEN host_key IS NOT NULL AND host_key ~ '^SHA256:[A-Za-z0-9+/]{43}$'
                      ELSE host_key IS NULL END
    ),
    ADD CONSTRAINT ftp_endpoints_path_check CHECK (octet_length(path) <= 1024),
    ADD CONSTRAINT ftp_endpoints_description_check CHECK (octet_length(description) <= 1024),
    ADD CONSTRAINT ftp_endpoints_credential_description_check CHECK (octet_length(credential_description) <= 1024),
    ADD CONSTRAINT ftp_endpoints_private_key_check CHECK (octet_length(private_key) BETWEEN 1 AND 16384),
    -- Keeps a plain secret out even where somebody writes SQL by hand.
    ADD CONSTRAINT ftp_endpoints_sealed_check CHECK (
        password ~ '^v[0-9]+[.][A-Za-z0-9_-]+[.][A-Za-z0-9_-]+$'
        AND private_key ~ '^v[0-9]+[.][A-Za-z0-9_-]+[.][A-Za-z0-9_-]+$'
    ),
    ADD CONSTRAINT ftp_endpoints_login_check CHECK (
        num_nonnulls(password, private_key, key_path) = num_nonnulls(credential_id)
        AND (protocol = 'sftp' OR num_nonnulls(private_key, key_path) = 0)
    ),
    ADD CONSTRAINT ftp_endpoints_credential_check CHECK (
        num_nonnulls(credential_id) = num_nonnulls(credential_created_at)
    );
-- Two rows for one place would be two volumes in one place.
CREATE UNIQUE INDEX ftp_endpoints_place_key ON ftp_endpoints (protocol, host, port, username, path);
CREATE UNIQUE INDEX ftp_endpoints_credential_key ON ftp_endpoints (credential_id);

COMMENT ON COLUMN ftp_endpoints.host IS 'Host name in lowercase, or address, IPv6 without brackets; 1 to 255 characters';
COMMENT ON COLUMN ftp_endpoints.password IS 'Password, sealed: v{format}.{key id}.{base64url}; NULL: log in with a key, or not yet';
COMMENT ON COLUMN ftp_endpoints.key_path IS 'Private key on the server''s disk, below a configured folder (SFTP), from there or absolute; NULL: log in with a password or the key that is stored, or not yet';
COMMENT ON COLUMN ftp_endpoints.security IS 'How connections are protected (FTP): plain, explicit (TLS after AUTH TLS) or implicit (TLS from the first byte on); NULL for sftp';
COMMENT ON COLUMN ftp_endpoints.host_key IS 'Fingerprint of the key that the server has to show (SFTP), as ssh-keygen -lf prints it: SHA256:{base64}; NULL for ftp';
COMMENT ON COLUMN ftp_endpoints.path IS 'Folder on the server that keys are put in, absolute or from where the log-in leads; empty: there; at most 1,024 bytes';
COMMENT ON COLUMN ftp_endpoints.description IS 'Name for people; at most 1,024 bytes';
COMMENT ON COLUMN ftp_endpoints.private_key IS 'Private key (SFTP), sealed: v{format}.{key id}.{base64url}; NULL: log in with a password or a file, or not yet';
COMMENT ON COLUMN ftp_endpoints.credential_id IS 'UUIDv7 of the credential that password, private_key or key_path is; NULL: there is none yet';
COMMENT ON COLUMN ftp_endpoints.credential_description IS 'What the credential is for; at most 1,024 bytes';
COMMENT ON COLUMN ftp_endpoints.credential_created_at IS 'When the credential was made; NULL: there is none yet';
