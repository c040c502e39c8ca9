-- The scopes and the role table are those of the design, cell by cell.
BEGIN;
SELECT plan(6);

-- org: owner admin editor viewer billing; page: owner admin editor viewer; key: read write. N: only when named.
CREATE TEMPORARY TABLE design (scope text, levels text, org_owner text, org_admin text, page_owner text, page_admin text,
  editor text, viewer text, billing text, key_read text, key_write text);
INSERT INTO design
SELECT s, v.levels, v.oo, v.oa, v.po, v.pa, v.e, v.v, v.b, v.kr, v.kw
FROM (VALUES
  ('page:read service:read incident:read maintenance:read notice:read metric:read', 'p', 'x', 'x', 'x', 'x', 'x', 'x', '-', 'x', 'x'),
  ('incident:write maintenance:write notice:write', 'p',                'x', 'x', 'x', 'x', 'x', '-', '-', '-', 'x'),
  ('service:write metric:write page:write metric:push', 'p',            'x', 'x', 'x', 'x', '-', '-', '-', '-', 'x'),
  ('incident:delete', 'p',                                              'x', 'x', 'x', 'x', '-', '-', '-', '-', 'x'),
  ('subscriber:read', 'p',                                              'x', 'x', 'x', 'x', '-', '-', '-', 'x', 'x'),
  ('subscriber:write', 'p',                                             'x', 'x', 'x', 'x', '-', '-', '-', '-', 'x'),
  ('page:create', 'o',                                                  'x', 'x', '-', '-', '-', '-', '-', '-', 'x'),
  ('page:delete', 'p',                                                  'x', '-', 'x', '-', '-', '-', '-', '-', 'N'),
  ('member:read', 'po',                                                 'x', 'x', 'x', 'x', '-', '-', '-', '-', '-'),
  ('member:write', 'po',                                                'x', '-', 'x', '-', '-', '-', '-', '-', '-'),
  ('apikey:manage org:write', 'o',                                      'x', 'x', '-', '-', '-', '-', '-', '-', '-'),
  ('audit:read', 'po',                                                  'x', 'x', 'x', 'x', '-', '-', '-', 'x', 'x'),
  ('billing:read', 'o',                                                 'x', '-', '-', '-', '-', '-', 'x', '-', '-'),
  ('billing:write', 'o',                                                'x', '-', '-', '-', '-', '-', '-', '-', '-')
) AS v (scopes, levels, oo, oa, po, pa, e, v, b, kr, kw), unnest(string_to_array(v.scopes, ' ')) AS s;

CREATE TEMPORARY VIEW wanted AS
SELECT c.place, c.role, d.scope, c.has = 'N' AS when_named
FROM design d, LATERAL (VALUES
  ('organization', 'owner', d.org_owner), ('organization', 'admin', d.org_admin), ('organization', 'editor', d.editor),
  ('organization', 'viewer', d.viewer), ('organization', 'billing', d.billing),
  ('page', 'owner', d.page_owner), ('page', 'admin', d.page_admin), ('page', 'editor', d.editor), ('page', 'viewer', d.viewer),
  ('key', 'read', d.key_read), ('key', 'write', d.key_write)) AS c (place, role, has)
WHERE c.has <> '-';

SELECT is(count(*), 25::bigint, 'the design has 25 scopes') FROM design;
SELECT set_eq('SELECT name, page_level, organization_level FROM apikeyd.scope',
  $$SELECT scope, levels LIKE '%p%' AS page, levels LIKE '%o%' AS organization FROM design$$, 'each scope has its levels');
SELECT set_eq('SELECT place, role, scope, when_named FROM apikeyd.role_scope', 'SELECT * FROM wanted', 'each cross of the role table');
SELECT results_eq($$SELECT name FROM apikeyd.role WHERE place = 'organization' ORDER BY rank$$,
  $$VALUES ('billing' COLLATE "C"), ('viewer'), ('editor'), ('admin'), ('owner')$$, 'organization roles by rank');
SELECT results_eq($$SELECT name FROM apikeyd.role WHERE place = 'page' ORDER BY rank$$,
  $$VALUES ('viewer' COLLATE "C"), ('editor'), ('admin'), ('owner')$$, 'page roles by rank');
SELECT results_eq($$SELECT name FROM apikeyd.role WHERE place = 'key' ORDER BY rank$$,
  $$VALUES ('read' COLLATE "C"), ('write')$$, 'accesses by rank');

SELECT * FROM finish();
ROLLBACK;
