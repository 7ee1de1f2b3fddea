-- Back to an empty schema, as metrion_owner: everything that is kept goes.
SET ROLE metrion_definer;
DROP FUNCTION metrion.ingest(jsonb), metrion.lookup_token(bytea[]),
  metrion.account_by_token(bytea[]), metrion.account_id_by_email(text),
  metrion.list_accounts(integer), metrion.delete_expired_logs(integer);
SET ROLE metrion_owner;
DROP TABLE metrion.latency_days, metrion.usage_hours, metrion.usage_days, metrion.request_logs,
  metrion.provider_keys, metrion.tokens, metrion.accounts CASCADE;
SET ROLE metrion_definer;
DROP FUNCTION metrion.keep_longer();
ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO PUBLIC;
SET ROLE metrion_owner;
DROP FUNCTION metrion.notify_invalidate(), metrion.drop_expired_partition(),
  metrion.ensure_partitions(date, date), metrion.ensure_partition(smallint, timestamptz),
  metrion.partition_start(smallint, timestamptz), metrion.lock_log(),
  metrion.latency_bucket(double precision), metrion.retention_days(text), metrion.account();
ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO PUBLIC;
REVOKE SELECT ON metrion.alembic_version FROM metrion_api;
REVOKE USAGE ON SCHEMA metrion FROM metrion_definer, metrion_proxy, metrion_api, metrion_jobs;
