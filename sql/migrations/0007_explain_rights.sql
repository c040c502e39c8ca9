-- The oracle: the rule of what a key may do, said a second time, in SQL and independently of the daemon. A property
-- test compares the two over random worlds; auditors use it in psql.
BEGIN;
SET LOCAL ROLE apikeyd_owner;
DO $$ BEGIN PERFORM apikeyd.schema_step(7, 'explain_rights'); END $$;

CREATE FUNCTION apikeyd.explain_rights(
  key_id text,
  scope text,
  page text DEFAULT NULL,
  org text DEFAULT NULL,
  addr inet DEFAULT NULL,
  at timestamptz DEFAULT now(),
  OUT verdict text,
  OUT reason text,
  OUT missing_scope text,
  OUT needs_role text,
  OUT organization text,
  OUT "user" text
)
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
-- The first clause that applies is the answer. Each stands alone: from its line `-- clause:` to the next such line, or
-- to `-- end clauses`, it could be taken out (a test does, and expects to be caught).
<<rule>>
DECLARE
  k record;                -- the key, its user, its organization
  s record;                -- the scope
  p record;                -- the page
  named_id bigint;         -- the organization named
  asked_id bigint;         -- the organization that the question is about
  o record;                -- ... and what is known of it
  page_role text;          -- of the key's user, on the page
  organization_role text;  -- of the key's user, in the organization that the question is about
  place text;              -- where the role that counts is held
  role text;               -- the role that counts, or the key's access
  held_when_named boolean; -- null: it does not hold the scope; true: only for keys whose scopes name it
  named boolean := false;  -- the key's own scopes name the scope
  listed boolean := false; -- ... or bring it
BEGIN
  verdict := 'deny';

  SELECT key.id, key.kind, key.organization_id, key.user_id, key.access, key.narrowed_pages, key.narrowed_scopes,
         key.narrowed_networks, key.not_before, key.expires_at, key.retired_at, key.disabled_at,
         key.revoked_at, owner.standing AS user_standing, owner.email, own.slug
    INTO k
    FROM apikeyd.key
    LEFT JOIN apikeyd.user AS owner ON owner.id = key.user_id
    LEFT JOIN apikeyd.organization AS own ON own.id = key.organization_id
    WHERE key.id = explain_rights.key_id;

  -- clause: unknown_key
  IF k.id IS NULL THEN
    reason := 'unknown_key';
    RETURN;
  END IF;
  -- end clauses

  organization := k.slug;
  "user" := k.email;

  -- ---- the key ----

  -- clause: revoked
  IF k.revoked_at IS NOT NULL THEN
    reason := 'revoked';
    RETURN;
  END IF;
  -- clause: retired
  IF k.retired_at <= at THEN
    reason := 'retired';
    RETURN;
  END IF;
  -- clause: disabled
  IF k.disabled_at IS NOT NULL THEN
    reason := 'disabled';
    RETURN;
  END IF;
  -- clause: not_yet_valid
  IF at < k.not_before THEN
    reason := 'not_yet_valid';
    RETURN;
  END IF;
  -- clause: expired
  IF at >= k.expires_at THEN
    reason := 'expired';
    RETURN;
  END IF;
  -- clause: user_suspended
  IF k.user_standing = 'suspended' THEN
    reason := 'user_suspended';
    RETURN;
  END IF;
  -- clause: mapped_address
  -- ::ffff:a.b.c.d is the IPv4 address a.b.c.d
  IF addr <<= '::ffff:0:0/96'::inet THEN
    addr := '0.0.0.0'::inet + (host(addr)::inet - '::ffff:0:0'::inet);
  END IF;
  -- clause: network
  -- no address given: none of the networks contains it
  IF k.narrowed_networks AND NOT EXISTS (
      SELECT FROM apikeyd.key_network n WHERE n.key_id = k.id AND n.network >>= host(addr)::inet) THEN
    reason := 'network';
    RETURN;
  END IF;
  -- end clauses

  -- ---- the scope ----

  SELECT t.name, t.page_level, t.organization_level INTO s FROM apikeyd.scope t WHERE t.name = explain_rights.scope;

  -- clause: unknown_scope_name
  IF s.name IS NULL THEN
    reason := 'unknown_scope';
    RETURN;
  END IF;
  -- clause: unknown_scope_page_level
  IF page IS NOT NULL AND NOT s.page_level THEN
    reason := 'unknown_scope';
    RETURN;
  END IF;
  -- clause: unknown_scope_organization_level
  IF page IS NULL AND NOT s.organization_level THEN
    reason := 'unknown_scope';
    RETURN;
  END IF;
  -- end clauses

  -- ---- the place ----

  SELECT t.id, t.organization_id, t.standing INTO p FROM apikeyd.page t WHERE t.slug = explain_rights.page;
  IF org IS NOT NULL THEN
    SELECT t.id INTO named_id FROM apikeyd.organization t WHERE t.slug = explain_rights.org;
  END IF;

  -- clause: asked_organization_of_page
  IF page IS NOT NULL THEN
    asked_id := p.organization_id;
  END IF;
  -- clause: asked_organization_of_key
  IF page IS NULL AND k.kind = 'organization' THEN
    asked_id := k.organization_id;
  END IF;
  -- clause: asked_organization_named
  IF page IS NULL AND k.kind = 'user' AND org IS NOT NULL THEN
    asked_id := named_id;
  END IF;
  -- clause: asked_organization_only
  -- a user of several organizations has to name one
  IF page IS NULL AND k.kind = 'user' AND org IS NULL THEN
    SELECT min(m.organization_id) INTO asked_id FROM apikeyd.organization_member m
      WHERE m.user_id = k.user_id HAVING count(*) = 1;
  END IF;
  -- end clauses

  SELECT t.slug, t.standing INTO o FROM apikeyd.organization t WHERE t.id = asked_id;
  IF k.kind = 'user' THEN
    SELECT m.role INTO organization_role FROM apikeyd.organization_member m
      WHERE m.organization_id = asked_id AND m.user_id = k.user_id;
    SELECT m.role INTO page_role FROM apikeyd.page_member m WHERE m.page_id = p.id AND m.user_id = k.user_id;
  END IF;

  -- clause: unknown_page_no_such
  IF page IS NOT NULL AND p.id IS NULL THEN
    reason := 'unknown_page';
    RETURN;
  END IF;
  -- clause: unknown_page_not_of_organization_named
  IF page IS NOT NULL AND org IS NOT NULL AND p.organization_id IS DISTINCT FROM named_id AND p.id IS NOT NULL THEN
    reason := 'unknown_page';
    RETURN;
  END IF;
  -- clause: unknown_page_not_of_the_keys_organization
  IF k.kind = 'organization' AND p.organization_id <> k.organization_id THEN
    reason := 'unknown_page';
    RETURN;
  END IF;
  -- clause: unknown_page_no_membership
  IF k.kind = 'user' AND p.id IS NOT NULL AND page_role IS NULL AND organization_role IS NULL THEN
    reason := 'unknown_page';
    RETURN;
  END IF;
  -- clause: not_member_other_organization
  IF page IS NULL AND k.kind = 'organization' AND org IS NOT NULL AND named_id IS DISTINCT FROM k.organization_id THEN
    reason := 'not_member';
    RETURN;
  END IF;
  -- clause: not_member_no_role
  IF page IS NULL AND k.kind = 'user' AND organization_role IS NULL THEN
    reason := 'not_member';
    RETURN;
  END IF;
  -- end clauses

  organization := o.slug;

  -- clause: org_suspended
  IF o.standing = 'suspended' THEN
    reason := 'org_suspended';
    RETURN;
  END IF;
  -- clause: page_archived
  IF p.standing = 'archived' AND split_part(scope, ':', 2) <> 'read' THEN
    reason := 'page_archived';
    RETURN;
  END IF;
  -- clause: page_not_granted_not_listed
  IF k.narrowed_pages AND page IS NOT NULL AND NOT EXISTS (
      SELECT FROM apikeyd.key_page g WHERE g.key_id = k.id AND g.page_id = p.id) THEN
    reason := 'page_not_granted';
    RETURN;
  END IF;
  -- clause: page_not_granted_organization_level
  IF k.narrowed_pages AND page IS NULL THEN
    reason := 'page_not_granted';
    RETURN;
  END IF;
  -- end clauses

  -- ---- the right ----

  -- clause: role_in_organization
  IF k.kind = 'user' THEN
    place := 'organization';
    role := organization_role;
  END IF;
  -- clause: role_on_page_overrides
  IF page_role IS NOT NULL THEN
    place := 'page';
    role := page_role;
  END IF;
  -- clause: role_is_access
  IF k.kind = 'organization' THEN
    place := 'key';
    role := k.access;
  END IF;
  -- end clauses

  SELECT h.when_named INTO held_when_named FROM apikeyd.role_scope h
    WHERE h.place = rule.place AND h.role = rule.role AND h.scope = explain_rights.scope;

  -- clause: needs_role
  IF held_when_named IS NULL THEN
    SELECT r.name INTO needs_role
      FROM apikeyd.role r JOIN apikeyd.role_scope h ON h.place = r.place AND h.role = r.name
      WHERE r.place = rule.place AND h.scope = explain_rights.scope AND NOT h.when_named
      ORDER BY r.rank LIMIT 1;
  END IF;
  -- clause: scope_not_held
  IF held_when_named IS NULL THEN
    reason := 'scope_not_granted';
    missing_scope := scope;
    RETURN;
  END IF;
  -- end clauses

  IF k.narrowed_scopes THEN
    -- clause: scope_named
    named := EXISTS (SELECT FROM apikeyd.key_scope g WHERE g.key_id = k.id AND g.scope = explain_rights.scope);
    -- clause: scope_listed
    listed := named;
    -- clause: write_brings_read
    listed := listed OR split_part(scope, ':', 2) = 'read' AND EXISTS (
      SELECT FROM apikeyd.key_scope g WHERE g.key_id = k.id AND g.scope = split_part(explain_rights.scope, ':', 1) || ':write');
    -- clause: scope_not_listed
    IF NOT listed THEN
      reason := 'scope_not_granted';
      missing_scope := scope;
      RETURN;
    END IF;
    -- end clauses
  END IF;

  -- clause: scope_held_only_when_named
  IF held_when_named AND NOT named THEN
    reason := 'scope_not_granted';
    missing_scope := scope;
    RETURN;
  END IF;
  -- end clauses

  verdict := 'allow';
  reason := 'ok';
END
$$;
COMMENT ON FUNCTION apikeyd.explain_rights(text, text, text, text, inet, timestamptz) IS 'Whether a key, whose secret is taken as proven, may do a scope on a page (or, with no page, in an organization), from an address, at a time; and if not, why. Says what the daemon says, from the tables as they are now; a rate that has run out, or another module of a stack, may still refuse.';

COMMIT;
