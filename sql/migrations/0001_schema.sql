-- Roles, the schema, and the record of what is installed.
--
-- Run the files of this directory in their order, each once, in the database that is to hold the keys:
--
--     for file in sql/migrations/*.sql; do psql -X -v ON_ERROR_STOP=1 -f "$file" || break; done
--
-- or `apikeyctl db install`, which does just that. Each file is one transaction. PostgreSQL 13 and later.
--
-- Who may: a superuser; or a role with CREATEROLE that also has CREATE on the database. The latter becomes a member
-- of apikeyd_owner (this file sees to it), and later migrations are run by it or by another member. Where the five
-- roles were made beforehand by somebody else, it needs to be a member of apikeyd_owner, and CREATEROLE is not needed.
--
-- Every migration begins with apikeyd.schema_step() and ends with apikeyd.force_reload() once that exists.
BEGIN;

DO $$
DECLARE
  wanted record;
BEGIN
  IF current_setting('server_version_num')::int < 130000 THEN
    RAISE EXCEPTION 'apikeyd needs PostgreSQL 13 or later, this is %', current_setting('server_version');
  END IF;
  IF to_regnamespace('apikeyd') IS NOT NULL THEN
    RAISE EXCEPTION 'the schema apikeyd is already in the database %', current_database()
      USING ERRCODE = 'duplicate_schema', HINT = 'To bring it up to date run: apikeyctl db upgrade';
  END IF;

  FOR wanted IN
    SELECT * FROM (VALUES
      ('apikeyd_owner', 'apikeyd: owns every object of the schema apikeyd. Nobody logs in as it.'),
      ('apikeyd_check', 'apikeyd: what the daemon reads the domain with, stored hashes included; writes nothing but the daemon''s own registration.'),
      ('apikeyd_admin', 'apikeyd: administration. Changes organizations, pages, people and keys; may insert the hash of a new key and never read one.'),
      ('apikeyd_platform', 'apikeyd: the platform''s own SQL. Changes organizations, pages, people, roles, scopes, and the narrowing and state of keys; makes no keys and reads no hash.'),
      ('apikeyd_auditor', 'apikeyd: reads everything but hashes, changes nothing; may run apikeyd.explain_rights.')
    ) AS r (name, comment)
  LOOP
    -- Roles belong to the whole cluster: another database may have made them already.
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted.name) THEN
      EXECUTE format('CREATE ROLE %I NOLOGIN', wanted.name);
      EXECUTE format('COMMENT ON ROLE %I IS %L', wanted.name, wanted.comment);
    END IF;
  END LOOP;

  IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'apikeyd_owner' AND (rolcanlogin OR rolsuper)) THEN
    RAISE EXCEPTION 'the role apikeyd_owner may log in or is a superuser'
      USING HINT = 'Run: ALTER ROLE apikeyd_owner NOLOGIN NOSUPERUSER';
  END IF;

  IF NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
    BEGIN
      EXECUTE format('GRANT apikeyd_owner TO %I', current_user);
    EXCEPTION WHEN insufficient_privilege THEN
      NULL; -- It may be a member already; otherwise the next statements say that it is not.
    END;
  END IF;
END
$$;

CREATE SCHEMA apikeyd AUTHORIZATION apikeyd_owner;
SET LOCAL ROLE apikeyd_owner;

COMMENT ON SCHEMA apikeyd IS 'API keys and what they may do: the store of the daemon apikeyd. Change it with plain SQL; the daemon follows every COMMIT.';

-- Nothing that the owner makes, now or in a later migration, is open to everybody.
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE USAGE ON TYPES FROM PUBLIC;

CREATE TABLE apikeyd.schema_migration (
  version int PRIMARY KEY CONSTRAINT schema_migration_version CHECK (version > 0),
  name text NOT NULL,
  installed_at timestamptz NOT NULL DEFAULT now(),
  installed_by text NOT NULL DEFAULT session_user
);
COMMENT ON TABLE apikeyd.schema_migration IS 'The migrations that this database has had, one row each.';
COMMENT ON COLUMN apikeyd.schema_migration.version IS 'The number that the file name begins with.';
COMMENT ON COLUMN apikeyd.schema_migration.name IS 'The rest of the file name.';
COMMENT ON COLUMN apikeyd.schema_migration.installed_at IS 'When its transaction began.';
COMMENT ON COLUMN apikeyd.schema_migration.installed_by IS 'The role that was logged in.';

CREATE FUNCTION apikeyd.schema_version() RETURNS int
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT coalesce(max(m.version), 0) FROM apikeyd.schema_migration m $$;
COMMENT ON FUNCTION apikeyd.schema_version() IS 'The newest migration that this database has had. The daemon refuses a schema that it does not know.';

CREATE FUNCTION apikeyd.schema_step(version int, name text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  present int;
BEGIN
  LOCK TABLE apikeyd.schema_migration IN SHARE ROW EXCLUSIVE MODE;
  SELECT coalesce(max(m.version), 0) INTO present FROM apikeyd.schema_migration m;
  IF schema_step.version <= present THEN
    RAISE EXCEPTION 'migration % (%) is already installed; the schema is at version %', schema_step.version, schema_step.name, present
      USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Run each migration once. To see what there is: apikeyctl db status';
  ELSIF schema_step.version > present + 1 THEN
    RAISE EXCEPTION 'migration % (%) comes after migration %, which is not installed', schema_step.version, schema_step.name, schema_step.version - 1
      USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Run the migrations in their order: apikeyctl db upgrade';
  END IF;
  INSERT INTO apikeyd.schema_migration (version, name) VALUES (schema_step.version, schema_step.name);
END
$$;
COMMENT ON FUNCTION apikeyd.schema_step(int, text) IS 'First statement of each migration: records it, and refuses one that comes twice or too early.';

-- From the start, so that a daemon beside a half-installed schema can say which version it met. The rest is in 0008.
GRANT USAGE ON SCHEMA apikeyd TO apikeyd_check, apikeyd_admin, apikeyd_platform, apikeyd_auditor;
GRANT SELECT ON apikeyd.schema_migration TO apikeyd_check, apikeyd_admin, apikeyd_platform, apikeyd_auditor;
GRANT EXECUTE ON FUNCTION apikeyd.schema_version() TO apikeyd_check, apikeyd_admin, apikeyd_platform, apikeyd_auditor;

DO $$ BEGIN PERFORM apikeyd.schema_step(1, 'schema'); END $$;

COMMIT;
