-- Addresses are the same if they differ in the case of ASCII letters only, as in storage.addresses.
-- By the rules of a locale more are: 'İ' (U+0130) is an 'i' to some, and the Kelvin sign a 'k' to all,
-- but their mail goes to somebody else, who would get a code for the account.
DROP INDEX metrion.accounts_email;
CREATE UNIQUE INDEX accounts_email ON metrion.accounts (lower(email COLLATE "C"));

GRANT CREATE ON SCHEMA metrion TO metrion_definer;
SET ROLE metrion_definer;
CREATE OR REPLACE FUNCTION metrion.account_id_by_email(address text) RETURNS uuid
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN (SELECT id FROM metrion.accounts WHERE lower(email COLLATE "C") = lower(address COLLATE "C"));
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
    WHERE lower(a.email COLLATE "C") = lower(issue_code.email COLLATE "C"));
  -- one that is there is locked, not changed: an old code's row would be cleaned up before the rest
  INSERT INTO metrion.codes (purpose, address, expires_at, tries, sent)
    VALUES (for_purpose, for_address, now(), 0, '{}')
    ON CONFLICT (purpose, address) DO UPDATE SET tries = 0 WHERE false;
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
SET ROLE metrion_owner;
REVOKE CREATE ON SCHEMA metrion FROM metrion_definer;
