-- Accounts on their way out, as metrion_owner.
--
-- An erasure goes through states, each noted in the transaction that reaches it, so that whoever
-- goes on after a crash knows what is left to do:
--
--   requested  nobody gets in any more: token, sessions and codes are gone, the address is free
--   cancelled  nothing is paid for any more; only from here on is anything else deleted
--   purged     no row is left, nor the account's own; no row that is still under way comes back
--   receipt    the receipt is in the outbox
--   done       it was sent; what stays are counts, times and a keyed digest of the address
--
-- The row outlives the account, so it has no foreign key.

CREATE TABLE metrion.erasures (
  id uuid PRIMARY KEY,
  account_id uuid UNIQUE,
  email text CHECK (length(email) BETWEEN 3 AND 254),
  address bytea NOT NULL CHECK (length(address) = 32),
  state text NOT NULL DEFAULT 'requested'
    CHECK (state IN ('requested', 'cancelled', 'purged', 'receipt', 'done')),
  region text NOT NULL,
  requested_at timestamptz NOT NULL DEFAULT now(),
  cancelled_at timestamptz,
  purged_at timestamptz,
  done_at timestamptz,
  deleted jsonb NOT NULL DEFAULT '{}',
  failures integer NOT NULL DEFAULT 0,
  due_at timestamptz NOT NULL DEFAULT now(),
  last_error text,
  CHECK (state = 'done' OR account_id IS NOT NULL),
  CHECK (state = 'done' OR email IS NOT NULL)
);
CREATE INDEX erasures_due ON metrion.erasures (due_at) WHERE state <> 'done';
COMMENT ON COLUMN metrion.erasures.account_id IS 'NULL: it is done, nothing is of this account';
COMMENT ON COLUMN metrion.erasures.email IS 'where the receipt goes; NULL: it was sent';
COMMENT ON COLUMN metrion.erasures.address IS 'keyed digest of the address, as in codes';
COMMENT ON COLUMN metrion.erasures.deleted IS 'kind → rows deleted so far';

ALTER TABLE metrion.erasures ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
-- no service role has a right on it; should one ever get one, it is about its account
CREATE POLICY account ON metrion.erasures TO metrion_api
  USING (account_id = (SELECT metrion.account()))
  WITH CHECK (account_id = (SELECT metrion.account()));

-- ------------------------------------------------------------------------ the definer's own rights
GRANT SELECT, INSERT, UPDATE, DELETE ON metrion.erasures TO metrion_definer;
CREATE POLICY erase ON metrion.erasures TO metrion_definer USING (true) WITH CHECK (true);
-- its address is all that an erasure changes of an account, and to what is fixed
GRANT UPDATE (email), DELETE ON metrion.accounts TO metrion_definer;
CREATE POLICY erase ON metrion.accounts FOR DELETE TO metrion_definer USING (true);
CREATE POLICY erase_address ON metrion.accounts FOR UPDATE TO metrion_definer
  USING (true) WITH CHECK (email = id || '@erased.invalid');
GRANT DELETE ON metrion.tokens, metrion.provider_keys, metrion.usage_days, metrion.usage_hours,
  metrion.latency_days, metrion.alert_rules, metrion.usage_changes, metrion.billing
  TO metrion_definer;
GRANT SELECT, DELETE ON metrion.alert_mails TO metrion_definer;
CREATE POLICY erase ON metrion.tokens FOR DELETE TO metrion_definer USING (true);
CREATE POLICY erase ON metrion.provider_keys FOR DELETE TO metrion_definer USING (true);
CREATE POLICY erase ON metrion.alert_rules FOR DELETE TO metrion_definer USING (true);
CREATE POLICY erase ON metrion.billing FOR DELETE TO metrion_definer USING (true);

GRANT CREATE ON SCHEMA metrion TO metrion_definer;
SET ROLE metrion_definer;

-- ------------------------------------------------------------------------ the request
-- Begins the erasure of this transaction's account and returns its id; that of the one under way if
-- there is one, NULL if there is no such account.  From the commit on nobody gets in: token,
-- sessions and codes are gone, and whoever signs in with the address makes a new account.
CREATE FUNCTION metrion.request_erasure(new_id uuid, addresses bytea[], in_region text)
RETURNS uuid LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  owner uuid := metrion.account();
  old_email text;
  under_way uuid;
  counts jsonb;
BEGIN
  -- waits for sessions that are just being made, see metrion.refuse_erased
  SELECT a.email INTO old_email FROM metrion.accounts AS a WHERE a.id = owner FOR UPDATE;
  IF old_email IS NULL THEN
    RETURN NULL;
  END IF;
  SELECT e.id INTO under_way FROM metrion.erasures AS e WHERE e.account_id = owner;
  IF under_way IS NOT NULL THEN
    RETURN under_way;
  END IF;
  WITH dead_tokens AS (
    DELETE FROM metrion.tokens AS t WHERE t.account_id = owner RETURNING 1
  ), dead_sessions AS (
    DELETE FROM metrion.sessions AS s WHERE s.account_id = owner RETURNING 1
  ), dead_codes AS (
    DELETE FROM metrion.codes AS c
    WHERE c.account_id = owner OR c.address = ANY (addresses) RETURNING 1
  )
  SELECT jsonb_build_object('tokens', (SELECT count(*) FROM dead_tokens),
    'sessions', (SELECT count(*) FROM dead_sessions), 'codes', (SELECT count(*) FROM dead_codes))
  INTO counts;
  UPDATE metrion.accounts AS a SET email = a.id || '@erased.invalid' WHERE a.id = owner;
  INSERT INTO metrion.erasures (id, account_id, email, address, region, deleted)
    VALUES (new_id, owner, old_email, addresses[1], in_region, counts);
  RETURN new_id;
END $$;
GRANT EXECUTE ON FUNCTION metrion.request_erasure(uuid, bytea[], text) TO metrion_api;

-- A session cannot begin while its account is being erased: not even one whose code was right a
-- moment before.  The lock waits for a request that is just being committed.
CREATE FUNCTION metrion.refuse_erased() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM FROM metrion.accounts AS a WHERE a.id = NEW.account_id FOR KEY SHARE;
  IF EXISTS (SELECT FROM metrion.erasures AS e WHERE e.account_id = NEW.account_id) THEN
    RAISE EXCEPTION 'the account is being erased' USING ERRCODE = 'foreign_key_violation';
  END IF;
  RETURN NEW;
END $$;
GRANT EXECUTE ON FUNCTION metrion.refuse_erased() TO metrion_owner;

-- Nor is anything mailed about it any more: its address is not one.
CREATE FUNCTION metrion.drop_mail_of_erased() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF EXISTS (SELECT FROM metrion.erasures AS e WHERE e.account_id = NEW.account_id) THEN
    RETURN NULL;
  END IF;
  RETURN NEW;
END $$;
GRANT EXECUTE ON FUNCTION metrion.drop_mail_of_erased() TO metrion_owner;

-- As in r0001, without those that are being erased: they have no address and no token any more.
CREATE OR REPLACE FUNCTION metrion.list_accounts(most integer) RETURNS SETOF metrion.accounts
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN QUERY SELECT a.* FROM metrion.accounts AS a
    WHERE NOT EXISTS (SELECT FROM metrion.erasures AS e WHERE e.account_id = a.id)
    ORDER BY a.created_at, a.id LIMIT most;
END $$;

-- ------------------------------------------------------------------------ the work
-- The next erasure that is due (or `wanted`, due or not), for whoever holds the lock until the
-- transaction ends; nothing while another process has it.
CREATE FUNCTION metrion.claim_erasure(wanted uuid) RETURNS SETOF metrion.erasures
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF NOT pg_try_advisory_xact_lock(6226916013) THEN
    RETURN;
  END IF;
  RETURN QUERY SELECT e.* FROM metrion.erasures AS e
    WHERE e.state <> 'done' AND (e.id = wanted OR wanted IS NULL AND e.due_at <= now())
    ORDER BY e.due_at, e.id LIMIT 1;
END $$;
GRANT EXECUTE ON FUNCTION metrion.claim_erasure(uuid) TO metrion_jobs;

-- An erasure, whoever works on it.
CREATE FUNCTION metrion.look_at_erasure(erasure uuid) RETURNS SETOF metrion.erasures
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN QUERY SELECT e.* FROM metrion.erasures AS e WHERE e.id = erasure;
END $$;
GRANT EXECUTE ON FUNCTION metrion.look_at_erasure(uuid) TO metrion_jobs;

-- Notes that a state is reached, if it is the one after `before`; says whether it is reached now.
-- 'purged' is metrion.finish_purge's to reach.  An account's receipt is sent when it is no longer
-- in the outbox.
CREATE FUNCTION metrion.reach_erasure_state(erasure uuid, before text, reached text)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF (before, reached) NOT IN
    (('requested', 'cancelled'), ('purged', 'receipt'), ('receipt', 'done'))
  THEN
    RAISE EXCEPTION 'no such step' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  UPDATE metrion.erasures AS e SET state = reached, failures = 0, due_at = now(), last_error = NULL,
    cancelled_at = CASE reached WHEN 'cancelled' THEN now() ELSE e.cancelled_at END,
    done_at = CASE reached WHEN 'done' THEN now() END,
    email = CASE WHEN reached = 'done' THEN NULL ELSE e.email END,
    account_id = CASE WHEN reached = 'done' THEN NULL ELSE e.account_id END
  WHERE e.id = erasure AND e.state = before
    AND (reached <> 'done' OR NOT EXISTS (
      SELECT FROM metrion.outbox AS o WHERE o.key = 'erasure:' || erasure));
  RETURN FOUND;
END $$;
GRANT EXECUTE ON FUNCTION metrion.reach_erasure_state(uuid, text, text) TO metrion_jobs;

-- Notes that it did not work, or cannot be told yet, and when to look again.
CREATE FUNCTION metrion.postpone_erasure(erasure uuid, seconds double precision, reason text)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  UPDATE metrion.erasures AS e SET due_at = now() + make_interval(secs => seconds),
    failures = e.failures + CASE WHEN reason IS NULL THEN 0 ELSE 1 END,
    last_error = left(reason, 500)
  WHERE e.id = erasure;
END $$;
GRANT EXECUTE ON FUNCTION metrion.postpone_erasure(uuid, double precision, text) TO metrion_jobs;

-- All tables with rows of accounts, from the catalogue: a table that comes later is among them, and
-- if metrion_definer may not delete from it an erasure says so instead of leaving something.
CREATE FUNCTION metrion.account_tables() RETURNS SETOF text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT c.relname::text FROM pg_class AS c
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'account_id' AND NOT a.attisdropped
  WHERE c.relnamespace = 'metrion'::regnamespace AND c.relkind IN ('r', 'p')
    AND NOT c.relispartition AND c.relname <> 'erasures'
  ORDER BY c.relname;
END;
GRANT EXECUTE ON FUNCTION metrion.account_tables() TO metrion_jobs;

-- Adds to what an erasure has deleted of a kind.
CREATE FUNCTION metrion.count_deleted(erasure uuid, kind text, rows bigint) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  UPDATE metrion.erasures AS e
  SET deleted = e.deleted || jsonb_build_object(kind, coalesce((e.deleted ->> kind)::bigint, 0) + rows)
  WHERE e.id = erasure AND rows > 0;
END;

-- Deletes up to `chunk` rows of the account from one table (of the log a few more where several are
-- of the same microsecond), and returns how many.
CREATE FUNCTION metrion.purge_chunk(erasure uuid, place text, chunk integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  owner uuid := (
    SELECT e.account_id FROM metrion.erasures AS e WHERE e.id = erasure AND e.state = 'cancelled');
  newest timestamptz;
  gone bigint;
BEGIN
  IF place = 'request_logs' THEN  -- along its key, which is quicker in many partitions
    SELECT max(first.created_at) INTO newest FROM (
      SELECT l.created_at FROM metrion.request_logs AS l
      WHERE l.account_id = owner ORDER BY l.created_at LIMIT chunk
    ) AS first;
    DELETE FROM metrion.request_logs AS l WHERE l.account_id = owner AND l.created_at <= newest;
  ELSIF place IN (SELECT metrion.account_tables()) THEN
    -- an ingest that is adding to the same records would meet this one's locks in another order
    PERFORM metrion.lock_log();
    EXECUTE format('DELETE FROM metrion.%1$I WHERE account_id = $1 AND ctid = ANY (ARRAY('
      'SELECT ctid FROM metrion.%1$I WHERE account_id = $1 LIMIT $2))', place) USING owner, chunk;
  ELSE
    RAISE EXCEPTION 'no such table' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  GET DIAGNOSTICS gone = ROW_COUNT;
  PERFORM metrion.count_deleted(erasure, place, gone);
  RETURN gone;
END $$;
GRANT EXECUTE ON FUNCTION metrion.purge_chunk(uuid, text, integer) TO metrion_jobs;

-- Deletes what came meanwhile, and the account itself, in one transaction: no ingest is under way
-- then, and the next one finds no account and drops its rows.
CREATE FUNCTION metrion.finish_purge(erasure uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  owner uuid;
  name text;
  gone bigint;
BEGIN
  PERFORM metrion.lock_log();
  SELECT e.account_id INTO owner FROM metrion.erasures AS e
    WHERE e.id = erasure AND e.state = 'cancelled' FOR UPDATE;
  IF owner IS NULL THEN
    RETURN;
  END IF;
  -- whoever puts a row that belongs to the account waits from here on, and fails then
  PERFORM FROM metrion.accounts AS a WHERE a.id = owner FOR UPDATE;
  FOR name IN SELECT metrion.account_tables() LOOP
    EXECUTE format('DELETE FROM metrion.%I WHERE account_id = $1', name) USING owner;
    GET DIAGNOSTICS gone = ROW_COUNT;
    PERFORM metrion.count_deleted(erasure, name, gone);
  END LOOP;
  DELETE FROM metrion.accounts AS a WHERE a.id = owner;
  GET DIAGNOSTICS gone = ROW_COUNT;
  PERFORM metrion.count_deleted(erasure, 'accounts', gone);
  UPDATE metrion.erasures AS e
  SET state = 'purged', purged_at = now(), failures = 0, due_at = now(), last_error = NULL
  WHERE e.id = erasure;
END $$;
GRANT EXECUTE ON FUNCTION metrion.finish_purge(uuid) TO metrion_jobs;

-- Notes how many kept mails there are to delete, before the first of them goes: a crash between two
-- of them makes them no fewer.  Returns all that is deleted.
CREATE FUNCTION metrion.note_erased_mails(erasure uuid, mails bigint) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  UPDATE metrion.erasures AS e SET deleted = e.deleted || jsonb_build_object('mails', mails)
  WHERE e.id = erasure AND mails > coalesce((e.deleted ->> 'mails')::bigint, 0);
  RETURN (SELECT e.deleted FROM metrion.erasures AS e WHERE e.id = erasure);
END $$;
GRANT EXECUTE ON FUNCTION metrion.note_erased_mails(uuid, bigint) TO metrion_jobs;

-- Forgets erasures that were done so many days ago; returns which.
CREATE FUNCTION metrion.forget_erasures(days integer) RETURNS SETOF uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN QUERY DELETE FROM metrion.erasures AS e
    WHERE e.done_at < now() - make_interval(days => days) RETURNING e.id;
END $$;
GRANT EXECUTE ON FUNCTION metrion.forget_erasures(integer) TO metrion_jobs;

-- Which of these accounts do not exist: a proxy process forgets what it had put aside of theirs.
CREATE FUNCTION metrion.gone_accounts(ids uuid[]) RETURNS uuid[]
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN ARRAY(
    SELECT asked.id FROM unnest(ids) AS asked (id)
    WHERE NOT EXISTS (SELECT FROM metrion.accounts AS a WHERE a.id = asked.id));
END $$;
GRANT EXECUTE ON FUNCTION metrion.gone_accounts(uuid[]) TO metrion_proxy;

SET ROLE metrion_owner;
CREATE TRIGGER refuse_erased BEFORE INSERT ON metrion.sessions
  FOR EACH ROW EXECUTE FUNCTION metrion.refuse_erased();
CREATE TRIGGER drop_mail_of_erased BEFORE INSERT ON metrion.outbox
  FOR EACH ROW EXECUTE FUNCTION metrion.drop_mail_of_erased();
REVOKE CREATE ON SCHEMA metrion FROM metrion_definer;
