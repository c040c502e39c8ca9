-- Who may what: the least that each role needs. PUBLIC may nothing.
BEGIN;
SET LOCAL ROLE apikeyd_owner;
DO $$ BEGIN PERFORM apikeyd.schema_step(8, 'grants'); END $$;

REVOKE ALL ON SCHEMA apikeyd FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA apikeyd FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA apikeyd FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA apikeyd FROM PUBLIC;

-- All four read the domain and its catalog, and the version of the schema (0001).
GRANT SELECT ON apikeyd.scope, apikeyd.role, apikeyd.role_scope, apikeyd.organization, apikeyd.page, apikeyd.user,
    apikeyd.organization_member, apikeyd.page_member, apikeyd.key_page, apikeyd.key_scope, apikeyd.key_network
  TO apikeyd_check, apikeyd_admin, apikeyd_platform, apikeyd_auditor;
GRANT EXECUTE ON FUNCTION apikeyd.revision()
  TO apikeyd_check, apikeyd_admin, apikeyd_platform, apikeyd_auditor;

-- The hash is the daemon's alone: the others read keys column by column.
GRANT SELECT (id, kind, organization_id, user_id, access, name, pepper_version, narrowed_pages, narrowed_scopes,
    narrowed_networks, narrowed_rate, rate_count, rate_period_s, not_before, expires_at, retired_at, successor,
    disabled_at, revoked_at, created_at, created_by, organization_or_0, access_place)
  ON apikeyd.key TO apikeyd_admin, apikeyd_platform, apikeyd_auditor;

-- The daemon's feed and load.
GRANT SELECT ON apikeyd.key, apikeyd.pepper, apikeyd.change, apikeyd.revision, apikeyd.feed_floor TO apikeyd_check;
GRANT EXECUTE ON FUNCTION apikeyd.trigger_faults(), apikeyd.daemon_seen(uuid, text, int, text, bigint) TO apikeyd_check;

-- Administration through the daemon.
GRANT INSERT, UPDATE, DELETE ON apikeyd.organization, apikeyd.page, apikeyd.user, apikeyd.organization_member,
    apikeyd.page_member
  TO apikeyd_admin, apikeyd_platform;
GRANT INSERT, DELETE ON apikeyd.key_page, apikeyd.key_scope, apikeyd.key_network TO apikeyd_admin, apikeyd_platform;
GRANT INSERT (id, kind, organization_id, user_id, access, name, hash, pepper_version, narrowed_pages, narrowed_scopes,
    narrowed_networks, narrowed_rate, rate_count, rate_period_s, not_before, expires_at, created_by)
  ON apikeyd.key TO apikeyd_admin;
GRANT UPDATE (name, narrowed_pages, narrowed_scopes, narrowed_networks, narrowed_rate, rate_count, rate_period_s,
    not_before, expires_at, retired_at, successor, disabled_at, revoked_at)
  ON apikeyd.key TO apikeyd_admin, apikeyd_platform;
GRANT EXECUTE ON FUNCTION apikeyd.register_pepper(smallint, bytea), apikeyd.trigger_faults() TO apikeyd_admin;
GRANT SELECT ON apikeyd.daemon TO apikeyd_admin;

-- The platform's own SQL: scopes and roles are its data.
GRANT INSERT, UPDATE, DELETE ON apikeyd.scope, apikeyd.role, apikeyd.role_scope TO apikeyd_platform;

-- The auditor.
GRANT SELECT (version, created_at) ON apikeyd.pepper TO apikeyd_auditor;
GRANT SELECT ON apikeyd.change, apikeyd.revision, apikeyd.feed_floor, apikeyd.daemon TO apikeyd_auditor;
GRANT EXECUTE ON FUNCTION apikeyd.explain_rights(text, text, text, text, inet, timestamptz), apikeyd.trigger_faults()
  TO apikeyd_auditor;

DO $$ BEGIN PERFORM apikeyd.force_reload(); END $$;

COMMIT;
