-- Where bytes live, how much of it anybody may use, and who "anybody" is.
--
-- Table names are never qualified: the runner has made the schema and set search_path to it alone.

-- Refuses the statement it is attached to; the trigger's argument becomes the HINT.
CREATE FUNCTION refuse_write() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on % is refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation',
              SCHEMA = TG_TABLE_SCHEMA,
              TABLE = TG_TABLE_NAME,
              HINT = TG_ARGV[0];
END
$$;
COMMENT ON FUNCTION refuse_write() IS 'Trigger: refuses the statement, with the trigger''s argument as the hint';


-- cluster --------------------------------------------------------------------------------------------------

CREATE TABLE cluster (
    id         uuid        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT cluster_pkey PRIMARY KEY (id)
);
CREATE UNIQUE INDEX cluster_singleton_key ON cluster ((true));
INSERT INTO cluster (id) VALUES (gen_random_uuid());

COMMENT ON TABLE cluster IS 'This metadata database itself; exactly one row';
COMMENT ON COLUMN cluster.id IS 'Written into the marker of every volume, so that a disk of another installation is never taken for ours';
COMMENT ON COLUMN cluster.created_at IS 'When this database was first migrated';


-- users ----------------------------------------------------------------------------------------------------

CREATE TABLE users (
    id              uuid        NOT NULL,
    issuer          text        COLLATE "C" NOT NULL,
    subject         text        COLLATE "C" NOT NULL,
    organisation_id text        NOT NULL DEFAULT '',
    created_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT users_pkey PRIMARY KEY (id),
    CONSTRAINT users_subject_key UNIQUE (issuer, subject),
    CONSTRAINT users_issuer_check CHECK (octet_length(issuer) BETWEEN 1 AND 1024),
    CONSTRAINT users_subject_check CHECK (octet_length(subject) BETWEEN 1 AND 1024),
    CONSTRAINT users_organisation_id_check CHECK (octet_length(organisation_id) <= 255)
);

COMMENT ON TABLE users IS 'People known by their tokens; inserted with the first commit that refers to them';
COMMENT ON COLUMN users.id IS 'The token''s subject if that is a UUID, else UUIDv5 of issuer and subject; so every node knows it without asking';
COMMENT ON COLUMN users.issuer IS 'Issuer of the token (iss); at most 1,024 bytes';
COMMENT ON COLUMN users.subject IS 'Subject of the token (sub); at most 1,024 bytes';
COMMENT ON COLUMN users.organisation_id IS 'Organisation at the first commit; empty for callers without one';
COMMENT ON COLUMN users.created_at IS 'When the user was first seen';


-- storage_volumes ------------------------------------------------------------------------------------------

-- fillfactor: every commit changes quota_used; room on the page keeps that update from touching an index.
CREATE TABLE storage_volumes (
    id                      uuid        NOT NULL,
    name                    text        NOT NULL,
    driver                  text        NOT NULL,
    config                  jsonb       NOT NULL DEFAULT '{}',
    default_prefix          text        COLLATE "C",
    enforce_hierarchy       boolean     NOT NULL DEFAULT true,
    path_delimiter          text        NOT NULL DEFAULT '/',
    use_query_params        boolean     NOT NULL DEFAULT false,
    auto_path_strategy      text        NOT NULL DEFAULT 'none',
    versioning_mode         text        NOT NULL DEFAULT 'none',
    quota_limit             bigint,
    quota_used              bigint      NOT NULL DEFAULT 0,
    quota_reserved          bigint      NOT NULL DEFAULT 0,
    is_active               boolean     NOT NULL DEFAULT true,
    allowed_organisations   text[]      NOT NULL DEFAULT '{}',
    allowed_apps            text[]      NOT NULL DEFAULT '{}',
    max_file_bytes          bigint,
    trash_retention_seconds bigint,
    upload_ttl_seconds      bigint      NOT NULL DEFAULT 86400,
    created_at              timestamptz NOT NULL DEFAULT now(),
    updated_at              timestamptz NOT NULL DEFAULT now(),
    deleted_at              timestamptz,
    CONSTRAINT storage_volumes_pkey PRIMARY KEY (id),
    CONSTRAINT storage_volumes_name_check CHECK (char_length(name) BETWEEN 1 AND 100),
    CONSTRAINT storage_volumes_driver_check CHECK (driver IN ('local', 's3', 'ftp', 'http')),
    CONSTRAINT storage_volumes_config_check CHECK (jsonb_typeof(config) = 'object'),
    CONSTRAINT storage_volumes_default_prefix_check CHECK (octet_length(default_prefix) <= 1024),
    CONSTRAINT storage_volumes_path_delimiter_check CHECK (char_length(path_delimiter) BETWEEN 1 AND 5),
    CONSTRAINT storage_volumes_use_query_params_check CHECK (NOT use_query_params OR driver = 'http'),
    CONSTRAINT storage_volumes_auto_path_strategy_check CHECK (auto_path_strategy IN ('none', 'uuid', 'hash')),
    CONSTRAINT storage_volumes_versioning_mode_check CHECK (versioning_mode IN ('none', 'source', 'target')),
    CONSTRAINT storage_volumes_quota_limit_check CHECK (quota_limit >= 0),
    CONSTRAINT storage_volumes_quota_used_check CHECK (quota_used >= 0),
    CONSTRAINT storage_volumes_quota_reserved_check CHECK (quota_reserved >= 0),
    CONSTRAINT storage_volumes_allowed_organisations_check CHECK (array_position(allowed_organisations, NULL) IS NULL),
    CONSTRAINT storage_volumes_allowed_apps_check CHECK (array_position(allowed_apps, NULL) IS NULL),
    CONSTRAINT storage_volumes_max_file_bytes_check CHECK (max_file_bytes >= 0),
    CONSTRAINT storage_volumes_trash_retention_seconds_check CHECK (trash_retention_seconds >= 0),
    CONSTRAINT storage_volumes_upload_ttl_seconds_check CHECK (upload_ttl_seconds BETWEEN 60 AND 604800)
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX storage_volumes_name_key ON storage_volumes (name) WHERE deleted_at IS NULL;

COMMENT ON TABLE storage_volumes IS 'Named places that hold bytes, each with its driver';
COMMENT ON COLUMN storage_volumes.id IS 'UUIDv7';
COMMENT ON COLUMN storage_volumes.name IS 'Unique among volumes that are not deleted; 1 to 100 characters';
COMMENT ON COLUMN storage_volumes.driver IS 'local, s3, ftp or http; ftp_endpoints.protocol decides between FTP and SFTP';
COMMENT ON COLUMN storage_volumes.config IS 'local_path_id, bucket_id, ftp_id or endpoint_id, the driver''s options, and credential_id (absent: the newest credential)';
COMMENT ON COLUMN storage_volumes.default_prefix IS 'Put before every key on the backend; stored keys and paths do not contain it';
COMMENT ON COLUMN storage_volumes.enforce_hierarchy IS 'True: path_delimiter separates folders. False: a path is one flat name';
COMMENT ON COLUMN storage_volumes.path_delimiter IS 'Separates the segments of a path; 1 to 5 characters';
COMMENT ON COLUMN storage_volumes.use_query_params IS 'HTTP only: an object is {url}?id={key} instead of {url}/{key}';
COMMENT ON COLUMN storage_volumes.auto_path_strategy IS 'How a key is made. none: the path. uuid: fanned out by the version''s id. hash: the content''s SHA-256, shared by equal contents';
COMMENT ON COLUMN storage_volumes.versioning_mode IS 'none: earlier contents are reclaimed. source: kept as objects of their own. target: kept by the backend';
COMMENT ON COLUMN storage_volumes.quota_limit IS 'Bytes this volume may hold; NULL counts without limiting';
COMMENT ON COLUMN storage_volumes.quota_used IS 'Bytes held: the plain size of every version not given up, trash included';
COMMENT ON COLUMN storage_volumes.quota_reserved IS 'Bytes taken by uploads that have not finished';
COMMENT ON COLUMN storage_volumes.is_active IS 'False: neither uploads nor reads; checks, reconciling and moving files away still work';
COMMENT ON COLUMN storage_volumes.allowed_organisations IS 'Organisations that may use the volume; empty here and in allowed_apps: everyone. No NULL inside';
COMMENT ON COLUMN storage_volumes.allowed_apps IS 'Apps that may use the volume; empty here and in allowed_organisations: everyone. No NULL inside';
COMMENT ON COLUMN storage_volumes.max_file_bytes IS 'Largest content in bytes; NULL: no limit of the volume''s own';
COMMENT ON COLUMN storage_volumes.trash_retention_seconds IS 'Seconds after which a soft-deleted file is purged; NULL: nothing is purged by itself';
COMMENT ON COLUMN storage_volumes.upload_ttl_seconds IS 'Seconds an upload may rest between two recorded steps; 1 minute to 7 days';
COMMENT ON COLUMN storage_volumes.created_at IS 'When the volume was made';
COMMENT ON COLUMN storage_volumes.updated_at IS 'When its settings last changed; usage does not count';
COMMENT ON COLUMN storage_volumes.deleted_at IS 'When the (empty) volume was deleted; the row stays for what refers to it';


-- Quotas ---------------------------------------------------------------------------------------------------
-- A row is made (limit NULL) at the first use of its dimension, so usage is exact before a limit is set.
-- The ceiling is the condition of the statement that grows a row, never a CHECK: a limit may be lowered
-- below what is used, and giving back always works.

CREATE TABLE user_quotas (
    id             uuid        NOT NULL,
    user_id        uuid        NOT NULL,
    volume_id      uuid        NOT NULL,
    quota_limit    bigint,
    quota_used     bigint      NOT NULL DEFAULT 0,
    quota_reserved bigint      NOT NULL DEFAULT 0,
    updated_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT user_quotas_pkey PRIMARY KEY (id),
    CONSTRAINT user_quotas_user_id_key UNIQUE (user_id, volume_id),
    CONSTRAINT user_quotas_user_id_fkey FOREIGN KEY (user_id) REFERENCES users (id),
    CONSTRAINT user_quotas_volume_id_fkey FOREIGN KEY (volume_id) REFERENCES storage_volumes (id),
    CONSTRAINT user_quotas_quota_limit_check CHECK (quota_limit >= 0),
    CONSTRAINT user_quotas_quota_used_check CHECK (quota_used >= 0),
    CONSTRAINT user_quotas_quota_reserved_check CHECK (quota_reserved >= 0)
) WITH (fillfactor = 50);

COMMENT ON TABLE user_quotas IS 'What one user may hold, and holds, on one volume';
COMMENT ON COLUMN user_quotas.id IS 'UUIDv7';
COMMENT ON COLUMN user_quotas.user_id IS 'Whose files';
COMMENT ON COLUMN user_quotas.volume_id IS 'On which volume';
COMMENT ON COLUMN user_quotas.quota_limit IS 'Bytes the user may hold on the volume; NULL counts without limiting';
COMMENT ON COLUMN user_quotas.quota_used IS 'Bytes the user holds on the volume, earlier versions and trash included';
COMMENT ON COLUMN user_quotas.quota_reserved IS 'Bytes taken by the user''s uploads that have not finished';
COMMENT ON COLUMN user_quotas.updated_at IS 'When limit or usage last changed';

CREATE TABLE app_quotas (
    id             uuid        NOT NULL,
    app_id         text        NOT NULL,
    volume_id      uuid        NOT NULL,
    quota_limit    bigint,
    quota_used     bigint      NOT NULL DEFAULT 0,
    quota_reserved bigint      NOT NULL DEFAULT 0,
    updated_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT app_quotas_pkey PRIMARY KEY (id),
    CONSTRAINT app_quotas_app_id_key UNIQUE (app_id, volume_id),
    CONSTRAINT app_quotas_volume_id_fkey FOREIGN KEY (volume_id) REFERENCES storage_volumes (id),
    CONSTRAINT app_quotas_app_id_check CHECK (char_length(app_id) BETWEEN 1 AND 100),
    CONSTRAINT app_quotas_quota_limit_check CHECK (quota_limit >= 0),
    CONSTRAINT app_quotas_quota_used_check CHECK (quota_used >= 0),
    CONSTRAINT app_quotas_quota_reserved_check CHECK (quota_reserved >= 0)
) WITH (fillfactor = 50);

COMMENT ON TABLE app_quotas IS 'What one app may hold, and holds, on one volume';
COMMENT ON COLUMN app_quotas.id IS 'UUIDv7';
COMMENT ON COLUMN app_quotas.app_id IS 'Which app, for example chat; 1 to 100 characters';
COMMENT ON COLUMN app_quotas.volume_id IS 'On which volume';
COMMENT ON COLUMN app_quotas.quota_limit IS 'Bytes the app may hold on the volume; NULL counts without limiting';
COMMENT ON COLUMN app_quotas.quota_used IS 'Bytes of files that carry the app''s id, earlier versions and trash included';
COMMENT ON COLUMN app_quotas.quota_reserved IS 'Bytes taken by the app''s uploads that have not finished';
COMMENT ON COLUMN app_quotas.updated_at IS 'When limit or usage last changed';

CREATE TABLE storage_quotas (
    id                     uuid        NOT NULL,
    user_id                uuid,
    organisation_id        text        NOT NULL DEFAULT '',
    entity_type            text        NOT NULL,
    entity_id              text        NOT NULL,
    max_storage_bytes      bigint,
    max_files              integer,
    max_file_size_bytes    bigint,
    used_storage_bytes     bigint      NOT NULL DEFAULT 0,
    used_files             integer     NOT NULL DEFAULT 0,
    reserved_storage_bytes bigint      NOT NULL DEFAULT 0,
    reserved_files         integer     NOT NULL DEFAULT 0,
    is_active              boolean     NOT NULL DEFAULT true,
    over_limit_since       timestamptz,
    created_at             timestamptz NOT NULL DEFAULT now(),
    updated_at             timestamptz NOT NULL DEFAULT now(),
    last_calculated_at     timestamptz,
    CONSTRAINT storage_quotas_pkey PRIMARY KEY (id),
    CONSTRAINT storage_quotas_entity_key UNIQUE (entity_type, organisation_id, entity_id),
    CONSTRAINT storage_quotas_user_id_fkey FOREIGN KEY (user_id) REFERENCES users (id),
    CONSTRAINT storage_quotas_organisation_id_check CHECK (octet_length(organisation_id) <= 255),
    CONSTRAINT storage_quotas_entity_type_check CHECK (entity_type IN ('user', 'organization', 'project')),
    CONSTRAINT storage_quotas_entity_id_check CHECK (octet_length(entity_id) <= 255),
    CONSTRAINT storage_quotas_entity_check CHECK (
        CASE entity_type
            WHEN 'user' THEN user_id IS NOT NULL AND entity_id = user_id::text
            WHEN 'organization' THEN user_id IS NULL AND entity_id = organisation_id
            ELSE user_id IS NULL
        END
    ),
    CONSTRAINT storage_quotas_max_storage_bytes_check CHECK (max_storage_bytes >= 0),
    CONSTRAINT storage_quotas_max_files_check CHECK (max_files >= 0),
    CONSTRAINT storage_quotas_max_file_size_bytes_check CHECK (max_file_size_bytes >= 0),
    CONSTRAINT storage_quotas_used_storage_bytes_check CHECK (used_storage_bytes >= 0),
    CONSTRAINT storage_quotas_used_files_check CHECK (used_files >= 0),
    CONSTRAINT storage_quotas_reserved_storage_bytes_check CHECK (reserved_storage_bytes >= 0),
    CONSTRAINT storage_quotas_reserved_files_check CHECK (reserved_files >= 0)
) WITH (fillfactor = 50);

COMMENT ON TABLE storage_quotas IS 'What a user, an organisation or a project may hold, and holds, over all volumes';
COMMENT ON COLUMN storage_quotas.id IS 'UUIDv7';
COMMENT ON COLUMN storage_quotas.user_id IS 'The user, where entity_type is user; else NULL';
COMMENT ON COLUMN storage_quotas.organisation_id IS 'Tenant the entity belongs to; empty for callers without an organisation';
COMMENT ON COLUMN storage_quotas.entity_type IS 'user, organization or project';
COMMENT ON COLUMN storage_quotas.entity_id IS 'Id of the user, the organisation or the project, as text; at most 255 bytes';
COMMENT ON COLUMN storage_quotas.max_storage_bytes IS 'Bytes the entity may hold; NULL counts without limiting';
COMMENT ON COLUMN storage_quotas.max_files IS 'Files the entity may have; NULL counts without limiting';
COMMENT ON COLUMN storage_quotas.max_file_size_bytes IS 'Largest single content in bytes; NULL: no limit';
COMMENT ON COLUMN storage_quotas.used_storage_bytes IS 'Bytes held, earlier versions and trash included';
COMMENT ON COLUMN storage_quotas.used_files IS 'Files not purged';
COMMENT ON COLUMN storage_quotas.reserved_storage_bytes IS 'Bytes taken by uploads that have not finished';
COMMENT ON COLUMN storage_quotas.reserved_files IS 'Files taken by uploads that have not finished';
COMMENT ON COLUMN storage_quotas.is_active IS 'False: the limits are not enforced; usage is counted all the same';
COMMENT ON COLUMN storage_quotas.over_limit_since IS 'Since when usage exceeds a limit by a recorded exception; NULL: it does not';
COMMENT ON COLUMN storage_quotas.created_at IS 'When the row was made, at the first use or the first limit';
COMMENT ON COLUMN storage_quotas.updated_at IS 'When limits or usage last changed';
COMMENT ON COLUMN storage_quotas.last_calculated_at IS 'When usage was last recounted from the files; NULL: never needed';


-- Backends -------------------------------------------------------------------------------------------------
-- Secrets are sealed under the service's key ring before they come here; no plain secret is ever stored.

CREATE TABLE s3_buckets (
    id           uuid        NOT NULL,
    endpoint_url text        NOT NULL,
    bucket_name  text        NOT NULL,
    region       text        NOT NULL DEFAULT 'us-east-1',
    use_ssl      boolean     NOT NULL DEFAULT true,
    created_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT s3_buckets_pkey PRIMARY KEY (id),
    CONSTRAINT s3_buckets_endpoint_url_check CHECK (octet_length(endpoint_url) BETWEEN 1 AND 2048),
    CONSTRAINT s3_buckets_bucket_name_check CHECK (char_length(bucket_name) BETWEEN 1 AND 255),
    CONSTRAINT s3_buckets_region_check CHECK (char_length(region) BETWEEN 1 AND 50)
);

COMMENT ON TABLE s3_buckets IS 'Buckets on S3 and what speaks like it';
COMMENT ON COLUMN s3_buckets.id IS 'UUIDv7';
COMMENT ON COLUMN s3_buckets.endpoint_url IS 'Host or URL of the S3 API, for example s3.amazonaws.com; at most 2,048 bytes';
COMMENT ON COLUMN s3_buckets.bucket_name IS 'Name of the bucket; 1 to 255 characters';
COMMENT ON COLUMN s3_buckets.region IS 'Region that requests are signed for; 1 to 50 characters';
COMMENT ON COLUMN s3_buckets.use_ssl IS 'Whether to speak HTTPS where endpoint_url names no scheme';
COMMENT ON COLUMN s3_buckets.created_at IS 'When the row was made';

CREATE TABLE s3_credentials (
    id          uuid        NOT NULL,
    bucket_id   uuid        NOT NULL,
    access_key  text        NOT NULL,
    secret_key  text        NOT NULL,
    description text        NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT s3_credentials_pkey PRIMARY KEY (id),
    CONSTRAINT s3_credentials_bucket_id_fkey FOREIGN KEY (bucket_id) REFERENCES s3_buckets (id),
    CONSTRAINT s3_credentials_access_key_check CHECK (octet_length(access_key) BETWEEN 1 AND 1024),
    CONSTRAINT s3_credentials_secret_key_check CHECK (octet_length(secret_key) BETWEEN 1 AND 16384),
    CONSTRAINT s3_credentials_description_check CHECK (octet_length(description) <= 1024)
);
CREATE INDEX s3_credentials_bucket_id_idx ON s3_credentials (bucket_id, created_at);

COMMENT ON TABLE s3_credentials IS 'Access keys of S3 buckets';
COMMENT ON COLUMN s3_credentials.id IS 'UUIDv7; bound into the sealed secret';
COMMENT ON COLUMN s3_credentials.bucket_id IS 'The bucket they open';
COMMENT ON COLUMN s3_credentials.access_key IS 'Access key id; not secret';
COMMENT ON COLUMN s3_credentials.secret_key IS 'Secret access key, sealed';
COMMENT ON COLUMN s3_credentials.description IS 'What they are for; at most 1,024 bytes';
COMMENT ON COLUMN s3_credentials.created_at IS 'When the row was made; the newest is used where a volume names none';

CREATE TABLE http_endpoints (
    id          uuid        NOT NULL,
    url         text        NOT NULL,
    description text        NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT http_endpoints_pkey PRIMARY KEY (id),
    CONSTRAINT http_endpoints_url_check CHECK (octet_length(url) BETWEEN 1 AND 2048),
    CONSTRAINT http_endpoints_description_check CHECK (octet_length(description) <= 1024)
);

COMMENT ON TABLE http_endpoints IS 'HTTP and WebDAV servers';
COMMENT ON COLUMN http_endpoints.id IS 'UUIDv7';
COMMENT ON COLUMN http_endpoints.url IS 'Base URL; at most 2,048 bytes';
COMMENT ON COLUMN http_endpoints.description IS 'Name for people; at most 1,024 bytes';
COMMENT ON COLUMN http_endpoints.created_at IS 'When the row was made';

-- The CHECK on credentials keeps a plain {"username":…,"password":…} out even where somebody writes SQL by hand.
CREATE TABLE http_credentials (
    id          uuid        NOT NULL,
    endpoint_id uuid        NOT NULL,
    auth_type   text        NOT NULL,
    credentials jsonb       NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT http_credentials_pkey PRIMARY KEY (id),
    CONSTRAINT http_credentials_endpoint_id_fkey FOREIGN KEY (endpoint_id) REFERENCES http_endpoints (id),
    CONSTRAINT http_credentials_auth_type_check CHECK (auth_type IN ('basic', 'bearer', 'custom_header')),
    CONSTRAINT http_credentials_credentials_check CHECK (
        jsonb_typeof(credentials) = 'object' AND credentials ?& ARRAY['v', 'kid', 'ct']
    )
);
CREATE INDEX http_credentials_endpoint_id_idx ON http_credentials (endpoint_id, created_at);

COMMENT ON TABLE http_credentials IS 'How to authenticate at HTTP endpoints';
COMMENT ON COLUMN http_credentials.id IS 'UUIDv7; bound into the sealed secret';
COMMENT ON COLUMN http_credentials.endpoint_id IS 'The endpoint they open';
COMMENT ON COLUMN http_credentials.auth_type IS 'basic, bearer or custom_header';
COMMENT ON COLUMN http_credentials.credentials IS 'User and password, token or header, sealed: {"v": format, "kid": key id, "ct": ciphertext}';
COMMENT ON COLUMN http_credentials.created_at IS 'When the row was made; the newest is used where a volume names none';

CREATE TABLE ftp_endpoints (
    id         uuid        NOT NULL,
    host       text        NOT NULL,
    port       integer     NOT NULL,
    protocol   text        NOT NULL,
    username   text        NOT NULL,
    password   text,
    key_path   text,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT ftp_endpoints_pkey PRIMARY KEY (id),
    CONSTRAINT ftp_endpoints_host_check CHECK (char_length(host) BETWEEN 1 AND 255),
    CONSTRAINT ftp_endpoints_port_check CHECK (port BETWEEN 1 AND 65535),
    CONSTRAINT ftp_endpoints_protocol_check CHECK (protocol IN ('ftp', 'sftp')),
    CONSTRAINT ftp_endpoints_username_check CHECK (char_length(username) BETWEEN 1 AND 100),
    CONSTRAINT ftp_endpoints_password_check CHECK (octet_length(password) BETWEEN 1 AND 16384),
    CONSTRAINT ftp_endpoints_key_path_check CHECK (octet_length(key_path) BETWEEN 1 AND 4096)
);

-- A column default cannot look at another column.
CREATE FUNCTION ftp_endpoints_default_port() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.port := CASE NEW.protocol WHEN 'sftp' THEN 22 ELSE 21 END;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION ftp_endpoints_default_port() IS 'Trigger: the port that the protocol listens on where none is given';
CREATE TRIGGER ftp_endpoints_default_port BEFORE INSERT ON ftp_endpoints
    FOR EACH ROW WHEN (NEW.port IS NULL) EXECUTE FUNCTION ftp_endpoints_default_port();

COMMENT ON TABLE ftp_endpoints IS 'FTP and SFTP servers with their log-in';
COMMENT ON COLUMN ftp_endpoints.id IS 'UUIDv7; bound into the sealed secret';
COMMENT ON COLUMN ftp_endpoints.host IS 'Host name or address; 1 to 255 characters';
COMMENT ON COLUMN ftp_endpoints.port IS 'Port; where none is given 21 for ftp, 22 for sftp';
COMMENT ON COLUMN ftp_endpoints.protocol IS 'ftp or sftp';
COMMENT ON COLUMN ftp_endpoints.username IS 'User to log in as; 1 to 100 characters';
COMMENT ON COLUMN ftp_endpoints.password IS 'Password, sealed; NULL: log in with a key';
COMMENT ON COLUMN ftp_endpoints.key_path IS 'Private key on the server''s disk, below a configured folder (SFTP); NULL: log in with the password';
COMMENT ON COLUMN ftp_endpoints.created_at IS 'When the row was made';

CREATE TABLE local_paths (
    id          uuid        NOT NULL,
    path        text        COLLATE "C" NOT NULL,
    description text        NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT local_paths_pkey PRIMARY KEY (id),
    CONSTRAINT local_paths_path_key UNIQUE (path),
    CONSTRAINT local_paths_path_check CHECK (path LIKE '/%' AND octet_length(path) <= 2048),
    CONSTRAINT local_paths_description_check CHECK (octet_length(description) <= 1024)
);

COMMENT ON TABLE local_paths IS 'Folders of the server''s disk approved for volumes';
COMMENT ON COLUMN local_paths.id IS 'UUIDv7';
COMMENT ON COLUMN local_paths.path IS 'Absolute path, approved once; at most 2,048 bytes';
COMMENT ON COLUMN local_paths.description IS 'What it is for; at most 1,024 bytes';
COMMENT ON COLUMN local_paths.created_at IS 'When the row was made';
