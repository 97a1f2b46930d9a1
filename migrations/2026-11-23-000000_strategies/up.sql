-- Equal contents of a volume that share one object.


-- storage_objects ------------------------------------------------------------------------------------------

ALTER TABLE storage_objects
    ADD COLUMN is_shareable boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT storage_objects_is_shareable_check CHECK (NOT is_shareable OR state = 'live');
-- One for each content. Objects that are not shared cost it nothing.
CREATE UNIQUE INDEX storage_objects_content_key ON storage_objects (volume_id, sha256, size_bytes)
    WHERE is_shareable;

COMMENT ON COLUMN storage_objects.is_shareable IS 'Whether new versions of equal content name this object too: it is live, its volume has the strategy hash, and its bytes were never found wrong';
