-- Nobody is signed in any more, as metrion_owner.
SET ROLE metrion_definer;
DROP FUNCTION metrion.issue_code(text, text, bytea, bytea), metrion.try_code(text, bytea[], bytea[]),
  metrion.session_by_digest(bytea[]), metrion.delete_expired_sign_ins(integer);
SET ROLE metrion_owner;
DROP TABLE metrion.codes, metrion.sessions;
