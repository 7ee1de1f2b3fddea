-- Tables and their row-level security, as metrion_owner.
--
-- Every table is forced: the policies bind its owner too, so a later migration that rewrites rows
-- must give itself a policy for as long as it runs, or it will see none.

ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
GRANT USAGE ON SCHEMA metrion TO metrion_definer, metrion_proxy, metrion_api, metrion_jobs;

-- The account of this transaction, or NULL.  A setting that was local to an earlier transaction of
-- the connection reads as '', not as NULL.
CREATE FUNCTION metrion.account() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(pg_catalog.current_setting('metrion.account_id', true), '')::uuid;
GRANT EXECUTE ON FUNCTION metrion.account() TO metrion_api;

-- How long a plan keeps its log rows, in days.  The classes of request_logs' partitions.
CREATE FUNCTION metrion.retention_days(plan text) RETURNS smallint LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE plan WHEN 'pro' THEN 90 ELSE 7 END;
GRANT EXECUTE ON FUNCTION metrion.retention_days(text) TO metrion_api, metrion_definer;

CREATE TABLE metrion.accounts (
  id uuid PRIMARY KEY,
  email text NOT NULL CHECK (length(email) BETWEEN 3 AND 254),
  plan text NOT NULL DEFAULT 'free' CHECK (plan IN ('free', 'pro')),
  currency text NOT NULL DEFAULT 'USD' CHECK (currency IN ('USD', 'EUR', 'CHF')),
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX accounts_email ON metrion.accounts (lower(email));

-- One live token per account; regenerating it replaces the row.
CREATE TABLE metrion.tokens (
  account_id uuid PRIMARY KEY REFERENCES metrion.accounts ON DELETE CASCADE,
  id uuid NOT NULL,
  digest bytea NOT NULL UNIQUE CHECK (length(digest) = 32),
  sealed bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE metrion.provider_keys (
  account_id uuid NOT NULL REFERENCES metrion.accounts ON DELETE CASCADE,
  provider text NOT NULL CHECK (provider ~ '^[a-z0-9_-]{1,32}$'),
  sealed bytea NOT NULL,
  last_four text NOT NULL CHECK (length(last_four) <= 4),
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (account_id, provider)
);

-- The log.  LIST (days kept) -> RANGE (a day of the 7-day class, a week of the 90-day class: a
-- partition per day of 90 costs 5 ms of planning per query).  The primary key is uniqueness, keyset
-- pages and deletes by account in one index.  No foreign key: see metrion.ingest.  There is no
-- DEFAULT partition: with one, attaching a partition would lock and scan it, and fail over a row
-- that is already there; metrion.ingest makes the partition that a row lacks instead.
CREATE TABLE metrion.request_logs (
  account_id uuid NOT NULL,
  created_at timestamptz NOT NULL,
  id uuid NOT NULL,
  retention smallint NOT NULL,
  provider text NOT NULL,
  endpoint text NOT NULL,
  model text,
  requester text,
  mode text NOT NULL,
  status smallint,
  outcome text NOT NULL,
  streamed boolean NOT NULL,
  cached boolean NOT NULL,
  input_tokens bigint,
  cache_read_tokens bigint,
  cache_write_tokens bigint,
  output_tokens bigint,
  reasoning_tokens bigint,
  total_tokens bigint,
  cost_usd numeric(20, 12),
  price_source text,
  latency_ms double precision,
  ttfb_ms double precision,
  overhead_ms double precision,
  error text,
  left_out integer NOT NULL DEFAULT 0,
  PRIMARY KEY (account_id, created_at, id, retention)
) PARTITION BY LIST (retention);
-- the newest errors, however rare they are
CREATE INDEX request_logs_errors ON metrion.request_logs (account_id, created_at, id)
  WHERE status >= 400;
CREATE TABLE metrion.request_logs_7 PARTITION OF metrion.request_logs
  FOR VALUES IN (7) PARTITION BY RANGE (created_at);
CREATE TABLE metrion.request_logs_90 PARTITION OF metrion.request_logs
  FOR VALUES IN (90) PARTITION BY RANGE (created_at);
COMMENT ON COLUMN metrion.request_logs.status IS 'NULL: the client left before there was one';
COMMENT ON COLUMN metrion.request_logs.overhead_ms IS 'NULL: it was not forwarded';
COMMENT ON COLUMN metrion.request_logs.left_out IS
  'refusals of this account just before this one that got no row of their own';

-- Sums of the log, kept as long as the account.  '' stands for no model and no requester, 0 for no
-- status: all that the pages filter by is in the key.
CREATE TABLE metrion.usage_days (
  account_id uuid NOT NULL,
  day date NOT NULL,
  provider text NOT NULL,
  model text NOT NULL,
  requester text NOT NULL,
  status smallint NOT NULL,
  from_cache boolean NOT NULL,
  requests bigint NOT NULL,
  errors bigint NOT NULL,
  refused bigint NOT NULL,
  left_out bigint NOT NULL,
  forwarded bigint NOT NULL,
  cached bigint NOT NULL,
  input_tokens bigint NOT NULL,
  cache_read_tokens bigint NOT NULL,
  cache_write_tokens bigint NOT NULL,
  output_tokens bigint NOT NULL,
  reasoning_tokens bigint NOT NULL,
  total_tokens bigint NOT NULL,
  cost_usd numeric(24, 12) NOT NULL,
  unreported bigint NOT NULL,
  unpriced bigint NOT NULL,
  timed bigint NOT NULL,
  latency_ms_sum double precision NOT NULL,
  last_at timestamptz NOT NULL,
  PRIMARY KEY (account_id, day, provider, model, requester, status, from_cache)
) WITH (fillfactor = 80);
COMMENT ON COLUMN metrion.usage_days.errors IS 'status 400 and above, refusals among them';
COMMENT ON COLUMN metrion.usage_days.refused IS 'answered by Metrion instead of the provider';
COMMENT ON COLUMN metrion.usage_days.left_out IS 'refusals that got no log row; not in requests';
COMMENT ON COLUMN metrion.usage_days.forwarded IS
  'reached the provider, or the cache instead: what a monthly limit counts';
COMMENT ON COLUMN metrion.usage_days.unreported IS
  'went to the provider and succeeded or broke off, but no usage is known: tokens and cost are short';
COMMENT ON COLUMN metrion.usage_days.unpriced IS
  'usage is known, its price is not: cost_usd is short';
COMMENT ON COLUMN metrion.usage_days.timed IS
  'requests behind latency_ms_sum: neither refused nor answered from the cache';

CREATE TABLE metrion.usage_hours (LIKE metrion.usage_days INCLUDING STORAGE INCLUDING COMMENTS)
  WITH (fillfactor = 80);
ALTER TABLE metrion.usage_hours RENAME COLUMN day TO hour;
ALTER TABLE metrion.usage_hours ALTER COLUMN hour TYPE timestamptz;
ALTER TABLE metrion.usage_hours
  ADD PRIMARY KEY (account_id, hour, provider, model, requester, status, from_cache);

-- Histograms, four buckets to the octave: bucket b holds 2^(b/4) <= ms < 2^((b+1)/4).
CREATE TABLE metrion.latency_days (
  account_id uuid NOT NULL,
  day date NOT NULL,
  provider text NOT NULL,
  model text NOT NULL,
  measure text NOT NULL CHECK (measure IN ('latency', 'ttfb', 'overhead')),
  bucket smallint NOT NULL,
  requests bigint NOT NULL,
  PRIMARY KEY (account_id, day, provider, model, measure, bucket)
) WITH (fillfactor = 80);

-- ------------------------------------------------------------------------ row-level security
-- The account is read in a sub-select: once per statement, not once per row.

-- A log row past its account's window is invisible at once, also after a downgrade.
CREATE FUNCTION metrion.log_window_start() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
  SELECT now() - make_interval(days => metrion.retention_days(plan))
  FROM metrion.accounts WHERE id = metrion.account();
END;
GRANT EXECUTE ON FUNCTION metrion.log_window_start() TO metrion_api;

DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY[
    'accounts', 'tokens', 'provider_keys', 'request_logs', 'request_logs_7', 'request_logs_90',
    'usage_days', 'usage_hours', 'latency_days']
  LOOP
    EXECUTE format(
      'ALTER TABLE metrion.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', name);
  END LOOP;
  FOREACH name IN ARRAY ARRAY[
    'tokens', 'provider_keys', 'usage_days', 'usage_hours', 'latency_days']
  LOOP
    EXECUTE format('CREATE POLICY account ON metrion.%I TO metrion_api '
      'USING (account_id = (SELECT metrion.account())) '
      'WITH CHECK (account_id = (SELECT metrion.account()))', name);
  END LOOP;
END $$;
CREATE POLICY account ON metrion.accounts TO metrion_api
  USING (id = (SELECT metrion.account())) WITH CHECK (id = (SELECT metrion.account()));
CREATE POLICY account ON metrion.request_logs FOR SELECT TO metrion_api
  USING (account_id = (SELECT metrion.account())
    AND created_at >= (SELECT metrion.log_window_start()));

-- ------------------------------------------------------------------------ rights, by column
GRANT SELECT, INSERT (id, email, plan, currency), UPDATE (email, plan, currency)
  ON metrion.accounts TO metrion_api;
GRANT SELECT, INSERT, UPDATE (id, digest, sealed, created_at), DELETE
  ON metrion.tokens TO metrion_api;
GRANT SELECT (account_id, provider, last_four, created_at), INSERT,
  UPDATE (sealed, last_four, created_at), DELETE
  ON metrion.provider_keys TO metrion_api;
GRANT SELECT ON metrion.alembic_version TO metrion_api;
GRANT SELECT ON metrion.request_logs, metrion.usage_days, metrion.usage_hours, metrion.latency_days
  TO metrion_api;

-- ------------------------------------------------------------------------ news of changes
-- Every proxy process hears at commit that what it knows of an account is old.
CREATE FUNCTION metrion.notify_invalidate() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  changed jsonb := to_jsonb(coalesce(NEW, OLD));
BEGIN
  PERFORM pg_notify('metrion_invalidate',
    json_build_object('account', coalesce(changed ->> 'account_id', changed ->> 'id'))::text);
  RETURN NULL;
END $$;
CREATE TRIGGER invalidate AFTER INSERT OR UPDATE OR DELETE ON metrion.tokens
  FOR EACH ROW EXECUTE FUNCTION metrion.notify_invalidate();
CREATE TRIGGER invalidate AFTER INSERT OR UPDATE OR DELETE ON metrion.provider_keys
  FOR EACH ROW EXECUTE FUNCTION metrion.notify_invalidate();
CREATE TRIGGER invalidate AFTER UPDATE OR DELETE ON metrion.accounts
  FOR EACH ROW EXECUTE FUNCTION metrion.notify_invalidate();
