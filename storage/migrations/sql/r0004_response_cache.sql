-- Answers that are kept to be given again, and what that saves, as metrion_owner.
--
-- The proxy reads and writes them by one function each, for the account that it names.  What was
-- asked is not here: `digest` is a keyed hash (HMAC-SHA256 under the master key) of the request, and
-- the answer is sealed.

CREATE TABLE metrion.response_cache (
  account_id uuid NOT NULL REFERENCES metrion.accounts ON DELETE CASCADE,
  id uuid NOT NULL,
  digest bytea NOT NULL CHECK (length(digest) = 32),
  sealed bytea NOT NULL,
  bytes integer NOT NULL GENERATED ALWAYS AS (octet_length(sealed)) STORED,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL,
  -- an account's size is summed whenever it stores an answer: from the index alone
  PRIMARY KEY (account_id, id) INCLUDE (bytes)
);
-- what is sealed cannot be compressed: do not try
ALTER TABLE metrion.response_cache ALTER COLUMN sealed SET STORAGE EXTERNAL;
-- not unique: while the master key changes, two processes may know a request by two digests
CREATE INDEX response_cache_digest ON metrion.response_cache (account_id, digest);
CREATE INDEX response_cache_expiry ON metrion.response_cache (expires_at);
COMMENT ON COLUMN metrion.response_cache.id IS 'UUIDv7: sorts by time';

ALTER TABLE metrion.response_cache ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
-- no service role has a right on it; should one ever get one, it is about its account
CREATE POLICY account ON metrion.response_cache TO metrion_api
  USING (account_id = (SELECT metrion.account()))
  WITH CHECK (account_id = (SELECT metrion.account()));

GRANT SELECT, INSERT, DELETE, UPDATE (sealed, digest) ON metrion.response_cache TO metrion_definer;
CREATE POLICY cache ON metrion.response_cache TO metrion_definer USING (true) WITH CHECK (true);
GRANT EXECUTE ON FUNCTION metrion.account() TO metrion_definer;

-- What answers from the cache have saved: by the prices of the day on which they were given.
ALTER TABLE metrion.request_logs ADD COLUMN saved_usd numeric(20, 12);
ALTER TABLE metrion.usage_days
  ADD COLUMN saved_usd numeric(24, 12) NOT NULL DEFAULT 0, ADD COLUMN unsaved bigint NOT NULL DEFAULT 0;
ALTER TABLE metrion.usage_hours
  ADD COLUMN saved_usd numeric(24, 12) NOT NULL DEFAULT 0, ADD COLUMN unsaved bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN metrion.request_logs.saved_usd IS
  'what a cached answer would have cost; NULL: not cached, or not known';
COMMENT ON COLUMN metrion.usage_days.unsaved IS
  'answered from the cache, but it is not known what that saved: saved_usd is short';
COMMENT ON COLUMN metrion.usage_hours.unsaved IS
  'answered from the cache, but it is not known what that saved: saved_usd is short';

GRANT CREATE ON SCHEMA metrion TO metrion_definer;
SET ROLE metrion_definer;

-- The answer of an account that was stored last under one of the digests, not longer than `max_age`
-- seconds ago.
CREATE FUNCTION metrion.cached_answer(
  owner uuid, digests bytea[], max_age integer, OUT id uuid, OUT sealed bytea, OUT age integer)
RETURNS SETOF record LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN QUERY
    SELECT c.id, c.sealed, greatest(0, extract(epoch FROM now() - c.created_at))::integer
    FROM metrion.response_cache AS c
    WHERE c.account_id = owner AND c.digest = ANY (digests)
      AND c.expires_at > now() AND c.created_at > now() - make_interval(secs => max_age)
    ORDER BY c.id DESC LIMIT 1;
END $$;
GRANT EXECUTE ON FUNCTION metrion.cached_answer(uuid, bytea[], integer) TO metrion_proxy;

-- Stores an answer of an account for `life` seconds, under the first of the digests and in place of
-- what is there under any of them.  The account's oldest answers make room when all of them have more
-- than `most_bytes`.  Returns whether it was stored: not for an account that is gone.
CREATE FUNCTION metrion.store_answer(
  owner uuid, new_id uuid, digests bytea[], new_sealed bytea, life integer, most_bytes bigint)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  -- one after the other for an account: its size is exact, and a request has one answer
  PERFORM pg_advisory_xact_lock(hashtextextended('metrion.response_cache ' || owner, 0));
  DELETE FROM metrion.response_cache
  WHERE account_id = owner AND (digest = ANY (digests) OR expires_at <= now());
  INSERT INTO metrion.response_cache (account_id, id, digest, sealed, expires_at)
    VALUES (owner, new_id, digests[1], new_sealed, now() + make_interval(secs => life));
  IF (SELECT sum(bytes) FROM metrion.response_cache WHERE account_id = owner) > most_bytes THEN
    DELETE FROM metrion.response_cache AS c USING (
      SELECT id, sum(bytes) OVER (ORDER BY id DESC) AS with_newer
      FROM metrion.response_cache WHERE account_id = owner
    ) AS ranked
    WHERE c.account_id = owner AND c.id = ranked.id AND ranked.with_newer > most_bytes;
  END IF;
  RETURN true;
EXCEPTION WHEN foreign_key_violation OR not_null_violation THEN
  RETURN false;
END $$;
GRANT EXECUTE ON FUNCTION metrion.store_answer(uuid, uuid, bytea[], bytea, integer, bigint)
  TO metrion_proxy;

-- Deletes up to `chunk` answers whose time is over; returns how many.
CREATE FUNCTION metrion.delete_expired_answers(chunk integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  deleted bigint;
BEGIN
  DELETE FROM metrion.response_cache WHERE (account_id, id) IN (
    SELECT c.account_id, c.id FROM metrion.response_cache AS c
    WHERE c.expires_at <= now() ORDER BY c.expires_at LIMIT chunk FOR UPDATE SKIP LOCKED);
  GET DIAGNOSTICS deleted = ROW_COUNT;
  RETURN deleted;
END $$;
GRANT EXECUTE ON FUNCTION metrion.delete_expired_answers(integer) TO metrion_jobs;
