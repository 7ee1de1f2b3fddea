-- No account is being erased any more, as metrion_owner.
GRANT CREATE ON SCHEMA metrion TO metrion_definer;
SET ROLE metrion_definer;
CREATE OR REPLACE FUNCTION metrion.list_accounts(most integer) RETURNS SETOF metrion.accounts
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN QUERY SELECT * FROM metrion.accounts ORDER BY created_at, id LIMIT most;
END $$;
DROP FUNCTION metrion.gone_accounts(uuid[]), metrion.forget_erasures(integer),
  metrion.note_erased_mails(uuid, bigint), metrion.finish_purge(uuid),
  metrion.purge_chunk(uuid, text, integer), metrion.count_deleted(uuid, text, bigint),
  metrion.account_tables(), metrion.postpone_erasure(uuid, double precision, text),
  metrion.reach_erasure_state(uuid, text, text), metrion.claim_erasure(uuid),
  metrion.look_at_erasure(uuid),
  metrion.request_erasure(uuid, bytea[], text);
SET ROLE metrion_owner;
DROP TRIGGER refuse_erased ON metrion.sessions;
DROP TRIGGER drop_mail_of_erased ON metrion.outbox;
SET ROLE metrion_definer;
DROP FUNCTION metrion.refuse_erased(), metrion.drop_mail_of_erased();
SET ROLE metrion_owner;
REVOKE CREATE ON SCHEMA metrion FROM metrion_definer;
DROP POLICY erase ON metrion.tokens;
DROP POLICY erase ON metrion.provider_keys;
DROP POLICY erase ON metrion.alert_rules;
DROP POLICY erase ON metrion.billing;
DROP POLICY erase ON metrion.accounts;
DROP POLICY erase_address ON metrion.accounts;
REVOKE DELETE ON metrion.tokens, metrion.provider_keys, metrion.usage_days, metrion.usage_hours,
  metrion.latency_days, metrion.alert_rules, metrion.usage_changes, metrion.billing,
  metrion.accounts FROM metrion_definer;
REVOKE SELECT, DELETE ON metrion.alert_mails FROM metrion_definer;
GRANT SELECT (id) ON metrion.alert_mails TO metrion_definer;  -- as it was: the line above took it
REVOKE UPDATE (email) ON metrion.accounts FROM metrion_definer;
DROP TABLE metrion.erasures;
