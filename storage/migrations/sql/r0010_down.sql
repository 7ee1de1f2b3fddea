-- The plan alone says where a log begins, as metrion_owner.
GRANT CREATE ON SCHEMA metrion TO metrion_definer;
SET ROLE metrion_definer;
CREATE OR REPLACE FUNCTION metrion.delete_expired_logs(chunk integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  deleted bigint := 0;
  last_deleted bigint;
  owner record;
  newest timestamptz;
BEGIN
  FOR owner IN
    WITH RECURSIVE owners AS (
      (SELECT account_id FROM metrion.request_logs ORDER BY account_id LIMIT 1)
      UNION ALL
      SELECT (
        SELECT l.account_id FROM metrion.request_logs AS l WHERE l.account_id > o.account_id
        ORDER BY l.account_id LIMIT 1
      ) FROM owners AS o WHERE o.account_id IS NOT NULL
    )
    SELECT o.account_id, CASE WHEN a.id IS NULL THEN 'infinity'
      ELSE now() - make_interval(days => metrion.retention_days(a.plan)) END AS window_start
    FROM owners AS o LEFT JOIN metrion.accounts AS a ON a.id = o.account_id
    WHERE o.account_id IS NOT NULL
  LOOP
    SELECT max(expired.created_at) INTO newest FROM (
      SELECT created_at FROM metrion.request_logs
      WHERE account_id = owner.account_id AND created_at < owner.window_start
      ORDER BY created_at LIMIT chunk - deleted
    ) AS expired;
    CONTINUE WHEN newest IS NULL;
    DELETE FROM metrion.request_logs
    WHERE account_id = owner.account_id AND created_at <= newest;
    GET DIAGNOSTICS last_deleted = ROW_COUNT;
    deleted := deleted + last_deleted;
    EXIT WHEN deleted >= chunk;
  END LOOP;
  RETURN deleted;
END $$;

CREATE OR REPLACE FUNCTION metrion.keep_longer() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  kept smallint := metrion.retention_days(NEW.plan);
BEGIN
  PERFORM metrion.lock_log();
  PERFORM metrion.ensure_partition(kept, days.at)
  FROM (
    SELECT DISTINCT date_trunc('day', created_at) AS at FROM metrion.request_logs
    WHERE account_id = NEW.id AND retention < kept
  ) AS days;
  UPDATE metrion.request_logs SET retention = kept
  WHERE account_id = NEW.id AND retention < kept;
  RETURN NULL;
END $$;
SET ROLE metrion_owner;
REVOKE CREATE ON SCHEMA metrion FROM metrion_definer;
DROP TRIGGER keep_longer ON metrion.accounts;
CREATE TRIGGER keep_longer AFTER UPDATE OF plan ON metrion.accounts FOR EACH ROW
  WHEN (metrion.retention_days(NEW.plan) > metrion.retention_days(OLD.plan))
  EXECUTE FUNCTION metrion.keep_longer();
CREATE OR REPLACE FUNCTION metrion.log_window_start() RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
  SELECT now() - make_interval(days => metrion.retention_days(plan))
  FROM metrion.accounts WHERE id = metrion.account();
END;
DROP FUNCTION metrion.log_start(text, timestamptz);
ALTER TABLE metrion.accounts DROP COLUMN log_from;
