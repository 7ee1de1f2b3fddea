-- No rules and no waiting mails any more, as metrion_owner.
DROP TRIGGER note_new ON metrion.usage_days;
DROP TRIGGER note_more ON metrion.usage_days;
SET ROLE metrion_definer;
DROP FUNCTION metrion.put_mail(uuid, uuid, text, text, text, text, text),
  metrion.take_mails(integer, integer), metrion.put_mail_off(uuid, integer, text, integer),
  metrion.finish_mail(uuid, boolean), metrion.accounts_to_judge(bigint), metrion.judged_up_to(bigint),
  metrion.note_usage();
SET ROLE metrion_owner;
DROP TABLE metrion.outbox, metrion.alert_mails, metrion.alert_rules, metrion.usage_changes;
DROP SEQUENCE metrion.usage_change_numbers, metrion.usage_changes_judged;
DROP POLICY judge ON metrion.accounts;
DROP POLICY judge ON metrion.usage_days;
DROP POLICY judge ON metrion.usage_hours;
DROP POLICY IF EXISTS judge ON metrion.latency_days;
REVOKE SELECT ON metrion.usage_days, metrion.usage_hours, metrion.latency_days FROM metrion_jobs;
REVOKE SELECT (id, email) ON metrion.accounts FROM metrion_jobs;
REVOKE EXECUTE ON FUNCTION metrion.account() FROM metrion_jobs;
