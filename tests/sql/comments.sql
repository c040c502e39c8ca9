-- \d+ explains itself: nothing that the schema has is without a comment.
BEGIN;
SELECT plan(9);

SELECT cmp_ok(count(*), '>=', 20::bigint, 'there are tables to look at') FROM pg_class
  WHERE relnamespace = 'apikeyd'::regnamespace AND relkind = 'r';
SELECT cmp_ok(count(*), '>=', 17::bigint, 'there are functions to look at') FROM pg_proc
  WHERE pronamespace = 'apikeyd'::regnamespace;

SELECT isnt(obj_description('apikeyd'::regnamespace, 'pg_namespace'), NULL, 'the schema has a comment');

SELECT is_empty($$
  SELECT c.relkind, c.relname FROM pg_class c
  WHERE c.relnamespace = 'apikeyd'::regnamespace AND c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S')
    -- the sequence of an identity column is the column's
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'i')
    AND coalesce(obj_description(c.oid, 'pg_class'), '') = ''
$$, 'every table, view and sequence has a comment');

SELECT is_empty($$
  SELECT c.relname, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
  WHERE c.relnamespace = 'apikeyd'::regnamespace AND c.relkind IN ('r', 'p', 'f', 'v', 'm')
    AND a.attnum > 0 AND NOT a.attisdropped AND coalesce(col_description(c.oid, a.attnum), '') = ''
$$, 'every column has a comment');

SELECT is_empty($$
  SELECT p.oid::regprocedure FROM pg_proc p
  WHERE p.pronamespace = 'apikeyd'::regnamespace AND coalesce(obj_description(p.oid, 'pg_proc'), '') = ''
$$, 'every function, trigger functions too, has a comment');

SELECT is_empty($$
  SELECT t.typname FROM pg_type t LEFT JOIN pg_class c ON c.oid = t.typrelid
  WHERE t.typnamespace = 'apikeyd'::regnamespace AND coalesce(c.relkind, 'c') = 'c' AND t.typelem = 0
    AND coalesce(obj_description(t.oid, 'pg_type'), '') = ''
$$, 'every type has a comment');

SELECT set_eq($$ SELECT rolname FROM pg_roles WHERE rolname LIKE 'apikeyd\_%' $$,
  ARRAY['apikeyd_owner', 'apikeyd_check', 'apikeyd_admin', 'apikeyd_platform', 'apikeyd_auditor'], 'the roles are these');
SELECT is_empty($$
  SELECT rolname FROM pg_roles WHERE rolname LIKE 'apikeyd\_%' AND coalesce(shobj_description(oid, 'pg_authid'), '') = ''
$$, 'every role has a comment');

SELECT * FROM finish();
ROLLBACK;
