-- Keys: what is stored of them, their narrowing, and the peppers their hashes are made with.
BEGIN;
SET LOCAL ROLE apikeyd_owner;
DO $$ BEGIN PERFORM apikeyd.schema_step(4, 'keys'); END $$;

CREATE TABLE apikeyd.pepper (
  version smallint PRIMARY KEY,
  check_value bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT pepper_version_is_positive CHECK (version > 0),
  CONSTRAINT pepper_check_value_is_32_bytes CHECK (octet_length(check_value) = 32)
);
COMMENT ON TABLE apikeyd.pepper IS 'The versions of the pepper, the secret outside the database that keys'' hashes are made with. The pepper itself is never here.';
COMMENT ON COLUMN apikeyd.pepper.version IS 'Its number in the daemon''s pepper file, 1 to 32767.';
COMMENT ON COLUMN apikeyd.pepper.check_value IS 'A hash of a fixed text under that pepper, 32 bytes: a daemon whose pepper gives another refuses to start.';
COMMENT ON COLUMN apikeyd.pepper.created_at IS 'When a key was first minted under it.';

CREATE TABLE apikeyd.key (
  id text COLLATE "C" PRIMARY KEY,
  kind text COLLATE "C" NOT NULL,
  organization_id bigint,
  user_id bigint,
  access text COLLATE "C",
  name text NOT NULL DEFAULT '',
  hash bytea NOT NULL,
  pepper_version smallint NOT NULL,
  narrowed_pages boolean NOT NULL DEFAULT false,
  narrowed_scopes boolean NOT NULL DEFAULT false,
  narrowed_networks boolean NOT NULL DEFAULT false,
  narrowed_rate boolean NOT NULL DEFAULT false,
  rate_count int,
  rate_period_s int,
  not_before timestamptz NOT NULL DEFAULT '-infinity',
  expires_at timestamptz NOT NULL DEFAULT 'infinity',
  retired_at timestamptz,
  successor text COLLATE "C",
  disabled_at timestamptz,
  revoked_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  created_by text NOT NULL DEFAULT coalesce(nullif(current_setting('apikeyd.actor', true), ''), session_user),
  organization_or_0 bigint NOT NULL GENERATED ALWAYS AS (coalesce(organization_id, 0)) STORED,
  access_place text COLLATE "C" NOT NULL GENERATED ALWAYS AS ('key') STORED,
  CONSTRAINT key_organization_exists FOREIGN KEY (organization_id) REFERENCES apikeyd.organization (id),
  CONSTRAINT key_user_exists FOREIGN KEY (user_id) REFERENCES apikeyd.user (id),
  CONSTRAINT key_access_exists FOREIGN KEY (access_place, access) REFERENCES apikeyd.role (place, name),
  CONSTRAINT key_pepper_exists FOREIGN KEY (pepper_version) REFERENCES apikeyd.pepper (version),
  CONSTRAINT key_successor_exists FOREIGN KEY (successor) REFERENCES apikeyd.key (id),
  -- What a page in its narrowing refers to.
  CONSTRAINT key_of_organization UNIQUE (id, organization_or_0),
  CONSTRAINT key_id_is_10_base62 CHECK (id ~ '^[0-9A-Za-z]{10}$'),
  CONSTRAINT key_kind_is_known CHECK (kind IN ('user', 'organization')),
  CONSTRAINT key_owner_agrees_with_kind CHECK (
    CASE kind WHEN 'user' THEN user_id IS NOT NULL AND organization_id IS NULL AND access IS NULL
              WHEN 'organization' THEN organization_id IS NOT NULL AND user_id IS NULL AND access IS NOT NULL END),
  CONSTRAINT key_name_is_one_line CHECK (octet_length(name) <= 200 AND name !~ '[[:cntrl:]]'),
  CONSTRAINT key_name_is_not_a_key CHECK (name !~ '[uob]_[0-9A-Za-z]{10}_[0-9A-Za-z]{49}'),
  CONSTRAINT key_hash_is_32_bytes CHECK (octet_length(hash) = 32),
  CONSTRAINT key_rate_agrees_with_its_flag CHECK (
    CASE WHEN narrowed_rate THEN rate_count IS NOT NULL AND rate_period_s IS NOT NULL
         ELSE rate_count IS NULL AND rate_period_s IS NULL END),
  CONSTRAINT key_rate_is_in_bounds
    CHECK (rate_count BETWEEN 1 AND 1000000000 AND rate_period_s BETWEEN 1 AND 31536000),
  CONSTRAINT key_expires_after_not_before CHECK (not_before < expires_at),
  CONSTRAINT key_retired_at_is_a_time CHECK (isfinite(retired_at)),
  CONSTRAINT key_successor_is_another CHECK (successor <> id),
  CONSTRAINT key_disabled_at_is_a_time CHECK (isfinite(disabled_at)),
  CONSTRAINT key_revoked_at_is_a_time CHECK (isfinite(revoked_at)),
  CONSTRAINT key_created_by_is_one_line CHECK (octet_length(created_by) <= 200 AND created_by !~ '[[:cntrl:]]')
);
CREATE INDEX key_organization ON apikeyd.key (organization_id, id) WHERE organization_id IS NOT NULL;
CREATE INDEX key_user ON apikeyd.key (user_id, id) WHERE user_id IS NOT NULL;
COMMENT ON TABLE apikeyd.key IS 'API keys. What is stored authenticates nobody: the id is public and the hash is made with a pepper that is not here. A row is never deleted, and a revoked key stays revoked.';
COMMENT ON COLUMN apikeyd.key.id IS 'The key_id: the public part of the key, 10 characters of 0-9 A-Z a-z. Never changes.';
COMMENT ON COLUMN apikeyd.key.kind IS 'user: acts as its user, with whatever the user''s roles allow at that moment. organization: acts as the organization with its own access. Never changes.';
COMMENT ON COLUMN apikeyd.key.organization_id IS 'Of an organization key: whose it is. Never changes.';
COMMENT ON COLUMN apikeyd.key.user_id IS 'Of a user key: whose it is. Never changes.';
COMMENT ON COLUMN apikeyd.key.access IS 'Of an organization key: its role of place key, read or write.';
COMMENT ON COLUMN apikeyd.key.name IS 'What people call it: one line of at most 200 bytes, and never the key itself.';
COMMENT ON COLUMN apikeyd.key.hash IS 'A keyed hash of the whole key under its pepper, 32 bytes. Only the daemon''s role apikeyd_check reads it. Never changes.';
COMMENT ON COLUMN apikeyd.key.pepper_version IS 'Which pepper. Never changes.';
COMMENT ON COLUMN apikeyd.key.narrowed_pages IS 'It reaches only the pages in key_page. With no rows there it reaches none.';
COMMENT ON COLUMN apikeyd.key.narrowed_scopes IS 'It may do only the scopes in key_scope. With no rows there it may do nothing.';
COMMENT ON COLUMN apikeyd.key.narrowed_networks IS 'It works only from the networks in key_network. With no rows there it works from nowhere.';
COMMENT ON COLUMN apikeyd.key.narrowed_rate IS 'It may be used only rate_count times in rate_period_s seconds.';
COMMENT ON COLUMN apikeyd.key.rate_count IS 'Of a key narrowed in its rate: how many uses, 1 to 1000000000.';
COMMENT ON COLUMN apikeyd.key.rate_period_s IS 'Of a key narrowed in its rate: in how many seconds, 1 to 31536000 (365 days).';
COMMENT ON COLUMN apikeyd.key.not_before IS 'Denied before this time; -infinity: no such limit.';
COMMENT ON COLUMN apikeyd.key.expires_at IS 'Denied from this time on; infinity: never expires.';
COMMENT ON COLUMN apikeyd.key.retired_at IS 'Rotated away: denied from this time on, which may lie ahead. Null: not retired.';
COMMENT ON COLUMN apikeyd.key.successor IS 'The key that took its place when it was rotated.';
COMMENT ON COLUMN apikeyd.key.disabled_at IS 'Denied while this is set, whatever the time it says. Null: not disabled. May be set back to null.';
COMMENT ON COLUMN apikeyd.key.revoked_at IS 'Denied for ever once this is set, whatever the time it says: the first time given stays, and it cannot be set back to null.';
COMMENT ON COLUMN apikeyd.key.created_at IS 'When it was minted.';
COMMENT ON COLUMN apikeyd.key.created_by IS 'Who minted it: the setting apikeyd.actor of the transaction, or the role that was logged in.';
COMMENT ON COLUMN apikeyd.key.organization_or_0 IS 'organization_id, or 0 for a user key: what key_page''s foreign key refers to.';
COMMENT ON COLUMN apikeyd.key.access_place IS 'Always key: lets the foreign key see to it that access is a role of that place.';

CREATE TABLE apikeyd.key_page (
  key_id text COLLATE "C" NOT NULL,
  page_id bigint NOT NULL,
  organization_id bigint NOT NULL,
  key_organization_or_0 bigint NOT NULL,
  PRIMARY KEY (key_id, page_id),
  CONSTRAINT key_page_key_is_of_that_organization
    FOREIGN KEY (key_id, key_organization_or_0) REFERENCES apikeyd.key (id, organization_or_0),
  CONSTRAINT key_page_page_is_of_that_organization
    FOREIGN KEY (page_id, organization_id) REFERENCES apikeyd.page (id, organization_id) ON DELETE CASCADE,
  CONSTRAINT key_page_page_is_of_the_keys_organization CHECK (key_organization_or_0 IN (0, organization_id))
);
CREATE INDEX key_page_page ON apikeyd.key_page (page_id);
COMMENT ON TABLE apikeyd.key_page IS 'The pages that a key is narrowed to; it counts where key.narrowed_pages is set. An organization key''s pages are its organization''s own.';
COMMENT ON COLUMN apikeyd.key_page.key_id IS 'The key.';
COMMENT ON COLUMN apikeyd.key_page.page_id IS 'A page that it reaches.';
COMMENT ON COLUMN apikeyd.key_page.organization_id IS 'The page''s organization; filled in where it is left out.';
COMMENT ON COLUMN apikeyd.key_page.key_organization_or_0 IS 'The key''s organization, 0 for a user key; filled in where it is left out.';

CREATE FUNCTION apikeyd.key_page_fill() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NEW.organization_id IS NULL THEN
    SELECT p.organization_id INTO NEW.organization_id FROM apikeyd.page p WHERE p.id = NEW.page_id;
    IF NEW.organization_id IS NULL THEN
      RAISE EXCEPTION 'there is no page with the id %', NEW.page_id USING ERRCODE = 'foreign_key_violation';
    END IF;
  END IF;
  IF NEW.key_organization_or_0 IS NULL THEN
    SELECT k.organization_or_0 INTO NEW.key_organization_or_0 FROM apikeyd.key k WHERE k.id = NEW.key_id;
    IF NEW.key_organization_or_0 IS NULL THEN
      RAISE EXCEPTION 'there is no key with the id "%"', NEW.key_id USING ERRCODE = 'foreign_key_violation';
    END IF;
  END IF;
  RETURN NEW;
END
$$;
COMMENT ON FUNCTION apikeyd.key_page_fill() IS 'Trigger: fills in the organizations of page and key where a statement leaves them out.';
CREATE TRIGGER key_page_fill BEFORE INSERT OR UPDATE ON apikeyd.key_page
  FOR EACH ROW WHEN (NEW.organization_id IS NULL OR NEW.key_organization_or_0 IS NULL)
  EXECUTE FUNCTION apikeyd.key_page_fill();

CREATE TABLE apikeyd.key_scope (
  key_id text COLLATE "C" NOT NULL,
  scope text COLLATE "C" NOT NULL,
  PRIMARY KEY (key_id, scope),
  CONSTRAINT key_scope_key_exists FOREIGN KEY (key_id) REFERENCES apikeyd.key (id),
  CONSTRAINT key_scope_scope_exists FOREIGN KEY (scope) REFERENCES apikeyd.scope (name)
);
CREATE INDEX key_scope_scope ON apikeyd.key_scope (scope);
COMMENT ON TABLE apikeyd.key_scope IS 'The scopes that a key is narrowed to; it counts where key.narrowed_scopes is set. X:write brings X:read.';
COMMENT ON COLUMN apikeyd.key_scope.key_id IS 'The key.';
COMMENT ON COLUMN apikeyd.key_scope.scope IS 'A scope that it may do, where its role or access holds it.';

CREATE TABLE apikeyd.key_network (
  key_id text COLLATE "C" NOT NULL,
  network cidr NOT NULL,
  PRIMARY KEY (key_id, network),
  CONSTRAINT key_network_key_exists FOREIGN KEY (key_id) REFERENCES apikeyd.key (id),
  CONSTRAINT key_network_is_not_ipv4_mapped CHECK (NOT network <<= '::ffff:0:0/96'::inet)
);
COMMENT ON TABLE apikeyd.key_network IS 'The networks that a key is narrowed to; it counts where key.narrowed_networks is set.';
COMMENT ON COLUMN apikeyd.key_network.key_id IS 'The key.';
COMMENT ON COLUMN apikeyd.key_network.network IS 'A network that it works from. An address ::ffff:a.b.c.d counts as a.b.c.d, so write a.b.c.d here.';

CREATE FUNCTION apikeyd.register_pepper(version smallint, check_value bytea) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  known bytea;
BEGIN
  SELECT p.check_value INTO known FROM apikeyd.pepper p WHERE p.version = register_pepper.version;
  IF known IS NULL THEN
    INSERT INTO apikeyd.pepper (version, check_value) VALUES (register_pepper.version, register_pepper.check_value)
      ON CONFLICT ON CONSTRAINT pepper_pkey DO NOTHING;
    IF FOUND THEN
      RETURN true;
    END IF;
    SELECT p.check_value INTO known FROM apikeyd.pepper p WHERE p.version = register_pepper.version;
  END IF;
  IF known IS DISTINCT FROM register_pepper.check_value THEN
    RAISE EXCEPTION 'pepper version % is not the pepper that this database knows under that number', register_pepper.version
      USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Give the daemon the right pepper file, or give a new pepper a version that is not in apikeyd.pepper.';
  END IF;
  RETURN false;
END
$$;
COMMENT ON FUNCTION apikeyd.register_pepper(smallint, bytea) IS 'Makes a version of the pepper known by its check value before the first key is minted under it. True: it is new. Error 22023: that version is another pepper.';

COMMIT;
