-- From when on an account's log is whole, as metrion_owner.
--
-- Records stay for ever, log rows do not, and a larger plan does not bring back what a smaller one let
-- go.  Where the log begins is therefore more than the plan says: what is counted in the records must
-- not reach further back than there are rows.

ALTER TABLE metrion.accounts ADD COLUMN log_from timestamptz;
COMMENT ON COLUMN metrion.accounts.log_from IS
  'where the log began when it came to be kept longer; NULL: it always was kept as long as now';

-- Where a log begins: by the plan, and by the plans before it.  greatest() passes over NULL.
CREATE FUNCTION metrion.log_start(plan text, log_from timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
RETURN greatest(now() - make_interval(days => metrion.retention_days(plan)), log_from);
GRANT EXECUTE ON FUNCTION metrion.log_start(text, timestamptz) TO metrion_api, metrion_definer;

CREATE OR REPLACE FUNCTION metrion.log_window_start() RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
  SELECT metrion.log_start(plan, log_from) FROM metrion.accounts WHERE id = metrion.account();
END;

-- Who is on Pro already, since whenever: the oldest row that is left says where the log begins; if
-- none is, the last request of the records is gone too.
GRANT UPDATE (log_from) ON metrion.accounts TO metrion_definer;
CREATE POLICY begin_log ON metrion.accounts FOR UPDATE TO metrion_definer
  USING (true) WITH CHECK (true);
GRANT CREATE ON SCHEMA metrion TO metrion_definer;
SET ROLE metrion_definer;
UPDATE metrion.accounts AS a SET log_from = coalesce((
    SELECT min(l.created_at) FROM metrion.request_logs AS l
    WHERE l.account_id = a.id AND l.created_at >= metrion.log_start(a.plan, NULL)
  ), (
    SELECT max(u.last_at) + interval '1 microsecond' FROM metrion.usage_hours AS u
    WHERE u.account_id = a.id
  ))
WHERE a.plan = 'pro';

-- As in r0001, and up to where the log begins.  Of an account whose plan is just being changed, or was
-- since it was read, nothing is deleted: the next call sees what the new plan keeps.  The lock stays
-- until the commit, so that an upgrade that comes then reads the clock after this did.
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
      ELSE metrion.log_start(a.plan, a.log_from) END AS log_start
    FROM owners AS o LEFT JOIN metrion.accounts AS a ON a.id = o.account_id
    WHERE o.account_id IS NOT NULL
  LOOP
    SELECT max(expired.created_at) INTO newest FROM (
      SELECT created_at FROM metrion.request_logs
      WHERE account_id = owner.account_id AND created_at < owner.log_start
      ORDER BY created_at LIMIT chunk - deleted
    ) AS expired;
    CONTINUE WHEN newest IS NULL;
    IF owner.log_start < 'infinity' THEN
      PERFORM FROM metrion.accounts AS a
        WHERE a.id = owner.account_id AND metrion.log_start(a.plan, a.log_from) >= owner.log_start
        FOR SHARE SKIP LOCKED;
      CONTINUE WHEN NOT FOUND;
    END IF;
    DELETE FROM metrion.request_logs
    WHERE account_id = owner.account_id AND created_at <= newest;
    GET DIAGNOSTICS last_deleted = ROW_COUNT;
    deleted := deleted + last_deleted;
    EXIT WHEN deleted >= chunk;
  END LOOP;
  RETURN deleted;
END $$;

-- An upgrade keeps the rows that were still visible for the longer time: they move to its class.  All
-- others stay invisible, whether they are deleted already or not.
-- The account's row is locked already, see metrion.delete_expired_logs.  After the log's lock no
-- ingest that read the old plan is under way, and no partition is being dropped: what is gone had
-- been too old before the clock is read here.
CREATE OR REPLACE FUNCTION metrion.keep_longer() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  kept smallint := metrion.retention_days(NEW.plan);
BEGIN
  PERFORM metrion.lock_log();
  NEW.log_from := greatest(
    OLD.log_from, clock_timestamp() - make_interval(days => metrion.retention_days(OLD.plan)));
  PERFORM metrion.ensure_partition(kept, days.at)
  FROM (
    SELECT DISTINCT date_trunc('day', created_at) AS at FROM metrion.request_logs
    WHERE account_id = NEW.id AND retention < kept AND created_at >= NEW.log_from
  ) AS days;
  UPDATE metrion.request_logs SET retention = kept
  WHERE account_id = NEW.id AND retention < kept AND created_at >= NEW.log_from;
  RETURN NEW;
END $$;

SET ROLE metrion_owner;
REVOKE CREATE ON SCHEMA metrion FROM metrion_definer;
DROP POLICY begin_log ON metrion.accounts;
REVOKE UPDATE (log_from) ON metrion.accounts FROM metrion_definer;
-- before the row is written: it says where the log begins
DROP TRIGGER keep_longer ON metrion.accounts;
CREATE TRIGGER keep_longer BEFORE UPDATE OF plan ON metrion.accounts FOR EACH ROW
  WHEN (metrion.retention_days(NEW.plan) > metrion.retention_days(OLD.plan))
  EXECUTE FUNCTION metrion.keep_longer();
