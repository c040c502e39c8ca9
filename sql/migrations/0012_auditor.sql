-- The auditor's screen: role apikeyd_auditor reads views, and no table. No view shows a hash; names stand beside ids.
BEGIN;
SET LOCAL ROLE apikeyd_owner;
DO $$ BEGIN PERFORM apikeyd.schema_step(12, 'auditor'); END $$;

-- ---- the domain, with names ----

CREATE VIEW apikeyd.scopes AS
SELECT s.name, s.page_level, s.organization_level, s.description FROM apikeyd.scope s;
COMMENT ON VIEW apikeyd.scopes IS 'What can be asked for, `resource:action`.';

CREATE VIEW apikeyd.roles AS
SELECT r.place, r.name, r.rank, r.description FROM apikeyd.role r;
COMMENT ON VIEW apikeyd.roles IS 'The roles that a user can have in an organization or on a page, and the access that an organization key can have.';

CREATE VIEW apikeyd.role_scopes AS
SELECT h.place, h.role, h.scope, h.when_named FROM apikeyd.role_scope h;
COMMENT ON VIEW apikeyd.role_scopes IS 'Which role holds which scope.';

CREATE VIEW apikeyd.organizations AS
SELECT o.id, o.slug, o.name, o.standing, o.created_at FROM apikeyd.organization o;
COMMENT ON VIEW apikeyd.organizations IS 'Organizations.';

CREATE VIEW apikeyd.pages AS
SELECT p.id, p.slug, p.organization_id, o.slug AS organization, p.name, p.standing, p.created_at
FROM apikeyd.page p JOIN apikeyd.organization o ON o.id = p.organization_id;
COMMENT ON VIEW apikeyd.pages IS 'Status pages, each with its organization.';
COMMENT ON COLUMN apikeyd.pages.organization IS 'The slug of its organization.';

CREATE VIEW apikeyd.users AS
SELECT u.id, u.email, u.name, u.standing, u.created_at FROM apikeyd.user u;
COMMENT ON VIEW apikeyd.users IS 'People.';

CREATE VIEW apikeyd.organization_members AS
SELECT m.organization_id, o.slug AS organization, m.user_id, u.email, m.role
FROM apikeyd.organization_member m JOIN apikeyd.organization o ON o.id = m.organization_id JOIN apikeyd.user u ON u.id = m.user_id;
COMMENT ON VIEW apikeyd.organization_members IS 'Who has which role in which organization.';
COMMENT ON COLUMN apikeyd.organization_members.organization IS 'The slug of the organization.';
COMMENT ON COLUMN apikeyd.organization_members.email IS 'The user''s email.';

CREATE VIEW apikeyd.page_members AS
SELECT m.page_id, p.slug AS page, m.organization_id, o.slug AS organization, m.user_id, u.email, m.role
FROM apikeyd.page_member m JOIN apikeyd.page p ON p.id = m.page_id JOIN apikeyd.organization o ON o.id = m.organization_id
JOIN apikeyd.user u ON u.id = m.user_id;
COMMENT ON VIEW apikeyd.page_members IS 'Who has which role on which page, whatever the role in the organization.';
COMMENT ON COLUMN apikeyd.page_members.page IS 'The slug of the page.';
COMMENT ON COLUMN apikeyd.page_members.organization IS 'The slug of its organization.';
COMMENT ON COLUMN apikeyd.page_members.email IS 'The user''s email.';

CREATE VIEW apikeyd.keys AS
SELECT k.id, k.kind, k.organization_id, o.slug AS organization, k.user_id, u.email, k.access, k.name,
       CASE WHEN k.revoked_at IS NOT NULL THEN 'revoked' WHEN k.retired_at <= now() THEN 'retired' WHEN k.disabled_at IS NOT NULL THEN 'disabled'
            WHEN now() < k.not_before THEN 'not_yet_valid' WHEN now() >= k.expires_at THEN 'expired'
            WHEN u.standing = 'suspended' THEN 'user_suspended' WHEN o.standing = 'suspended' THEN 'org_suspended' ELSE 'live' END AS state,
       k.narrowed_pages, k.narrowed_scopes, k.narrowed_networks, k.narrowed_rate, k.rate_count, k.rate_period_s, k.not_before,
       k.expires_at, k.retired_at, k.successor, k.disabled_at, k.revoked_at, k.created_at, k.created_by, k.pepper_version
FROM apikeyd.key k LEFT JOIN apikeyd.organization o ON o.id = k.organization_id LEFT JOIN apikeyd.user u ON u.id = k.user_id;
COMMENT ON VIEW apikeyd.keys IS 'API keys: whose they are, their state, and how they are narrowed. Never a hash.';
COMMENT ON COLUMN apikeyd.keys.organization IS 'Of an organization key: the slug of its organization.';
COMMENT ON COLUMN apikeyd.keys.email IS 'Of a user key: its user''s email.';
COMMENT ON COLUMN apikeyd.keys.state IS 'live; or the first reason why it is denied everything now.';

CREATE VIEW apikeyd.key_pages AS
SELECT g.key_id, g.page_id, p.slug AS page FROM apikeyd.key_page g JOIN apikeyd.page p ON p.id = g.page_id;
COMMENT ON VIEW apikeyd.key_pages IS 'The pages that keys are narrowed to.';
COMMENT ON COLUMN apikeyd.key_pages.page IS 'The slug of that page.';

CREATE VIEW apikeyd.key_scopes AS
SELECT g.key_id, g.scope FROM apikeyd.key_scope g;
COMMENT ON VIEW apikeyd.key_scopes IS 'The scopes that keys are narrowed to.';

CREATE VIEW apikeyd.key_networks AS
SELECT g.key_id, g.network FROM apikeyd.key_network g;
COMMENT ON VIEW apikeyd.key_networks IS 'The networks that keys are narrowed to.';

CREATE VIEW apikeyd.peppers AS
SELECT p.version, p.created_at, (SELECT count(*) FROM apikeyd.key k WHERE k.pepper_version = p.version) AS keys FROM apikeyd.pepper p;
COMMENT ON VIEW apikeyd.peppers IS 'The versions of the pepper.';
COMMENT ON COLUMN apikeyd.peppers.keys IS 'How many keys there are under it.';

-- ---- the change log, the schema and its settings ----

CREATE VIEW apikeyd.changes AS
SELECT r.rev, r.made_at, c.kind, c.id, c.key_id FROM apikeyd.change c JOIN apikeyd.revision r ON r.txn = c.txn;
COMMENT ON VIEW apikeyd.changes IS 'The change log that the daemons follow: which thing changed with which revision. It goes back an hour or so; apikeyd.administration says what changed, and goes back for years.';

CREATE VIEW apikeyd.revisions AS
SELECT r.rev, r.txn, r.made_at FROM apikeyd.revision r;
COMMENT ON VIEW apikeyd.revisions IS 'The revisions that the change log still has.';

CREATE VIEW apikeyd.timelines AS
SELECT t.system_identifier, t.timeline, t.noticed_at FROM apikeyd.timeline t;
COMMENT ON VIEW apikeyd.timelines IS 'The clusters and timelines that this schema has lived on: a promotion or a restore shows here.';

CREATE VIEW apikeyd.schema_migrations AS
SELECT m.version, m.name, m.installed_at, m.installed_by FROM apikeyd.schema_migration m;
COMMENT ON VIEW apikeyd.schema_migrations IS 'The migrations that this database has had.';

CREATE VIEW apikeyd.settings AS
SELECT v.name, v.setting, v.meaning
FROM apikeyd.ledger_setting s, apikeyd.longest_lease l, apikeyd.feed_floor f,
LATERAL (VALUES
  ('ledger.keep_events', s.keep_events::text, 'how long events are kept'),
  ('ledger.keep_minutes', s.keep_minutes::text, 'how long verdicts stay counted by the minute'),
  ('ledger.keep_hours', s.keep_hours::text, 'how long they stay counted by the hour'),
  ('ledger.keep_days', s.keep_days::text, 'how long they are kept at all'),
  ('ledger.keep_admin', s.keep_admin::text, 'how long administration is kept'),
  ('ledger.keep_batches', s.keep_batches::text, 'how long heads are kept of which nothing else is left'),
  ('longest_lease', l.lease::text, 'the longest that a daemon may answer from what it has read'),
  ('change_log.from', f.rev::text, 'the revision that the change log begins after')) AS v (name, setting, meaning);
COMMENT ON VIEW apikeyd.settings IS 'What this schema is set to.';
COMMENT ON COLUMN apikeyd.settings.name IS 'The setting.';
COMMENT ON COLUMN apikeyd.settings.setting IS 'What it is set to.';
COMMENT ON COLUMN apikeyd.settings.meaning IS 'What it means.';

-- A column of a view that a table has under the same name means the same.
DO $$
DECLARE
  copied record;
BEGIN
  FOR copied IN
    SELECT v.relname AS view, va.attname, col_description(t.oid, ta.attnum) AS what
    FROM (VALUES ('scopes', 'scope'), ('roles', 'role'), ('role_scopes', 'role_scope'), ('organizations', 'organization'), ('pages', 'page'),
                 ('users', 'user'), ('organization_members', 'organization_member'), ('page_members', 'page_member'), ('keys', 'key'),
                 ('key_pages', 'key_page'), ('key_scopes', 'key_scope'), ('key_networks', 'key_network'), ('peppers', 'pepper'),
                 ('changes', 'revision'), ('changes', 'change'), ('revisions', 'revision'), ('timelines', 'timeline'),
                 ('schema_migrations', 'schema_migration')) AS w (view, tab)
    JOIN pg_catalog.pg_class v ON v.relname = w.view AND v.relnamespace = 'apikeyd'::regnamespace
    JOIN pg_catalog.pg_class t ON t.relname = w.tab AND t.relnamespace = 'apikeyd'::regnamespace
    JOIN pg_catalog.pg_attribute va ON va.attrelid = v.oid AND va.attnum > 0
    JOIN pg_catalog.pg_attribute ta ON ta.attrelid = t.oid AND ta.attname = va.attname AND NOT ta.attisdropped
    WHERE col_description(v.oid, va.attnum) IS NULL
  LOOP
    EXECUTE format('COMMENT ON COLUMN apikeyd.%I.%I IS %L', copied.view, copied.attname, copied.what);
  END LOOP;
END
$$;

-- ---- grants ----

DO $$
DECLARE
  name text;
BEGIN
  FOR name IN SELECT c.relname FROM pg_catalog.pg_class c WHERE c.relnamespace = 'apikeyd'::regnamespace AND c.relkind IN ('r', 'p') LOOP
    EXECUTE format('REVOKE ALL ON apikeyd.%I FROM apikeyd_auditor', name);
  END LOOP;
END
$$;
GRANT SELECT ON apikeyd.scopes, apikeyd.roles, apikeyd.role_scopes, apikeyd.organizations, apikeyd.pages, apikeyd.users,
    apikeyd.organization_members, apikeyd.page_members, apikeyd.keys, apikeyd.key_pages, apikeyd.key_scopes, apikeyd.key_networks,
    apikeyd.peppers, apikeyd.changes, apikeyd.revisions, apikeyd.timelines, apikeyd.schema_migrations, apikeyd.settings
  TO apikeyd_auditor;
DO $$
BEGIN
  -- Roles belong to the whole cluster: where this role is no member of it, the comment stays as it is.
  COMMENT ON ROLE apikeyd_auditor IS 'apikeyd: reads views, none of which shows a hash; changes nothing; may run apikeyd.explain_rights.';
EXCEPTION WHEN insufficient_privilege THEN
  NULL;
END
$$;
-- These read the tables for it.
ALTER FUNCTION apikeyd.explain_rights(text, text, text, text, inet, timestamptz) SECURITY DEFINER;
ALTER FUNCTION apikeyd.schema_version() SECURITY DEFINER;

DO $$ BEGIN PERFORM apikeyd.force_reload(); END $$;

COMMIT;
