-- No rules and no waiting mails any more, as metrion_owner.
SET ROLE metrion_definer;
DROP FUNCTION metrion.put_mail(uuid, uuid, text, text, text, text, text),
  metrion.take_mails(integer, integer), metrion.put_mail_off(uuid, integer, text, integer),
  metrion.finish_mail(uuid, boolean);
SET ROLE metrion_owner;
DROP TABLE metrion.outbox;
