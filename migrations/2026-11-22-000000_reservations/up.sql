-- What unfinished uploads hold of their payer's quotas, and what lists and repeated requests look them up by.


-- storage_uploads ------------------------------------------------------------------------------------------

-- An upload holds the same in every quota of its payer, so it is two columns here and no table of its own.
DROP TABLE quota_reservations;
ALTER TABLE storage_uploads
    ADD COLUMN reserved_bytes bigint  NOT NULL DEFAULT 0,
    ADD COLUMN reserved_files integer NOT NULL DEFAULT 0,
    ADD CONSTRAINT storage_uploads_reserved_bytes_check CHECK (reserved_bytes >= 0),
    ADD CONSTRAINT storage_uploads_reserved_files_check CHECK (reserved_files >= 0),
    -- Whoever ends an upload gives back what it holds.
    ADD CONSTRAINT storage_uploads_reserved_check CHECK (
        state IN ('OPEN', 'FINISHING') OR (reserved_bytes = 0 AND reserved_files = 0)
    );

COMMENT ON COLUMN storage_uploads.reserved_bytes IS 'Bytes held in each of its payer''s quotas; 0 once it has ended. Summed over uploads, it equals their reserved columns';
COMMENT ON COLUMN storage_uploads.reserved_files IS 'Files held in those of its payer''s quotas that count files; 0 where it replaces content, and once it has ended';
COMMENT ON COLUMN storage_uploads.spec IS 'All the caller asked for, so that whoever goes on with it knows it; a JSON object';

-- Only uploads that can be resumed are looked for; others cost these indexes nothing. None of the columns is one that a
-- checkpoint changes.
CREATE INDEX storage_uploads_request_idx ON storage_uploads (principal, request_id, id)
    WHERE request_id IS NOT NULL;
CREATE INDEX storage_uploads_principal_idx ON storage_uploads (principal, id)
    WHERE request_id IS NOT NULL;
CREATE INDEX storage_uploads_tenant_idx ON storage_uploads (organisation_id, id)
    WHERE request_id IS NOT NULL;


-- Quotas ---------------------------------------------------------------------------------------------------

-- Quota is held, and limits are set, before a user's first commit, which brings the row in users.
ALTER TABLE user_quotas DROP CONSTRAINT user_quotas_user_id_fkey;
ALTER TABLE storage_quotas DROP CONSTRAINT storage_quotas_user_id_fkey;
COMMENT ON COLUMN user_quotas.user_id IS 'Whose files. No foreign key: the row in users comes with the first commit';
COMMENT ON COLUMN storage_quotas.user_id IS 'The user, where entity_type is user; else NULL. No foreign key: the row in users comes with the first commit';

-- They go with their volume from now on.
DELETE FROM user_quotas WHERE volume_id IN (SELECT id FROM storage_volumes WHERE deleted_at IS NOT NULL);
DELETE FROM app_quotas WHERE volume_id IN (SELECT id FROM storage_volumes WHERE deleted_at IS NOT NULL);

-- Pages of a tenant's users, and whether a user is one of them.
CREATE INDEX storage_quotas_user_idx ON storage_quotas (organisation_id, user_id)
    WHERE entity_type = 'user';


-- storage_volumes ------------------------------------------------------------------------------------------

-- Nobody could set it before: every value there is comes from the default.
ALTER TABLE storage_volumes
    ALTER COLUMN upload_ttl_seconds DROP NOT NULL,
    ALTER COLUMN upload_ttl_seconds DROP DEFAULT;
UPDATE storage_volumes SET upload_ttl_seconds = NULL;
COMMENT ON COLUMN storage_volumes.upload_ttl_seconds IS 'Seconds an upload may rest between two recorded steps; 1 minute to 7 days; NULL: 24 hours';


-- storage_operations ---------------------------------------------------------------------------------------

ALTER TABLE storage_operations DROP CONSTRAINT storage_operations_operation_check;
ALTER TABLE storage_operations ADD CONSTRAINT storage_operations_operation_check CHECK (operation IN (
    'upload', 'download', 'delete', 'copy', 'move', 'update_metadata',
    'view_metadata', 'list', 'undelete', 'purge', 'restore', 'read_operations', 'read_quota', 'view_volume',
    'create_volume', 'update_volume', 'delete_volume', 'check_volume',
    'create_local_path', 'update_local_path', 'delete_local_path', 'authenticate', 'reconcile', 'migrate', 'other',
    'start_upload', 'cancel_upload', 'expire_upload', 'view_upload', 'set_quota', 'recalculate_quotas'
)) NOT VALID;
ALTER TABLE storage_operations VALIDATE CONSTRAINT storage_operations_operation_check;
