-- The scopes and the role table that apikeyd comes with. Data: a platform changes it and adds to it.
BEGIN;
SET LOCAL ROLE apikeyd_owner;
DO $$ BEGIN PERFORM apikeyd.schema_step(3, 'default_roles'); END $$;

INSERT INTO apikeyd.scope (name, page_level, organization_level, description) VALUES
  ('page:read',          true,  false, 'see a page and its settings'),
  ('service:read',       true,  false, 'see the services shown on a page'),
  ('incident:read',      true,  false, 'see incidents'),
  ('maintenance:read',   true,  false, 'see planned maintenance'),
  ('notice:read',        true,  false, 'see notices'),
  ('metric:read',        true,  false, 'see metrics'),
  ('incident:write',     true,  false, 'open, change and close incidents'),
  ('maintenance:write',  true,  false, 'plan and change maintenance'),
  ('notice:write',       true,  false, 'publish and change notices'),
  ('service:write',      true,  false, 'add, change and remove the services shown on a page'),
  ('metric:write',       true,  false, 'define metrics'),
  ('page:write',         true,  false, 'change a page''s settings'),
  ('metric:push',        true,  false, 'send the values of metrics'),
  ('incident:delete',    true,  false, 'delete incidents with their history'),
  ('subscriber:read',    true,  false, 'see who has subscribed to a page: personal data'),
  ('subscriber:write',   true,  false, 'add and remove subscribers'),
  ('page:create',        false, true,  'add pages to the organization'),
  ('page:delete',        true,  false, 'delete a page with all that is on it'),
  ('member:read',        true,  true,  'see who has which role'),
  ('member:write',       true,  true,  'give and take roles'),
  ('apikey:manage',      false, true,  'make, change and revoke the organization''s keys'),
  ('org:write',          false, true,  'change the organization''s settings'),
  ('audit:read',         true,  true,  'see what keys were used for'),
  ('billing:read',       false, true,  'see invoices and the plan'),
  ('billing:write',      false, true,  'change the plan and how it is paid');

-- Billing stands beside the ladder. Its rank is the lowest, so that a refusal of billing:read names it.
INSERT INTO apikeyd.role (place, name, rank, description) VALUES
  ('organization', 'billing', 5,  'pays; sees nothing else'),
  ('organization', 'viewer',  10, 'sees all pages'),
  ('organization', 'editor',  20, 'writes incidents, maintenance and notices on all pages'),
  ('organization', 'admin',   30, 'runs all pages and the organization, but gives no roles'),
  ('organization', 'owner',   40, 'may do everything'),
  ('page',         'viewer',  10, 'sees the page'),
  ('page',         'editor',  20, 'writes incidents, maintenance and notices on the page'),
  ('page',         'admin',   30, 'runs the page, but gives no roles on it'),
  ('page',         'owner',   40, 'may do everything with the page'),
  ('key',          'read',    10, 'an organization key that sees'),
  ('key',          'write',   20, 'an organization key that sees and changes');

-- One line for each line of the design's table: scopes, then who holds them, by place.
INSERT INTO apikeyd.role_scope (place, role, scope)
SELECT place.name, role.name, scope.name
FROM (VALUES
  ('{page:read,service:read,incident:read,maintenance:read,notice:read,metric:read}'::text[],
   '{owner,admin,editor,viewer}'::text[], '{owner,admin,editor,viewer}'::text[], '{read,write}'::text[]),
  ('{incident:write,maintenance:write,notice:write}',
   '{owner,admin,editor}',                '{owner,admin,editor}',                '{write}'),
  ('{service:write,metric:write,page:write,metric:push}',
   '{owner,admin}',                       '{owner,admin}',                       '{write}'),
  ('{incident:delete}',
   '{owner,admin}',                       '{owner,admin}',                       '{write}'),
  ('{subscriber:read}',
   '{owner,admin}',                       '{owner,admin}',                       '{read,write}'),
  ('{subscriber:write}',
   '{owner,admin}',                       '{owner,admin}',                       '{write}'),
  ('{page:create}',
   '{owner,admin}',                       '{}',                                  '{write}'),
  ('{page:delete}',
   '{owner}',                             '{owner}',                             '{}'),
  ('{member:read}',
   '{owner,admin}',                       '{owner,admin}',                       '{}'),
  ('{member:write}',
   '{owner}',                             '{owner}',                             '{}'),
  ('{apikey:manage,org:write}',
   '{owner,admin}',                       '{}',                                  '{}'),
  ('{audit:read}',
   '{owner,admin}',                       '{owner,admin}',                       '{read,write}'),
  ('{billing:read}',
   '{owner,billing}',                     '{}',                                  '{}'),
  ('{billing:write}',
   '{owner}',                             '{}',                                  '{}')
) AS line (scopes, organization_roles, page_roles, accesses)
CROSS JOIN LATERAL unnest(line.scopes) AS scope (name)
CROSS JOIN LATERAL (VALUES ('organization', line.organization_roles), ('page', line.page_roles), ('key', line.accesses))
  AS place (name, roles)
CROSS JOIN LATERAL unnest(place.roles) AS role (name);

-- A key that deletes pages is made on purpose: narrowed to scopes, page:delete among them by name.
INSERT INTO apikeyd.role_scope (place, role, scope, when_named) VALUES ('key', 'write', 'page:delete', true);

COMMIT;
