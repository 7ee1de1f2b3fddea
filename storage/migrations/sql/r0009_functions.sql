-- Two functions, mended.
GRANT CREATE ON SCHEMA metrion TO metrion_definer;
SET ROLE metrion_definer;

-- Deletes up to `chunk` sessions and as many codes that nobody can use any more; returns how many.
CREATE OR REPLACE FUNCTION metrion.delete_expired_sign_ins(chunk integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  old_sessions bigint;
  old_codes bigint;
BEGIN
  DELETE FROM metrion.sessions WHERE id IN (
    SELECT s.id FROM metrion.sessions AS s WHERE s.expires_at <= now() LIMIT chunk);
  GET DIAGNOSTICS old_sessions = ROW_COUNT;
  -- a code is forgotten when it no longer counts against its address's limits, and not if its row is
  -- just becoming a new one
  DELETE FROM metrion.codes WHERE (purpose, address) IN (
    SELECT c.purpose, c.address FROM metrion.codes AS c
    WHERE c.expires_at <= now() - interval '1 day' LIMIT chunk FOR UPDATE SKIP LOCKED);
  GET DIAGNOSTICS old_codes = ROW_COUNT;
  RETURN old_sessions + old_codes;
END $$;

-- The first step of an erasure: from now on no Checkout begins and no webhook finds the account.
-- Returns what is known: whom to delete at Stripe.
DROP FUNCTION metrion.close_billing(uuid);
CREATE FUNCTION metrion.close_billing(account uuid) RETURNS SETOF metrion.billing
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM set_config('metrion.account_id', account::text, true);
  INSERT INTO metrion.billing AS b (account_id, closed_at)
    SELECT a.id, now() FROM metrion.accounts AS a WHERE a.id = account
    ON CONFLICT (account_id) DO UPDATE SET closed_at = coalesce(b.closed_at, now());
  RETURN QUERY SELECT b.* FROM metrion.billing AS b WHERE b.account_id = account;
END $$;
GRANT EXECUTE ON FUNCTION metrion.close_billing(uuid) TO metrion_jobs;

SET ROLE metrion_owner;
REVOKE CREATE ON SCHEMA metrion FROM metrion_definer;
