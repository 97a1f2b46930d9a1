-- storage_operations ---------------------------------------------------------------------------------------

-- What was recorded stays: with kinds that are not known any more, the rule holds for new rows only.
ALTER TABLE storage_operations DROP CONSTRAINT storage_operations_operation_check;
ALTER TABLE storage_operations ADD CONSTRAINT storage_operations_operation_check CHECK (operation IN (
    'upload', 'download', 'delete', 'copy', 'move', 'update_metadata',
    'view_metadata', 'list', 'undelete', 'purge', 'restore', 'read_operations', 'read_quota', 'view_volume',
    'create_volume', 'update_volume', 'delete_volume', 'check_volume',
    'create_local_path', 'update_local_path', 'delete_local_path', 'authenticate', 'reconcile', 'migrate', 'other'
)) NOT VALID;
DO $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM storage_operations
        WHERE operation IN ('start_upload', 'cancel_upload', 'expire_upload', 'view_upload', 'set_quota', 'recalculate_quotas')
    ) THEN
        ALTER TABLE storage_operations VALIDATE CONSTRAINT storage_operations_operation_check;
    END IF;
END
$$;


-- storage_volumes ------------------------------------------------------------------------------------------

UPDATE storage_volumes SET upload_ttl_seconds = 86400 WHERE upload_ttl_seconds IS NULL;
ALTER TABLE storage_volumes
    ALTER COLUMN upload_ttl_seconds SET DEFAULT 86400,
    ALTER COLUMN upload_ttl_seconds SET NOT NULL;
COMMENT ON COLUMN storage_volumes.upload_ttl_seconds IS 'Seconds an upload may rest between two recorded steps; 1 minute to 7 days';


-- Quotas ---------------------------------------------------------------------------------------------------

-- Nobody is left who would give back what uploads held.
UPDATE storage_volumes SET quota_reserved = 0 WHERE quota_reserved <> 0;
UPDATE user_quotas SET quota_reserved = 0 WHERE quota_reserved <> 0;
UPDATE app_quotas SET quota_reserved = 0 WHERE quota_reserved <> 0;
UPDATE storage_quotas SET reserved_storage_bytes = 0, reserved_files = 0
WHERE reserved_storage_bytes <> 0 OR reserved_files <> 0;

DROP INDEX storage_quotas_user_idx;
-- Of users who have not stored anything.
DELETE FROM user_quotas q WHERE NOT EXISTS (SELECT FROM users u WHERE u.id = q.user_id);
DELETE FROM storage_quotas q
WHERE q.user_id IS NOT NULL AND NOT EXISTS (SELECT FROM users u WHERE u.id = q.user_id);
COMMENT ON COLUMN user_quotas.user_id IS 'Whose files';
COMMENT ON COLUMN storage_quotas.user_id IS 'The user, where entity_type is user; else NULL';
ALTER TABLE user_quotas
    ADD CONSTRAINT user_quotas_user_id_fkey FOREIGN KEY (user_id) REFERENCES users (id);
ALTER TABLE storage_quotas
    ADD CONSTRAINT storage_quotas_user_id_fkey FOREIGN KEY (user_id) REFERENCES users (id);


-- storage_uploads ------------------------------------------------------------------------------------------

DROP INDEX storage_uploads_tenant_idx;
DROP INDEX storage_uploads_principal_idx;
DROP INDEX storage_uploads_request_idx;
ALTER TABLE storage_uploads DROP COLUMN reserved_files, DROP COLUMN reserved_bytes;
COMMENT ON COLUMN storage_uploads.spec IS 'The file''s metadata as asked for, with preconditions; a JSON object';

CREATE TABLE quota_reservations (
    upload_id   uuid    NOT NULL,
    quota_table text    NOT NULL,
    quota_id    uuid    NOT NULL,
    bytes       bigint  NOT NULL,
    files       integer NOT NULL,
    CONSTRAINT quota_reservations_pkey PRIMARY KEY (upload_id, quota_table, quota_id),
    CONSTRAINT quota_reservations_upload_id_fkey FOREIGN KEY (upload_id) REFERENCES storage_uploads (id)
        ON DELETE CASCADE,
    CONSTRAINT quota_reservations_quota_table_check CHECK (
        quota_table IN ('storage_volumes', 'user_quotas', 'app_quotas', 'storage_quotas')
    ),
    CONSTRAINT quota_reservations_bytes_check CHECK (bytes >= 0),
    CONSTRAINT quota_reservations_files_check CHECK (files >= 0)
) WITH (fillfactor = 80);

COMMENT ON TABLE quota_reservations IS 'Quota held by uploads that have not finished; summed, it equals the reserved columns';
COMMENT ON COLUMN quota_reservations.upload_id IS 'Upload that holds it';
COMMENT ON COLUMN quota_reservations.quota_table IS 'Table of the quota row: storage_volumes, user_quotas, app_quotas or storage_quotas';
COMMENT ON COLUMN quota_reservations.quota_id IS 'Id in that table. No foreign key: four tables';
COMMENT ON COLUMN quota_reservations.bytes IS 'Bytes held';
COMMENT ON COLUMN quota_reservations.files IS 'Files held; 0 where the upload replaces content, and in tables that count no files';
