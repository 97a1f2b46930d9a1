-- What every byte is and whose it is: stored objects, files, their versions, and who else may see them.


-- storage_objects ------------------------------------------------------------------------------------------

CREATE TABLE storage_objects (
    id                uuid        NOT NULL,
    volume_id         uuid        NOT NULL,
    key               text        COLLATE "C" NOT NULL,
    size_bytes        bigint      NOT NULL,
    sha256            bytea       NOT NULL,
    crc32c            bigint      NOT NULL,
    stored_size_bytes bigint      NOT NULL,
    codec             text        NOT NULL DEFAULT 'identity',
    data_key          bytea,
    refs              integer     NOT NULL,
    state             text        NOT NULL DEFAULT 'live',
    scrubbed_at       timestamptz,
    created_at        timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT storage_objects_pkey PRIMARY KEY (id),
    CONSTRAINT storage_objects_key_key UNIQUE (volume_id, key),
    CONSTRAINT storage_objects_volume_id_fkey FOREIGN KEY (volume_id) REFERENCES storage_volumes (id),
    CONSTRAINT storage_objects_key_check CHECK (octet_length(key) BETWEEN 1 AND 2048),
    CONSTRAINT storage_objects_size_bytes_check CHECK (size_bytes >= 0),
    CONSTRAINT storage_objects_sha256_check CHECK (octet_length(sha256) = 32),
    CONSTRAINT storage_objects_crc32c_check CHECK (crc32c BETWEEN 0 AND 4294967295),
    CONSTRAINT storage_objects_stored_size_bytes_check CHECK (stored_size_bytes >= 0),
    CONSTRAINT storage_objects_codec_check CHECK (codec IN ('identity')),
    CONSTRAINT storage_objects_refs_check CHECK (refs >= 0),
    CONSTRAINT storage_objects_state_check CHECK (state IN ('live', 'deleting')),
    CONSTRAINT storage_objects_deleting_check CHECK (state <> 'deleting' OR refs = 0)
) WITH (fillfactor = 90);

COMMENT ON TABLE storage_objects IS 'Bytes stored under one key of a volume; versions name them';
COMMENT ON COLUMN storage_objects.id IS 'UUIDv7';
COMMENT ON COLUMN storage_objects.volume_id IS 'Volume that holds the bytes';
COMMENT ON COLUMN storage_objects.key IS 'Key on the backend, without the volume''s default_prefix; at most 2,048 bytes; never reused for other content';
COMMENT ON COLUMN storage_objects.size_bytes IS 'Size of the plain content';
COMMENT ON COLUMN storage_objects.sha256 IS 'SHA-256 of the plain content, 32 bytes';
COMMENT ON COLUMN storage_objects.crc32c IS 'CRC-32C of the plain content, as an unsigned 32-bit number';
COMMENT ON COLUMN storage_objects.stored_size_bytes IS 'Size on the backend, after the codec';
COMMENT ON COLUMN storage_objects.codec IS 'How the content was transformed: identity';
COMMENT ON COLUMN storage_objects.data_key IS 'The codec''s data key, wrapped by the key ring; NULL where the codec has none';
COMMENT ON COLUMN storage_objects.refs IS 'Versions that name the object; changes in their transactions';
COMMENT ON COLUMN storage_objects.state IS 'live, or deleting: refs reached 0, the bytes are being reclaimed, nothing may name it again';
COMMENT ON COLUMN storage_objects.scrubbed_at IS 'When the bytes were last read back and compared; NULL: not since they were written';
COMMENT ON COLUMN storage_objects.created_at IS 'When the object was committed';


-- storage_files --------------------------------------------------------------------------------------------

-- Rows are never deleted: purging leaves a tombstone, so that the audit trail keeps what it refers to.
-- fillfactor: access counters touch no indexed column, and room on the page keeps them off the indexes.
CREATE TABLE storage_files (
    id                  uuid        NOT NULL DEFAULT gen_random_uuid(),
    volume_id           uuid        NOT NULL,
    organisation_id     text        NOT NULL DEFAULT '',
    project_id          text,
    namespace           text        NOT NULL,
    user_id             uuid,
    app_id              text,
    file_id             text        COLLATE "C" NOT NULL,
    filename            text        NOT NULL,
    original_name       text        NOT NULL,
    storage_path        text        COLLATE "C" NOT NULL,
    path_nfc            text        COLLATE "C" NOT NULL,
    mime_type           text        NOT NULL DEFAULT 'application/octet-stream',
    encoding            text,
    size                bigint      NOT NULL,
    checksum            text        NOT NULL,
    checksum_algorithm  text        NOT NULL DEFAULT 'sha256',
    provider            text        NOT NULL,
    provider_path       text        COLLATE "C" NOT NULL,
    provider_metadata   jsonb       NOT NULL DEFAULT '{}',
    data_classification text        NOT NULL DEFAULT 'internal',
    encrypted           boolean     NOT NULL DEFAULT false,
    encryption_key_id   text,
    is_public           boolean     NOT NULL DEFAULT false,
    tags                jsonb       NOT NULL DEFAULT '[]',
    custom_metadata     jsonb       NOT NULL DEFAULT '{}',
    version_number      integer     NOT NULL DEFAULT 1,
    current_version_id  uuid,
    revision            bigint      NOT NULL DEFAULT 1,
    status              text        NOT NULL DEFAULT 'active',
    access_count        integer     NOT NULL DEFAULT 0,
    last_accessed_at    timestamptz,
    created_by          uuid,
    updated_by          uuid,
    deleted_by          uuid,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    deleted_at          timestamptz,
    purged_at           timestamptz,
    CONSTRAINT storage_files_pkey PRIMARY KEY (id),
    -- Per tenant: nobody learns from a refusal that another organisation uses a name.
    CONSTRAINT storage_files_file_id_key UNIQUE (organisation_id, file_id),
    CONSTRAINT storage_files_volume_id_fkey FOREIGN KEY (volume_id) REFERENCES storage_volumes (id),
    CONSTRAINT storage_files_user_id_fkey FOREIGN KEY (user_id) REFERENCES users (id),
    CONSTRAINT storage_files_created_by_fkey FOREIGN KEY (created_by) REFERENCES users (id),
    CONSTRAINT storage_files_updated_by_fkey FOREIGN KEY (updated_by) REFERENCES users (id),
    CONSTRAINT storage_files_organisation_id_check CHECK (octet_length(organisation_id) <= 255),
    CONSTRAINT storage_files_project_id_check CHECK (octet_length(project_id) BETWEEN 1 AND 255),
    CONSTRAINT storage_files_namespace_check CHECK (namespace IN ('users', 'apps')),
    CONSTRAINT storage_files_owner_check CHECK (
        (namespace = 'users' AND user_id IS NOT NULL) OR (namespace = 'apps' AND app_id IS NOT NULL)
    ),
    CONSTRAINT storage_files_app_id_check CHECK (char_length(app_id) BETWEEN 1 AND 100),
    CONSTRAINT storage_files_file_id_check CHECK (octet_length(file_id) BETWEEN 1 AND 255),
    CONSTRAINT storage_files_filename_check CHECK (octet_length(filename) <= 1024),
    CONSTRAINT storage_files_original_name_check CHECK (octet_length(original_name) <= 1024),
    CONSTRAINT storage_files_storage_path_check CHECK (octet_length(storage_path) <= 4096),
    CONSTRAINT storage_files_path_nfc_check CHECK (octet_length(path_nfc) <= 2048),
    CONSTRAINT storage_files_mime_type_check CHECK (char_length(mime_type) BETWEEN 1 AND 100),
    CONSTRAINT storage_files_encoding_check CHECK (char_length(encoding) BETWEEN 1 AND 100),
    CONSTRAINT storage_files_size_check CHECK (size >= 0),
    CONSTRAINT storage_files_checksum_check CHECK (checksum ~ '^[0-9a-f]{64}$'),
    CONSTRAINT storage_files_checksum_algorithm_check CHECK (checksum_algorithm IN ('sha256')),
    CONSTRAINT storage_files_provider_check CHECK (provider IN ('local', 's3', 'http', 'ftp', 'sftp')),
    CONSTRAINT storage_files_provider_path_check CHECK (octet_length(provider_path) <= 2048),
    CONSTRAINT storage_files_provider_metadata_check CHECK (jsonb_typeof(provider_metadata) = 'object'),
    CONSTRAINT storage_files_data_classification_check CHECK (
        data_classification IN ('public', 'internal', 'confidential', 'restricted')
    ),
    CONSTRAINT storage_files_encryption_key_id_check CHECK (char_length(encryption_key_id) BETWEEN 1 AND 255),
    CONSTRAINT storage_files_tags_check CHECK (jsonb_typeof(tags) = 'array'),
    CONSTRAINT storage_files_custom_metadata_check CHECK (jsonb_typeof(custom_metadata) = 'object'),
    CONSTRAINT storage_files_version_number_check CHECK (version_number >= 1),
    CONSTRAINT storage_files_revision_check CHECK (revision >= 1),
    CONSTRAINT storage_files_status_check CHECK (status IN ('active', 'archived', 'deleted', 'corrupted')),
    -- Two columns of two documents say the same thing; they may never disagree.
    CONSTRAINT storage_files_deleted_check CHECK ((status = 'deleted') = (deleted_at IS NOT NULL)),
    CONSTRAINT storage_files_access_count_check CHECK (access_count >= 0),
    -- Living files have names; tombstones have none, nor anything else that could tell what they were.
    CONSTRAINT storage_files_tombstone_check CHECK (
        CASE WHEN purged_at IS NULL THEN
            filename <> '' AND original_name <> '' AND storage_path <> '' AND path_nfc <> ''
            AND provider_path <> ''
        ELSE
            deleted_at IS NOT NULL AND current_version_id IS NULL
            AND filename = '' AND original_name = '' AND storage_path = '' AND path_nfc = ''
            AND provider_path = '' AND provider_metadata = '{}' AND tags = '[]' AND custom_metadata = '{}'
        END
    )
) WITH (fillfactor = 80);

-- Folders and paths; a deleted file gives its path up.
CREATE UNIQUE INDEX storage_files_path_key ON storage_files (volume_id, organisation_id, path_nfc)
    WHERE deleted_at IS NULL;
-- Lists. All but tombstones: a list that says "purged_at IS NULL" costs the same however much was purged.
CREATE INDEX storage_files_owner_idx ON storage_files (user_id, created_at, id)
    WHERE purged_at IS NULL;
CREATE INDEX storage_files_tenant_idx ON storage_files (organisation_id, created_at, id)
    WHERE purged_at IS NULL;
-- The trash of a volume: what its retention ends, and what keeps it from being empty.
CREATE INDEX storage_files_trash_idx ON storage_files (volume_id, deleted_at, id)
    WHERE deleted_at IS NOT NULL AND purged_at IS NULL;

CREATE TRIGGER storage_files_keep_rows BEFORE DELETE OR TRUNCATE ON storage_files
    FOR EACH STATEMENT
    EXECUTE FUNCTION refuse_write('Files are deleted and purged through the service, which leaves a tombstone for the audit trail.');

COMMENT ON TABLE storage_files IS 'Files: stable id, metadata, current content. Purged files stay as tombstones';
COMMENT ON COLUMN storage_files.id IS 'UUIDv7; the default is for rows made by hand';
COMMENT ON COLUMN storage_files.volume_id IS 'Volume that holds the current content';
COMMENT ON COLUMN storage_files.organisation_id IS 'Tenant; empty for callers without an organisation, which is a tenant of its own';
COMMENT ON COLUMN storage_files.project_id IS 'Project that is charged; NULL: none';
COMMENT ON COLUMN storage_files.namespace IS 'users (owned by user_id) or apps (owned by app_id)';
COMMENT ON COLUMN storage_files.user_id IS 'Owner in namespace users; NULL for files of apps and of the system';
COMMENT ON COLUMN storage_files.app_id IS 'App that owns the file, or through which its user made it, for example chat';
COMMENT ON COLUMN storage_files.file_id IS 'The caller''s own name for the file, unique in its organisation, or file_ and the id in base32; a purge sets it to the latter';
COMMENT ON COLUMN storage_files.filename IS 'Current name; at most 1,024 bytes; empty once purged';
COMMENT ON COLUMN storage_files.original_name IS 'Name at the first upload; at most 1,024 bytes; empty once purged';
COMMENT ON COLUMN storage_files.storage_path IS 'Logical path in the volume as the caller gave it; at most 4,096 bytes; empty once purged';
COMMENT ON COLUMN storage_files.path_nfc IS 'storage_path in Unicode NFC, by which paths are compared; at most 2,048 bytes; empty once purged';
COMMENT ON COLUMN storage_files.mime_type IS 'Media type by the caller or by extension, never sniffed; 1 to 100 characters';
COMMENT ON COLUMN storage_files.encoding IS 'Encoding of the content as the caller named it; NULL: not said';
COMMENT ON COLUMN storage_files.size IS 'Size of the current plain content in bytes';
COMMENT ON COLUMN storage_files.checksum IS 'Checksum of the current plain content, lower-case hexadecimal';
COMMENT ON COLUMN storage_files.checksum_algorithm IS 'sha256';
COMMENT ON COLUMN storage_files.provider IS 'Kind of backend that holds the current content: local, s3, http, ftp or sftp';
COMMENT ON COLUMN storage_files.provider_path IS 'Key of the current object on the backend; empty once purged';
COMMENT ON COLUMN storage_files.provider_metadata IS 'What the backend said about the current object (etag, native version), a JSON object';
COMMENT ON COLUMN storage_files.data_classification IS 'public, internal, confidential or restricted';
COMMENT ON COLUMN storage_files.encrypted IS 'Whether the current content is encrypted at rest by the service';
COMMENT ON COLUMN storage_files.encryption_key_id IS 'Key of the ring that wraps the content''s data key; NULL where not encrypted';
COMMENT ON COLUMN storage_files.is_public IS 'Whether the content may be read without a token';
COMMENT ON COLUMN storage_files.tags IS 'JSON array of strings; empty once purged';
COMMENT ON COLUMN storage_files.custom_metadata IS 'JSON object of the caller''s; empty once purged';
COMMENT ON COLUMN storage_files.version_number IS 'Number of the current version, from 1';
COMMENT ON COLUMN storage_files.current_version_id IS 'Current row of storage_file_versions, NULL once purged. No foreign key: the two tables refer to each other, and storage_file_versions_current_key already allows only one';
COMMENT ON COLUMN storage_files.revision IS 'Grows by one with every change but access counting; the etag';
COMMENT ON COLUMN storage_files.status IS 'active, archived (readable, not replaceable), deleted (with deleted_at) or corrupted (not readable)';
COMMENT ON COLUMN storage_files.access_count IS 'Reads of the content; counting changes neither updated_at nor revision';
COMMENT ON COLUMN storage_files.last_accessed_at IS 'Last read of the content; NULL: never read';
COMMENT ON COLUMN storage_files.created_by IS 'User who made the file; NULL: an app or the system';
COMMENT ON COLUMN storage_files.updated_by IS 'User who last changed it; NULL: an app or the system';
COMMENT ON COLUMN storage_files.deleted_by IS 'User who deleted it. No foreign key: an operator who deletes need not have a row in users';
COMMENT ON COLUMN storage_files.created_at IS 'When the first content was committed';
COMMENT ON COLUMN storage_files.updated_at IS 'When content or metadata last changed';
COMMENT ON COLUMN storage_files.deleted_at IS 'Soft delete; NULL: not deleted';
COMMENT ON COLUMN storage_files.purged_at IS 'When content and descriptive metadata were given up for good; NULL: not purged';


-- files: the view that SQL written against the plain file table keeps using ---------------------------------

CREATE VIEW files AS
    SELECT id, volume_id, user_id, app_id, namespace, filename, storage_path, mime_type, size,
           custom_metadata AS metadata, is_public, created_at, updated_at, deleted_at
    FROM storage_files
    WHERE purged_at IS NULL;

CREATE TRIGGER files_read_only INSTEAD OF INSERT OR UPDATE OR DELETE ON files
    FOR EACH ROW
    EXECUTE FUNCTION refuse_write('The view "files" is read-only; files are changed through the service.');

COMMENT ON VIEW files IS 'Files that are not purged, with the soft-deleted ones; read-only';
COMMENT ON COLUMN files.id IS 'storage_files.id';
COMMENT ON COLUMN files.volume_id IS 'storage_files.volume_id';
COMMENT ON COLUMN files.user_id IS 'storage_files.user_id';
COMMENT ON COLUMN files.app_id IS 'storage_files.app_id';
COMMENT ON COLUMN files.namespace IS 'storage_files.namespace';
COMMENT ON COLUMN files.filename IS 'storage_files.filename';
COMMENT ON COLUMN files.storage_path IS 'storage_files.storage_path';
COMMENT ON COLUMN files.mime_type IS 'storage_files.mime_type';
COMMENT ON COLUMN files.size IS 'storage_files.size';
COMMENT ON COLUMN files.metadata IS 'storage_files.custom_metadata';
COMMENT ON COLUMN files.is_public IS 'storage_files.is_public';
COMMENT ON COLUMN files.created_at IS 'storage_files.created_at';
COMMENT ON COLUMN files.updated_at IS 'storage_files.updated_at';
COMMENT ON COLUMN files.deleted_at IS 'storage_files.deleted_at';


-- storage_file_versions ------------------------------------------------------------------------------------

CREATE TABLE storage_file_versions (
    id                 uuid        NOT NULL,
    file_id            uuid        NOT NULL,
    version_number     integer     NOT NULL,
    version_file_id    text,
    object_id          uuid        NOT NULL,
    filename           text        NOT NULL,
    size               bigint      NOT NULL,
    checksum           text        NOT NULL,
    mime_type          text        NOT NULL DEFAULT 'application/octet-stream',
    provider_path      text        COLLATE "C" NOT NULL,
    created_by         uuid,
    created_at         timestamptz NOT NULL DEFAULT now(),
    change_description text,
    is_current         boolean     NOT NULL,
    CONSTRAINT storage_file_versions_pkey PRIMARY KEY (id),
    CONSTRAINT storage_file_versions_version_number_key UNIQUE (file_id, version_number),
    CONSTRAINT storage_file_versions_file_id_fkey FOREIGN KEY (file_id) REFERENCES storage_files (id),
    CONSTRAINT storage_file_versions_object_id_fkey FOREIGN KEY (object_id) REFERENCES storage_objects (id),
    CONSTRAINT storage_file_versions_created_by_fkey FOREIGN KEY (created_by) REFERENCES users (id),
    CONSTRAINT storage_file_versions_version_number_check CHECK (version_number >= 1),
    CONSTRAINT storage_file_versions_version_file_id_check CHECK (octet_length(version_file_id) BETWEEN 1 AND 1024),
    CONSTRAINT storage_file_versions_filename_check CHECK (octet_length(filename) BETWEEN 1 AND 1024),
    CONSTRAINT storage_file_versions_size_check CHECK (size >= 0),
    CONSTRAINT storage_file_versions_checksum_check CHECK (checksum ~ '^[0-9a-f]{64}$'),
    CONSTRAINT storage_file_versions_mime_type_check CHECK (char_length(mime_type) BETWEEN 1 AND 100),
    CONSTRAINT storage_file_versions_provider_path_check CHECK (octet_length(provider_path) BETWEEN 1 AND 2048),
    CONSTRAINT storage_file_versions_change_description_check CHECK (octet_length(change_description) <= 1024)
);
CREATE UNIQUE INDEX storage_file_versions_current_key ON storage_file_versions (file_id) WHERE is_current;
-- Deleting an object's row looks here for versions that still name it.
CREATE INDEX storage_file_versions_object_id_idx ON storage_file_versions (object_id);

COMMENT ON TABLE storage_file_versions IS 'Contents of files, each immutable; the current one included. Rows go when their content is given up';
COMMENT ON COLUMN storage_file_versions.id IS 'UUIDv7';
COMMENT ON COLUMN storage_file_versions.file_id IS 'File whose content it is or was';
COMMENT ON COLUMN storage_file_versions.version_number IS 'From 1, in the order of commits; never given twice in a file';
COMMENT ON COLUMN storage_file_versions.version_file_id IS 'The backend''s own version id where it keeps versions (versioning_mode target); else NULL';
COMMENT ON COLUMN storage_file_versions.object_id IS 'Object that holds the bytes; shared by versions of equal or copied content';
COMMENT ON COLUMN storage_file_versions.filename IS 'Name of the file when the version was made; at most 1,024 bytes';
COMMENT ON COLUMN storage_file_versions.size IS 'Plain size in bytes; what quotas count';
COMMENT ON COLUMN storage_file_versions.checksum IS 'SHA-256 of the plain content, lower-case hexadecimal';
COMMENT ON COLUMN storage_file_versions.mime_type IS 'Media type; 1 to 100 characters';
COMMENT ON COLUMN storage_file_versions.provider_path IS 'Key of the object on the backend';
COMMENT ON COLUMN storage_file_versions.created_by IS 'User who made the version; NULL: an app or the system';
COMMENT ON COLUMN storage_file_versions.created_at IS 'When the version was committed';
COMMENT ON COLUMN storage_file_versions.change_description IS 'What changed, in the caller''s words; at most 1,024 bytes; NULL: not said';
COMMENT ON COLUMN storage_file_versions.is_current IS 'Whether this is the file''s current content; one row per file in every versioning mode';


-- storage_file_shares --------------------------------------------------------------------------------------

CREATE TABLE storage_file_shares (
    id                uuid        NOT NULL,
    file_id           uuid        NOT NULL,
    shared_by         uuid        NOT NULL,
    shared_with       uuid        NOT NULL,
    can_read          boolean     NOT NULL DEFAULT true,
    can_write         boolean     NOT NULL DEFAULT false,
    can_delete        boolean     NOT NULL DEFAULT false,
    can_share         boolean     NOT NULL DEFAULT false,
    expires_at        timestamptz,
    requires_password boolean     NOT NULL DEFAULT false,
    password_hash     text,
    max_downloads     integer,
    download_count    integer     NOT NULL DEFAULT 0,
    is_active         boolean     NOT NULL DEFAULT true,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    last_accessed_at  timestamptz,
    CONSTRAINT storage_file_shares_pkey PRIMARY KEY (id),
    CONSTRAINT storage_file_shares_file_id_fkey FOREIGN KEY (file_id) REFERENCES storage_files (id),
    CONSTRAINT storage_file_shares_shared_by_fkey FOREIGN KEY (shared_by) REFERENCES users (id),
    CONSTRAINT storage_file_shares_shared_with_fkey FOREIGN KEY (shared_with) REFERENCES users (id),
    -- A password asked for but not stored would leave the share open.
    CONSTRAINT storage_file_shares_password_check CHECK (requires_password = (password_hash IS NOT NULL)),
    CONSTRAINT storage_file_shares_password_hash_check CHECK (octet_length(password_hash) BETWEEN 1 AND 1024),
    CONSTRAINT storage_file_shares_max_downloads_check CHECK (max_downloads >= 1),
    CONSTRAINT storage_file_shares_download_count_check CHECK (download_count >= 0)
) WITH (fillfactor = 80);
CREATE INDEX storage_file_shares_file_id_idx ON storage_file_shares (file_id, id);
CREATE INDEX storage_file_shares_shared_with_idx ON storage_file_shares (shared_with, created_at, id);

COMMENT ON TABLE storage_file_shares IS 'Rights on a file given by one user to another';
COMMENT ON COLUMN storage_file_shares.id IS 'UUIDv7';
COMMENT ON COLUMN storage_file_shares.file_id IS 'File that is shared';
COMMENT ON COLUMN storage_file_shares.shared_by IS 'User who shares';
COMMENT ON COLUMN storage_file_shares.shared_with IS 'User who receives';
COMMENT ON COLUMN storage_file_shares.can_read IS 'May see metadata and read content';
COMMENT ON COLUMN storage_file_shares.can_write IS 'May upload new versions, charged to the file''s owner';
COMMENT ON COLUMN storage_file_shares.can_delete IS 'May soft-delete the file';
COMMENT ON COLUMN storage_file_shares.can_share IS 'May pass on what it has, at most';
COMMENT ON COLUMN storage_file_shares.expires_at IS 'From when it no longer counts; NULL: never';
COMMENT ON COLUMN storage_file_shares.requires_password IS 'Whether use needs a password; then password_hash is there';
COMMENT ON COLUMN storage_file_shares.password_hash IS 'Hash of the password in PHC format; NULL without a password';
COMMENT ON COLUMN storage_file_shares.max_downloads IS 'Downloads it allows; NULL: no limit';
COMMENT ON COLUMN storage_file_shares.download_count IS 'Downloads taken';
COMMENT ON COLUMN storage_file_shares.is_active IS 'False: revoked';
COMMENT ON COLUMN storage_file_shares.created_at IS 'When the share was made';
COMMENT ON COLUMN storage_file_shares.updated_at IS 'When its terms last changed';
COMMENT ON COLUMN storage_file_shares.last_accessed_at IS 'When it was last used; NULL: never';
