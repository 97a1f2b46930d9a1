-- Paths of volumes at which other programs find the current contents of files.


-- storage_links --------------------------------------------------------------------------------------------

CREATE TABLE storage_links (
    volume_id       uuid        NOT NULL,
    path            text        COLLATE "C" NOT NULL,
    organisation_id text        NOT NULL,
    object_id       uuid,
    next_object_id  uuid,
    revision        bigint      NOT NULL DEFAULT 1,
    due_at          timestamptz,
    attempts        integer     NOT NULL DEFAULT 0,
    last_error      text,
    CONSTRAINT storage_links_pkey PRIMARY KEY (volume_id, path),
    CONSTRAINT storage_links_volume_id_fkey FOREIGN KEY (volume_id) REFERENCES storage_volumes (id),
    CONSTRAINT storage_links_object_id_fkey FOREIGN KEY (object_id) REFERENCES storage_objects (id),
    CONSTRAINT storage_links_next_object_id_fkey FOREIGN KEY (next_object_id) REFERENCES storage_objects (id),
    CONSTRAINT storage_links_path_check CHECK (octet_length(path) BETWEEN 1 AND 2048),
    CONSTRAINT storage_links_revision_check CHECK (revision >= 1),
    CONSTRAINT storage_links_attempts_check CHECK (attempts >= 0)
);
CREATE INDEX storage_links_due_at_idx ON storage_links (due_at)
    WHERE due_at IS NOT NULL;
-- An object is not reclaimed while it is found at a path.
CREATE INDEX storage_links_object_id_idx ON storage_links (object_id)
    WHERE object_id IS NOT NULL;
CREATE INDEX storage_links_next_object_id_idx ON storage_links (next_object_id)
    WHERE next_object_id IS NOT NULL;

COMMENT ON TABLE storage_links IS 'Paths of volumes with the strategy none, at which other programs find the current contents of files';
COMMENT ON COLUMN storage_links.volume_id IS 'Volume the path is in';
COMMENT ON COLUMN storage_links.path IS 'Path of the file in NFC; on the backend its segments are joined by slashes';
COMMENT ON COLUMN storage_links.organisation_id IS 'Tenant whose file has the path; empty for callers without an organisation. No other tenant''s file gets it';
COMMENT ON COLUMN storage_links.object_id IS 'Object that is found there; NULL: none';
COMMENT ON COLUMN storage_links.next_object_id IS 'Object that is about to be found there, and may be already; NULL: none';
COMMENT ON COLUMN storage_links.revision IS 'Grows by one when what is to be found there may have changed';
COMMENT ON COLUMN storage_links.due_at IS 'When what is found there is to be set right; NULL: it is right';
COMMENT ON COLUMN storage_links.attempts IS 'How often that failed since the last change';
COMMENT ON COLUMN storage_links.last_error IS 'Why the last attempt failed; NULL: none did';
