-- What works across accounts: functions of metrion_definer, with the rights and policies that they
-- need and no more.  Each is executable by the one role it is for.

-- ------------------------------------------------------------------------ the definer's own rights
GRANT SELECT ON metrion.accounts, metrion.tokens, metrion.provider_keys TO metrion_definer;
GRANT SELECT, INSERT, UPDATE, DELETE ON metrion.request_logs TO metrion_definer;
GRANT SELECT, INSERT, UPDATE ON metrion.usage_days, metrion.usage_hours, metrion.latency_days
  TO metrion_definer;
CREATE POLICY lookup ON metrion.accounts FOR SELECT TO metrion_definer USING (true);
CREATE POLICY lookup ON metrion.tokens FOR SELECT TO metrion_definer USING (true);
CREATE POLICY lookup ON metrion.provider_keys FOR SELECT TO metrion_definer USING (true);
CREATE POLICY ingest ON metrion.request_logs TO metrion_definer USING (true) WITH CHECK (true);
CREATE POLICY ingest ON metrion.usage_days TO metrion_definer USING (true) WITH CHECK (true);
CREATE POLICY ingest ON metrion.usage_hours TO metrion_definer USING (true) WITH CHECK (true);
CREATE POLICY ingest ON metrion.latency_days TO metrion_definer USING (true) WITH CHECK (true);
-- SELECT ... FOR KEY SHARE asks for the right to update and for a policy; no update passes this one
GRANT UPDATE (id) ON metrion.accounts TO metrion_definer;
CREATE POLICY hold ON metrion.accounts FOR UPDATE TO metrion_definer
  USING (true) WITH CHECK (false);

-- The administrator rotates the master key as metrion_definer (storage/rotation.py): every column of
-- sealed values, and what is derived from them.
GRANT UPDATE (sealed, digest) ON metrion.tokens TO metrion_definer;
GRANT UPDATE (sealed) ON metrion.provider_keys TO metrion_definer;
CREATE POLICY rotate ON metrion.tokens FOR UPDATE TO metrion_definer USING (true) WITH CHECK (true);
CREATE POLICY rotate ON metrion.provider_keys FOR UPDATE TO metrion_definer
  USING (true) WITH CHECK (true);

GRANT CREATE ON SCHEMA metrion TO metrion_definer;
SET ROLE metrion_definer;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

-- ------------------------------------------------------------------------ who is calling
-- The account behind a token, by the digests it may be stored under, and its sealed keys; for a plan
-- with a monthly limit also what it has used of it this month (UTC).
-- plpgsql, because it keeps its plan for the session; a SQL function is planned at every call.
CREATE FUNCTION metrion.lookup_token(
  digests bytea[], OUT account_id uuid, OUT plan text, OUT providers text[], OUT sealed bytea[],
  OUT month date, OUT month_requests bigint)
RETURNS SETOF record LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
BEGIN
  RETURN QUERY
    SELECT a.id, a.plan, keys.providers, keys.sealed, date_trunc('month', now())::date,
      CASE a.plan WHEN 'free' THEN (
        SELECT coalesce(sum(u.forwarded), 0)::bigint FROM metrion.usage_days AS u
        WHERE u.account_id = a.id AND u.day >= date_trunc('month', now())::date
      ) ELSE 0 END
    FROM metrion.tokens AS t
      JOIN metrion.accounts AS a ON a.id = t.account_id
      CROSS JOIN LATERAL (
        SELECT coalesce(array_agg(k.provider ORDER BY k.provider), '{}') AS providers,
          coalesce(array_agg(k.sealed ORDER BY k.provider), '{}') AS sealed
        FROM metrion.provider_keys AS k WHERE k.account_id = t.account_id
      ) AS keys
    WHERE t.digest = ANY (digests);
END $$;
GRANT EXECUTE ON FUNCTION metrion.lookup_token(bytea[]) TO metrion_proxy;

-- The same for the API, which has no business with the keys.
CREATE FUNCTION metrion.account_by_token(digests bytea[], OUT account_id uuid, OUT plan text)
RETURNS SETOF record LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN QUERY
    SELECT a.id, a.plan
    FROM metrion.tokens AS t JOIN metrion.accounts AS a ON a.id = t.account_id
    WHERE t.digest = ANY (digests);
END $$;
GRANT EXECUTE ON FUNCTION metrion.account_by_token(bytea[]) TO metrion_api;

-- The account of an address; for sign-in and the command, which do not know the account yet.
CREATE FUNCTION metrion.account_id_by_email(address text) RETURNS uuid
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN (SELECT id FROM metrion.accounts WHERE lower(email) = lower(address));
END $$;
GRANT EXECUTE ON FUNCTION metrion.account_id_by_email(text) TO metrion_api;

-- Accounts, the oldest first; all of them if `most` is NULL.  For the administrator only, who acts as
-- metrion_owner; no service role may.
CREATE FUNCTION metrion.list_accounts(most integer) RETURNS SETOF metrion.accounts
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN QUERY SELECT * FROM metrion.accounts ORDER BY created_at, id LIMIT most;
END $$;
GRANT EXECUTE ON FUNCTION metrion.list_accounts(integer) TO metrion_owner;

-- ------------------------------------------------------------------------ retention
-- Deletes log rows that are past their account's window but in a partition that stays (downgrades, a
-- week's first days), or whose account is gone: `chunk` of them, or a few more where several are of
-- the same microsecond.  Returns how many: call until 0.  It goes from owner to owner along the
-- primary key and deletes ranges of it, so its work depends on what is deleted and on the number of
-- owners, not on the size of the log.
CREATE FUNCTION metrion.delete_expired_logs(chunk integer) RETURNS bigint
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
GRANT EXECUTE ON FUNCTION metrion.delete_expired_logs(integer) TO metrion_jobs;

-- An upgrade keeps the rows that were still visible for the longer time: they move to its class.
-- After the lock no ingest that read the old plan is under way.
CREATE FUNCTION metrion.keep_longer() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
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
GRANT EXECUTE ON FUNCTION metrion.keep_longer() TO metrion_owner;

SET ROLE metrion_owner;
CREATE TRIGGER keep_longer AFTER UPDATE OF plan ON metrion.accounts FOR EACH ROW
  WHEN (metrion.retention_days(NEW.plan) > metrion.retention_days(OLD.plan))
  EXECUTE FUNCTION metrion.keep_longer();
