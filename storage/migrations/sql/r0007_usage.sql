-- Records for every tab of the dashboard, histograms that add up, and indexes for the log's filters.
--
-- A histogram is one number: each time in bucket b (metrion.latency_bucket) adds 10^(12 (b + 40)).
-- Twelve digits to a bucket: + and sum() add histograms, and nothing runs over below 10^12 requests.
-- The zeros at both ends take no room: some 100 bytes stand for 125 buckets.

-- ------------------------------------------------------------------------ tables
CREATE FUNCTION metrion.histogram_of(ms double precision) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN ms IS NOT NULL
  THEN ('1e' || (12 * (metrion.latency_bucket(ms) + 40))::text)::numeric END;
GRANT EXECUTE ON FUNCTION metrion.histogram_of(double precision) TO metrion_definer;

ALTER TABLE metrion.usage_days
  ADD COLUMN latency numeric NOT NULL DEFAULT 0,
  ADD COLUMN ttfb numeric NOT NULL DEFAULT 0,
  ADD COLUMN overhead numeric NOT NULL DEFAULT 0;
ALTER TABLE metrion.usage_hours
  ADD COLUMN latency numeric NOT NULL DEFAULT 0,
  ADD COLUMN ttfb numeric NOT NULL DEFAULT 0,
  ADD COLUMN overhead numeric NOT NULL DEFAULT 0;
COMMENT ON COLUMN metrion.usage_days.latency IS
  'histogram (metrion.histogram_of) of requests neither refused nor answered from the cache';
COMMENT ON COLUMN metrion.usage_days.ttfb IS 'their times to the first byte, likewise';
COMMENT ON COLUMN metrion.usage_days.overhead IS 'Metrion''s own share, likewise';

-- The same sums with fewer dimensions told apart: a page reads the smallest table that knows what it
-- asks for.  '', 0 and false stand where a kind does not tell.
CREATE TABLE metrion.usage_sums (
  LIKE metrion.usage_days INCLUDING STORAGE INCLUDING COMMENTS INCLUDING DEFAULTS,
  kind text NOT NULL
) PARTITION BY LIST (kind);
ALTER TABLE metrion.usage_sums RENAME COLUMN day TO begin;
ALTER TABLE metrion.usage_sums ALTER COLUMN begin TYPE timestamptz;
ALTER TABLE metrion.usage_sums
  ADD PRIMARY KEY (account_id, begin, provider, model, requester, status, from_cache, kind);
COMMENT ON COLUMN metrion.usage_sums.kind IS
  'by hour or day; told apart are also: *_models provider and model; *_requesters requester; '
  '*_providers provider and requester; *_names provider, model and requester; '
  '*_statuses and the others status and from_cache';
DO $$
DECLARE
  kind text;
BEGIN
  FOREACH kind IN ARRAY ARRAY['days', 'days_models', 'days_models_statuses', 'days_requesters',
    'days_requesters_statuses', 'days_providers', 'days_names', 'hours', 'hours_models', 'hours_models_statuses',
    'hours_requesters', 'hours_requesters_statuses']
  LOOP
    EXECUTE format('CREATE TABLE metrion.usage_sums_%s PARTITION OF metrion.usage_sums '
      'FOR VALUES IN (%L) WITH (fillfactor = 80)', kind, kind);
    EXECUTE format('ALTER TABLE metrion.usage_sums_%s '
      'ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', kind);
  END LOOP;
END $$;
CREATE INDEX usage_sums_days_names_requester
  ON metrion.usage_sums_days_names (account_id, requester, begin);
CREATE INDEX usage_days_requester ON metrion.usage_days (account_id, requester, day);
ALTER TABLE metrion.usage_sums ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY account ON metrion.usage_sums TO metrion_api
  USING (account_id = (SELECT metrion.account()))
  WITH CHECK (account_id = (SELECT metrion.account()));
CREATE POLICY judge ON metrion.usage_sums FOR SELECT TO metrion_jobs
  USING (account_id = (SELECT metrion.account()));
CREATE POLICY ingest ON metrion.usage_sums TO metrion_definer USING (true) WITH CHECK (true);
GRANT SELECT ON metrion.usage_sums TO metrion_api, metrion_jobs;
GRANT SELECT, INSERT, UPDATE, DELETE ON metrion.usage_sums TO metrion_definer;

-- ------------------------------------------------------------------------ the log's filters
-- A page is found by walking one of these backwards; rows of the same microsecond are sorted then.
CREATE INDEX request_logs_model ON metrion.request_logs (account_id, model, created_at);
CREATE INDEX request_logs_requester ON metrion.request_logs (account_id, requester, created_at)
  WHERE requester IS NOT NULL;
CREATE INDEX request_logs_cached ON metrion.request_logs (account_id, created_at, id)
  WHERE cached;
CREATE INDEX request_logs_unanswered ON metrion.request_logs (account_id, created_at, id)
  WHERE status IS NULL;

-- ------------------------------------------------------------------------ how rows become sums
GRANT CREATE ON SCHEMA metrion TO metrion_definer;
SET ROLE metrion_definer;
-- Adds rows of the log to all records.  Only for rows that are not in them yet.
CREATE FUNCTION metrion.add_to_records(rows metrion.request_logs[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
BEGIN
  WITH hours AS MATERIALIZED (
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
      count(timed_ms) AS timed,
      coalesce(sum(timed_ms), 0) AS latency_ms_sum,
      max(created_at) AS last_at,
      coalesce(sum(metrion.histogram_of(timed_ms)), 0) AS latency,
      coalesce(sum(metrion.histogram_of(timed_ttfb_ms)), 0) AS ttfb,
      coalesce(sum(metrion.histogram_of(timed_overhead_ms)), 0) AS overhead,
      coalesce(sum(saved_usd), 0) AS saved_usd,
      count(*) FILTER (WHERE cached AND saved_usd IS NULL) AS unsaved
    FROM (
      SELECT *, CASE WHEN outcome <> 'refused' AND NOT cached THEN latency_ms END AS timed_ms,
        CASE WHEN outcome <> 'refused' AND NOT cached THEN ttfb_ms END AS timed_ttfb_ms,
        CASE WHEN outcome <> 'refused' AND NOT cached THEN overhead_ms END AS timed_overhead_ms
      FROM unnest(rows)
    ) AS new
    GROUP BY 1, 2, 3, 4, 5, 6, 7
  ), days AS MATERIALIZED (
    SELECT account_id, hour::date AS day, provider, model, requester, status, from_cache,
      sum(requests) AS requests, sum(errors) AS errors, sum(refused) AS refused,
      sum(left_out) AS left_out, sum(forwarded) AS forwarded, sum(cached) AS cached,
      sum(input_tokens) AS input_tokens, sum(cache_read_tokens) AS cache_read_tokens,
      sum(cache_write_tokens) AS cache_write_tokens, sum(output_tokens) AS output_tokens,
      sum(reasoning_tokens) AS reasoning_tokens, sum(total_tokens) AS total_tokens,
      sum(cost_usd) AS cost_usd, sum(unreported) AS unreported, sum(unpriced) AS unpriced,
      sum(timed) AS timed, sum(latency_ms_sum) AS latency_ms_sum, max(last_at) AS last_at,
      sum(latency) AS latency, sum(ttfb) AS ttfb, sum(overhead) AS overhead,
      sum(saved_usd) AS saved_usd, sum(unsaved) AS unsaved
    FROM hours GROUP BY 1, 2, 3, 4, 5, 6, 7
  ), into_hours AS (
    INSERT INTO metrion.usage_hours AS u (
      account_id, hour, provider, model, requester, status, from_cache,
      requests, errors, refused, left_out, forwarded, cached, input_tokens, cache_read_tokens,
      cache_write_tokens, output_tokens, reasoning_tokens, total_tokens, cost_usd, unreported,
      unpriced, timed, latency_ms_sum, last_at, latency, ttfb, overhead, saved_usd, unsaved)
    SELECT * FROM hours
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
      latency = u.latency + excluded.latency,
      ttfb = u.ttfb + excluded.ttfb,
      overhead = u.overhead + excluded.overhead,
      saved_usd = u.saved_usd + excluded.saved_usd,
      unsaved = u.unsaved + excluded.unsaved
  ), into_days AS (
    INSERT INTO metrion.usage_days AS u (
      account_id, day, provider, model, requester, status, from_cache,
      requests, errors, refused, left_out, forwarded, cached, input_tokens, cache_read_tokens,
      cache_write_tokens, output_tokens, reasoning_tokens, total_tokens, cost_usd, unreported,
      unpriced, timed, latency_ms_sum, last_at, latency, ttfb, overhead, saved_usd, unsaved)
    SELECT * FROM days
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
      latency = u.latency + excluded.latency,
      ttfb = u.ttfb + excluded.ttfb,
      overhead = u.overhead + excluded.overhead,
      saved_usd = u.saved_usd + excluded.saved_usd,
      unsaved = u.unsaved + excluded.unsaved
  )
  INSERT INTO metrion.usage_sums AS u (
    account_id, begin, kind, provider, model, requester, status, from_cache,
    requests, errors, refused, left_out, forwarded, cached, input_tokens, cache_read_tokens,
    cache_write_tokens, output_tokens, reasoning_tokens, total_tokens, cost_usd, unreported,
    unpriced, timed, latency_ms_sum, last_at, latency, ttfb, overhead, saved_usd, unsaved)
  SELECT account_id, hour,
    CASE grouping(provider, requester, status)
      WHEN 6 THEN 'hours' WHEN 3 THEN 'hours_models' WHEN 2 THEN 'hours_models_statuses'
      WHEN 5 THEN 'hours_requesters' ELSE 'hours_requesters_statuses' END,
    coalesce(provider, ''), coalesce(model, ''), coalesce(requester, ''), coalesce(status, 0),
    coalesce(from_cache, false),
    sum(requests), sum(errors), sum(refused), sum(left_out), sum(forwarded), sum(cached),
    sum(input_tokens), sum(cache_read_tokens), sum(cache_write_tokens), sum(output_tokens),
    sum(reasoning_tokens), sum(total_tokens), sum(cost_usd), sum(unreported), sum(unpriced),
    sum(timed), sum(latency_ms_sum), max(last_at), sum(latency), sum(ttfb), sum(overhead),
    sum(saved_usd), sum(unsaved)
  FROM hours GROUP BY account_id, hour, GROUPING SETS ((status, from_cache), (provider, model),
    (provider, model, status, from_cache), (requester), (requester, status, from_cache))
  UNION ALL
  SELECT account_id, day,
    CASE grouping(provider, model, requester, status)
      WHEN 14 THEN 'days' WHEN 3 THEN 'days_models' WHEN 2 THEN 'days_models_statuses'
      WHEN 13 THEN 'days_requesters' WHEN 12 THEN 'days_requesters_statuses'
      WHEN 5 THEN 'days_providers' ELSE 'days_names' END,
    coalesce(provider, ''), coalesce(model, ''), coalesce(requester, ''), coalesce(status, 0),
    coalesce(from_cache, false),
    sum(requests), sum(errors), sum(refused), sum(left_out), sum(forwarded), sum(cached),
    sum(input_tokens), sum(cache_read_tokens), sum(cache_write_tokens), sum(output_tokens),
    sum(reasoning_tokens), sum(total_tokens), sum(cost_usd), sum(unreported), sum(unpriced),
    sum(timed), sum(latency_ms_sum), max(last_at), sum(latency), sum(ttfb), sum(overhead),
    sum(saved_usd), sum(unsaved)
  FROM days GROUP BY account_id, day, GROUPING SETS ((status, from_cache), (provider, model),
    (provider, model, status, from_cache), (requester), (requester, status, from_cache),
    (provider, requester), (provider, model, requester))
  ON CONFLICT (account_id, begin, provider, model, requester, status, from_cache, kind)
    DO UPDATE SET
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
      latency = u.latency + excluded.latency,
      ttfb = u.ttfb + excluded.ttfb,
      overhead = u.overhead + excluded.overhead,
      saved_usd = u.saved_usd + excluded.saved_usd,
      unsaved = u.unsaved + excluded.unsaved;
END $$;

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
  added metrion.request_logs[];
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
    RETURNING l AS entry
  )
  SELECT (SELECT count(*) FROM fresh), jsonb_array_length(rows) - (SELECT count(*) FROM incoming),
    (SELECT array_agg(entry) FROM fresh)
  INTO inserted, gone, added;

  PERFORM metrion.add_to_records(added);

  -- a notification holds less than 8,000 bytes: 150 accounts of 38 bytes each
  FOR message IN
    SELECT json_build_object('accounts', json_agg(account.id))::text
    FROM (
      SELECT account_id AS id, row_number() OVER () AS number FROM unnest(added) GROUP BY 1
    ) AS account
    GROUP BY (account.number - 1) / 150
  LOOP
    PERFORM pg_notify('metrion_usage', message);
  END LOOP;
END $$;

-- ------------------------------------------------------------------------ what is there already
-- Times of requests that the log still has, as they were.
WITH of_hours AS (
  SELECT account_id, date_trunc('hour', created_at) AS hour, provider,
    coalesce(model, '') AS model, coalesce(requester, '') AS requester,
    coalesce(status, 0::smallint) AS status,
    coalesce(sum(metrion.histogram_of(latency_ms)), 0) AS latency,
    coalesce(sum(metrion.histogram_of(ttfb_ms)), 0) AS ttfb,
    coalesce(sum(metrion.histogram_of(overhead_ms)), 0) AS overhead
  FROM metrion.request_logs WHERE outcome <> 'refused' AND NOT cached
  GROUP BY 1, 2, 3, 4, 5, 6
), hours AS (
  UPDATE metrion.usage_hours AS u
  SET latency = h.latency, ttfb = h.ttfb, overhead = h.overhead
  FROM of_hours AS h
  WHERE (u.account_id, u.hour, u.provider, u.model, u.requester, u.status, u.from_cache)
    = (h.account_id, h.hour, h.provider, h.model, h.requester, h.status, false)
)
UPDATE metrion.usage_days AS u
SET latency = h.latency, ttfb = h.ttfb, overhead = h.overhead
FROM (
  SELECT account_id, hour::date AS day, provider, model, requester, status,
    sum(latency) AS latency, sum(ttfb) AS ttfb, sum(overhead) AS overhead
  FROM of_hours GROUP BY 1, 2, 3, 4, 5, 6
) AS h
WHERE (u.account_id, u.day, u.provider, u.model, u.requester, u.status, u.from_cache)
  = (h.account_id, h.day, h.provider, h.model, h.requester, h.status, false);
-- Of older ones only day, provider and model are known: they go with most of that day's requests.
WITH known AS (
  SELECT account_id, day, provider, model,
    sum(latency) AS latency, sum(ttfb) AS ttfb, sum(overhead) AS overhead
  FROM metrion.usage_days GROUP BY 1, 2, 3, 4
), recorded AS (
  SELECT account_id, day, provider, model,
    coalesce(sum(counted) FILTER (WHERE measure = 'latency'), 0) AS latency,
    coalesce(sum(counted) FILTER (WHERE measure = 'ttfb'), 0) AS ttfb,
    coalesce(sum(counted) FILTER (WHERE measure = 'overhead'), 0) AS overhead
  FROM metrion.latency_days,
    LATERAL (SELECT requests * ('1e' || 12 * (bucket + 40))::numeric AS counted) AS number
  GROUP BY 1, 2, 3, 4
), busiest AS (
  SELECT DISTINCT ON (account_id, day, provider, model)
    account_id, day, provider, model, requester, status
  FROM metrion.usage_days WHERE NOT from_cache
  ORDER BY account_id, day, provider, model, timed DESC, requester, status
)
UPDATE metrion.usage_days AS u
SET latency = u.latency + r.latency - k.latency, ttfb = u.ttfb + r.ttfb - k.ttfb,
  overhead = u.overhead + r.overhead - k.overhead
FROM recorded AS r
  JOIN known AS k USING (account_id, day, provider, model)
  JOIN busiest AS b USING (account_id, day, provider, model)
WHERE (u.account_id, u.day, u.provider, u.model, u.requester, u.status, u.from_cache)
    = (b.account_id, b.day, b.provider, b.model, b.requester, b.status, false)
  AND (r.latency, r.ttfb, r.overhead) <> (k.latency, k.ttfb, k.overhead);
INSERT INTO metrion.usage_sums (
  account_id, begin, kind, provider, model, requester, status, from_cache,
  requests, errors, refused, left_out, forwarded, cached, input_tokens, cache_read_tokens,
  cache_write_tokens, output_tokens, reasoning_tokens, total_tokens, cost_usd, unreported,
  unpriced, timed, latency_ms_sum, last_at, latency, ttfb, overhead, saved_usd, unsaved)
SELECT account_id, hour,
  CASE grouping(provider, requester, status)
    WHEN 6 THEN 'hours' WHEN 3 THEN 'hours_models' WHEN 2 THEN 'hours_models_statuses'
    WHEN 5 THEN 'hours_requesters' ELSE 'hours_requesters_statuses' END,
  coalesce(provider, ''), coalesce(model, ''), coalesce(requester, ''), coalesce(status, 0),
    coalesce(from_cache, false),
  sum(requests), sum(errors), sum(refused), sum(left_out), sum(forwarded), sum(cached),
  sum(input_tokens), sum(cache_read_tokens), sum(cache_write_tokens), sum(output_tokens),
  sum(reasoning_tokens), sum(total_tokens), sum(cost_usd), sum(unreported), sum(unpriced),
  sum(timed), sum(latency_ms_sum), max(last_at), sum(latency), sum(ttfb), sum(overhead),
  sum(saved_usd), sum(unsaved)
FROM metrion.usage_hours GROUP BY account_id, hour,
  GROUPING SETS ((status, from_cache), (provider, model),
    (provider, model, status, from_cache), (requester), (requester, status, from_cache));
INSERT INTO metrion.usage_sums (
  account_id, begin, kind, provider, model, requester, status, from_cache,
  requests, errors, refused, left_out, forwarded, cached, input_tokens, cache_read_tokens,
  cache_write_tokens, output_tokens, reasoning_tokens, total_tokens, cost_usd, unreported,
  unpriced, timed, latency_ms_sum, last_at, latency, ttfb, overhead, saved_usd, unsaved)
SELECT account_id, day,
  CASE grouping(provider, model, requester, status)
    WHEN 14 THEN 'days' WHEN 3 THEN 'days_models' WHEN 2 THEN 'days_models_statuses'
    WHEN 13 THEN 'days_requesters' WHEN 12 THEN 'days_requesters_statuses'
    WHEN 5 THEN 'days_providers' ELSE 'days_names' END,
  coalesce(provider, ''), coalesce(model, ''), coalesce(requester, ''), coalesce(status, 0),
  coalesce(from_cache, false),
  sum(requests), sum(errors), sum(refused), sum(left_out), sum(forwarded), sum(cached),
  sum(input_tokens), sum(cache_read_tokens), sum(cache_write_tokens), sum(output_tokens),
  sum(reasoning_tokens), sum(total_tokens), sum(cost_usd), sum(unreported), sum(unpriced),
  sum(timed), sum(latency_ms_sum), max(last_at), sum(latency), sum(ttfb), sum(overhead),
  sum(saved_usd), sum(unsaved)
FROM metrion.usage_days GROUP BY account_id, day,
  GROUPING SETS ((status, from_cache), (provider, model),
    (provider, model, status, from_cache), (requester), (requester, status, from_cache),
    (provider, requester), (provider, model, requester));

SET ROLE metrion_owner;
REVOKE CREATE ON SCHEMA metrion FROM metrion_definer;
DROP TABLE metrion.latency_days;
