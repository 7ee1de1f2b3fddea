-- The database's own rights, run by the administrator before every migration: they are not part of
-- a dump, nor of a database made from a template.  Without TEMPORARY and CREATE no service role can
-- make a table or function of its own, not even a temporary one.
DO $$
BEGIN
  EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
  EXECUTE format(
    'GRANT CONNECT ON DATABASE %I TO metrion_proxy, metrion_api, metrion_jobs', current_database());
END $$;
CREATE SCHEMA IF NOT EXISTS metrion AUTHORIZATION metrion_owner;
