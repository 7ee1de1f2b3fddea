-- Undoes r0005, as metrion_owner: plans stay as they are, subscriptions go on at Stripe.
SET ROLE metrion_definer;
DROP FUNCTION metrion.account_by_customer(text), metrion.billing_to_check(integer),
  metrion.record_subscription_of(uuid, bigint, text, text, text, timestamptz, boolean, text),
  metrion.close_billing(uuid), metrion.forget_billing_events(integer);
SET ROLE metrion_owner;
DROP FUNCTION
  metrion.record_subscription(bigint, text, text, text, timestamptz, boolean, text, text);
DROP POLICY subscribe ON metrion.accounts;
REVOKE UPDATE (plan) ON metrion.accounts FROM metrion_definer;
DROP TABLE metrion.billing_events, metrion.billing;
