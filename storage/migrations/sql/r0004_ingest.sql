-- The only way into the log, as metrion_definer: as in r0001, and with what answers from the cache
-- have saved.
SET ROLE metrion_definer;
-- `rows` is a JSON array of objects: account_id and the columns of request_logs (without
-- retention, which is the plan's).  inserted: rows new to the log; gone: rows of accounts that do
-- not exist, dropped.  The rest had been inserted before: a batch may be sent again, for as long as
-- the log keeps its rows.
--
-- Locks, in this order: the log's (one ingest at a time; also why the look for a row under another
-- class is exact), then the accounts' rows: an account cannot be erased under its last log row, and
-- one erased before does not come back.
CREATE OR REPLACE FUNCTION metrion.ingest(rows jsonb, OUT inserted bigint, OUT gone bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
DECLARE
  known uuid[];
  classes smallint[];
  changed uuid[];
  message text;
BEGIN
  PERFORM metrion.lock_log();

  SELECT array_agg(held.id), array_agg(metrion.retention_days(held.plan)) INTO known, classes
  FROM (
    SELECT a.id, a.plan FROM metrion.accounts AS a
    WHERE a.id IN (SELECT DISTINCT (r ->> 'account_id')::uuid FROM jsonb_array_elements(rows) AS r)
    FOR KEY SHARE
  ) AS held;

  -- rows of long ago (a journal kept over weeks without a database), rows of a clock that is wrong,
  -- or simply no jobs process for a while: what is missing is made here, so that no row waits for it
  PERFORM metrion.ensure_partition(needed.class, needed.first)
  FROM (
    SELECT DISTINCT account.class,
      metrion.partition_start(account.class, (r ->> 'created_at')::timestamptz)::timestamptz AS first
    FROM jsonb_array_elements(rows) AS r
      JOIN unnest(known, classes) AS account (id, class) ON account.id = (r ->> 'account_id')::uuid
  ) AS needed;

  WITH incoming AS MATERIALIZED (
    SELECT account.class, r.*
    FROM jsonb_to_recordset(rows) AS r (
        account_id uuid, created_at timestamptz, id uuid, provider text, endpoint text, model text,
        requester text, mode text, status smallint, outcome text, streamed boolean, cached boolean,
        input_tokens bigint, cache_read_tokens bigint, cache_write_tokens bigint,
        output_tokens bigint, reasoning_tokens bigint, total_tokens bigint, cost_usd numeric,
        price_source text, latency_ms double precision, ttfb_ms double precision,
        overhead_ms double precision, error text, left_out integer, saved_usd numeric)
      JOIN unnest(known, classes) AS account (id, class) ON account.id = r.account_id
  ), fresh AS (
    INSERT INTO metrion.request_logs AS l (
      account_id, created_at, id, retention, provider, endpoint, model, requester, mode, status,
      outcome, streamed, cached, input_tokens, cache_read_tokens, cache_write_tokens,
      output_tokens, reasoning_tokens, total_tokens, cost_usd, price_source, latency_ms, ttfb_ms,
      overhead_ms, error, left_out, saved_usd)
    -- bounded: provider, model and requester are together in an index, which takes 2,700 bytes
    SELECT i.account_id, i.created_at, i.id, i.class, left(i.provider, 32), left(i.endpoint, 100),
      left(i.model, 200), left(i.requester, 200), left(i.mode, 32), i.status, left(i.outcome, 32),
      i.streamed, i.cached, i.input_tokens, i.cache_read_tokens, i.cache_write_tokens,
      i.output_tokens, i.reasoning_tokens, i.total_tokens, i.cost_usd, left(i.price_source, 200),
      i.latency_ms, i.ttfb_ms, i.overhead_ms, left(i.error, 500), coalesce(i.left_out, 0),
      i.saved_usd
    FROM incoming AS i
      -- the account may have changed its plan since a batch that is sent again now
      LEFT JOIN LATERAL (
        SELECT true AS there FROM metrion.request_logs AS old
        WHERE old.account_id = i.account_id AND old.created_at = i.created_at AND old.id = i.id
          AND old.retention <> i.class
        LIMIT 1
      ) AS earlier ON true
    WHERE earlier.there IS NULL
    ON CONFLICT DO NOTHING
    RETURNING l.*
  ), sums AS (
    SELECT account_id, date_trunc('hour', created_at) AS hour, provider,
      coalesce(model, '') AS model, coalesce(requester, '') AS requester,
      coalesce(status, 0::smallint) AS status, cached AS from_cache,
      count(*) AS requests,
      count(*) FILTER (WHERE status >= 400) AS errors,
      count(*) FILTER (WHERE outcome = 'refused') AS refused,
      sum(left_out) AS left_out,
      count(*) FILTER (WHERE outcome <> 'refused' AND (overhead_ms IS NOT NULL OR cached))
        AS forwarded,
      count(*) FILTER (WHERE cached) AS cached,
      coalesce(sum(input_tokens), 0) AS input_tokens,
      coalesce(sum(cache_read_tokens), 0) AS cache_read_tokens,
      coalesce(sum(cache_write_tokens), 0) AS cache_write_tokens,
      coalesce(sum(output_tokens), 0) AS output_tokens,
      coalesce(sum(reasoning_tokens), 0) AS reasoning_tokens,
      coalesce(sum(total_tokens), 0) AS total_tokens,
      coalesce(sum(cost_usd), 0) AS cost_usd,
      count(*) FILTER (WHERE total_tokens IS NULL
        AND outcome NOT IN ('refused', 'provider_error')) AS unreported,
      count(*) FILTER (WHERE total_tokens IS NOT NULL AND cost_usd IS NULL) AS unpriced,
      count(latency_ms) FILTER (WHERE outcome <> 'refused' AND NOT cached) AS timed,
      coalesce(sum(latency_ms) FILTER (WHERE outcome <> 'refused' AND NOT cached), 0)
        AS latency_ms_sum,
      max(created_at) AS last_at,
      coalesce(sum(saved_usd), 0) AS saved_usd,
      count(*) FILTER (WHERE cached AND saved_usd IS NULL) AS unsaved
    FROM fresh GROUP BY 1, 2, 3, 4, 5, 6, 7
  ), hours AS (
    INSERT INTO metrion.usage_hours AS u (
      account_id, hour, provider, model, requester, status, from_cache, requests, errors, refused,
      left_out,
      forwarded, cached, input_tokens, cache_read_tokens, cache_write_tokens, output_tokens,
      reasoning_tokens, total_tokens, cost_usd, unreported, unpriced, timed, latency_ms_sum,
      last_at, saved_usd, unsaved)
    SELECT * FROM sums
    ON CONFLICT (account_id, hour, provider, model, requester, status, from_cache) DO UPDATE SET
      requests = u.requests + excluded.requests,
      errors = u.errors + excluded.errors,
      refused = u.refused + excluded.refused,
      left_out = u.left_out + excluded.left_out,
      forwarded = u.forwarded + excluded.forwarded,
      cached = u.cached + excluded.cached,
      input_tokens = u.input_tokens + excluded.input_tokens,
      cache_read_tokens = u.cache_read_tokens + excluded.cache_read_tokens,
      cache_write_tokens = u.cache_write_tokens + excluded.cache_write_tokens,
      output_tokens = u.output_tokens + excluded.output_tokens,
      reasoning_tokens = u.reasoning_tokens + excluded.reasoning_tokens,
      total_tokens = u.total_tokens + excluded.total_tokens,
      cost_usd = u.cost_usd + excluded.cost_usd,
      unreported = u.unreported + excluded.unreported,
      unpriced = u.unpriced + excluded.unpriced,
      timed = u.timed + excluded.timed,
      latency_ms_sum = u.latency_ms_sum + excluded.latency_ms_sum,
      last_at = greatest(u.last_at, excluded.last_at),
      saved_usd = u.saved_usd + excluded.saved_usd,
      unsaved = u.unsaved + excluded.unsaved
  ), days AS (
    INSERT INTO metrion.usage_days AS u (
      account_id, day, provider, model, requester, status, from_cache, requests, errors, refused,
      left_out,
      forwarded, cached, input_tokens, cache_read_tokens, cache_write_tokens, output_tokens,
      reasoning_tokens, total_tokens, cost_usd, unreported, unpriced, timed, latency_ms_sum,
      last_at, saved_usd, unsaved)
    SELECT account_id, hour::date, provider, model, requester, status, from_cache, sum(requests),
      sum(errors),
      sum(refused), sum(left_out), sum(forwarded), sum(cached), sum(input_tokens),
      sum(cache_read_tokens), sum(cache_write_tokens), sum(output_tokens), sum(reasoning_tokens), sum(total_tokens),
      sum(cost_usd), sum(unreported), sum(unpriced), sum(timed), sum(latency_ms_sum),
      max(last_at), sum(saved_usd), sum(unsaved)
    FROM sums GROUP BY 1, 2, 3, 4, 5, 6, 7
    ON CONFLICT (account_id, day, provider, model, requester, status, from_cache) DO UPDATE SET
      requests = u.requests + excluded.requests,
      errors = u.errors + excluded.errors,
      refused = u.refused + excluded.refused,
      left_out = u.left_out + excluded.left_out,
      forwarded = u.forwarded + excluded.forwarded,
      cached = u.cached + excluded.cached,
      input_tokens = u.input_tokens + excluded.input_tokens,
      cache_read_tokens = u.cache_read_tokens + excluded.cache_read_tokens,
      cache_write_tokens = u.cache_write_tokens + excluded.cache_write_tokens,
      output_tokens = u.output_tokens + excluded.output_tokens,
      reasoning_tokens = u.reasoning_tokens + excluded.reasoning_tokens,
      total_tokens = u.total_tokens + excluded.total_tokens,
      cost_usd = u.cost_usd + excluded.cost_usd,
      unreported = u.unreported + excluded.unreported,
      unpriced = u.unpriced + excluded.unpriced,
      timed = u.timed + excluded.timed,
      latency_ms_sum = u.latency_ms_sum + excluded.latency_ms_sum,
      last_at = greatest(u.last_at, excluded.last_at),
      saved_usd = u.saved_usd + excluded.saved_usd,
      unsaved = u.unsaved + excluded.unsaved
  ), latencies AS (
    INSERT INTO metrion.latency_days AS h (
      account_id, day, provider, model, measure, bucket, requests)
    SELECT account_id, created_at::date, provider, coalesce(model, ''), measure,
      metrion.latency_bucket(ms), count(*)
    FROM fresh CROSS JOIN LATERAL (
        VALUES ('latency', latency_ms), ('ttfb', ttfb_ms), ('overhead', overhead_ms)
      ) AS measured (measure, ms)
    WHERE ms IS NOT NULL AND outcome <> 'refused' AND NOT cached
    GROUP BY 1, 2, 3, 4, 5, 6
    ON CONFLICT (account_id, day, provider, model, measure, bucket)
      DO UPDATE SET requests = h.requests + excluded.requests
  )
  SELECT (SELECT count(*) FROM fresh), jsonb_array_length(rows) - (SELECT count(*) FROM incoming),
    (SELECT array_agg(DISTINCT account_id) FROM fresh)
  INTO inserted, gone, changed;

  -- a notification holds less than 8,000 bytes: 150 accounts of 38 bytes each
  FOR message IN
    SELECT json_build_object('accounts', json_agg(account.id))::text
    FROM unnest(changed) WITH ORDINALITY AS account (id, number)
    GROUP BY (account.number - 1) / 150
  LOOP
    PERFORM pg_notify('metrion_usage', message);
  END LOOP;
END $$;
SET ROLE metrion_owner;
REVOKE CREATE ON SCHEMA metrion FROM metrion_definer;
