-- The cluster's part, run by the administrator (a superuser, or a role with CREATEROLE) before every
-- migration.  Roles belong to the whole cluster, so there is one Metrion to a cluster; running this
-- again changes nothing.  Passwords are set by storage/migrate.py.
--
--   metrion_owner    owns schema and tables; nobody logs in as it
--   metrion_definer  owns the functions that work across accounts; sees what its own policies name
--   metrion_proxy    may look up a token and append log rows, by one function each; reads no table
--   metrion_api      works inside one account at a time; cannot read sealed provider keys
--   metrion_jobs     partitions and retention, by functions; judges alert rules inside one account
--
-- NOINHERIT, and no role is a member of another: there is nothing to SET ROLE to.
DO $$
DECLARE
  wanted record;
BEGIN
  FOR wanted IN
    SELECT * FROM (VALUES
      ('metrion_owner', 'NOLOGIN'), ('metrion_definer', 'NOLOGIN'),
      ('metrion_proxy', 'LOGIN'), ('metrion_api', 'LOGIN'), ('metrion_jobs', 'LOGIN')
    ) AS roles (name, login)
  LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted.name) THEN
      EXECUTE format(
        'CREATE ROLE %I NOINHERIT NOCREATEDB NOCREATEROLE %s', wanted.name, wanted.login);
    END IF;
  END LOOP;

  -- a managed service's administrator is no superuser: it must be let act as the roles it made
  IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
    EXECUTE format(
      'GRANT metrion_owner, metrion_definer, metrion_api, metrion_jobs TO %I %s', current_user,
      CASE WHEN current_setting('server_version_num')::int >= 160000
        THEN 'WITH INHERIT FALSE, SET TRUE' ELSE '' END);
  END IF;
END $$;
