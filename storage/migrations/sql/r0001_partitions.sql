-- Partitions of the log, as metrion_owner (only a table's owner can attach to it).
--
-- Whoever inserts into the log or changes its partitions first takes one advisory lock: ingests
-- cannot deadlock with each other or with a DROP, and each sees what the one before it committed.

CREATE FUNCTION metrion.lock_log() RETURNS void LANGUAGE sql
SET search_path = pg_catalog, pg_temp AS $$ SELECT pg_advisory_xact_lock(6226916012) $$;
GRANT EXECUTE ON FUNCTION metrion.lock_log() TO metrion_definer;

-- The first day of the partition that holds `at`.
CREATE FUNCTION metrion.partition_start(retention smallint, at timestamptz) RETURNS date
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN date_trunc(CASE retention WHEN 7 THEN 'day' ELSE 'week' END, at AT TIME ZONE 'UTC')::date;
GRANT EXECUTE ON FUNCTION metrion.partition_start(smallint, timestamptz) TO metrion_definer;

-- Makes the partition for `at` if it is missing; says whether it did.  The table is made first and
-- attached then: that takes SHARE UPDATE EXCLUSIVE on the parent and stops neither readers nor
-- writers, where CREATE ... PARTITION OF takes ACCESS EXCLUSIVE and waits for the longest export.
-- A partition has no grants and no policy: it is reached through the parent or not at all.
CREATE FUNCTION metrion.ensure_partition(retention smallint, at timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
DECLARE
  first date := metrion.partition_start(retention, at);
  past_last date := first + CASE retention WHEN 7 THEN 1 ELSE 7 END;
  name text := format('request_logs_%s_%s', retention, to_char(first, 'YYYYMMDD'));
BEGIN
  -- a clock that was never set says 1970; NULL and infinity are no moments either
  IF (at >= '1969-12-01' AND at < '2200-01-01') IS NOT TRUE THEN
    RAISE EXCEPTION 'a clock cannot say %', at USING ERRCODE = 'datetime_field_overflow';
  END IF;
  IF to_regclass(format('metrion.%I', name)) IS NOT NULL THEN
    RETURN false;
  END IF;
  EXECUTE format(
    'CREATE TABLE metrion.%I (LIKE metrion.request_logs INCLUDING DEFAULTS INCLUDING CONSTRAINTS)',
    name);
  EXECUTE format(
    'ALTER TABLE metrion.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', name);
  EXECUTE format(
    'ALTER TABLE metrion.request_logs_%s ATTACH PARTITION metrion.%I FOR VALUES FROM (%L) TO (%L)',
    retention, name, first::timestamptz, past_last::timestamptz);
  RETURN true;
END $$;
GRANT EXECUTE ON FUNCTION metrion.ensure_partition(smallint, timestamptz) TO metrion_definer;

-- Makes all partitions for the days given, ahead of time; returns how many were missing.
CREATE FUNCTION metrion.ensure_partitions(from_day date, to_day date) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
DECLARE
  made integer := 0;
  day date;
  class smallint;
BEGIN
  IF to_day - from_day > 366 THEN
    RAISE EXCEPTION 'more than a year of partitions' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  PERFORM metrion.lock_log();
  FOR day IN SELECT generate_series(from_day, to_day, interval '1 day')::date LOOP
    FOREACH class IN ARRAY ARRAY[7, 90]::smallint[] LOOP
      IF metrion.ensure_partition(class, day::timestamptz) THEN
        made := made + 1;
      END IF;
    END LOOP;
  END LOOP;
  RETURN made;
END $$;
GRANT EXECUTE ON FUNCTION metrion.ensure_partitions(date, date) TO metrion_jobs;

-- Drops the oldest partition in which no row is inside its class's window, and returns its name;
-- NULL when there is none.  One at a time: a DROP holds ACCESS EXCLUSIVE on the parent until its
-- transaction ends, and gives up after 2 s (lock_not_available) rather than queue all readers.
CREATE FUNCTION metrion.drop_expired_partition() RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
SET lock_timeout = '2s' AS $$
DECLARE
  expired text;
BEGIN
  PERFORM metrion.lock_log();
  SELECT child.relname INTO expired
  FROM pg_inherits
    JOIN pg_class AS child ON child.oid = inhrelid
    CROSS JOIN LATERAL regexp_match(child.relname, '^request_logs_(\d+)_(\d{8})$') AS part
  WHERE inhparent IN ('metrion.request_logs_7'::regclass, 'metrion.request_logs_90'::regclass)
    AND to_date(part[2], 'YYYYMMDD') + CASE part[1] WHEN '7' THEN 1 ELSE 7 END
      <= now() - make_interval(days => part[1]::int)
  ORDER BY part[2] LIMIT 1;
  IF expired IS NOT NULL THEN
    EXECUTE format('DROP TABLE metrion.%I', expired);
  END IF;
  RETURN expired;
END $$;
GRANT EXECUTE ON FUNCTION metrion.drop_expired_partition() TO metrion_jobs;
