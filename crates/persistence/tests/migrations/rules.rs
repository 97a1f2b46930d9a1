//! What the tables themselves refuse, by the name that the refusal carries.

use crate::documents::with_a_file;

/// A statement, and the constraint that refuses it.
const REFUSED: &[(&str, &str)] = &[
    ("INSERT INTO cluster (id) VALUES (gen_random_uuid())", "cluster_singleton_key"),
    ("UPDATE storage_volumes SET name = ''", "storage_volumes_name_check"),
    ("UPDATE storage_volumes SET name = repeat('x', 101)", "storage_volumes_name_check"),
    ("UPDATE storage_volumes SET driver = 'tape'", "storage_volumes_driver_check"),
    ("UPDATE storage_volumes SET use_query_params = true", "storage_volumes_use_query_params_check"),
    ("UPDATE storage_volumes SET quota_used = -1", "storage_volumes_quota_used_check"),
    ("UPDATE storage_volumes SET quota_reserved = -1", "storage_volumes_quota_reserved_check"),
    ("UPDATE storage_volumes SET allowed_apps = ARRAY['a', NULL]", "storage_volumes_allowed_apps_check"),
    ("UPDATE storage_volumes SET upload_ttl_seconds = 59", "storage_volumes_upload_ttl_seconds_check"),
    ("UPDATE storage_volumes SET upload_ttl_seconds = 604801", "storage_volumes_upload_ttl_seconds_check"),
    (
        "INSERT INTO storage_volumes (id, name, driver) VALUES (gen_random_uuid(), 'main', 's3')",
        "storage_volumes_name_key",
    ),
    ("UPDATE storage_files SET size = -1", "storage_files_size_check"),
    ("UPDATE storage_files SET checksum = repeat('G', 64)", "storage_files_checksum_check"),
    ("UPDATE storage_files SET namespace = 'users'", "storage_files_owner_check"),
    ("UPDATE storage_files SET app_id = NULL", "storage_files_owner_check"),
    ("UPDATE storage_files SET tags = '{}'", "storage_files_tags_check"),
    ("UPDATE storage_files SET custom_metadata = '[]'", "storage_files_custom_metadata_check"),
    ("UPDATE storage_files SET status = 'deleted'", "storage_files_deleted_check"),
    ("UPDATE storage_files SET deleted_at = now()", "storage_files_deleted_check"),
    ("UPDATE storage_files SET filename = ''", "storage_files_tombstone_check"),
    (
        "UPDATE storage_files SET status = 'deleted', deleted_at = now(), purged_at = now()",
        "storage_files_tombstone_check",
    ),
    ("UPDATE storage_files SET user_id = gen_random_uuid()", "storage_files_user_id_fkey"),
    (
        "INSERT INTO storage_quotas (id, entity_type, entity_id) VALUES (gen_random_uuid(), 'user', 'anna')",
        "storage_quotas_entity_check",
    ),
    (
        "INSERT INTO storage_quotas (id, entity_type, organisation_id, entity_id)
         VALUES (gen_random_uuid(), 'organization', 'a', 'b')",
        "storage_quotas_entity_check",
    ),
    (
        "INSERT INTO s3_buckets (id, endpoint_url, bucket_name) VALUES ('00000000-0000-7000-8000-000000000009', 'h', '')",
        "s3_buckets_bucket_name_check",
    ),
    (
        "INSERT INTO http_endpoints (id, url) VALUES ('00000000-0000-7000-8000-000000000009', 'http://h');
         INSERT INTO http_credentials (id, endpoint_id, auth_type, credentials)
         VALUES (gen_random_uuid(), '00000000-0000-7000-8000-000000000009', 'basic', '{\"password\": \"plain\"}')",
        "http_credentials_credentials_check",
    ),
    (
        "INSERT INTO s3_buckets (id, endpoint_url, bucket_name) VALUES ('00000000-0000-7000-8000-000000000009', 'h', 'b');
         INSERT INTO s3_credentials (id, bucket_id, access_key, secret_key)
         VALUES (gen_random_uuid(), '00000000-0000-7000-8000-000000000009', 'AK', 'plain')",
        "s3_credentials_sealed_check",
    ),
    (
        "INSERT INTO s3_buckets (id, endpoint_url, bucket_name)
         SELECT gen_random_uuid(), 'h', 'b' FROM generate_series(1, 2)",
        "s3_buckets_place_key",
    ),
    (
        "INSERT INTO http_endpoints (id, url) SELECT gen_random_uuid(), 'http://h' FROM generate_series(1, 2)",
        "http_endpoints_url_key",
    ),
    (
        "INSERT INTO local_paths (id, path) VALUES (gen_random_uuid(), 'not/absolute')",
        "local_paths_path_check",
    ),
    (
        "INSERT INTO storage_objects (id, volume_id, key, size_bytes, sha256, crc32c, stored_size_bytes, refs)
         SELECT gen_random_uuid(), id, 'k', 1, 'short', 0, 1, 1 FROM storage_volumes",
        "storage_objects_sha256_check",
    ),
    (
        "INSERT INTO storage_objects (id, volume_id, key, size_bytes, sha256, crc32c, stored_size_bytes, refs, state)
         SELECT gen_random_uuid(), id, 'k', 1, decode(repeat('00', 32), 'hex'), 4294967295, 1, 1, 'deleting'
         FROM storage_volumes",
        "storage_objects_deleting_check",
    ),
    (
        "INSERT INTO storage_operations (id, operation, status, record)
         VALUES (uuid_v7_floor(now()), 'guess', 'success', '')",
        "storage_operations_operation_check",
    ),
    (
        "INSERT INTO storage_operations (id, operation, status, record)
         VALUES (uuid_v7_floor(now()), 'list', 'success', decode(repeat('00', 65536), 'hex'))",
        "storage_operations_record_check",
    ),
];

#[tokio::test]
async fn the_database_says_no_by_name() {
    let mut migrated = with_a_file().await;
    for (sql, constraint) in REFUSED {
        let refusal = migrated.refusal(sql).await;
        assert_eq!(refusal.constraint_name(), Some(*constraint), "{}: {sql}", refusal.message());
    }
}

#[tokio::test]
async fn a_path_is_taken_in_its_tenant_until_it_is_deleted() {
    let mut migrated = with_a_file().await;
    let same_path = |organisation: &str| {
        format!(
            "INSERT INTO storage_files (volume_id, organisation_id, namespace, app_id, file_id, filename, original_name,
                 storage_path, path_nfc, size, checksum, provider, provider_path)
             SELECT volume_id, '{organisation}', namespace, app_id, gen_random_uuid()::text, filename, original_name,
                 storage_path, path_nfc, size, checksum, provider, provider_path FROM storage_files LIMIT 1"
        )
    };
    let taken = migrated.refusal(&same_path("")).await;
    assert_eq!(taken.constraint_name(), Some("storage_files_path_key"));
    migrated.run(&same_path("acme")).await.unwrap();
    migrated.run("UPDATE storage_files SET status = 'deleted', deleted_at = now()").await.unwrap();
    migrated.run(&same_path("")).await.unwrap();
}

#[tokio::test]
async fn a_request_counts_once_while_its_upload_lives() {
    let mut migrated = with_a_file().await;
    migrated
        .run("INSERT INTO nodes (id, epoch, version, started_at, lease_until) VALUES (gen_random_uuid(), 1, '0', now(), now())")
        .await
        .unwrap();
    let start = "INSERT INTO storage_uploads (id, kind, volume_id, key, version_id, principal, spec, request_id, fingerprint,
                     node_id, node_epoch, expire_time)
                 SELECT gen_random_uuid(), 'upload', v.id, 'k', gen_random_uuid(), 'anna', '{}',
                     '00000000-0000-7000-8000-000000000003', 'f', n.id, 1, now() FROM storage_volumes v, nodes n";
    migrated.run(start).await.unwrap();
    assert_eq!(migrated.refusal(start).await.constraint_name(), Some("storage_uploads_request_key"));
    migrated.run("UPDATE storage_uploads SET reserved_bytes = 1, reserved_files = 1").await.unwrap();
    for (sql, constraint) in [
        ("UPDATE storage_uploads SET reserved_bytes = -1", "storage_uploads_reserved_bytes_check"),
        ("UPDATE storage_uploads SET reserved_files = -1", "storage_uploads_reserved_files_check"),
        ("UPDATE storage_uploads SET state = 'ABORTED'", "storage_uploads_reserved_check"),
        (
            "UPDATE storage_uploads SET state = 'COMMITTED', reserved_bytes = 0",
            "storage_uploads_reserved_check",
        ),
    ] {
        assert_eq!(migrated.refusal(sql).await.constraint_name(), Some(constraint), "{sql}");
    }
    migrated.run("UPDATE storage_uploads SET reserved_bytes = 0, reserved_files = 0").await.unwrap();
    let swept = migrated.refusal("UPDATE storage_uploads SET swept_at = now()").await;
    assert_eq!(swept.constraint_name(), Some("storage_uploads_swept_at_check"));
    migrated.run("UPDATE storage_uploads SET state = 'ABORTED', swept_at = now()").await.unwrap();
    migrated.run(start).await.unwrap();
}

#[tokio::test]
async fn an_endpoint_gets_the_port_of_its_protocol() {
    let mut migrated = with_a_file().await;
    migrated
        .run(
            "INSERT INTO ftp_endpoints (id, host, port, protocol, username, security, host_key) VALUES
                 (gen_random_uuid(), 'a', NULL, 'ftp', 'u', 'explicit', NULL),
                 (gen_random_uuid(), 'b', NULL, 'sftp', 'u', NULL, 'SHA256:' || repeat('A', 43)),
                 (gen_random_uuid(), 'c', 2222, 'sftp', 'u', NULL, 'SHA256:' || repeat('A', 43))",
        )
        .await
        .unwrap();
    assert_eq!(
        migrated.texts("SELECT port::text FROM ftp_endpoints ORDER BY host").await,
        ["21", "22", "2222"]
    );
}

#[tokio::test]
async fn a_server_that_is_logged_in_to_is_one_of_its_protocol() {
    let mut migrated = with_a_file().await;
    migrated
        .run(
            "INSERT INTO ftp_endpoints (id, host, port, protocol, username, security, host_key) VALUES
                 (gen_random_uuid(), 'a', NULL, 'ftp', 'u', 'explicit', NULL),
                 (gen_random_uuid(), 'b', NULL, 'sftp', 'u', NULL, 'SHA256:' || repeat('A', 43))",
        )
        .await
        .unwrap();
    let credential = "credential_id = gen_random_uuid(), credential_created_at = now()";
    let (ftp, sftp) = ("WHERE protocol = 'ftp'", "WHERE protocol = 'sftp'");
    for (change, of, constraint) in [
        ("security = NULL", ftp, "ftp_endpoints_security_check"),
        ("security = 'some'", ftp, "ftp_endpoints_security_check"),
        ("security = 'plain'", sftp, "ftp_endpoints_security_check"),
        ("host_key = 'SHA256:' || repeat('A', 43)", ftp, "ftp_endpoints_host_key_check"),
        ("host_key = NULL", sftp, "ftp_endpoints_host_key_check"),
        ("host_key = 'SHA256:' || repeat('A', 44)", sftp, "ftp_endpoints_host_key_check"),
        ("host_key = repeat('0', 64)", sftp, "ftp_endpoints_host_key_check"),
        ("path = repeat('a', 1025)", ftp, "ftp_endpoints_path_check"),
        ("description = repeat('a', 1025)", ftp, "ftp_endpoints_description_check"),
        ("credential_description = repeat('a', 1025)", ftp, "ftp_endpoints_credential_description_check"),
        (&format!("password = 'swordfish', {credential}"), ftp, "ftp_endpoints_sealed_check"),
        (&format!("private_key = 'swordfish', {credential}"), sftp, "ftp_endpoints_sealed_check"),
        (
            &format!("private_key = 'v1.k.' || repeat('A', 16384), {credential}"),
            sftp,
            "ftp_endpoints_private_key_check",
        ),
        ("password = 'v1.k.AAAA'", ftp, "ftp_endpoints_login_check"),
        (credential, sftp, "ftp_endpoints_login_check"),
        (&format!("key_path = 'id', {credential}"), ftp, "ftp_endpoints_login_check"),
        (&format!("private_key = 'v1.k.AAAA', {credential}"), ftp, "ftp_endpoints_login_check"),
        (
            &format!("password = 'v1.k.AAAA', key_path = 'id', {credential}"),
            sftp,
            "ftp_endpoints_login_check",
        ),
        ("key_path = 'id', credential_id = gen_random_uuid()", sftp, "ftp_endpoints_credential_check"),
    ] {
        let sql = format!("UPDATE ftp_endpoints SET {change} {of}");
        assert_eq!(migrated.refusal(&sql).await.constraint_name(), Some(constraint), "{sql}");
    }
    for (change, of) in [("password = 'v1.k.AAAA'", ftp), ("key_path = 'id'", sftp)] {
        migrated.run(&format!("UPDATE ftp_endpoints SET {change}, {credential} {of}")).await.unwrap();
    }
    for (change, constraint) in [
        (
            "credential_id = (SELECT min(credential_id::text)::uuid FROM ftp_endpoints)",
            "ftp_endpoints_credential_key",
        ),
        (
            "protocol = 'ftp', security = 'plain', host_key = NULL, host = 'a', port = 21,
             key_path = NULL, password = 'v1.k.AAAA'",
            "ftp_endpoints_place_key",
        ),
    ] {
        let sql = format!("UPDATE ftp_endpoints SET {change}");
        assert_eq!(migrated.refusal(&sql).await.constraint_name(), Some(constraint), "{sql}");
    }
}
