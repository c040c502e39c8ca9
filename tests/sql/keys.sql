-- Wrong keys are impossible, and what must stay stays.
BEGIN;
SELECT plan(67);

INSERT INTO apikeyd.organization (id, slug) VALUES (9101, 'k-one'), (9102, 'k-two');
INSERT INTO apikeyd.page (id, organization_id, slug) VALUES (9101, 9101, 'k-one-a'), (9102, 9101, 'k-one-b'), (9103, 9102, 'k-two-a');
INSERT INTO apikeyd.user (id, email) VALUES (9101, 'k.one@example.com'), (9102, 'k.two@example.com');

-- peppers
SELECT is(apikeyd.register_pepper(911::smallint, sha256('right')), true, 'a new pepper is registered');
SELECT is(apikeyd.register_pepper(911::smallint, sha256('right')), false, 'the same again is known');
SELECT throws_ok($$SELECT apikeyd.register_pepper(911::smallint, sha256('wrong'))$$, '22023',
  'pepper version 911 is not the pepper that this database knows under that number', 'another under its number is refused');
SELECT throws_ok($$SELECT apikeyd.register_pepper(912::smallint, '\x00')$$, '23514', NULL, 'a check value has 32 bytes');
SELECT throws_ok($$SELECT apikeyd.register_pepper(0::smallint, sha256('x'))$$, '23514', NULL, 'versions begin with 1');
SELECT throws_ok($$UPDATE apikeyd.pepper SET check_value = sha256('other') WHERE version = 911$$, '23001',
  'pepper 911 cannot change its version or check value', 'a check value stays');

-- shape
PREPARE mint (text, text, bigint, bigint, text) AS
  INSERT INTO apikeyd.key (id, kind, organization_id, user_id, access, hash, pepper_version) VALUES ($1, $2, $3, $4, $5, sha256('k'), 911);
SELECT lives_ok($$EXECUTE mint('KeysUser01', 'user', NULL, 9101, NULL)$$, 'a user key');
SELECT lives_ok($$EXECUTE mint('KeysOrg001', 'organization', 9101, NULL, 'write')$$, 'an organization key');
SELECT throws_ok($$EXECUTE mint('KeysUser01', 'user', NULL, 9101, NULL)$$, '23505', NULL, 'an id is given once');
SELECT throws_ok(format('EXECUTE mint(%L, ''user'', NULL, 9101, NULL)', id), '23514', NULL, format('id "%s" is refused', replace(id, E'\n', '\n')))
  FROM (VALUES (''), ('KeysUser0'), ('KeysUser011'), ('KeysUser-1'), ('KeysUserö1'), (E'KeysUser0\n')) AS i (id);
SELECT throws_ok($$EXECUTE mint('KeysBad001', 'user', NULL, NULL, NULL)$$, '23514', NULL, 'a user key has a user');
SELECT throws_ok($$EXECUTE mint('KeysBad001', 'user', 9101, 9101, NULL)$$, '23514', NULL, 'a user key has no organization');
SELECT throws_ok($$EXECUTE mint('KeysBad001', 'user', NULL, 9101, 'read')$$, '23514', NULL, 'a user key has no access');
SELECT throws_ok($$EXECUTE mint('KeysBad001', 'organization', NULL, NULL, 'read')$$, '23514', NULL, 'an organization key has an organization');
SELECT throws_ok($$EXECUTE mint('KeysBad001', 'organization', 9101, 9101, 'read')$$, '23514', NULL, 'an organization key has no user');
SELECT throws_ok($$EXECUTE mint('KeysBad001', 'organization', 9101, NULL, NULL)$$, '23514', NULL, 'an organization key has an access');
SELECT throws_ok($$EXECUTE mint('KeysBad001', 'organization', 9101, NULL, 'owner')$$, '23503', NULL, 'owner is no access');
SELECT throws_ok($$EXECUTE mint('KeysBad001', 'team', NULL, 9101, NULL)$$, '23514', NULL, 'there are two kinds');
SELECT throws_ok($$EXECUTE mint('KeysBad001', 'user', NULL, 99999, NULL)$$, '23503', NULL, 'the user exists');
SELECT throws_ok($$INSERT INTO apikeyd.key (id, kind, user_id, hash, pepper_version) VALUES ('KeysBad001', 'user', 9101, '\x00', 911)$$, '23514', NULL, 'a hash has 32 bytes');
SELECT throws_ok($$INSERT INTO apikeyd.key (id, kind, user_id, hash, pepper_version) VALUES ('KeysBad001', 'user', 9101, sha256('k'), 919)$$, '23503', NULL, 'the pepper is known');
SELECT throws_ok($$UPDATE apikeyd.key SET name = 'aku_0123456789_' || repeat('a', 49) WHERE id = 'KeysUser01'$$, '23514', NULL, 'a key is no name');
SELECT throws_ok($$UPDATE apikeyd.key SET expires_at = '2020-01-01', not_before = '2020-01-01' WHERE id = 'KeysUser01'$$, '23514', NULL, 'a key is valid for some time');
SELECT throws_ok($$UPDATE apikeyd.key SET narrowed_rate = true WHERE id = 'KeysUser01'$$, '23514', NULL, 'a rate narrowing has figures');
SELECT throws_ok($$UPDATE apikeyd.key SET rate_count = 5, rate_period_s = 5 WHERE id = 'KeysUser01'$$, '23514', NULL, 'figures come with the flag');
SELECT throws_ok($$UPDATE apikeyd.key SET narrowed_rate = true, rate_count = 0, rate_period_s = 5 WHERE id = 'KeysUser01'$$, '23514', NULL, 'a rate allows something');
SELECT throws_ok($$UPDATE apikeyd.key SET narrowed_rate = true, rate_count = 1, rate_period_s = 31536001 WHERE id = 'KeysUser01'$$, '23514', NULL, 'a rate''s period is a year at most');
SELECT throws_ok(format('UPDATE apikeyd.key SET %I = %L WHERE id = ''KeysUser01''', c, v), '23514', NULL, format('%s is not %s', c, v))
  FROM unnest(ARRAY['retired_at', 'disabled_at', 'revoked_at']) AS c, unnest(ARRAY['infinity', '-infinity']) AS v;
SELECT throws_ok(format('UPDATE apikeyd.key SET %I = NULL WHERE id = ''KeysUser01''', c), '23502', NULL, format('%s is not null', c))
  FROM unnest(ARRAY['narrowed_pages', 'narrowed_scopes', 'narrowed_networks', 'narrowed_rate', 'not_before', 'expires_at']) AS c;
SELECT throws_ok($$UPDATE apikeyd.key SET successor = 'KeysUser01' WHERE id = 'KeysUser01'$$, '23514', NULL, 'no key succeeds itself');
SELECT throws_ok($$UPDATE apikeyd.key SET successor = 'KeysNone01' WHERE id = 'KeysUser01'$$, '23503', NULL, 'the successor exists');
SELECT is(created_by, session_user::text, 'created_by is who is logged in') FROM apikeyd.key WHERE id = 'KeysUser01';

-- narrowing
SELECT lives_ok($$INSERT INTO apikeyd.key_page (key_id, page_id) VALUES ('KeysOrg001', 9101), ('KeysUser01', 9101), ('KeysUser01', 9103)$$, 'pages of its own, of any organization for a user key');
SELECT results_eq($$SELECT key_id, page_id, organization_id, key_organization_or_0 FROM apikeyd.key_page WHERE key_id LIKE 'Keys%' ORDER BY 1, 2$$,
  $$VALUES ('KeysOrg001' COLLATE "C", 9101::bigint, 9101::bigint, 9101::bigint), ('KeysUser01', 9101, 9101, 0), ('KeysUser01', 9103, 9102, 0)$$, 'the organizations are filled in');
SELECT throws_ok($$INSERT INTO apikeyd.key_page (key_id, page_id) VALUES ('KeysOrg001', 9103)$$, '23514', NULL, 'another organization''s page is impossible');
SELECT throws_ok($$INSERT INTO apikeyd.key_page VALUES ('KeysOrg001', 9103, 9102, 0)$$, '23503', NULL, '... also when it is called a user key');
SELECT throws_ok($$INSERT INTO apikeyd.key_page VALUES ('KeysOrg001', 9103, 9101, 9101)$$, '23503', NULL, '... or the page another''s');
SELECT throws_ok($$INSERT INTO apikeyd.key_page (key_id, page_id) VALUES ('KeysNone01', 9101)$$, '23503', 'there is no key with the id "KeysNone01"', 'the key exists');
SELECT throws_ok($$INSERT INTO apikeyd.key_scope VALUES ('KeysOrg001', 'no:such')$$, '23503', NULL, 'the scope exists');
SELECT throws_ok($$INSERT INTO apikeyd.key_network VALUES ('KeysOrg001', '::ffff:192.0.2.0/120')$$, '23514', NULL, 'IPv4 networks are written as such');
SELECT throws_ok($$INSERT INTO apikeyd.key_network VALUES ('KeysOrg001', '192.0.2.1/24')$$, '22P02', NULL, 'no bit behind the prefix');
UPDATE apikeyd.key SET narrowed_pages = true WHERE id = 'KeysOrg001';
DELETE FROM apikeyd.page WHERE id = 9101;
SELECT results_eq($$SELECT narrowed_pages, (SELECT count(*) FROM apikeyd.key_page g WHERE g.key_id = k.id) FROM apikeyd.key k WHERE id = 'KeysOrg001'$$,
  $$VALUES (true, 0::bigint)$$, 'the last page goes, the flag stays');

-- what stays
SELECT throws_ok(format('UPDATE apikeyd.key SET %s WHERE id = ''KeysUser01''', change), '23001',
    'key KeysUser01 cannot change its id, kind, owner, hash or pepper version', format('%s is refused', change))
  FROM (VALUES ('id = ''KeysUser02'''), ('user_id = 9102'), ('hash = sha256(''other'')'), ('pepper_version = 1'),
               ('kind = ''organization'', user_id = NULL, organization_id = 9101, access = ''write''')) AS c (change);
SELECT throws_ok($$UPDATE apikeyd.key SET organization_id = 9102 WHERE id = 'KeysOrg001'$$, '23001', NULL, 'an organization key stays with its organization');
SELECT throws_ok($$DELETE FROM apikeyd.key WHERE id = 'KeysUser01'$$, '23001', 'key KeysUser01 cannot be deleted: that it was there must stay known', 'a key is not deleted');
UPDATE apikeyd.key SET revoked_at = '2024-01-01 00:00Z' WHERE id = 'KeysUser01';
SELECT throws_ok($$UPDATE apikeyd.key SET revoked_at = NULL WHERE id = 'KeysUser01'$$, '23001', 'key KeysUser01 is revoked, and that is final', 'revoked stays revoked');
SELECT lives_ok($$UPDATE apikeyd.key SET revoked_at = now() WHERE id IN ('KeysUser01', 'KeysOrg001')$$, 'many are revoked at once, whatever some were before');
SELECT is(revoked_at, '2024-01-01 00:00Z', 'the first time stays') FROM apikeyd.key WHERE id = 'KeysUser01';

SELECT * FROM finish();
ROLLBACK;
