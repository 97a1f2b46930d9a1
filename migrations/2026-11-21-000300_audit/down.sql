DROP TABLE audit_pending;
DROP TABLE storage_operations;
DROP FUNCTION ensure_operation_partitions(integer);
DROP FUNCTION uuid_v7_floor(timestamptz);
