-- storage_operations ---------------------------------------------------------------------------------------

-- What was recorded stays: with kinds that are not known any more, the rule holds for new rows only.
ALTER TABLE storage_operations DROP CONSTRAINT storage_operations_operation_check;
ALTER TABLE storage_operations ADD CONSTRAINT storage_operations_operation_check CHECK (operation IN (
    'upload', 'download', 'delete', 'copy', 'move', 'update_metadata',
    'view_metadata', 'list', 'undelete', 'purge', 'restore', 'read_operations', 'read_quota', 'view_volume',
    'create_volume', 'update_volume', 'delete_volume', 'check_volume',
    'create_local_path', 'update_local_path', 'delete_local_path', 'authenticate', 'reconcile', 'migrate', 'other',
    'start_upload', 'cancel_upload', 'expire_upload', 'view_upload', 'set_quota', 'recalculate_quotas'
)) NOT VALID;
DO $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM storage_operations
        WHERE operation IN (
            'create_endpoint', 'update_endpoint', 'delete_endpoint',
            'create_credential', 'update_credential', 'delete_credential', 'rotate_keys', 'view_task', 'cancel_task'
        )
    ) THEN
        ALTER TABLE storage_operations VALIDATE CONSTRAINT storage_operations_operation_check;
    END IF;
END
$$;


-- tasks ----------------------------------------------------------------------------------------------------

DROP TABLE tasks;


-- Backends -------------------------------------------------------------------------------------------------

ALTER TABLE http_credentials DROP COLUMN description;
DROP INDEX http_endpoints_url_key;
COMMENT ON COLUMN s3_credentials.secret_key IS 'Secret access key, sealed';
ALTER TABLE s3_credentials DROP CONSTRAINT s3_credentials_sealed_check;
DROP INDEX s3_buckets_place_key;
ALTER TABLE s3_buckets DROP COLUMN description, DROP COLUMN use_path_style;
