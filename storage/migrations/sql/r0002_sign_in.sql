-- Codes sent by mail and the sessions that they open, as metrion_owner.
--
-- Who types a code or comes with a cookie has no account yet: these doors are functions of
-- metrion_definer, each of them for one keyed digest.  Neither code, cookie nor a stranger's address
-- is kept: only digests under the master key.

-- One row per purpose and address, so at most one live code; the row outlives its code, for the
-- limits.  The address may have no account (yet).
CREATE TABLE metrion.codes (
  purpose text NOT NULL CHECK (purpose IN ('sign_in', 'deletion')),
  address bytea NOT NULL CHECK (length(address) = 32),
  account_id uuid REFERENCES metrion.accounts ON DELETE CASCADE,
  digest bytea CHECK (length(digest) = 32),
  expires_at timestamptz NOT NULL,
  tries smallint NOT NULL,
  sent timestamptz[] NOT NULL,
  PRIMARY KEY (purpose, address)
);
CREATE INDEX codes_account ON metrion.codes (account_id);
COMMENT ON COLUMN metrion.codes.digest IS 'NULL: the code was used';
COMMENT ON COLUMN metrion.codes.tries IS 'wrong ones so far';
COMMENT ON COLUMN metrion.codes.sent IS 'when codes were issued in the last day';

CREATE TABLE metrion.sessions (
  id uuid PRIMARY KEY,
  account_id uuid NOT NULL REFERENCES metrion.accounts ON DELETE CASCADE,
  digest bytea NOT NULL UNIQUE CHECK (length(digest) = 32),
  user_agent text CHECK (length(user_agent) <= 300),
  created_at timestamptz NOT NULL DEFAULT now(),
  last_seen_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL
);
CREATE INDEX sessions_account ON metrion.sessions (account_id, created_at);

ALTER TABLE metrion.codes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE metrion.sessions ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY account ON metrion.sessions TO metrion_api
  USING (account_id = (SELECT metrion.account()))
  WITH CHECK (account_id = (SELECT metrion.account()));
-- no service role has a right on codes; should one ever get one, it is about its account
CREATE POLICY account ON metrion.codes TO metrion_api
  USING (account_id = (SELECT metrion.account()))
  WITH CHECK (account_id = (SELECT metrion.account()));
GRANT SELECT (id, account_id, user_agent, created_at, last_seen_at, expires_at), INSERT, DELETE
  ON metrion.sessions TO metrion_api;

GRANT SELECT, INSERT, UPDATE, DELETE ON metrion.codes TO metrion_definer;
GRANT SELECT, UPDATE (last_seen_at), DELETE ON metrion.sessions TO metrion_definer;
CREATE POLICY sign_in ON metrion.codes TO metrion_definer USING (true) WITH CHECK (true);
CREATE POLICY sign_in ON metrion.sessions TO metrion_definer USING (true) WITH CHECK (true);

GRANT CREATE ON SCHEMA metrion TO metrion_definer;
SET ROLE metrion_definer;

-- Makes `digest` the one live code of the address, for 10 minutes and 5 tries, and returns whose
-- address it is (NULL: nobody's).  The same work is done for every address.  After 5 codes in an hour
-- or 20 in a day nothing is changed, and wait_seconds says for how long.
CREATE FUNCTION metrion.issue_code(
  for_purpose text, email text, for_address bytea, new_digest bytea,
  OUT account_id uuid, OUT wait_seconds integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  recent timestamptz[];
  free_at timestamptz;
BEGIN
  account_id := (
    SELECT a.id FROM metrion.accounts AS a WHERE lower(a.email) = lower(issue_code.email));
  INSERT INTO metrion.codes (purpose, address, expires_at, tries, sent)
    VALUES (for_purpose, for_address, now(), 0, '{}') ON CONFLICT DO NOTHING;
  SELECT ARRAY(
      SELECT s.at FROM unnest(c.sent) AS s (at) WHERE s.at > now() - interval '1 day' ORDER BY s.at
    ) INTO recent
    FROM metrion.codes AS c WHERE c.purpose = for_purpose AND c.address = for_address FOR UPDATE;
  free_at := greatest(  -- greatest() passes over NULL: fewer than that many were sent
    recent[cardinality(recent) - 4] + interval '1 hour',
    recent[cardinality(recent) - 19] + interval '1 day');
  wait_seconds := coalesce(greatest(0, ceil(extract(epoch FROM free_at - now()))), 0);
  IF wait_seconds = 0 THEN
    UPDATE metrion.codes AS c SET account_id = issue_code.account_id, digest = new_digest,
      expires_at = now() + interval '10 minutes', tries = 0, sent = recent || now()
    WHERE c.purpose = for_purpose AND c.address = for_address;
  END IF;
END $$;
GRANT EXECUTE ON FUNCTION metrion.issue_code(text, text, bytea, bytea) TO metrion_api;

-- Says whether a digest is the address's live code, which is used up by it.  A wrong one costs a try.
CREATE FUNCTION metrion.try_code(for_purpose text, addresses bytea[], digests bytea[])
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  code metrion.codes;
  good boolean;
BEGIN
  SELECT c.* INTO code FROM metrion.codes AS c
    WHERE c.purpose = for_purpose AND c.address = ANY (addresses)
    ORDER BY c.expires_at DESC LIMIT 1 FOR UPDATE;
  IF code.digest IS NULL OR code.expires_at <= now() OR code.tries >= 5 THEN
    RETURN false;
  END IF;
  good := code.digest = ANY (digests);
  UPDATE metrion.codes AS c SET digest = CASE WHEN good THEN NULL ELSE c.digest END,
    tries = c.tries + CASE WHEN good THEN 0 ELSE 1 END
  WHERE c.purpose = code.purpose AND c.address = code.address;
  RETURN good;
END $$;
GRANT EXECUTE ON FUNCTION metrion.try_code(text, bytea[], bytea[]) TO metrion_api;

-- The session behind a cookie, if it is alive; notes once a minute that it was seen.
CREATE FUNCTION metrion.session_by_digest(
  digests bytea[], OUT session_id uuid, OUT account_id uuid, OUT plan text)
RETURNS SETOF record LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  UPDATE metrion.sessions AS s SET last_seen_at = now()
  WHERE s.digest = ANY (digests) AND s.last_seen_at < now() - interval '1 minute';
  RETURN QUERY
    SELECT s.id, a.id, a.plan
    FROM metrion.sessions AS s JOIN metrion.accounts AS a ON a.id = s.account_id
    WHERE s.digest = ANY (digests) AND s.expires_at > now();
END $$;
GRANT EXECUTE ON FUNCTION metrion.session_by_digest(bytea[]) TO metrion_api;

-- Deletes up to `chunk` sessions and as many codes that nobody can use any more; returns how many.
CREATE FUNCTION metrion.delete_expired_sign_ins(chunk integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  old_sessions bigint;
  old_codes bigint;
BEGIN
  DELETE FROM metrion.sessions WHERE id IN (
    SELECT s.id FROM metrion.sessions AS s WHERE s.expires_at <= now() LIMIT chunk);
  GET DIAGNOSTICS old_sessions = ROW_COUNT;
  -- a code is forgotten when it no longer counts against its address's limits
  DELETE FROM metrion.codes WHERE (purpose, address) IN (
    SELECT c.purpose, c.address FROM metrion.codes AS c
    WHERE c.expires_at <= now() - interval '1 day' LIMIT chunk);
  GET DIAGNOSTICS old_codes = ROW_COUNT;
  RETURN old_sessions + old_codes;
END $$;
GRANT EXECUTE ON FUNCTION metrion.delete_expired_sign_ins(integer) TO metrion_jobs;

SET ROLE metrion_owner;
REVOKE CREATE ON SCHEMA metrion FROM metrion_definer;
