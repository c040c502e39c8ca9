-- A small world to try things on: two organizations, their pages, people of every role. Without keys: those are
-- minted through the daemon. May be run again: it adds what is missing and changes nothing.
BEGIN;

INSERT INTO apikeyd.organization (slug, name) VALUES
  ('acme',  'Acme Hosting'),
  ('umbra', 'Umbra Games')
ON CONFLICT (slug) DO NOTHING;

INSERT INTO apikeyd.page (organization_id, slug, name, standing)
SELECT o.id, w.slug, w.name, w.standing
FROM (VALUES
  ('acme',  'acme',       'Acme Status',      'active'),
  ('acme',  'acme-cloud', 'Acme Cloud',       'active'),
  ('acme',  'acme-2019',  'Acme before 2020', 'archived'),
  ('umbra', 'umbra',      'Umbra Games',      'active'),
  ('umbra', 'umbra-beta', 'Umbra Beta',       'active')
) AS w (organization, slug, name, standing)
JOIN apikeyd.organization o ON o.slug = w.organization
ON CONFLICT (slug) DO NOTHING;

INSERT INTO apikeyd.user (email, name, standing) VALUES
  ('olga@acme.example',     'Olga Owner',      'active'),
  ('adam@acme.example',     'Adam Admin',      'active'),
  ('edith@acme.example',    'Edith Editor',    'active'),
  ('victor@acme.example',   'Victor Viewer',   'active'),
  ('bill@acme.example',     'Bill Billing',    'active'),
  ('una@acme.example',      'Una Upwards',     'active'),
  ('dora@acme.example',     'Dora Downwards',  'active'),
  ('sam@acme.example',      'Sam Suspended',   'suspended'),
  ('otto@umbra.example',    'Otto Owner',      'active'),
  ('eve@umbra.example',     'Eve Editor',      'active'),
  ('paula@agency.example',  'Paula Page-Only', 'active'),
  ('bea@both.example',      'Bea Both',        'active')
ON CONFLICT (lower(email)) DO NOTHING;

INSERT INTO apikeyd.organization_member (organization_id, user_id, role)
SELECT o.id, u.id, w.role
FROM (VALUES
  ('acme',  'olga@acme.example',   'owner'),
  ('acme',  'adam@acme.example',   'admin'),
  ('acme',  'edith@acme.example',  'editor'),
  ('acme',  'victor@acme.example', 'viewer'),
  ('acme',  'bill@acme.example',   'billing'),
  ('acme',  'una@acme.example',    'viewer'),
  ('acme',  'dora@acme.example',   'admin'),
  ('acme',  'sam@acme.example',    'admin'),
  ('acme',  'bea@both.example',    'editor'),
  ('umbra', 'bea@both.example',    'viewer'),
  ('umbra', 'otto@umbra.example',  'owner'),
  ('umbra', 'eve@umbra.example',   'editor')
) AS w (organization, email, role)
JOIN apikeyd.organization o ON o.slug = w.organization
JOIN apikeyd.user u ON lower(u.email) = w.email
ON CONFLICT (organization_id, user_id) DO NOTHING;

-- A page role overrides the organization's on that page: Una's upwards, Dora's downwards. Paula has nothing else.
INSERT INTO apikeyd.page_member (page_id, organization_id, user_id, role)
SELECT p.id, p.organization_id, u.id, w.role
FROM (VALUES
  ('acme-cloud', 'una@acme.example',     'admin'),
  ('acme-cloud', 'dora@acme.example',    'viewer'),
  ('umbra-beta', 'paula@agency.example', 'editor')
) AS w (page, email, role)
JOIN apikeyd.page p ON p.slug = w.page
JOIN apikeyd.user u ON lower(u.email) = w.email
ON CONFLICT (page_id, user_id) DO NOTHING;

COMMIT;
