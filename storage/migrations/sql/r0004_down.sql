-- Nothing is kept to be given again, as metrion_owner; r0001_ingest.sql runs after this.
SET ROLE metrion_definer;
DROP FUNCTION metrion.cached_answer(uuid, bytea[], integer),
  metrion.store_answer(uuid, uuid, bytea[], bytea, integer, bigint),
  metrion.delete_expired_answers(integer), metrion.ingest(jsonb);
SET ROLE metrion_owner;
DROP FUNCTION metrion.latency_bucket(double precision);
DROP TABLE metrion.response_cache;
ALTER TABLE metrion.request_logs DROP COLUMN saved_usd;
ALTER TABLE metrion.usage_days DROP COLUMN saved_usd, DROP COLUMN unsaved;
ALTER TABLE metrion.usage_hours DROP COLUMN saved_usd, DROP COLUMN unsaved;
REVOKE EXECUTE ON FUNCTION metrion.account() FROM metrion_definer;
GRANT CREATE ON SCHEMA metrion TO metrion_definer;
