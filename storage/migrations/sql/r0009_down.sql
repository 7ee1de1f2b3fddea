-- Addresses are compared by the rules of the database's locale again, and the functions of before.
DROP INDEX metrion.accounts_email;
CREATE UNIQUE INDEX accounts_email ON metrion.accounts (lower(email));

GRANT CREATE ON SCHEMA metrion TO metrion_definer;
SET ROLE metrion_definer;
CREATE OR REPLACE FUNCTION metrion.account_id_by_email(address text) RETURNS uuid
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN (SELECT id FROM metrion.accounts WHERE lower(email) = lower(address));
END $$;

CREATE OR REPLACE FUNCTION metrion.issue_code(
  for_purpose text, email text, for_address bytea, new_digest bytea,
  OUT account_id uuid, OUT wait_seconds integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  recent timestamptz[];
  free_at timestamptz;
BEGIN
  account_id := (
    SELECT a.id FROM metrion.accounts AS a
    WHERE lower(a.email) = lower(issue_code.email));
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
  -- a code is forgotten when it no longer counts against its address's limits
  DELETE FROM metrion.codes WHERE (purpose, address) IN (
    SELECT c.purpose, c.address FROM metrion.codes AS c
    WHERE c.expires_at <= now() - interval '1 day' LIMIT chunk);
  GET DIAGNOSTICS old_codes = ROW_COUNT;
  RETURN old_sessions + old_codes;
END $$;

-- The first step of an erasure: from now on no Checkout begins and no webhook finds the account.
DROP FUNCTION metrion.close_billing(uuid);
CREATE FUNCTION metrion.close_billing(account uuid) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM set_config('metrion.account_id', account::text, true);
  INSERT INTO metrion.billing AS b (account_id, closed_at)
    SELECT a.id, now() FROM metrion.accounts AS a WHERE a.id = account
    ON CONFLICT (account_id) DO UPDATE SET closed_at = coalesce(b.closed_at, now());
  RETURN (SELECT b.customer_id FROM metrion.billing AS b WHERE b.account_id = account);
END $$;
GRANT EXECUTE ON FUNCTION metrion.close_billing(uuid) TO metrion_jobs;

SET ROLE metrion_owner;
REVOKE CREATE ON SCHEMA metrion FROM metrion_definer;
