-- Alert rules, and the outbox that mails wait in, as metrion_owner.

-- ------------------------------------------------------------------------ the outbox
-- A mail is put here by the transaction that decides on it, and deleted when it has been handed over:
-- a crash in between neither loses nor doubles it.  Without an account: what is mailed to somebody
-- whose account has gone.
CREATE TABLE metrion.outbox (
  id uuid PRIMARY KEY,
  account_id uuid REFERENCES metrion.accounts ON DELETE CASCADE,
  key text NOT NULL UNIQUE CHECK (length(key) BETWEEN 1 AND 200),
  recipient text NOT NULL CHECK (length(recipient) BETWEEN 3 AND 254),
  subject text NOT NULL CHECK (length(subject) <= 300),
  text_body text NOT NULL CHECK (length(text_body) <= 100000),
  html_body text CHECK (length(html_body) <= 200000),
  created_at timestamptz NOT NULL DEFAULT now(),
  due_at timestamptz NOT NULL DEFAULT now(),
  attempts integer NOT NULL DEFAULT 0,
  leased_until timestamptz,
  last_error text CHECK (length(last_error) <= 500)
);
CREATE INDEX outbox_due ON metrion.outbox (due_at);
CREATE INDEX outbox_account ON metrion.outbox (account_id);
COMMENT ON COLUMN metrion.outbox.key IS 'what the mail is about: the same thing is mailed once';
COMMENT ON COLUMN metrion.outbox.leased_until IS 'somebody is sending it, or died while doing so';

ALTER TABLE metrion.outbox ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY account ON metrion.outbox FOR SELECT TO metrion_api
  USING (account_id = (SELECT metrion.account()));
GRANT SELECT (id, account_id, created_at, due_at, attempts) ON metrion.outbox TO metrion_api;

GRANT SELECT, INSERT, UPDATE, DELETE ON metrion.outbox TO metrion_definer;
CREATE POLICY deliver ON metrion.outbox TO metrion_definer USING (true) WITH CHECK (true);

GRANT CREATE ON SCHEMA metrion TO metrion_definer;
SET ROLE metrion_definer;

-- Puts a mail into the outbox and says whether it is new: a key that is there already is the same
-- mail.  Inside an account's transaction only for that account, or for nobody.
CREATE FUNCTION metrion.put_mail(
  mail_id uuid, for_account uuid, mail_key text, mail_to text, mail_subject text, plain text,
  html text)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  here uuid := nullif(current_setting('metrion.account_id', true), '')::uuid;
BEGIN
  IF here <> for_account THEN
    RAISE EXCEPTION 'the mail is another account''s' USING ERRCODE = 'insufficient_privilege';
  END IF;
  INSERT INTO metrion.outbox (id, account_id, key, recipient, subject, text_body, html_body)
    VALUES (mail_id, for_account, mail_key, mail_to, mail_subject, plain, html)
    ON CONFLICT (key) DO NOTHING;
  IF FOUND THEN
    PERFORM pg_notify('metrion_outbox', '');
  END IF;
  RETURN FOUND;
END $$;
GRANT EXECUTE ON FUNCTION metrion.put_mail(uuid, uuid, text, text, text, text, text)
  TO metrion_api, metrion_jobs;

-- Takes up to `most` mails that are due for this long; whoever else asks does not get them
-- meanwhile.  A mail whose sender died is due again when its time is over.
CREATE FUNCTION metrion.take_mails(most integer, lease_seconds integer)
RETURNS SETOF metrion.outbox LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN QUERY
    UPDATE metrion.outbox AS o SET attempts = o.attempts + 1,
      leased_until = now() + make_interval(secs => lease_seconds)
    WHERE o.id IN (
      SELECT due.id FROM metrion.outbox AS due
      WHERE due.due_at <= now() AND (due.leased_until <= now()) IS NOT FALSE
      ORDER BY due.due_at LIMIT most FOR UPDATE SKIP LOCKED)
    RETURNING o.*;
END $$;
GRANT EXECUTE ON FUNCTION metrion.take_mails(integer, integer) TO metrion_jobs;

-- Notes that a mail could not be sent at this attempt; it is due again after retry_seconds.
CREATE FUNCTION metrion.put_mail_off(
  mail_id uuid, attempt integer, reason text, retry_seconds integer)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  UPDATE metrion.outbox SET last_error = left(reason, 500), leased_until = NULL,
    due_at = now() + make_interval(secs => retry_seconds)
  WHERE id = mail_id AND attempts = attempt;
END $$;
GRANT EXECUTE ON FUNCTION metrion.put_mail_off(uuid, integer, text, integer) TO metrion_jobs;

-- Deletes a mail: it was handed over, or is given up.
CREATE FUNCTION metrion.finish_mail(mail_id uuid, was_sent boolean) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  DELETE FROM metrion.outbox WHERE id = mail_id;
END $$;
GRANT EXECUTE ON FUNCTION metrion.finish_mail(uuid, boolean) TO metrion_jobs;

SET ROLE metrion_owner;
REVOKE CREATE ON SCHEMA metrion FROM metrion_definer;
