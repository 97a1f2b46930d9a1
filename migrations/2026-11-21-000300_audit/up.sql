-- Who did what, when, and how it ended. Append-only, in monthly partitions.


-- storage_operations ---------------------------------------------------------------------------------------

-- Partitioned by the id, whose first 48 bits are its time: the primary key, ON CONFLICT (id) and pruning by
-- time all work on the one column. Texts have no length checks of their own: the record holds all of them.
CREATE TABLE storage_operations (
    id                uuid        NOT NULL,
    file_id           uuid,
    operation         text        NOT NULL,
    status            text        NOT NULL,
    provider          text,
    bytes_transferred bigint,
    duration_ms       integer,
    client_ip         text,
    user_agent        text,
    user_id           uuid,
    session_id        text,
    correlation_id    text,
    error_code        text,
    error_message     text,
    error_details     jsonb,
    purpose           text,
    metadata          jsonb       NOT NULL DEFAULT '{}',
    created_at        timestamptz NOT NULL DEFAULT now(),
    app_id            text,
    share_id          uuid,
    volume_id         uuid,
    node_id           uuid,
    trace_id          text,
    on_behalf_of      uuid,
    organisation_id   text        NOT NULL DEFAULT '',
    completes         uuid,
    record            bytea       NOT NULL,
    CONSTRAINT storage_operations_pkey PRIMARY KEY (id),
    CONSTRAINT storage_operations_file_id_fkey FOREIGN KEY (file_id) REFERENCES storage_files (id),
    CONSTRAINT storage_operations_operation_check CHECK (operation IN (
        'upload', 'download', 'delete', 'copy', 'move', 'update_metadata',
        'view_metadata', 'list', 'undelete', 'purge', 'restore', 'read_operations', 'read_quota', 'view_volume',
        'create_volume', 'update_volume', 'delete_volume', 'check_volume',
        'create_local_path', 'update_local_path', 'delete_local_path', 'authenticate', 'reconcile', 'migrate', 'other'
    )),
    CONSTRAINT storage_operations_status_check CHECK (status IN ('success', 'failed', 'pending')),
    CONSTRAINT storage_operations_bytes_transferred_check CHECK (bytes_transferred >= 0),
    CONSTRAINT storage_operations_duration_ms_check CHECK (duration_ms >= 0),
    CONSTRAINT storage_operations_metadata_check CHECK (jsonb_typeof(metadata) = 'object'),
    CONSTRAINT storage_operations_record_check CHECK (octet_length(record) <= 65535)
) PARTITION BY RANGE (id);
CREATE INDEX storage_operations_file_id_idx ON storage_operations (file_id, id);
CREATE INDEX storage_operations_user_id_idx ON storage_operations (user_id, id);
CREATE INDEX storage_operations_organisation_id_idx ON storage_operations (organisation_id, id);

COMMENT ON TABLE storage_operations IS 'The audit trail: one row per operation, or a pending one and a second that completes it. Append-only';
COMMENT ON COLUMN storage_operations.id IS 'UUIDv7, given before the operation is written; its clock picks the partition';
COMMENT ON COLUMN storage_operations.file_id IS 'File it was about; NULL: none, or one that never came to be';
COMMENT ON COLUMN storage_operations.operation IS 'What was done';
COMMENT ON COLUMN storage_operations.status IS 'success, failed, or pending: begun, and completed by the row that names it';
COMMENT ON COLUMN storage_operations.provider IS 'Kind of backend used: local, s3, http, ftp or sftp; NULL: none';
COMMENT ON COLUMN storage_operations.bytes_transferred IS 'Content bytes received or handed out; NULL: not a transfer';
COMMENT ON COLUMN storage_operations.duration_ms IS 'Milliseconds from the first to the last of it; NULL while pending';
COMMENT ON COLUMN storage_operations.client_ip IS 'Address of the caller, by a trusted proxy''s word where there is one';
COMMENT ON COLUMN storage_operations.user_agent IS 'What the caller''s program calls itself';
COMMENT ON COLUMN storage_operations.user_id IS 'User who called. No foreign key: refused callers need not have a row in users';
COMMENT ON COLUMN storage_operations.session_id IS 'Session as the caller named it';
COMMENT ON COLUMN storage_operations.correlation_id IS 'Request as the caller named it';
COMMENT ON COLUMN storage_operations.error_code IS 'Reason of a failure, in UPPER_SNAKE; NULL: none';
COMMENT ON COLUMN storage_operations.error_message IS 'The failure in words; NULL: none';
COMMENT ON COLUMN storage_operations.error_details IS 'More about the failure; NULL: none';
COMMENT ON COLUMN storage_operations.purpose IS 'Purpose the caller stated; NULL: none';
COMMENT ON COLUMN storage_operations.metadata IS 'What belongs to this kind of operation alone, a JSON object';
COMMENT ON COLUMN storage_operations.created_at IS 'When it happened';
COMMENT ON COLUMN storage_operations.app_id IS 'App that called, alone or for the user; NULL: none';
COMMENT ON COLUMN storage_operations.share_id IS 'Share that gave the right; NULL: none was needed';
COMMENT ON COLUMN storage_operations.volume_id IS 'Volume it was about; NULL: none';
COMMENT ON COLUMN storage_operations.node_id IS 'Node that did it';
COMMENT ON COLUMN storage_operations.trace_id IS 'Trace it belongs to, 32 hexadecimal digits; NULL: not traced';
COMMENT ON COLUMN storage_operations.on_behalf_of IS 'User whom an app with the role delegate acted for; NULL: nobody';
COMMENT ON COLUMN storage_operations.organisation_id IS 'Tenant of the caller; empty for callers without an organisation';
COMMENT ON COLUMN storage_operations.completes IS 'The pending operation whose outcome this row is; NULL: stands for itself';
COMMENT ON COLUMN storage_operations.record IS 'Canonical bytes of the operation as they were written, which is what is hashed; at most 65,535. The other columns are an index over it';


-- Nothing rewrites the past, on the table or on a partition named directly: row triggers are inherited by
-- partitions, TRUNCATE triggers are not and are made with each of them. Rotation drops whole partitions.
CREATE TRIGGER storage_operations_keep_rows BEFORE UPDATE OR DELETE ON storage_operations
    FOR EACH ROW
    EXECUTE FUNCTION refuse_write('The audit trail is append-only; old months are dropped as whole partitions.');
CREATE TRIGGER storage_operations_keep_all BEFORE UPDATE OR DELETE OR TRUNCATE ON storage_operations
    FOR EACH STATEMENT
    EXECUTE FUNCTION refuse_write('The audit trail is append-only; old months are dropped as whole partitions.');


-- Partitions -----------------------------------------------------------------------------------------------

CREATE FUNCTION uuid_v7_floor(instant timestamptz) RETURNS uuid
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN encode(
        substring(int8send(floor(extract(epoch FROM instant) * 1000)::bigint) FROM 3)
            || '\x70008000000000000000'::bytea,
        'hex'
    )::uuid;
COMMENT ON FUNCTION uuid_v7_floor(timestamptz) IS 'The first UUIDv7 of an instant, to the millisecond; for instants from 1970 on';

-- Made like the months' partitions below, and not by PARTITION OF, which would leave the comments behind.
CREATE TABLE storage_operations_default (LIKE storage_operations INCLUDING ALL);
ALTER TABLE storage_operations ATTACH PARTITION storage_operations_default DEFAULT;
CREATE TRIGGER storage_operations_default_keep_all BEFORE TRUNCATE ON storage_operations_default
    FOR EACH STATEMENT
    EXECUTE FUNCTION refuse_write('The audit trail is append-only; old months are dropped as whole partitions.');
COMMENT ON TABLE storage_operations_default IS 'Operations whose month has no partition yet; empty unless a clock was wrong or partitions were not made in time';

-- Makes the partitions of this month and the next ones; answers how many it made.
--
-- A partition is made beside the table and then attached, which disturbs running commits least. Locks are
-- taken in the order in which commits take them (files, then operations), so the two cannot deadlock.
-- Where DEFAULT already holds rows of a month, they move to the new partition; only then the whole table is
-- locked, because DEFAULT has to be detached for that.
CREATE FUNCTION ensure_operation_partitions(months_ahead integer) RETURNS integer
    LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    this_month CONSTANT timestamp := date_trunc('month', now() AT TIME ZONE 'UTC');
    columns    text;
    month      timestamp;
    partition  text;
    first_id   uuid;
    end_id     uuid;
    strays     boolean;
    made       integer := 0;
BEGIN
    IF months_ahead IS NULL OR months_ahead NOT BETWEEN 0 AND 120 THEN
        RAISE EXCEPTION 'months_ahead is %, not 0 to 120', months_ahead USING ERRCODE = 'invalid_parameter_value';
    END IF;

    FOR ahead IN 0..months_ahead LOOP
        month := this_month + make_interval(months => ahead);
        partition := 'storage_operations_' || to_char(month, 'YYYY_MM');
        CONTINUE WHEN to_regclass(partition) IS NOT NULL;

        LOCK TABLE storage_files IN SHARE ROW EXCLUSIVE MODE;
        LOCK TABLE ONLY storage_operations IN SHARE UPDATE EXCLUSIVE MODE;
        -- Somebody else may have made it while we waited.
        CONTINUE WHEN to_regclass(partition) IS NOT NULL;

        first_id := uuid_v7_floor(month AT TIME ZONE 'UTC');
        end_id := uuid_v7_floor((month + interval '1 month') AT TIME ZONE 'UTC');
        EXECUTE format('CREATE TABLE %I (LIKE storage_operations INCLUDING ALL)', partition);
        EXECUTE format(
            'COMMENT ON TABLE %I IS %L', partition, 'Operations of ' || to_char(month, 'YYYY-MM') || ' (UTC)'
        );

        SELECT EXISTS (SELECT FROM storage_operations_default WHERE id >= first_id AND id < end_id) INTO strays;
        IF strays THEN
            LOCK TABLE ONLY storage_operations IN ACCESS EXCLUSIVE MODE;
            ALTER TABLE storage_operations DETACH PARTITION storage_operations_default;
            -- Columns by name: a table that was altered has its columns in another order than its copy.
            SELECT string_agg(quote_ident(attname), ', ') INTO STRICT columns
            FROM pg_attribute
            WHERE attrelid = 'storage_operations'::regclass AND attnum > 0 AND NOT attisdropped;
            EXECUTE format(
                'WITH stray AS (DELETE FROM storage_operations_default WHERE id >= $1 AND id < $2 RETURNING *)
                 INSERT INTO %I (%s) SELECT %s FROM stray',
                partition, columns, columns
            ) USING first_id, end_id;
        END IF;

        EXECUTE format(
            'ALTER TABLE storage_operations ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
            partition, first_id, end_id
        );
        IF strays THEN
            ALTER TABLE storage_operations ATTACH PARTITION storage_operations_default DEFAULT;
        END IF;
        EXECUTE format(
            'CREATE TRIGGER %I BEFORE TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION refuse_write(%L)',
            partition || '_keep_all', partition,
            'The audit trail is append-only; old months are dropped as whole partitions.'
        );
        made := made + 1;
    END LOOP;
    RETURN made;
END
$$;
COMMENT ON FUNCTION ensure_operation_partitions(integer) IS 'Makes the partitions of storage_operations for this month and as many ahead (0 to 120), where missing; answers how many it made';

SELECT ensure_operation_partitions(3);


-- audit_pending --------------------------------------------------------------------------------------------

CREATE TABLE audit_pending (
    operation_id uuid        NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT audit_pending_pkey PRIMARY KEY (operation_id)
);

COMMENT ON TABLE audit_pending IS 'Operations that have not been sealed into the tamper-evident log';
COMMENT ON COLUMN audit_pending.operation_id IS 'storage_operations.id. No foreign key: months are dropped as whole partitions';
COMMENT ON COLUMN audit_pending.created_at IS 'When the operation was committed';
