-- What Stripe says of an account's subscription, as metrion_owner.
--
-- Stripe knows; this is what was last heard of it, and which of Stripe's customers the account is.
-- A webhook's body is never copied into it: it only says which customer to ask about (see
-- api/subscriptions.py), so events may come late, twice and in any order.

CREATE TABLE metrion.billing (
  account_id uuid PRIMARY KEY REFERENCES metrion.accounts ON DELETE CASCADE,
  customer_id text UNIQUE CHECK (length(customer_id) BETWEEN 1 AND 255),
  subscription_id text CHECK (length(subscription_id) BETWEEN 1 AND 255),
  status text CHECK (status ~ '^[a-z_]{1,40}$'),
  current_period_end timestamptz,
  cancel_at_period_end boolean NOT NULL DEFAULT false,
  version bigint NOT NULL DEFAULT 0,
  checkout_at timestamptz,
  checked_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  closed_at timestamptz
);
COMMENT ON COLUMN metrion.billing.customer_id IS 'NULL: none yet, or Stripe deleted it';
COMMENT ON COLUMN metrion.billing.status IS 'Stripe''s word; NULL: there never was a subscription';
COMMENT ON COLUMN metrion.billing.version IS
  'counts what was written: who asked Stripe before another wrote must ask again';
COMMENT ON COLUMN metrion.billing.checkout_at IS 'when somebody last went to pay';
COMMENT ON COLUMN metrion.billing.checked_at IS 'when Stripe was last asked';
COMMENT ON COLUMN metrion.billing.closed_at IS 'the account is being erased: nothing may begin here';

-- Events that were dealt with: Stripe sends one again until it was thanked, and on demand.
CREATE TABLE metrion.billing_events (
  account_id uuid NOT NULL REFERENCES metrion.accounts ON DELETE CASCADE,
  id text NOT NULL CHECK (length(id) BETWEEN 1 AND 255),
  received_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (account_id, id)
);
CREATE INDEX billing_events_received ON metrion.billing_events (received_at);

ALTER TABLE metrion.billing ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE metrion.billing_events ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY account ON metrion.billing TO metrion_api
  USING (account_id = (SELECT metrion.account()))
  WITH CHECK (account_id = (SELECT metrion.account()));
CREATE POLICY account ON metrion.billing_events TO metrion_api
  USING (account_id = (SELECT metrion.account()))
  WITH CHECK (account_id = (SELECT metrion.account()));
GRANT SELECT, INSERT (account_id),
  UPDATE (customer_id, subscription_id, status, current_period_end, cancel_at_period_end, version,
    checkout_at, checked_at, updated_at)
  ON metrion.billing TO metrion_api;
GRANT SELECT, INSERT (account_id, id) ON metrion.billing_events TO metrion_api;

-- The definer finds rows of all accounts, and writes those of the account that it has set.
GRANT SELECT, INSERT (account_id, closed_at),
  UPDATE (customer_id, subscription_id, status, current_period_end, cancel_at_period_end, version,
    checked_at, updated_at, closed_at)
  ON metrion.billing TO metrion_definer;
GRANT SELECT, INSERT (account_id, id), DELETE ON metrion.billing_events TO metrion_definer;
GRANT UPDATE (plan) ON metrion.accounts TO metrion_definer;
CREATE POLICY lookup ON metrion.billing FOR SELECT TO metrion_definer USING (true);
CREATE POLICY subscribe ON metrion.billing FOR UPDATE TO metrion_definer
  USING (account_id = (SELECT metrion.account()))
  WITH CHECK (account_id = (SELECT metrion.account()));
CREATE POLICY close ON metrion.billing FOR INSERT TO metrion_definer
  WITH CHECK (account_id = (SELECT metrion.account()));
CREATE POLICY subscribe ON metrion.billing_events FOR INSERT TO metrion_definer
  WITH CHECK (account_id = (SELECT metrion.account()));
CREATE POLICY lookup ON metrion.billing_events FOR SELECT TO metrion_definer USING (true);
CREATE POLICY forget ON metrion.billing_events FOR DELETE TO metrion_definer USING (true);
CREATE POLICY subscribe ON metrion.accounts FOR UPDATE TO metrion_definer
  USING (id = (SELECT metrion.account())) WITH CHECK (id = (SELECT metrion.account()));

-- Writes down what Stripe said of the transaction's account, unless somebody wrote since `seen` was
-- read: then what Stripe said may be older than what is here, and false is returned. `new_plan` is
-- NULL where the subscription decides nothing new: what the operator set in between stays.
CREATE FUNCTION metrion.record_subscription(
  seen bigint, customer text, subscription text, new_status text, period_end timestamptz,
  cancels boolean, new_plan text, event text)
RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  UPDATE metrion.billing AS b SET customer_id = customer, subscription_id = subscription,
    status = new_status, current_period_end = period_end, cancel_at_period_end = cancels,
    version = b.version + 1, checked_at = now(),
    updated_at = CASE
      WHEN (b.customer_id, b.subscription_id, b.status, b.current_period_end, b.cancel_at_period_end)
        IS DISTINCT FROM (customer, subscription, new_status, period_end, cancels)
      THEN now() ELSE b.updated_at END
  WHERE b.account_id = metrion.account() AND b.version = seen AND b.closed_at IS NULL;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  UPDATE metrion.accounts AS a SET plan = new_plan
  WHERE a.id = metrion.account() AND a.plan <> new_plan;
  IF event IS NOT NULL THEN
    INSERT INTO metrion.billing_events (account_id, id) VALUES (metrion.account(), event)
    ON CONFLICT DO NOTHING;
  END IF;
  RETURN true;
END $$;
GRANT EXECUTE ON FUNCTION
  metrion.record_subscription(bigint, text, text, text, timestamptz, boolean, text, text)
  TO metrion_api, metrion_definer;

GRANT CREATE ON SCHEMA metrion TO metrion_definer;
SET ROLE metrion_definer;

-- Whose customer this is; for webhooks, which know no account. NULL: nobody's, or of an account that
-- is being erased: nothing can be woken up again.
CREATE FUNCTION metrion.account_by_customer(customer text) RETURNS uuid
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN (
    SELECT b.account_id FROM metrion.billing AS b
    WHERE b.customer_id = customer AND b.closed_at IS NULL);
END $$;
GRANT EXECUTE ON FUNCTION metrion.account_by_customer(text) TO metrion_api;

-- Those about whom Stripe should be asked although no webhook came: somebody went to pay in the last
-- hour (every minute), a period has ended (hourly), all others with a customer once a day.  In no
-- order: one that cannot be looked at holds up no others.
CREATE FUNCTION metrion.billing_to_check(most integer) RETURNS SETOF metrion.billing
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN QUERY
    SELECT b.* FROM metrion.billing AS b
    WHERE b.customer_id IS NOT NULL AND b.closed_at IS NULL
      AND b.checked_at < now() - CASE
        WHEN b.checkout_at > now() - interval '1 hour' THEN interval '1 minute'
        WHEN b.current_period_end < now() AND b.status NOT IN ('canceled', 'incomplete_expired')
          THEN interval '1 hour'
        ELSE interval '1 day' END
    ORDER BY random() LIMIT most;
END $$;
GRANT EXECUTE ON FUNCTION metrion.billing_to_check(integer) TO metrion_jobs;

-- record_subscription for the jobs, which see no table.
CREATE FUNCTION metrion.record_subscription_of(
  account uuid, seen bigint, customer text, subscription text, new_status text,
  period_end timestamptz, cancels boolean, new_plan text)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM set_config('metrion.account_id', account::text, true);
  RETURN metrion.record_subscription(
    seen, customer, subscription, new_status, period_end, cancels, new_plan, NULL);
END $$;
GRANT EXECUTE ON FUNCTION
  metrion.record_subscription_of(uuid, bigint, text, text, text, timestamptz, boolean, text)
  TO metrion_jobs;

-- The first step of an erasure: from now on no Checkout begins and no webhook finds the account.
-- Returns the customer that is to be deleted at Stripe, if Stripe knows the account.
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

-- Forgets up to `chunk` events that Stripe can no longer send again (it keeps them for 30 days).
CREATE FUNCTION metrion.forget_billing_events(chunk integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  forgotten bigint;
BEGIN
  DELETE FROM metrion.billing_events WHERE (account_id, id) IN (
    SELECT e.account_id, e.id FROM metrion.billing_events AS e
    WHERE e.received_at < now() - interval '31 days' LIMIT chunk);
  GET DIAGNOSTICS forgotten = ROW_COUNT;
  RETURN forgotten;
END $$;
GRANT EXECUTE ON FUNCTION metrion.forget_billing_events(integer) TO metrion_jobs;

SET ROLE metrion_owner;
REVOKE CREATE ON SCHEMA metrion FROM metrion_definer;
