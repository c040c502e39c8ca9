-- The oracle: each clause of the rule, in its order; and each can be taken out by itself.
BEGIN;
SELECT plan(99);

INSERT INTO apikeyd.organization (id, slug, standing) VALUES (9401, 'e-one', 'active'), (9402, 'e-two', 'active'), (9403, 'e-off', 'suspended');
INSERT INTO apikeyd.page (id, organization_id, slug, standing) VALUES (9401, 9401, 'e-one-a', 'active'), (9402, 9401, 'e-one-b', 'active'),
  (9403, 9401, 'e-one-old', 'archived'), (9404, 9402, 'e-two-a', 'active'), (9405, 9403, 'e-off-a', 'active'), (9406, 9403, 'e-off-old', 'archived');
INSERT INTO apikeyd.user (id, email, standing)
  SELECT 9400 + n, name || '@e.example', CASE name WHEN 'gone' THEN 'suspended' ELSE 'active' END
  FROM unnest(ARRAY['owner', 'admin', 'editor', 'viewer', 'billing', 'up', 'down', 'pageonly', 'both', 'nobody', 'gone', 'off']) WITH ORDINALITY AS u (name, n);
INSERT INTO apikeyd.organization_member (organization_id, user_id, role) VALUES (9401, 9401, 'owner'), (9401, 9402, 'admin'), (9401, 9403, 'editor'),
  (9401, 9404, 'viewer'), (9401, 9405, 'billing'), (9401, 9406, 'viewer'), (9401, 9407, 'owner'), (9401, 9409, 'admin'), (9402, 9409, 'viewer'),
  (9401, 9411, 'owner'), (9403, 9412, 'owner');
INSERT INTO apikeyd.page_member (page_id, user_id, role) VALUES (9402, 9406, 'admin'), (9402, 9407, 'viewer'), (9401, 9408, 'editor');

INSERT INTO apikeyd.pepper VALUES (941, sha256('p'));
INSERT INTO apikeyd.key (id, kind, user_id, hash, pepper_version)
  SELECT 'EUser' || lpad(u.id::text, 5, '0'), 'user', u.id, sha256('k'), 941 FROM apikeyd.user u WHERE u.id BETWEEN 9401 AND 9412;
INSERT INTO apikeyd.key (id, kind, organization_id, access, hash, pepper_version, narrowed_pages, narrowed_scopes, narrowed_networks) VALUES
  ('EOrgRead01', 'organization', 9401, 'read',  sha256('k'), 941, false, false, false),
  ('EOrgWrite1', 'organization', 9401, 'write', sha256('k'), 941, false, false, false),
  ('EOrgPages1', 'organization', 9401, 'write', sha256('k'), 941, true,  false, false),
  ('EOrgScope1', 'organization', 9401, 'write', sha256('k'), 941, false, true,  false),
  ('EOrgNets01', 'organization', 9401, 'read',  sha256('k'), 941, false, false, true),
  ('EOrgEmpty1', 'organization', 9401, 'write', sha256('k'), 941, true,  true,  false),
  ('EOrgNoNet1', 'organization', 9401, 'write', sha256('k'), 941, false, false, true),
  ('EOrgOff001', 'organization', 9403, 'write', sha256('k'), 941, false, false, false);
INSERT INTO apikeyd.key_page (key_id, page_id) VALUES ('EOrgPages1', 9401);
INSERT INTO apikeyd.key_scope VALUES ('EOrgScope1', 'incident:write'), ('EOrgScope1', 'page:delete'), ('EOrgScope1', 'metric:read'), ('EOrgScope1', 'member:read');
INSERT INTO apikeyd.key_network VALUES ('EOrgNets01', '192.0.2.0/24'), ('EOrgNets01', '2001:db8::/32'), ('EOrgNets01', '::/64');
-- Each state together with all that come after it in the rule: the first must win.
INSERT INTO apikeyd.key (id, kind, user_id, hash, pepper_version, revoked_at, retired_at, disabled_at, not_before, expires_at, narrowed_networks) VALUES
  ('EStateRevo', 'user', 9411, sha256('k'), 941, '2024-01-01Z', '2024-01-01Z', '2024-01-01Z', '2030-01-01Z', '2031-01-01Z', true),
  ('EStateReti', 'user', 9411, sha256('k'), 941, NULL,          '2024-01-01Z', '2024-01-01Z', '2030-01-01Z', '2031-01-01Z', true),
  ('EStateDisa', 'user', 9411, sha256('k'), 941, NULL,          '2029-01-01Z', '2024-01-01Z', '2030-01-01Z', '2031-01-01Z', true),
  ('EStateTime', 'user', 9411, sha256('k'), 941, NULL,          '2040-01-01Z', NULL,          '2030-01-01Z', '2031-01-01Z', true);
INSERT INTO apikeyd.key (id, kind, organization_id, access, hash, pepper_version, narrowed_rate, rate_count, rate_period_s) VALUES
  ('EOrgRate01', 'organization', 9401, 'read', sha256('k'), 941, true, 5, 60);

CREATE FUNCTION pg_temp.asks(key text, scope text, page text, org text, wanted text, addr inet DEFAULT NULL, at timestamptz DEFAULT '2026-01-01Z')
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  r record;
BEGIN
  SELECT * INTO r FROM apikeyd.explain_rights(key, scope, page, org, addr, at);
  RETURN is(concat_ws(' ', r.reason, r.missing_scope, 'needs ' || r.needs_role) || CASE WHEN (r.verdict = 'allow') = (r.reason = 'ok') AND r.verdict IN ('allow', 'deny') THEN '' ELSE ' but ' || r.verdict END,
    wanted, concat_ws(' ', key, scope, 'on', page, 'in', org, 'from', addr));
END $$;

-- the key
SELECT pg_temp.asks('ENoSuchKey', 'page:read', 'e-one-a', NULL, 'unknown_key');
SELECT pg_temp.asks('EStateRevo', 'page:read', 'e-one-a', NULL, 'revoked');
SELECT pg_temp.asks('EStateReti', 'page:read', 'e-one-a', NULL, 'retired');
SELECT pg_temp.asks('EStateReti', 'page:read', 'e-one-a', NULL, 'retired', NULL, '2024-01-01Z');
SELECT pg_temp.asks('EStateReti', 'page:read', 'e-one-a', NULL, 'disabled', NULL, '2023-12-31 23:59:59.999999Z');
SELECT pg_temp.asks('EStateDisa', 'page:read', 'e-one-a', NULL, 'disabled');
SELECT pg_temp.asks('EStateTime', 'page:read', 'e-one-a', NULL, 'not_yet_valid', NULL, '2029-12-31 23:59:59.999999Z');
SELECT pg_temp.asks('EStateTime', 'page:read', 'e-one-a', NULL, 'user_suspended', NULL, '2030-01-01Z');
SELECT pg_temp.asks('EStateTime', 'page:read', 'e-one-a', NULL, 'user_suspended', NULL, '2030-12-31 23:59:59.999999Z');
SELECT pg_temp.asks('EStateTime', 'page:read', 'e-one-a', NULL, 'expired', NULL, '2031-01-01Z');
SELECT pg_temp.asks('EUser09411', 'no:such', 'e-no', NULL, 'user_suspended');
SELECT pg_temp.asks('EOrgNets01', 'page:read', 'e-one-a', NULL, 'ok', '192.0.2.77');
SELECT pg_temp.asks('EOrgNets01', 'page:read', 'e-one-a', NULL, 'ok', '2001:db8:1::1');
SELECT pg_temp.asks('EOrgNets01', 'page:read', 'e-one-a', NULL, 'ok', '::ffff:192.0.2.77');
SELECT pg_temp.asks('EOrgNets01', 'page:read', 'e-one-a', NULL, 'network', '::ffff:192.0.3.77');
SELECT pg_temp.asks('EOrgNets01', 'page:read', 'e-one-a', NULL, 'ok', '::1');
SELECT pg_temp.asks('EOrgNets01', 'page:read', 'e-one-a', NULL, 'network', '192.0.3.1');
SELECT pg_temp.asks('EOrgNets01', 'page:read', 'e-one-a', NULL, 'network', '2001:db9::1');
SELECT pg_temp.asks('EOrgNets01', 'page:read', 'e-one-a', NULL, 'ok', '192.0.2.77/8');
SELECT pg_temp.asks('EOrgNets01', 'no:such', 'e-no', NULL, 'network');
SELECT pg_temp.asks('EOrgNoNet1', 'page:read', 'e-one-a', NULL, 'network', '192.0.2.77');
SELECT pg_temp.asks('EOrgRate01', 'page:read', 'e-one-a', NULL, 'ok'); -- no rate is judged in SQL

-- the scope
SELECT pg_temp.asks('EUser09401', 'no:such', 'e-no', NULL, 'unknown_scope');
SELECT pg_temp.asks('EUser09401', 'page:create', 'e-no', NULL, 'unknown_scope');
SELECT pg_temp.asks('EUser09401', 'page:read', NULL, 'e-no', 'unknown_scope');
SELECT pg_temp.asks('EUser09401', 'member:read', 'e-one-a', NULL, 'ok');
SELECT pg_temp.asks('EUser09401', 'member:read', NULL, NULL, 'ok');

-- the place, with a page
SELECT pg_temp.asks('EUser09401', 'page:read', 'e-no', NULL, 'unknown_page');
SELECT pg_temp.asks('EUser09401', 'page:read', 'E-ONE-A', NULL, 'unknown_page');
SELECT pg_temp.asks('EUser09401', 'page:read', 'e-one-a', 'e-one', 'ok');
SELECT pg_temp.asks('EUser09401', 'page:read', 'e-one-a', 'e-two', 'unknown_page');
SELECT pg_temp.asks('EUser09401', 'page:read', 'e-one-a', 'e-no', 'unknown_page');
SELECT pg_temp.asks('EUser09401', 'page:read', 'e-two-a', NULL, 'unknown_page');
SELECT pg_temp.asks('EUser09410', 'page:read', 'e-one-a', NULL, 'unknown_page');
SELECT pg_temp.asks('EUser09408', 'page:read', 'e-one-a', NULL, 'ok');
SELECT pg_temp.asks('EUser09408', 'page:read', 'e-one-b', NULL, 'unknown_page');
SELECT pg_temp.asks('EUser09409', 'page:read', 'e-two-a', NULL, 'ok');
SELECT pg_temp.asks('EOrgRead01', 'page:read', 'e-one-a', NULL, 'ok');
SELECT pg_temp.asks('EOrgRead01', 'page:read', 'e-two-a', NULL, 'unknown_page');
SELECT pg_temp.asks('EOrgRead01', 'page:read', 'e-one-a', 'e-two', 'unknown_page');
SELECT pg_temp.asks('EOrgRead01', 'page:read', 'e-two-a', 'e-two', 'unknown_page');

-- without
SELECT pg_temp.asks('EUser09401', 'org:write', NULL, NULL, 'ok');
SELECT pg_temp.asks('EUser09401', 'org:write', NULL, 'e-one', 'ok');
SELECT pg_temp.asks('EUser09401', 'org:write', NULL, 'e-two', 'not_member');
SELECT pg_temp.asks('EUser09401', 'org:write', NULL, 'e-no', 'not_member');
SELECT pg_temp.asks('EUser09409', 'org:write', NULL, NULL, 'not_member');
SELECT pg_temp.asks('EUser09409', 'org:write', NULL, 'e-one', 'ok');
SELECT pg_temp.asks('EUser09409', 'org:write', NULL, 'e-two', 'scope_not_granted org:write needs admin');
SELECT pg_temp.asks('EUser09408', 'member:read', NULL, NULL, 'not_member');
SELECT pg_temp.asks('EUser09408', 'member:read', NULL, 'e-one', 'not_member');
SELECT pg_temp.asks('EUser09410', 'member:read', NULL, NULL, 'not_member');
SELECT pg_temp.asks('EOrgRead01', 'audit:read', NULL, NULL, 'ok');
SELECT pg_temp.asks('EOrgRead01', 'audit:read', NULL, 'e-one', 'ok');
SELECT pg_temp.asks('EOrgRead01', 'audit:read', NULL, 'e-two', 'not_member');
SELECT pg_temp.asks('EOrgRead01', 'audit:read', NULL, 'e-no', 'not_member');

-- its standing
SELECT pg_temp.asks('EUser09412', 'page:read', 'e-off-a', NULL, 'org_suspended');
SELECT pg_temp.asks('EUser09412', 'page:write', 'e-off-old', NULL, 'org_suspended');
SELECT pg_temp.asks('EUser09412', 'org:write', NULL, NULL, 'org_suspended');
SELECT pg_temp.asks('EUser09412', 'org:write', NULL, 'e-off', 'org_suspended');
SELECT pg_temp.asks('EOrgOff001', 'audit:read', NULL, NULL, 'org_suspended');
SELECT pg_temp.asks('EUser09401', 'page:write', 'e-one-old', NULL, 'page_archived');
SELECT pg_temp.asks('EUser09401', 'page:read', 'e-one-old', NULL, 'ok');
SELECT pg_temp.asks('EUser09404', 'page:write', 'e-one-old', NULL, 'page_archived');
SELECT pg_temp.asks('EOrgPages1', 'page:write', 'e-one-old', NULL, 'page_archived');
SELECT pg_temp.asks('EOrgPages1', 'page:read', 'e-one-old', NULL, 'page_not_granted');
SELECT pg_temp.asks('EOrgPages1', 'page:write', 'e-one-a', NULL, 'ok');
SELECT pg_temp.asks('EOrgPages1', 'page:write', 'e-one-b', NULL, 'page_not_granted');
SELECT pg_temp.asks('EOrgPages1', 'audit:read', NULL, NULL, 'page_not_granted');
SELECT pg_temp.asks('EOrgEmpty1', 'page:read', 'e-one-a', NULL, 'page_not_granted');

-- the right: roles
SELECT pg_temp.asks('EUser09403', 'incident:write', 'e-one-a', NULL, 'ok');
SELECT pg_temp.asks('EUser09404', 'incident:write', 'e-one-a', NULL, 'scope_not_granted incident:write needs editor');
SELECT pg_temp.asks('EUser09405', 'page:read', 'e-one-a', NULL, 'scope_not_granted page:read needs viewer');
SELECT pg_temp.asks('EUser09405', 'billing:read', NULL, NULL, 'ok');
SELECT pg_temp.asks('EUser09402', 'billing:read', NULL, NULL, 'scope_not_granted billing:read needs billing');
SELECT pg_temp.asks('EUser09402', 'page:delete', 'e-one-a', NULL, 'scope_not_granted page:delete needs owner');
SELECT pg_temp.asks('EUser09401', 'page:delete', 'e-one-a', NULL, 'ok');
SELECT pg_temp.asks('EUser09406', 'page:write', 'e-one-b', NULL, 'ok');
SELECT pg_temp.asks('EUser09406', 'page:write', 'e-one-a', NULL, 'scope_not_granted page:write needs admin');
SELECT pg_temp.asks('EUser09407', 'page:write', 'e-one-b', NULL, 'scope_not_granted page:write needs admin');
SELECT pg_temp.asks('EUser09407', 'page:write', 'e-one-a', NULL, 'ok');
SELECT pg_temp.asks('EUser09407', 'org:write', NULL, NULL, 'ok');
SELECT pg_temp.asks('EUser09408', 'subscriber:read', 'e-one-a', NULL, 'scope_not_granted subscriber:read needs admin');

-- access
SELECT pg_temp.asks('EOrgRead01', 'incident:write', 'e-one-a', NULL, 'scope_not_granted incident:write needs write');
SELECT pg_temp.asks('EOrgWrite1', 'incident:write', 'e-one-a', NULL, 'ok');
SELECT pg_temp.asks('EOrgWrite1', 'member:read', NULL, NULL, 'scope_not_granted member:read');
SELECT pg_temp.asks('EOrgWrite1', 'page:delete', 'e-one-a', NULL, 'scope_not_granted page:delete');
SELECT pg_temp.asks('EOrgRead01', 'page:delete', 'e-one-a', NULL, 'scope_not_granted page:delete');

-- the key's own scopes
SELECT pg_temp.asks('EOrgScope1', 'page:delete', 'e-one-a', NULL, 'ok');
SELECT pg_temp.asks('EOrgScope1', 'incident:write', 'e-one-a', NULL, 'ok');
SELECT pg_temp.asks('EOrgScope1', 'incident:read', 'e-one-a', NULL, 'ok');
SELECT pg_temp.asks('EOrgScope1', 'metric:read', 'e-one-a', NULL, 'ok');
SELECT pg_temp.asks('EOrgScope1', 'metric:write', 'e-one-a', NULL, 'scope_not_granted metric:write');
SELECT pg_temp.asks('EOrgScope1', 'page:read', 'e-one-a', NULL, 'scope_not_granted page:read');
SELECT pg_temp.asks('EOrgScope1', 'incident:delete', 'e-one-a', NULL, 'scope_not_granted incident:delete');
SELECT pg_temp.asks('EOrgScope1', 'member:read', NULL, NULL, 'scope_not_granted member:read');

-- who and where
SELECT results_eq($$SELECT organization, "user" FROM apikeyd.explain_rights('EUser09409', 'page:read', 'e-two-a')$$, $$VALUES ('e-two', 'both@e.example')$$, 'the organization in question and the user');
SELECT results_eq($$SELECT organization, "user" FROM apikeyd.explain_rights('EOrgRead01', 'page:read', 'e-two-a')$$, $$VALUES ('e-one', NULL::text)$$, 'an organization key''s own');

-- each clause can be taken out
CREATE FUNCTION pg_temp.without_each(OUT clause text, OUT fault text) RETURNS SETOF record LANGUAGE plpgsql AS $$
DECLARE
  source text := pg_get_functiondef('apikeyd.explain_rights'::regproc);
  m text[];
BEGIN
  FOR m IN SELECT regexp_matches(source, '(\n *?-- clause: (\w+?)\n.*?)(?=\n *?-- (?:clause: |end clauses))', 'g') LOOP
    clause := m[2];
    fault := NULL;
    BEGIN
      EXECUTE replace(source, m[1], '');
      PERFORM apikeyd.explain_rights('EOrgScope1', 'page:delete', 'e-one-a'), apikeyd.explain_rights('EUser09409', 'org:write'), apikeyd.explain_rights('ENoSuchKey', 'page:read', 'e-one-a');
    EXCEPTION WHEN OTHERS THEN
      fault := SQLERRM;
    END;
    RETURN NEXT;
  END LOOP;
  EXECUTE source;
END $$;
CREATE TEMPORARY TABLE without AS SELECT * FROM pg_temp.without_each();
SELECT cmp_ok(count(*), '>=', 36::bigint, 'there are clauses') FROM without;
SELECT is_empty('SELECT * FROM without WHERE fault IS NOT NULL', 'each clause can be taken out, and what is left still runs');

SELECT * FROM finish();
ROLLBACK;
