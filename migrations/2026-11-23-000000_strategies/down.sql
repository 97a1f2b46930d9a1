-- storage_objects ------------------------------------------------------------------------------------------

-- What is shared stays so: a reference is counted for each version.
DROP INDEX storage_objects_content_key;
ALTER TABLE storage_objects DROP COLUMN is_shareable;
