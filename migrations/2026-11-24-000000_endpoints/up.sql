-- Servers that volumes stand on get what their use needs, and long work gets rows of its own.


-- Backends -------------------------------------------------------------------------------------------------

ALTER TABLE s3_buckets
    ADD COLUMN use_path_style boolean NOT NULL DEFAULT true,
    ADD COLUMN description text NOT NULL DEFAULT '',
    ADD CONSTRAINT s3_buckets_description_check CHECK (octet_length(description) <= 1024);
-- Two rows for one place would be two volumes in one place.
CREATE UNIQUE INDEX s3_buckets_place_key ON s3_buckets (endpoint_url, bucket_name);
COMMENT ON COLUMN s3_buckets.use_path_style IS 'Whether the bucket stands in the path of requests, and not before the host';
COMMENT ON COLUMN s3_buckets.description IS 'Name for people; at most 1,024 bytes';

-- Keeps a plain secret out even where somebody writes SQL by hand.
ALTER TABLE s3_credentials
    ADD CONSTRAINT s3_credentials_sealed_check
        CHECK (secret_key ~ '^v[0-9]+[.][A-Za-z0-9_-]+[.][A-Za-z0-9_-]+$') NOT VALID;
ALTER TABLE s3_credentials VALIDATE CONSTRAINT s3_credentials_sealed_check;
COMMENT ON COLUMN s3_credentials.secret_key IS 'Secret access key, sealed: v{format}.{key id}.{base64url}';

CREATE UNIQUE INDEX http_endpoints_url_key ON http_endpoints (url);

ALTER TABLE http_credentials
    ADD COLUMN description text NOT NULL DEFAULT '',
    ADD CONSTRAINT http_credentials_description_check CHECK (octet_length(description) <= 1024);
COMMENT ON COLUMN http_credentials.description IS 'What they are for; at most 1,024 bytes';


-- tasks ----------------------------------------------------------------------------------------------------

CREATE TABLE tasks (
    id                  uuid        NOT NULL,
    kind                text        NOT NULL,
    work                jsonb       NOT NULL,
    state               text        NOT NULL DEFAULT 'RUNNING',
    position            jsonb       NOT NULL DEFAULT '{}',
    items_done          bigint      NOT NULL DEFAULT 0,
    items_failed        bigint      NOT NULL DEFAULT 0,
    items_total         bigint      NOT NULL DEFAULT 0,
    error_reason        text,
    error_message       text,
    is_cancel_requested boolean     NOT NULL DEFAULT false,
    node_id             uuid        NOT NULL,
    node_epoch          bigint      NOT NULL,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    ended_at            timestamptz,
    CONSTRAINT tasks_pkey PRIMARY KEY (id),
    CONSTRAINT tasks_node_id_fkey FOREIGN KEY (node_id) REFERENCES nodes (id),
    CONSTRAINT tasks_kind_check CHECK (kind IN ('rotate_keys')),
    CONSTRAINT tasks_work_check CHECK (jsonb_typeof(work) = 'object'),
    CONSTRAINT tasks_state_check CHECK (state IN ('RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELLED')),
    CONSTRAINT tasks_position_check CHECK (jsonb_typeof(position) = 'object'),
    CONSTRAINT tasks_items_done_check CHECK (items_done >= 0),
    CONSTRAINT tasks_items_failed_check CHECK (items_failed >= 0),
    CONSTRAINT tasks_items_total_check CHECK (items_total >= 0),
    CONSTRAINT tasks_error_message_check CHECK (octet_length(error_message) <= 1024),
    CONSTRAINT tasks_error_check CHECK ((state = 'FAILED') = (error_reason IS NOT NULL)),
    CONSTRAINT tasks_ended_at_check CHECK ((state = 'RUNNING') = (ended_at IS NULL))
);
-- One at a time, and the running ones are found.
CREATE UNIQUE INDEX tasks_rotation_key ON tasks (kind) WHERE state = 'RUNNING' AND kind = 'rotate_keys';
CREATE INDEX tasks_running_idx ON tasks (id) WHERE state = 'RUNNING';

COMMENT ON TABLE tasks IS 'Long work, which goes on elsewhere when its node dies';
COMMENT ON COLUMN tasks.id IS 'UUIDv7';
COMMENT ON COLUMN tasks.kind IS 'What kind of work: rotate_keys seals all secrets under one key';
COMMENT ON COLUMN tasks.work IS 'What is to be done; a JSON object with kind';
COMMENT ON COLUMN tasks.state IS 'RUNNING, SUCCEEDED, FAILED or CANCELLED';
COMMENT ON COLUMN tasks.position IS 'How far it is; a JSON object of the kind''s own';
COMMENT ON COLUMN tasks.items_done IS 'Items that are done';
COMMENT ON COLUMN tasks.items_failed IS 'Items that could not be done';
COMMENT ON COLUMN tasks.items_total IS 'Items there were at its beginning';
COMMENT ON COLUMN tasks.error_reason IS 'Reason of its failure, as in answers; NULL: it has not failed';
COMMENT ON COLUMN tasks.error_message IS 'The same for people; at most 1,024 bytes';
COMMENT ON COLUMN tasks.is_cancel_requested IS 'Whether it was asked to end';
COMMENT ON COLUMN tasks.node_id IS 'Node that works on it';
COMMENT ON COLUMN tasks.node_epoch IS 'Which start of that node: a later one, or an ended lease, leaves a running task to whoever takes it';
COMMENT ON COLUMN tasks.created_at IS 'When it began';
COMMENT ON COLUMN tasks.updated_at IS 'When something of it last changed';
COMMENT ON COLUMN tasks.ended_at IS 'When it ended; NULL: it runs';


-- storage_operations ---------------------------------------------------------------------------------------

ALTER TABLE storage_operations DROP CONSTRAINT storage_operations_operation_check;
ALTER TABLE storage_operations ADD CONSTRAINT storage_operations_operation_check CHECK (operation IN (
    'upload', 'download', 'delete', 'copy', 'move', 'update_metadata',
    'view_metadata', 'list', 'undelete', 'purge', 'restore', 'read_operations', 'read_quota', 'view_volume',
    'create_volume', 'update_volume', 'delete_volume', 'check_volume',
    'create_local_path', 'update_local_path', 'delete_local_path', 'authenticate', 'reconcile', 'migrate', 'other',
    'start_upload', 'cancel_upload', 'expire_upload', 'view_upload', 'set_quota', 'recalculate_quotas',
    'create_endpoint', 'update_endpoint', 'delete_endpoint',
    'create_credential', 'update_credential', 'delete_credential', 'rotate_keys', 'view_task', 'cancel_task'
)) NOT VALID;
ALTER TABLE storage_operations VALIDATE CONSTRAINT storage_operations_operation_check;
