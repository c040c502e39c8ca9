-- Wrong data is impossible: organizations, pages, users, memberships, catalog.
BEGIN;
SELECT plan(64);

INSERT INTO apikeyd.organization (id, slug) VALUES (9001, 'd-one'), (9002, 'd-two');
INSERT INTO apikeyd.page (id, organization_id, slug) VALUES (9001, 9001, 'd-one-a'), (9002, 9001, 'd-one-b'), (9003, 9002, 'd-two-a');
INSERT INTO apikeyd.user (id, email) VALUES (9001, 'd.one@example.com'), (9002, 'd.two@example.com');
INSERT INTO apikeyd.pepper (version, check_value) VALUES (901, sha256('x'));
INSERT INTO apikeyd.key (id, kind, user_id, hash, pepper_version) VALUES ('Domain0001', 'user', 9002, sha256('k'), 901);
INSERT INTO apikeyd.key (id, kind, organization_id, access, hash, pepper_version) VALUES ('Domain0002', 'organization', 9002, 'read', sha256('k'), 901);

-- slugs
SELECT throws_ok(format('INSERT INTO apikeyd.organization (slug) VALUES (%L)', slug), '23514', NULL, format('organization slug "%s" is refused', replace(slug, E'\n', '\n')))
  FROM (VALUES (''), ('-a'), ('a-'), ('A'), ('a.b'), ('a_b'), ('a b'), (repeat('a', 64)), (E'a\n')) AS s (slug);
SELECT throws_ok(format('INSERT INTO apikeyd.page (organization_id, slug) VALUES (9001, %L)', slug), '23514', NULL, format('page slug "%s" is refused', replace(slug, E'\n', '\n')))
  FROM (VALUES (''), ('-a'), ('a-'), ('A'), (repeat('a', 64)), (E'a\n')) AS s (slug);
SELECT lives_ok($$INSERT INTO apikeyd.organization (slug) VALUES ('x'), ('0-0'), (repeat('z', 63))$$, 'short and long slugs are taken');
SELECT throws_ok($$INSERT INTO apikeyd.organization (slug) VALUES ('d-one')$$, '23505', NULL, 'a slug is one organization''s');
SELECT throws_ok($$INSERT INTO apikeyd.page (organization_id, slug) VALUES (9002, 'd-one-a')$$, '23505', NULL, 'a page''s slug is unique over the platform');

-- standing, names, email
SELECT throws_ok($$UPDATE apikeyd.organization SET standing = 'archived' WHERE id = 9001$$, '23514', NULL, 'no organization is archived');
SELECT throws_ok($$UPDATE apikeyd.page SET standing = 'suspended' WHERE id = 9001$$, '23514', NULL, 'no page is suspended');
SELECT throws_ok($$UPDATE apikeyd.user SET standing = 'gone' WHERE id = 9001$$, '23514', NULL, 'users are active or suspended');
SELECT throws_ok($$UPDATE apikeyd.organization SET name = E'two\nlines' WHERE id = 9001$$, '23514', NULL, 'a name is one line');
SELECT throws_ok($$UPDATE apikeyd.page SET name = repeat('x', 201) WHERE id = 9001$$, '23514', NULL, 'a name has at most 200 bytes');
SELECT throws_ok(format('INSERT INTO apikeyd.user (email) VALUES (%L)', email), '23514', NULL, format('email "%s" is refused', replace(left(email, 20), E'\n', '\n')))
  FROM (VALUES (''), ('a'), ('@a'), ('a@'), ('a@b@c'), ('a b@c'), (E'a\n@b'), (repeat('a', 250) || '@b.cd')) AS e (email);
SELECT throws_ok($$INSERT INTO apikeyd.user (email) VALUES ('D.ONE@example.com')$$, '23505', NULL, 'an email is unique whatever its case');

-- memberships
SELECT lives_ok($$INSERT INTO apikeyd.page_member (page_id, user_id, role) VALUES (9001, 9001, 'editor')$$, 'a page membership needs no organization membership');
SELECT is(organization_id, 9001::bigint, 'its organization is filled in') FROM apikeyd.page_member WHERE page_id = 9001;
SELECT throws_ok($$INSERT INTO apikeyd.page_member (page_id, organization_id, user_id, role) VALUES (9002, 9002, 9001, 'editor')$$, '23503', NULL, 'a page membership of another organization''s page is impossible');
SELECT throws_ok($$UPDATE apikeyd.page_member SET organization_id = 9002 WHERE page_id = 9001$$, '23503', NULL, '... also afterwards');
SELECT throws_ok($$INSERT INTO apikeyd.page_member (page_id, user_id, role) VALUES (99999, 9001, 'editor')$$, '23503', 'there is no page with the id 99999', 'a page membership of no page is impossible');
SELECT throws_ok($$INSERT INTO apikeyd.page_member (page_id, user_id, role) VALUES (9002, 9001, 'billing')$$, '23503', NULL, 'billing is no page role');
SELECT throws_ok($$INSERT INTO apikeyd.organization_member VALUES (9001, 9001, 'read')$$, '23503', NULL, 'an access is no organization role');
SELECT throws_ok($$INSERT INTO apikeyd.organization_member VALUES (9001, 9001, NULL)$$, '23502', NULL, 'a membership has a role');
SELECT throws_ok($$INSERT INTO apikeyd.organization_member VALUES (9001, 99999, 'owner')$$, '23503', NULL, 'a membership has a user');
SELECT lives_ok($$INSERT INTO apikeyd.organization_member VALUES (9001, 9001, 'owner')$$, 'a membership is taken');
SELECT throws_ok($$INSERT INTO apikeyd.organization_member VALUES (9001, 9001, 'viewer')$$, '23505', NULL, 'a user has one role in an organization');
SELECT throws_ok($$INSERT INTO apikeyd.page_member (page_id, user_id, role) VALUES (9001, 9001, 'viewer')$$, '23505', NULL, 'a user has one role on a page');

-- what never changes
SELECT throws_ok($$UPDATE apikeyd.page SET organization_id = 9002 WHERE id = 9002$$, '23001', 'page 9002 cannot change its organization', 'a page stays with its organization');
SELECT throws_ok($$UPDATE apikeyd.page SET id = 9009 WHERE id = 9002$$, '23001', 'page 9002 cannot change its id', 'a page keeps its id');
SELECT throws_ok($$UPDATE apikeyd.organization SET id = 9009 WHERE id = 9001$$, '23001', 'organization 9001 cannot change its id', 'an organization keeps its id');
SELECT throws_ok($$UPDATE apikeyd.user SET id = 9009 WHERE id = 9001$$, '23001', 'user 9001 cannot change its id', 'a user keeps its id');

-- deletion
SELECT throws_ok($$DELETE FROM apikeyd.organization WHERE id = 9002$$, '23001', 'organization "d-two" cannot be deleted: it has 1 key(s), and keys stay', 'an organization with keys stays');
SELECT throws_ok($$DELETE FROM apikeyd.user WHERE id = 9002$$, '23001', 'user "d.two@example.com" cannot be deleted: it has 1 key(s), and keys stay', 'a user with keys stays');
SELECT throws_ok($$DELETE FROM apikeyd.organization WHERE id = 9001$$, '23503', NULL, 'an organization with pages stays');
SELECT lives_ok($$DELETE FROM apikeyd.page WHERE id = 9001$$, 'a page can be deleted');
SELECT is_empty($$SELECT FROM apikeyd.page_member WHERE page_id = 9001$$, '... and its memberships go with it');
SELECT lives_ok($$DELETE FROM apikeyd.user WHERE id = 9001$$, 'a user without keys can be deleted');
SELECT is_empty($$SELECT FROM apikeyd.organization_member WHERE user_id = 9001$$, '... and the memberships go too');

-- the catalog
SELECT throws_ok(format('INSERT INTO apikeyd.scope VALUES (%L, true, true)', name), '23514', NULL, format('scope %L is refused', left(name, 20)))
  FROM (VALUES ('read'), (':read'), ('page:'), ('a:b:c'), ('Page:read'), (repeat('a', 60) || ':read')) AS s (name);
SELECT throws_ok($$INSERT INTO apikeyd.scope VALUES ('a:b', false, false)$$, '23514', NULL, 'a scope has a level');
SELECT throws_ok($$DELETE FROM apikeyd.role WHERE place = 'page' AND name = 'viewer'$$, '23503', NULL, 'a role that holds scopes stays');
SELECT throws_ok($$INSERT INTO apikeyd.role VALUES ('team', 'lead', 1)$$, '23514', NULL, 'there are three places');

SELECT * FROM finish();
ROLLBACK;
