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

-- ------------------------------------------------------------------------ rules
-- What is watched, and what was mailed about it.
CREATE TABLE metrion.alert_rules (
  id uuid PRIMARY KEY,
  account_id uuid NOT NULL REFERENCES metrion.accounts ON DELETE CASCADE,
  name text NOT NULL CHECK (length(name) <= 100),
  type text NOT NULL,
  unit text NOT NULL,
  threshold numeric(18, 6) NOT NULL CHECK (threshold > 0),
  providers text[] NOT NULL CHECK (cardinality(providers) <= 32),
  period text NOT NULL,
  from_day date,
  to_day date,
  hours integer,
  paused boolean NOT NULL DEFAULT false,
  created_at timestamptz NOT NULL DEFAULT now(),
  spent_before jsonb NOT NULL,
  level text NOT NULL DEFAULT 'none' CHECK (level IN ('none', 'warning', 'alert')),
  level_of date,
  waiting text NOT NULL DEFAULT 'none' CHECK (waiting IN ('none', 'warning', 'alert')),
  warning_sent_at timestamptz,
  alert_sent_at timestamptz,
  test_sent_at timestamptz,
  look_at timestamptz DEFAULT now(),
  CHECK ((type, unit) IN (
    ('budget', 'usd'), ('budget', 'eur'), ('budget', 'chf'), ('error_rate', 'percent'),
    ('error_rate', 'count'), ('latency_p95', 'ms'), ('request_volume', 'count'))),
  CHECK (CASE WHEN type = 'budget' THEN period IN ('month', 'created', 'since')
    ELSE period IN ('dates', 'rolling') END),
  CHECK ((from_day IS NOT NULL) = (period IN ('since', 'dates'))),
  CHECK ((to_day >= from_day) IS TRUE = (period = 'dates')),
  CHECK ((hours > 0) IS TRUE = (period = 'rolling'))
);
CREATE INDEX alert_rules_account ON metrion.alert_rules (account_id);
CREATE INDEX alert_rules_look ON metrion.alert_rules (look_at) WHERE look_at IS NOT NULL;
COMMENT ON COLUMN metrion.alert_rules.providers IS 'none: all of them';
COMMENT ON COLUMN metrion.alert_rules.spent_before IS
  'what each provider had cost on the day the rule was made, before it was';
COMMENT ON COLUMN metrion.alert_rules.level IS 'reached when it was last looked at';
COMMENT ON COLUMN metrion.alert_rules.level_of IS 'the month that `level` is about, if it is of one';
COMMENT ON COLUMN metrion.alert_rules.waiting IS
  'the highest level that was reached anew and could not be mailed yet';
COMMENT ON COLUMN metrion.alert_rules.look_at IS 'look at it then, whether or not there is a request';

CREATE TABLE metrion.alert_mails (
  id uuid PRIMARY KEY,
  account_id uuid NOT NULL REFERENCES metrion.accounts ON DELETE CASCADE,
  rule_id uuid NOT NULL REFERENCES metrion.alert_rules ON DELETE CASCADE,
  level text NOT NULL CHECK (level IN ('warning', 'alert', 'test')),
  value numeric,
  at_least boolean NOT NULL,
  threshold numeric(18, 6) NOT NULL,
  unit text NOT NULL,
  created_at timestamptz NOT NULL,
  sent_at timestamptz
);
CREATE INDEX alert_mails_rule ON metrion.alert_mails (rule_id, created_at);
CREATE INDEX alert_mails_account ON metrion.alert_mails (account_id);
COMMENT ON COLUMN metrion.alert_mails.id IS 'the outbox''s, too';
COMMENT ON COLUMN metrion.alert_mails.sent_at IS
  'handed over; NULL and no longer in the outbox: given up';

-- Which accounts' records have changed, in the order of commits: whoever remembers the highest number
-- asks for what is above it.  Ingest holds the log's lock from the number to the commit.
CREATE SEQUENCE metrion.usage_change_numbers;
CREATE SEQUENCE metrion.usage_changes_judged MINVALUE 0 START 0;
COMMENT ON SEQUENCE metrion.usage_changes_judged IS
  'no sequence at all: the number up to which rules were looked at, for who starts anew';
CREATE TABLE metrion.usage_changes (
  account_id uuid PRIMARY KEY REFERENCES metrion.accounts ON DELETE CASCADE,
  number bigint NOT NULL
) WITH (fillfactor = 50);

DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['alert_rules', 'alert_mails', 'usage_changes'] LOOP
    EXECUTE format(
      'ALTER TABLE metrion.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', name);
    EXECUTE format('CREATE POLICY account ON metrion.%I TO metrion_api '
      'USING (account_id = (SELECT metrion.account())) '
      'WITH CHECK (account_id = (SELECT metrion.account()))', name);
  END LOOP;
  -- The jobs process judges the rules of one account at a time, with that account's records.
  FOREACH name IN ARRAY ARRAY['usage_days', 'usage_hours', 'latency_days'] LOOP
    EXECUTE format('CREATE POLICY judge ON metrion.%I FOR SELECT TO metrion_jobs '
      'USING (account_id = (SELECT metrion.account()))', name);
    EXECUTE format('GRANT SELECT ON metrion.%I TO metrion_jobs', name);
  END LOOP;
  FOREACH name IN ARRAY ARRAY['alert_rules', 'alert_mails'] LOOP
    EXECUTE format('CREATE POLICY judge ON metrion.%I TO metrion_jobs '
      'USING (account_id = (SELECT metrion.account())) '
      'WITH CHECK (account_id = (SELECT metrion.account()))', name);
  END LOOP;
END $$;
CREATE POLICY judge ON metrion.accounts FOR SELECT TO metrion_jobs
  USING (id = (SELECT metrion.account()));

GRANT SELECT, DELETE, INSERT (id, account_id, name, type, unit, threshold, providers, period,
    from_day, to_day, hours, paused, created_at, spent_before),
  UPDATE (name, type, unit, threshold, providers, period, from_day, to_day, hours, paused, level,
    level_of, waiting, test_sent_at, look_at)
  ON metrion.alert_rules TO metrion_api;
GRANT SELECT, INSERT (id, account_id, rule_id, level, value, at_least, threshold, unit, created_at)
  ON metrion.alert_mails TO metrion_api, metrion_jobs;
GRANT SELECT, UPDATE (level, level_of, waiting, warning_sent_at, alert_sent_at, look_at)
  ON metrion.alert_rules TO metrion_jobs;
GRANT SELECT (id, email) ON metrion.accounts TO metrion_jobs;
GRANT EXECUTE ON FUNCTION metrion.account() TO metrion_jobs;

GRANT SELECT ON metrion.alert_rules TO metrion_definer;
GRANT SELECT (id), UPDATE (sent_at) ON metrion.alert_mails TO metrion_definer;
GRANT SELECT, INSERT, UPDATE ON metrion.usage_changes TO metrion_definer;
GRANT USAGE ON SEQUENCE metrion.usage_change_numbers TO metrion_definer;
GRANT SELECT, UPDATE ON SEQUENCE metrion.usage_changes_judged TO metrion_definer;
CREATE POLICY judge_all ON metrion.alert_rules FOR SELECT TO metrion_definer USING (true);
CREATE POLICY deliver ON metrion.alert_mails TO metrion_definer USING (true) WITH CHECK (true);
CREATE POLICY ingest ON metrion.usage_changes TO metrion_definer USING (true) WITH CHECK (true);

GRANT CREATE ON SCHEMA metrion TO metrion_definer;
SET ROLE metrion_definer;

-- Notes which accounts' records an ingest has changed.
CREATE FUNCTION metrion.note_usage() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  INSERT INTO metrion.usage_changes AS u (account_id, number)
    SELECT c.account_id, nextval('metrion.usage_change_numbers')
    FROM (SELECT DISTINCT account_id FROM changed) AS c
    ON CONFLICT (account_id) DO UPDATE SET number = excluded.number;
  RETURN NULL;
END $$;
GRANT EXECUTE ON FUNCTION metrion.note_usage() TO metrion_owner;

-- The accounts with rules that have to be looked at: their records changed after that number, or a
-- rule's time has come.  The last changed first, with the number of the change.
CREATE FUNCTION metrion.accounts_to_judge(after bigint, OUT account_id uuid, OUT number bigint)
RETURNS SETOF record LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN QUERY
    SELECT u.account_id, u.number FROM metrion.usage_changes AS u
    WHERE u.number > accounts_to_judge.after AND EXISTS (
      SELECT FROM metrion.alert_rules AS r WHERE r.account_id = u.account_id AND NOT r.paused)
    UNION ALL
    SELECT DISTINCT r.account_id, 0::bigint FROM metrion.alert_rules AS r
    WHERE r.look_at <= now() AND NOT r.paused
    ORDER BY 2 DESC;
END $$;
GRANT EXECUTE ON FUNCTION metrion.accounts_to_judge(bigint) TO metrion_jobs;

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

-- Notes that all changes up to this number were looked at, and returns up to which they were.  Two
-- processes at once may note the lower number: something is looked at again then.
CREATE FUNCTION metrion.judged_up_to(number bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  noted bigint := (SELECT last_value FROM metrion.usage_changes_judged);
BEGIN
  RETURN CASE WHEN number > noted THEN setval('metrion.usage_changes_judged', number)
    ELSE noted END;
END $$;
GRANT EXECUTE ON FUNCTION metrion.judged_up_to(bigint) TO metrion_jobs;

-- Deletes a mail: it was handed over, or is given up.  Of an alert's it is noted which.
CREATE FUNCTION metrion.finish_mail(mail_id uuid, was_sent boolean) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  UPDATE metrion.alert_mails SET sent_at = now() WHERE id = mail_id AND was_sent;
  DELETE FROM metrion.outbox WHERE id = mail_id;
END $$;
GRANT EXECUTE ON FUNCTION metrion.finish_mail(uuid, boolean) TO metrion_jobs;

SET ROLE metrion_owner;
REVOKE CREATE ON SCHEMA metrion FROM metrion_definer;
CREATE TRIGGER note_new AFTER INSERT ON metrion.usage_days
  REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION metrion.note_usage();
CREATE TRIGGER note_more AFTER UPDATE ON metrion.usage_days
  REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION metrion.note_usage();
