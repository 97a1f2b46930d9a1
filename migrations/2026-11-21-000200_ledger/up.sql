-- What keeps bytes and rows equal: nodes, uploads on their way, quota they hold, bytes to reclaim, answers
-- already given, events to send.


-- nodes ----------------------------------------------------------------------------------------------------

CREATE TABLE nodes (
    id          uuid        NOT NULL,
    epoch       bigint      NOT NULL,
    version     text        NOT NULL,
    started_at  timestamptz NOT NULL,
    lease_until timestamptz NOT NULL,
    retired_at  timestamptz,
    CONSTRAINT nodes_pkey PRIMARY KEY (id),
    CONSTRAINT nodes_epoch_check CHECK (epoch >= 1),
    CONSTRAINT nodes_version_check CHECK (char_length(version) BETWEEN 1 AND 100)
) WITH (fillfactor = 50);

COMMENT ON TABLE nodes IS 'Servers that use this database';
COMMENT ON COLUMN nodes.id IS 'Kept by the node in its data directory, so that it is the same after a restart';
COMMENT ON COLUMN nodes.epoch IS 'Starts of its process; what an earlier start owned is up for others';
COMMENT ON COLUMN nodes.version IS 'Version of the service at its last start';
COMMENT ON COLUMN nodes.started_at IS 'Last start';
COMMENT ON COLUMN nodes.lease_until IS 'Until when it is believed alive; renewed while it is';
COMMENT ON COLUMN nodes.retired_at IS 'When an operator declared that it will not come back; NULL: it may';


-- storage_uploads ------------------------------------------------------------------------------------------

-- fillfactor, and no index on what a checkpoint changes: progress is recorded up to twice a second per upload.
CREATE TABLE storage_uploads (
    id              uuid        NOT NULL,
    kind            text        NOT NULL,
    state           text        NOT NULL DEFAULT 'OPEN',
    volume_id       uuid        NOT NULL,
    key             text        COLLATE "C" NOT NULL,
    file_id         uuid,
    version_id      uuid        NOT NULL,
    user_id         uuid,
    app_id          text,
    organisation_id text        NOT NULL DEFAULT '',
    project_id      text,
    principal       text        COLLATE "C" NOT NULL,
    spec            jsonb       NOT NULL,
    request_id      uuid,
    fingerprint     bytea,
    declared_size   bigint,
    declared_sha256 bytea,
    persisted_size  bigint      NOT NULL DEFAULT 0,
    hash_state      bytea,
    node_id         uuid        NOT NULL,
    node_epoch      bigint      NOT NULL,
    epoch           bigint      NOT NULL DEFAULT 1,
    expire_time     timestamptz NOT NULL,
    swept_at        timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT storage_uploads_pkey PRIMARY KEY (id),
    CONSTRAINT storage_uploads_volume_id_fkey FOREIGN KEY (volume_id) REFERENCES storage_volumes (id),
    CONSTRAINT storage_uploads_node_id_fkey FOREIGN KEY (node_id) REFERENCES nodes (id),
    CONSTRAINT storage_uploads_kind_check CHECK (kind IN ('upload')),
    CONSTRAINT storage_uploads_state_check CHECK (state IN ('OPEN', 'FINISHING', 'COMMITTED', 'ABORTED', 'EXPIRED')),
    CONSTRAINT storage_uploads_key_check CHECK (octet_length(key) BETWEEN 1 AND 2048),
    CONSTRAINT storage_uploads_principal_check CHECK (octet_length(principal) BETWEEN 1 AND 2048),
    CONSTRAINT storage_uploads_spec_check CHECK (jsonb_typeof(spec) = 'object'),
    CONSTRAINT storage_uploads_fingerprint_check CHECK (request_id IS NULL OR fingerprint IS NOT NULL),
    CONSTRAINT storage_uploads_declared_size_check CHECK (declared_size >= 0),
    CONSTRAINT storage_uploads_declared_sha256_check CHECK (octet_length(declared_sha256) = 32),
    CONSTRAINT storage_uploads_persisted_size_check CHECK (persisted_size >= 0),
    CONSTRAINT storage_uploads_hash_state_check CHECK (octet_length(hash_state) <= 1024),
    CONSTRAINT storage_uploads_node_epoch_check CHECK (node_epoch >= 1),
    CONSTRAINT storage_uploads_epoch_check CHECK (epoch >= 1),
    CONSTRAINT storage_uploads_swept_at_check CHECK (swept_at IS NULL OR state IN ('ABORTED', 'EXPIRED'))
) WITH (fillfactor = 60);
CREATE UNIQUE INDEX storage_uploads_request_key ON storage_uploads (principal, request_id)
    WHERE request_id IS NOT NULL AND state IN ('OPEN', 'FINISHING');
-- The reconciler: live uploads by the node that owns them, and undone ones whose bytes may still be there.
CREATE INDEX storage_uploads_live_idx ON storage_uploads (node_id, id)
    WHERE state IN ('OPEN', 'FINISHING');
CREATE INDEX storage_uploads_unswept_idx ON storage_uploads (id)
    WHERE state IN ('ABORTED', 'EXPIRED') AND swept_at IS NULL;

COMMENT ON TABLE storage_uploads IS 'Contents on their way in; the row is there before the first byte reaches a backend';
COMMENT ON COLUMN storage_uploads.id IS 'UUIDv7; names the staging key as well';
COMMENT ON COLUMN storage_uploads.kind IS 'What brings the content: upload';
COMMENT ON COLUMN storage_uploads.state IS 'OPEN (resumable), FINISHING (owned by a node), then COMMITTED, ABORTED or EXPIRED';
COMMENT ON COLUMN storage_uploads.volume_id IS 'Volume the bytes go to';
COMMENT ON COLUMN storage_uploads.key IS 'Key the bytes will have, recorded before the first of them; where content decides it, the staging key until it is known';
COMMENT ON COLUMN storage_uploads.file_id IS 'File that gets the content. No foreign key: a new file has no row before the commit';
COMMENT ON COLUMN storage_uploads.version_id IS 'Id the version will have';
COMMENT ON COLUMN storage_uploads.user_id IS 'User who is charged. No foreign key: the row in users comes with the commit. NULL: an app or the system';
COMMENT ON COLUMN storage_uploads.app_id IS 'App that is charged; NULL: none';
COMMENT ON COLUMN storage_uploads.organisation_id IS 'Organisation that is charged, and tenant; empty for callers without one';
COMMENT ON COLUMN storage_uploads.project_id IS 'Project that is charged; NULL: none';
COMMENT ON COLUMN storage_uploads.principal IS 'Who asked; a request_id counts within it';
COMMENT ON COLUMN storage_uploads.spec IS 'The file''s metadata as asked for, with preconditions; a JSON object';
COMMENT ON COLUMN storage_uploads.request_id IS 'The caller''s id for the request; NULL: a one-shot that cannot be resumed';
COMMENT ON COLUMN storage_uploads.fingerprint IS 'Hash of the request, to tell a repetition from another request under the same id';
COMMENT ON COLUMN storage_uploads.declared_size IS 'Size in bytes the caller promised; NULL: not said';
COMMENT ON COLUMN storage_uploads.declared_sha256 IS 'SHA-256 the caller promised, 32 bytes; NULL: not said';
COMMENT ON COLUMN storage_uploads.persisted_size IS 'Bytes durable on the backend and recorded; where a resume goes on';
COMMENT ON COLUMN storage_uploads.hash_state IS 'State of the hashes after persisted_size bytes, so that a resume reads nothing back; NULL at 0';
COMMENT ON COLUMN storage_uploads.node_id IS 'Node that owns it';
COMMENT ON COLUMN storage_uploads.node_epoch IS 'Epoch of that node when it took it';
COMMENT ON COLUMN storage_uploads.epoch IS 'Fence: grows by one when anybody takes the upload over; writes name the one they know';
COMMENT ON COLUMN storage_uploads.expire_time IS 'When it expires unless progress is recorded before';
COMMENT ON COLUMN storage_uploads.swept_at IS 'When the bytes of an undone upload were seen to be gone; NULL: not yet, or not undone';
COMMENT ON COLUMN storage_uploads.created_at IS 'When it was started';
COMMENT ON COLUMN storage_uploads.updated_at IS 'Last recorded progress or change of state';


-- quota_reservations ---------------------------------------------------------------------------------------

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


-- storage_reclaims -----------------------------------------------------------------------------------------

CREATE TABLE storage_reclaims (
    id         uuid        NOT NULL,
    object_id  uuid        NOT NULL,
    volume_id  uuid        NOT NULL,
    key        text        COLLATE "C" NOT NULL,
    due_at     timestamptz NOT NULL,
    attempts   integer     NOT NULL DEFAULT 0,
    last_error text,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT storage_reclaims_pkey PRIMARY KEY (id),
    CONSTRAINT storage_reclaims_object_id_key UNIQUE (object_id),
    CONSTRAINT storage_reclaims_object_id_fkey FOREIGN KEY (object_id) REFERENCES storage_objects (id),
    CONSTRAINT storage_reclaims_volume_id_fkey FOREIGN KEY (volume_id) REFERENCES storage_volumes (id),
    CONSTRAINT storage_reclaims_key_check CHECK (octet_length(key) BETWEEN 1 AND 2048),
    CONSTRAINT storage_reclaims_attempts_check CHECK (attempts >= 0)
);
CREATE INDEX storage_reclaims_due_at_idx ON storage_reclaims (due_at);

COMMENT ON TABLE storage_reclaims IS 'Bytes to delete, inserted by the transaction that gave them up';
COMMENT ON COLUMN storage_reclaims.id IS 'UUIDv7';
COMMENT ON COLUMN storage_reclaims.object_id IS 'Object in state deleting; its row goes after its bytes';
COMMENT ON COLUMN storage_reclaims.volume_id IS 'Volume of the object';
COMMENT ON COLUMN storage_reclaims.key IS 'Key of the object on the backend';
COMMENT ON COLUMN storage_reclaims.due_at IS 'Not before; moves on after a failed attempt';
COMMENT ON COLUMN storage_reclaims.attempts IS 'Failed attempts so far';
COMMENT ON COLUMN storage_reclaims.last_error IS 'Why the last attempt failed; NULL: none did';
COMMENT ON COLUMN storage_reclaims.created_at IS 'When the object was given up';


-- request_results ------------------------------------------------------------------------------------------

CREATE TABLE request_results (
    principal   text        COLLATE "C" NOT NULL,
    request_id  uuid        NOT NULL,
    method      text        NOT NULL,
    fingerprint bytea       NOT NULL,
    answer      bytea       NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL,
    CONSTRAINT request_results_pkey PRIMARY KEY (principal, request_id),
    CONSTRAINT request_results_principal_check CHECK (octet_length(principal) BETWEEN 1 AND 2048)
);
-- BRIN: nearly free for every mutation, exact enough for the one sweep that drops expired rows.
CREATE INDEX request_results_expires_at_idx ON request_results USING brin (expires_at);

COMMENT ON TABLE request_results IS 'Answers of mutations, so that a repeated request gets the same one and does nothing';
COMMENT ON COLUMN request_results.principal IS 'Who asked; at most 2,048 bytes';
COMMENT ON COLUMN request_results.request_id IS 'The caller''s id for the request';
COMMENT ON COLUMN request_results.method IS 'RPC that was called';
COMMENT ON COLUMN request_results.fingerprint IS 'Hash of the request, to tell a repetition from another request under the same id';
COMMENT ON COLUMN request_results.answer IS 'The encoded answer';
COMMENT ON COLUMN request_results.created_at IS 'When the answer was given';
COMMENT ON COLUMN request_results.expires_at IS 'From when the row may be dropped';


-- outbox_events --------------------------------------------------------------------------------------------

CREATE TABLE outbox_events (
    id              uuid        NOT NULL,
    type            text        NOT NULL,
    organisation_id text        NOT NULL DEFAULT '',
    file_id         uuid,
    data            jsonb       NOT NULL DEFAULT '{}',
    created_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT outbox_events_pkey PRIMARY KEY (id),
    CONSTRAINT outbox_events_type_check CHECK (char_length(type) BETWEEN 1 AND 100),
    CONSTRAINT outbox_events_data_check CHECK (jsonb_typeof(data) = 'object')
);

COMMENT ON TABLE outbox_events IS 'Events, inserted by the transaction of what they tell';
COMMENT ON COLUMN outbox_events.id IS 'UUIDv7; the order of events of one node';
COMMENT ON COLUMN outbox_events.type IS 'What happened, for example file.created; 1 to 100 characters';
COMMENT ON COLUMN outbox_events.organisation_id IS 'Tenant that may see it; empty for callers without an organisation';
COMMENT ON COLUMN outbox_events.file_id IS 'File it is about; NULL: none';
COMMENT ON COLUMN outbox_events.data IS 'What else is known, a JSON object';
COMMENT ON COLUMN outbox_events.created_at IS 'When it happened';
