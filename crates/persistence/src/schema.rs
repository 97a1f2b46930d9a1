// @generated automatically by Diesel CLI.

diesel::table! {
    /// What one app may hold, and holds, on one volume
    app_quotas (id) {
        /// UUIDv7
        id -> Uuid,
        /// Which app, for example chat; 1 to 100 characters
        app_id -> Text,
        /// On which volume
        volume_id -> Uuid,
        /// Bytes the app may hold on the volume; NULL counts without limiting
        quota_limit -> Nullable<Int8>,
        /// Bytes of files that carry the app's id, earlier versions and trash included
        quota_used -> Int8,
        /// Bytes taken by the app's uploads that have not finished
        quota_reserved -> Int8,
        /// When limit or usage last changed
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    /// Operations that have not been sealed into the tamper-evident log
    audit_pending (operation_id) {
        /// storage_operations.id. No foreign key: months are dropped as whole partitions
        operation_id -> Uuid,
        /// When the operation was committed
        created_at -> Timestamptz,
    }
}

diesel::table! {
    /// This metadata database itself; exactly one row
    cluster (id) {
        /// Written into the marker of every volume, so that a disk of another installation is never taken for ours
        id -> Uuid,
        /// When this database was first migrated
        created_at -> Timestamptz,
    }
}

diesel::table! {
    /// FTP and SFTP servers with their log-in
    ftp_endpoints (id) {
        /// UUIDv7; bound into the sealed secret
        id -> Uuid,
        /// Host name in lowercase, or address, IPv6 without brackets; 1 to 255 characters
        host -> Text,
        /// Port; where none is given 21 for ftp, 22 for sftp
        port -> Int4,
        /// ftp or sftp
        protocol -> Text,
        /// User to log in as; 1 to 100 characters
        username -> Text,
        /// Password, sealed: v{format}.{key id}.{base64url}; NULL: log in with a key, or not yet
        password -> Nullable<Text>,
        /// Private key on the server's disk, below a configured folder (SFTP), from there or absolute; NULL: log in with a password or the key that is stored, or not yet
        key_path -> Nullable<Text>,
        /// When the row was made
        created_at -> Timestamptz,
        /// How connections are protected (FTP): plain, explicit (TLS after AUTH TLS) or implicit (TLS from the first byte on); NULL for sftp
        security -> Nullable<Text>,
        /// Fingerprint of the key that the server has to show (SFTP), as ssh-keygen -lf prints it: SHA256:{base64}; NULL for ftp
        host_key -> Nullable<Text>,
        /// Folder on the server that keys are put in, absolute or from where the log-in leads; empty: there; at most 1,024 bytes
        path -> Text,
        /// Name for people; at most 1,024 bytes
        description -> Text,
        /// Private key (SFTP), sealed: v{format}.{key id}.{base64url}; NULL: log in with a password or a file, or not yet
        private_key -> Nullable<Text>,
        /// UUIDv7 of the credential that password, private_key or key_path is; NULL: there is none yet
        credential_id -> Nullable<Uuid>,
        /// What the credential is for; at most 1,024 bytes
        credential_description -> Text,
        /// When the credential was made; NULL: there is none yet
        credential_created_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    /// How to authenticate at HTTP endpoints
    http_credentials (id) {
        /// UUIDv7; bound into the sealed secret
        id -> Uuid,
        /// The endpoint they open
        endpoint_id -> Uuid,
        /// basic, bearer or custom_header
        auth_type -> Text,
        /// User and password, token or header, sealed: {"v": format, "kid": key id, "ct": ciphertext}
        credentials -> Jsonb,
        /// When the row was made; the newest is used where a volume names none
        created_at -> Timestamptz,
        /// What they are for; at most 1,024 bytes
        description -> Text,
    }
}

diesel::table! {
    /// HTTP and WebDAV servers
    http_endpoints (id) {
        /// UUIDv7
        id -> Uuid,
        /// Base URL; at most 2,048 bytes
        url -> Text,
        /// Name for people; at most 1,024 bytes
        description -> Text,
        /// When the row was made
        created_at -> Timestamptz,
    }
}

diesel::table! {
    /// Folders of the server's disk approved for volumes
    local_paths (id) {
        /// UUIDv7
        id -> Uuid,
        /// Absolute path, approved once; at most 2,048 bytes
        path -> Text,
        /// What it is for; at most 1,024 bytes
        description -> Text,
        /// When the row was made
        created_at -> Timestamptz,
    }
}

diesel::table! {
    /// Servers that use this database
    nodes (id) {
        /// Kept by the node in its data directory, so that it is the same after a restart
        id -> Uuid,
        /// Starts of its process; what an earlier start owned is up for others
        epoch -> Int8,
        /// Version of the service at its last start
        version -> Text,
        /// Last start
        started_at -> Timestamptz,
        /// Until when it is believed alive; renewed while it is
        lease_until -> Timestamptz,
        /// When an operator declared that it will not come back; NULL: it may
        retired_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    /// Events, inserted by the transaction of what they tell
    outbox_events (id) {
        /// UUIDv7; the order of events of one node
        id -> Uuid,
        /// What happened, for example file.created; 1 to 100 characters
        #[sql_name = "type"]
        type_ -> Text,
        /// Tenant that may see it; empty for callers without an organisation
        organisation_id -> Text,
        /// File it is about; NULL: none
        file_id -> Nullable<Uuid>,
        /// What else is known, a JSON object
        data -> Jsonb,
        /// When it happened
        created_at -> Timestamptz,
    }
}

diesel::table! {
    /// Answers of mutations, so that a repeated request gets the same one and does nothing
    request_results (principal, request_id) {
        /// Who asked; at most 2,048 bytes
        principal -> Text,
        /// The caller's id for the request
        request_id -> Uuid,
        /// RPC that was called
        method -> Text,
        /// Hash of the request, to tell a repetition from another request under the same id
        fingerprint -> Bytea,
        /// The encoded answer
        answer -> Bytea,
        /// When the answer was given
        created_at -> Timestamptz,
        /// From when the row may be dropped
        expires_at -> Timestamptz,
    }
}

diesel::table! {
    /// Buckets on S3 and what speaks like it
    s3_buckets (id) {
        /// UUIDv7
        id -> Uuid,
        /// Host or URL of the S3 API, for example s3.amazonaws.com; at most 2,048 bytes
        endpoint_url -> Text,
        /// Name of the bucket; 1 to 255 characters
        bucket_name -> Text,
        /// Region that requests are signed for; 1 to 50 characters
        region -> Text,
        /// Whether to speak HTTPS where endpoint_url names no scheme
        use_ssl -> Bool,
        /// When the row was made
        created_at -> Timestamptz,
        /// Whether the bucket stands in the path of requests, and not before the host
        use_path_style -> Bool,
        /// Name for people; at most 1,024 bytes
        description -> Text,
    }
}

diesel::table! {
    /// Access keys of S3 buckets
    s3_credentials (id) {
        /// UUIDv7; bound into the sealed secret
        id -> Uuid,
        /// The bucket they open
        bucket_id -> Uuid,
        /// Access key id; not secret
        access_key -> Text,
        /// Secret access key, sealed: v{format}.{key id}.{base64url}
        secret_key -> Text,
        /// What they are for; at most 1,024 bytes
        description -> Text,
        /// When the row was made; the newest is used where a volume names none
        created_at -> Timestamptz,
    }
}

diesel::table! {
    /// Rights on a file given by one user to another
    storage_file_shares (id) {
        /// UUIDv7
        id -> Uuid,
        /// File that is shared
        file_id -> Uuid,
        /// User who shares
        shared_by -> Uuid,
        /// User who receives
        shared_with -> Uuid,
        /// May see metadata and read content
        can_read -> Bool,
        /// May upload new versions, charged to the file's owner
        can_write -> Bool,
        /// May soft-delete the file
        can_delete -> Bool,
        /// May pass on what it has, at most
        can_share -> Bool,
        /// From when it no longer counts; NULL: never
        expires_at -> Nullable<Timestamptz>,
        /// Whether use needs a password; then password_hash is there
        requires_password -> Bool,
        /// Hash of the password in PHC format; NULL without a password
        password_hash -> Nullable<Text>,
        /// Downloads it allows; NULL: no limit
        max_downloads -> Nullable<Int4>,
        /// Downloads taken
        download_count -> Int4,
        /// False: revoked
        is_active -> Bool,
        /// When the share was made
        created_at -> Timestamptz,
        /// When its terms last changed
        updated_at -> Timestamptz,
        /// When it was last used; NULL: never
        last_accessed_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    /// Contents of files, each immutable; the current one included. Rows go when their content is given up
    storage_file_versions (id) {
        /// UUIDv7
        id -> Uuid,
        /// File whose content it is or was
        file_id -> Uuid,
        /// From 1, in the order of commits; never given twice in a file
        version_number -> Int4,
        /// The backend's own version id where it keeps versions (versioning_mode target); else NULL
        version_file_id -> Nullable<Text>,
        /// Object that holds the bytes; shared by versions of equal or copied content
        object_id -> Uuid,
        /// Name of the file when the version was made; at most 1,024 bytes
        filename -> Text,
        /// Plain size in bytes; what quotas count
        size -> Int8,
        /// SHA-256 of the plain content, lower-case hexadecimal
        checksum -> Text,
        /// Media type; 1 to 100 characters
        mime_type -> Text,
        /// Key of the object on the backend
        provider_path -> Text,
        /// User who made the version; NULL: an app or the system
        created_by -> Nullable<Uuid>,
        /// When the version was committed
        created_at -> Timestamptz,
        /// What changed, in the caller's words; at most 1,024 bytes; NULL: not said
        change_description -> Nullable<Text>,
        /// Whether this is the file's current content; one row per file in every versioning mode
        is_current -> Bool,
    }
}

diesel::table! {
    /// Files: stable id, metadata, current content. Purged files stay as tombstones
    storage_files (id) {
        /// UUIDv7; the default is for rows made by hand
        id -> Uuid,
        /// Volume that holds the current content
        volume_id -> Uuid,
        /// Tenant; empty for callers without an organisation, which is a tenant of its own
        organisation_id -> Text,
        /// Project that is charged; NULL: none
        project_id -> Nullable<Text>,
        /// users (owned by user_id) or apps (owned by app_id)
        namespace -> Text,
        /// Owner in namespace users; NULL for files of apps and of the system
        user_id -> Nullable<Uuid>,
        /// App that owns the file, or through which its user made it, for example chat
        app_id -> Nullable<Text>,
        /// The caller's own name for the file, unique in its organisation, or file_ and the id in base32; a purge sets it to the latter
        file_id -> Text,
        /// Current name; at most 1,024 bytes; empty once purged
        filename -> Text,
        /// Name at the first upload; at most 1,024 bytes; empty once purged
        original_name -> Text,
        /// Logical path in the volume as the caller gave it; at most 4,096 bytes; empty once purged
        storage_path -> Text,
        /// storage_path in Unicode NFC, by which paths are compared; at most 2,048 bytes; empty once purged
        path_nfc -> Text,
        /// Media type by the caller or by extension, never sniffed; 1 to 100 characters
        mime_type -> Text,
        /// Encoding of the content as the caller named it; NULL: not said
        encoding -> Nullable<Text>,
        /// Size of the current plain content in bytes
        size -> Int8,
        /// Checksum of the current plain content, lower-case hexadecimal
        checksum -> Text,
        /// sha256
        checksum_algorithm -> Text,
        /// Kind of backend that holds the current content: local, s3, http, ftp or sftp
        provider -> Text,
        /// Key of the current object on the backend; empty once purged
        provider_path -> Text,
        /// What the backend said about the current object (etag, native version), a JSON object
        provider_metadata -> Jsonb,
        /// public, internal, confidential or restricted
        data_classification -> Text,
        /// Whether the current content is encrypted at rest by the service
        encrypted -> Bool,
        /// Key of the ring that wraps the content's data key; NULL where not encrypted
        encryption_key_id -> Nullable<Text>,
        /// Whether the content may be read without a token
        is_public -> Bool,
        /// JSON array of strings; empty once purged
        tags -> Jsonb,
        /// JSON object of the caller's; empty once purged
        custom_metadata -> Jsonb,
        /// Number of the current version, from 1
        version_number -> Int4,
        /// Current row of storage_file_versions, NULL once purged. No foreign key: the two tables refer to each other, and storage_file_versions_current_key already allows only one
        current_version_id -> Nullable<Uuid>,
        /// Grows by one with every change but access counting; the etag
        revision -> Int8,
        /// active, archived (readable, not replaceable), deleted (with deleted_at) or corrupted (not readable)
        status -> Text,
        /// Reads of the content; counting changes neither updated_at nor revision
        access_count -> Int4,
        /// Last read of the content; NULL: never read
        last_accessed_at -> Nullable<Timestamptz>,
        /// User who made the file; NULL: an app or the system
        created_by -> Nullable<Uuid>,
        /// User who last changed it; NULL: an app or the system
        updated_by -> Nullable<Uuid>,
        /// User who deleted it. No foreign key: an operator who deletes need not have a row in users
        deleted_by -> Nullable<Uuid>,
        /// When the first content was committed
        created_at -> Timestamptz,
        /// When content or metadata last changed
        updated_at -> Timestamptz,
        /// Soft delete; NULL: not deleted
        deleted_at -> Nullable<Timestamptz>,
        /// When content and descriptive metadata were given up for good; NULL: not purged
        purged_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    /// Paths of volumes with the strategy none, at which other programs find the current contents of files
    storage_links (volume_id, path) {
        /// Volume the path is in
        volume_id -> Uuid,
        /// Path of the file in NFC; on the backend its segments are joined by slashes
        path -> Text,
        /// Tenant whose file has the path; empty for callers without an organisation. No other tenant's file gets it
        organisation_id -> Text,
        /// Object that is found there; NULL: none
        object_id -> Nullable<Uuid>,
        /// Object that is about to be found there, and may be already; NULL: none
        next_object_id -> Nullable<Uuid>,
        /// Grows by one when what is to be found there may have changed
        revision -> Int8,
        /// When what is found there is to be set right; NULL: it is right
        due_at -> Nullable<Timestamptz>,
        /// How often that failed since the last change
        attempts -> Int4,
        /// Why the last attempt failed; NULL: none did
        last_error -> Nullable<Text>,
    }
}

diesel::table! {
    /// Bytes stored under one key of a volume; versions name them
    storage_objects (id) {
        /// UUIDv7
        id -> Uuid,
        /// Volume that holds the bytes
        volume_id -> Uuid,
        /// Key on the backend, without the volume's default_prefix; at most 2,048 bytes; never reused for other content
        key -> Text,
        /// Size of the plain content
        size_bytes -> Int8,
        /// SHA-256 of the plain content, 32 bytes
        sha256 -> Bytea,
        /// CRC-32C of the plain content, as an unsigned 32-bit number
        crc32c -> Int8,
        /// Size on the backend, after the codec
        stored_size_bytes -> Int8,
        /// How the content was transformed: identity
        codec -> Text,
        /// The codec's data key, wrapped by the key ring; NULL where the codec has none
        data_key -> Nullable<Bytea>,
        /// Versions that name the object; changes in their transactions
        refs -> Int4,
        /// live, or deleting: refs reached 0, the bytes are being reclaimed, nothing may name it again
        state -> Text,
        /// When the bytes were last read back and compared; NULL: not since they were written
        scrubbed_at -> Nullable<Timestamptz>,
        /// When the object was committed
        created_at -> Timestamptz,
        /// Whether new versions of equal content name this object too: it is live, its volume has the strategy hash, and its bytes were never found wrong
        is_shareable -> Bool,
    }
}

diesel::table! {
    /// The audit trail: one row per operation, or a pending one and a second that completes it. Append-only
    storage_operations (id) {
        /// UUIDv7, given before the operation is written; its clock picks the partition
        id -> Uuid,
        /// File it was about; NULL: none, or one that never came to be
        file_id -> Nullable<Uuid>,
        /// What was done
        operation -> Text,
        /// success, failed, or pending: begun, and completed by the row that names it
        status -> Text,
        /// Kind of backend used: local, s3, http, ftp or sftp; NULL: none
        provider -> Nullable<Text>,
        /// Content bytes received or handed out; NULL: not a transfer
        bytes_transferred -> Nullable<Int8>,
        /// Milliseconds from the first to the last of it; NULL while pending
        duration_ms -> Nullable<Int4>,
        /// Address of the caller, by a trusted proxy's word where there is one
        client_ip -> Nullable<Text>,
        /// What the caller's program calls itself
        user_agent -> Nullable<Text>,
        /// User who called. No foreign key: refused callers need not have a row in users
        user_id -> Nullable<Uuid>,
        /// Session as the caller named it
        session_id -> Nullable<Text>,
        /// Request as the caller named it
        correlation_id -> Nullable<Text>,
        /// Reason of a failure, in UPPER_SNAKE; NULL: none
        error_code -> Nullable<Text>,
        /// The failure in words; NULL: none
        error_message -> Nullable<Text>,
        /// More about the failure; NULL: none
        error_details -> Nullable<Jsonb>,
        /// Purpose the caller stated; NULL: none
        purpose -> Nullable<Text>,
        /// What belongs to this kind of operation alone, a JSON object
        metadata -> Jsonb,
        /// When it happened
        created_at -> Timestamptz,
        /// App that called, alone or for the user; NULL: none
        app_id -> Nullable<Text>,
        /// Share that gave the right; NULL: none was needed
        share_id -> Nullable<Uuid>,
        /// Volume it was about; NULL: none
        volume_id -> Nullable<Uuid>,
        /// Node that did it
        node_id -> Nullable<Uuid>,
        /// Trace it belongs to, 32 hexadecimal digits; NULL: not traced
        trace_id -> Nullable<Text>,
        /// User whom an app with the role delegate acted for; NULL: nobody
        on_behalf_of -> Nullable<Uuid>,
        /// Tenant of the caller; empty for callers without an organisation
        organisation_id -> Text,
        /// The pending operation whose outcome this row is; NULL: stands for itself
        completes -> Nullable<Uuid>,
        /// Canonical bytes of the operation as they were written, which is what is hashed; at most 65,535. The other columns are an index over it
        record -> Bytea,
    }
}

diesel::table! {
    /// What a user, an organisation or a project may hold, and holds, over all volumes
    storage_quotas (id) {
        /// UUIDv7
        id -> Uuid,
        /// The user, where entity_type is user; else NULL. No foreign key: the row in users comes with the first commit
        user_id -> Nullable<Uuid>,
        /// Tenant the entity belongs to; empty for callers without an organisation
        organisation_id -> Text,
        /// user, organization or project
        entity_type -> Text,
        /// Id of the user, the organisation or the project, as text; at most 255 bytes
        entity_id -> Text,
        /// Bytes the entity may hold; NULL counts without limiting
        max_storage_bytes -> Nullable<Int8>,
        /// Files the entity may have; NULL counts without limiting
        max_files -> Nullable<Int4>,
        /// Largest single content in bytes; NULL: no limit
        max_file_size_bytes -> Nullable<Int8>,
        /// Bytes held, earlier versions and trash included
        used_storage_bytes -> Int8,
        /// Files not purged
        used_files -> Int4,
        /// Bytes taken by uploads that have not finished
        reserved_storage_bytes -> Int8,
        /// Files taken by uploads that have not finished
        reserved_files -> Int4,
        /// False: the limits are not enforced; usage is counted all the same
        is_active -> Bool,
        /// Since when usage exceeds a limit by a recorded exception; NULL: it does not
        over_limit_since -> Nullable<Timestamptz>,
        /// When the row was made, at the first use or the first limit
        created_at -> Timestamptz,
        /// When limits or usage last changed
        updated_at -> Timestamptz,
        /// When usage was last recounted from the files; NULL: never needed
        last_calculated_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    /// Bytes to delete, inserted by the transaction that gave them up
    storage_reclaims (id) {
        /// UUIDv7
        id -> Uuid,
        /// Object in state deleting; its row goes after its bytes
        object_id -> Uuid,
        /// Volume of the object
        volume_id -> Uuid,
        /// Key of the object on the backend
        key -> Text,
        /// Not before; moves on after a failed attempt
        due_at -> Timestamptz,
        /// Failed attempts so far
        attempts -> Int4,
        /// Why the last attempt failed; NULL: none did
        last_error -> Nullable<Text>,
        /// When the object was given up
        created_at -> Timestamptz,
    }
}

diesel::table! {
    /// Contents on their way in; the row is there before the first byte reaches a backend
    storage_uploads (id) {
        /// UUIDv7; names the staging key as well
        id -> Uuid,
        /// What brings the content: upload
        kind -> Text,
        /// OPEN (resumable), FINISHING (owned by a node), then COMMITTED, ABORTED or EXPIRED
        state -> Text,
        /// Volume the bytes go to
        volume_id -> Uuid,
        /// Key the bytes will have, recorded before the first of them; where content decides it, the staging key until it is known
        key -> Text,
        /// File that gets the content. No foreign key: a new file has no row before the commit
        file_id -> Nullable<Uuid>,
        /// Id the version will have
        version_id -> Uuid,
        /// User who is charged. No foreign key: the row in users comes with the commit. NULL: an app or the system
        user_id -> Nullable<Uuid>,
        /// App that is charged; NULL: none
        app_id -> Nullable<Text>,
        /// Organisation that is charged, and tenant; empty for callers without one
        organisation_id -> Text,
        /// Project that is charged; NULL: none
        project_id -> Nullable<Text>,
        /// Who asked; a request_id counts within it
        principal -> Text,
        /// All the caller asked for, so that whoever goes on with it knows it; a JSON object
        spec -> Jsonb,
        /// The caller's id for the request; NULL: a one-shot that cannot be resumed
        request_id -> Nullable<Uuid>,
        /// Hash of the request, to tell a repetition from another request under the same id
        fingerprint -> Nullable<Bytea>,
        /// Size in bytes the caller promised; NULL: not said
        declared_size -> Nullable<Int8>,
        /// SHA-256 the caller promised, 32 bytes; NULL: not said
        declared_sha256 -> Nullable<Bytea>,
        /// Bytes durable on the backend and recorded; where a resume goes on
        persisted_size -> Int8,
        /// State of the hashes after persisted_size bytes, so that a resume reads nothing back; NULL at 0
        hash_state -> Nullable<Bytea>,
        /// Node that owns it
        node_id -> Uuid,
        /// Epoch of that node when it took it
        node_epoch -> Int8,
        /// Fence: grows by one when anybody takes the upload over; writes name the one they know
        epoch -> Int8,
        /// When it expires unless progress is recorded before
        expire_time -> Timestamptz,
        /// When the bytes of an undone upload were seen to be gone; NULL: not yet, or not undone
        swept_at -> Nullable<Timestamptz>,
        /// When it was started
        created_at -> Timestamptz,
        /// Last recorded progress or change of state
        updated_at -> Timestamptz,
        /// Bytes held in each of its payer's quotas; 0 once it has ended. Summed over uploads, it equals their reserved columns
        reserved_bytes -> Int8,
        /// Files held in those of its payer's quotas that count files; 0 where it replaces content, and once it has ended
        reserved_files -> Int4,
    }
}

diesel::table! {
    /// Named places that hold bytes, each with its driver
    storage_volumes (id) {
        /// UUIDv7
        id -> Uuid,
        /// Unique among volumes that are not deleted; 1 to 100 characters
        name -> Text,
        /// local, s3, ftp or http; ftp_endpoints.protocol decides between FTP and SFTP
        driver -> Text,
        /// local_path_id, bucket_id, ftp_id or endpoint_id, the driver's options, and credential_id (absent: the newest credential)
        config -> Jsonb,
        /// Put before every key on the backend; stored keys and paths do not contain it
        default_prefix -> Nullable<Text>,
        /// True: path_delimiter separates folders. False: a path is one flat name
        enforce_hierarchy -> Bool,
        /// Separates the segments of a path; 1 to 5 characters
        path_delimiter -> Text,
        /// HTTP only: an object is {url}?id={key} instead of {url}/{key}
        use_query_params -> Bool,
        /// How a key is made. none: the path. uuid: fanned out by the version's id. hash: the content's SHA-256, shared by equal contents
        auto_path_strategy -> Text,
        /// none: earlier contents are reclaimed. source: kept as objects of their own. target: kept by the backend
        versioning_mode -> Text,
        /// Bytes this volume may hold; NULL counts without limiting
        quota_limit -> Nullable<Int8>,
        /// Bytes held: the plain size of every version not given up, trash included
        quota_used -> Int8,
        /// Bytes taken by uploads that have not finished
        quota_reserved -> Int8,
        /// False: neither uploads nor reads; checks, reconciling and moving files away still work
        is_active -> Bool,
        /// Organisations that may use the volume; empty here and in allowed_apps: everyone. No NULL inside
        allowed_organisations -> Array<Text>,
        /// Apps that may use the volume; empty here and in allowed_organisations: everyone. No NULL inside
        allowed_apps -> Array<Text>,
        /// Largest content in bytes; NULL: no limit of the volume's own
        max_file_bytes -> Nullable<Int8>,
        /// Seconds after which a soft-deleted file is purged; NULL: nothing is purged by itself
        trash_retention_seconds -> Nullable<Int8>,
        /// Seconds an upload may rest between two recorded steps; 1 minute to 7 days; NULL: 24 hours
        upload_ttl_seconds -> Nullable<Int8>,
        /// When the volume was made
        created_at -> Timestamptz,
        /// When its settings last changed; usage does not count
        updated_at -> Timestamptz,
        /// When the (empty) volume was deleted; the row stays for what refers to it
        deleted_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    /// Long work, which goes on elsewhere when its node dies
    tasks (id) {
        /// UUIDv7
        id -> Uuid,
        /// What kind of work: rotate_keys seals all secrets under one key
        kind -> Text,
        /// What is to be done; a JSON object with kind
        work -> Jsonb,
        /// RUNNING, SUCCEEDED, FAILED or CANCELLED
        state -> Text,
        /// How far it is; a JSON object of the kind's own
        position -> Jsonb,
        /// Items that are done
        items_done -> Int8,
        /// Items that could not be done
        items_failed -> Int8,
        /// Items there were at its beginning
        items_total -> Int8,
        /// Reason of its failure, as in answers; NULL: it has not failed
        error_reason -> Nullable<Text>,
        /// The same for people; at most 1,024 bytes
        error_message -> Nullable<Text>,
        /// Whether it was asked to end
        is_cancel_requested -> Bool,
        /// Node that works on it
        node_id -> Uuid,
        /// Which start of that node: a later one, or an ended lease, leaves a running task to whoever takes it
        node_epoch -> Int8,
        /// When it began
        created_at -> Timestamptz,
        /// When something of it last changed
        updated_at -> Timestamptz,
        /// When it ended; NULL: it runs
        ended_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    /// What one user may hold, and holds, on one volume
    user_quotas (id) {
        /// UUIDv7
        id -> Uuid,
        /// Whose files. No foreign key: the row in users comes with the first commit
        user_id -> Uuid,
        /// On which volume
        volume_id -> Uuid,
        /// Bytes the user may hold on the volume; NULL counts without limiting
        quota_limit -> Nullable<Int8>,
        /// Bytes the user holds on the volume, earlier versions and trash included
        quota_used -> Int8,
        /// Bytes taken by the user's uploads that have not finished
        quota_reserved -> Int8,
        /// When limit or usage last changed
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    /// People known by their tokens; inserted with the first commit that refers to them
    users (id) {
        /// The token's subject if that is a UUID, else UUIDv5 of issuer and subject; so every node knows it without asking
        id -> Uuid,
        /// Issuer of the token (iss); at most 1,024 bytes
        issuer -> Text,
        /// Subject of the token (sub); at most 1,024 bytes
        subject -> Text,
        /// Organisation at the first commit; empty for callers without one
        organisation_id -> Text,
        /// When the user was first seen
        created_at -> Timestamptz,
    }
}

diesel::joinable!(app_quotas -> storage_volumes (volume_id));
diesel::joinable!(http_credentials -> http_endpoints (endpoint_id));
diesel::joinable!(s3_credentials -> s3_buckets (bucket_id));
diesel::joinable!(storage_file_shares -> storage_files (file_id));
diesel::joinable!(storage_file_versions -> storage_files (file_id));
diesel::joinable!(storage_file_versions -> storage_objects (object_id));
diesel::joinable!(storage_file_versions -> users (created_by));
diesel::joinable!(storage_files -> storage_volumes (volume_id));
diesel::joinable!(storage_links -> storage_volumes (volume_id));
diesel::joinable!(storage_objects -> storage_volumes (volume_id));
diesel::joinable!(storage_operations -> storage_files (file_id));
diesel::joinable!(storage_reclaims -> storage_objects (object_id));
diesel::joinable!(storage_reclaims -> storage_volumes (volume_id));
diesel::joinable!(storage_uploads -> nodes (node_id));
diesel::joinable!(storage_uploads -> storage_volumes (volume_id));
diesel::joinable!(tasks -> nodes (node_id));
diesel::joinable!(user_quotas -> storage_volumes (volume_id));

diesel::allow_tables_to_appear_in_same_query!(
    app_quotas,
    audit_pending,
    cluster,
    ftp_endpoints,
    http_credentials,
    http_endpoints,
    local_paths,
    nodes,
    outbox_events,
    request_results,
    s3_buckets,
    s3_credentials,
    storage_file_shares,
    storage_file_versions,
    storage_files,
    storage_links,
    storage_objects,
    storage_operations,
    storage_quotas,
    storage_reclaims,
    storage_uploads,
    storage_volumes,
    tasks,
    user_quotas,
    users,
);
