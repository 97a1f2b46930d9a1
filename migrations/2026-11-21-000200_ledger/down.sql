DROP TABLE outbox_events;
DROP TABLE request_results;
DROP TABLE storage_reclaims;
DROP TABLE quota_reservations;
DROP TABLE storage_uploads;
DROP TABLE nodes;
