DROP INDEX ftp_endpoints_credential_key;
DROP INDEX ftp_endpoints_place_key;
ALTER TABLE ftp_endpoints
    DROP CONSTRAINT ftp_endpoints_credential_check,
    DROP CONSTRAINT ftp_endpoints_login_check,
    DROP CONSTRAINT ftp_endpoints_sealed_check,
    DROP CONSTRAINT ftp_endpoints_private_key_check,
    DROP CONSTRAINT ftp_endpoints_credential_description_check,
    DROP CONSTRAINT ftp_endpoints_description_check,
    DROP CONSTRAINT ftp_endpoints_path_check,
    DROP CONSTRAINT ftp_endpoints_host_key_check,
    DROP CONSTRAINT ftp_endpoints_security_check,
    DROP COLUMN credential_created_at,
    DROP COLUMN credential_description,
    DROP COLUMN credential_id,
    DROP COLUMN private_key,
    DROP COLUMN description,
    DROP COLUMN path,
    DROP COLUMN host_key,
    DROP COLUMN security;
COMMENT ON COLUMN ftp_endpoints.key_path IS 'Private key on the server''s disk, below a configured folder (SFTP); NULL: log in with the password';
COMMENT ON COLUMN ftp_endpoints.password IS 'Password, sealed; NULL: log in with a key';
COMMENT ON COLUMN ftp_endpoints.host IS 'Host name or address; 1 to 255 characters';
