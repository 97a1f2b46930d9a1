DROP TABLE storage_file_shares;
DROP TABLE storage_file_versions;
DROP VIEW files;
DROP TABLE storage_files;
DROP TABLE storage_objects;
