-- The ledger: every verdict accounted for, in batches that are chained by SHA-256 and that no statement can change
-- unseen. Each daemon writes a chain of its own.
--
-- A batch is one transaction: ledger_begin(), COPY into ledger_event and ledger_rollup, ledger_seal(), ledger_close().
-- What a digest is made of stands here and nowhere else: ledger_line() and the functions *_line(). The daemon says the
-- same in C, and ledger_close() refuses a batch about which the two do not agree.
--
-- Partitions by time, in UTC: a day for events and minutes, a month for hours, a year for days. They are made with LIKE
-- and ATTACH, ahead of time, so that nobody waits for a strong lock; there is no default partition, which would have to
-- be locked and searched for each new one.
BEGIN;
SET LOCAL ROLE apikeyd_owner;
DO $$ BEGIN PERFORM apikeyd.schema_step(10, 'ledger'); END $$;

-- ---- the tables ----

CREATE TABLE apikeyd.ledger_chain (
  chain uuid PRIMARY KEY,
  host text NOT NULL,
  made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  last_batch bigint NOT NULL DEFAULT 0,
  last_head bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex'),
  pruned_batch bigint NOT NULL DEFAULT 0,
  pruned_head bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex'),
  CONSTRAINT ledger_chain_host_fits CHECK (octet_length(host) <= 255 AND host !~ '[[:cntrl:]]'),
  CONSTRAINT ledger_chain_last_batch_counts CHECK (last_batch >= 0),
  CONSTRAINT ledger_chain_last_head_is_32_bytes CHECK (octet_length(last_head) = 32)
);
COMMENT ON TABLE apikeyd.ledger_chain IS 'The chains of the ledger: one for each spool (state directory) of a daemon. It outlives restarts of the daemon.';
COMMENT ON COLUMN apikeyd.ledger_chain.chain IS 'Made with the spool.';
COMMENT ON COLUMN apikeyd.ledger_chain.host IS 'The name of the host that wrote the last batch.';
COMMENT ON COLUMN apikeyd.ledger_chain.made_at IS 'When its first batch came.';
COMMENT ON COLUMN apikeyd.ledger_chain.last_batch IS 'The number of its newest batch; 0: none yet.';
COMMENT ON COLUMN apikeyd.ledger_chain.last_head IS 'The head of its newest batch; 32 zero bytes: none yet.';
COMMENT ON COLUMN apikeyd.ledger_chain.pruned_batch IS 'Batches up to and with this one were taken away, as a statement says; 0: none.';
COMMENT ON COLUMN apikeyd.ledger_chain.pruned_head IS 'The head of that batch: what the first one that is left goes on from.';

CREATE TABLE apikeyd.ledger_batch (
  chain uuid NOT NULL,
  batch bigint NOT NULL,
  kind text COLLATE "C" NOT NULL,
  made_at timestamptz NOT NULL,
  rows int NOT NULL,
  lost bigint NOT NULL,
  parts int NOT NULL,
  statement text COLLATE "C",
  seals int NOT NULL,
  seals_digest bytea NOT NULL,
  gone_chain uuid,
  gone_batch bigint,
  prev_head bytea NOT NULL,
  head bytea NOT NULL,
  pepper_version smallint NOT NULL,
  mac bytea NOT NULL,
  stored_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (chain, batch),
  CONSTRAINT ledger_batch_chain_exists FOREIGN KEY (chain) REFERENCES apikeyd.ledger_chain (chain),
  CONSTRAINT ledger_batch_counts CHECK (batch > 0 AND rows >= 0 AND lost >= 0 AND parts >= 0 AND seals >= 0),
  CONSTRAINT ledger_batch_kind_is_known CHECK (kind IN ('rows', 'compaction', 'pruning')),
  CONSTRAINT ledger_batch_statement_agrees_with_kind CHECK ((kind = 'rows') = (statement IS NULL)),
  CONSTRAINT ledger_batch_made_at_is_a_time CHECK (isfinite(made_at)),
  CONSTRAINT ledger_batch_hashes_are_32_bytes
    CHECK (octet_length(prev_head) = 32 AND octet_length(head) = 32 AND octet_length(mac) = 32 AND octet_length(seals_digest) = 32),
  CONSTRAINT ledger_batch_gone_names_a_batch CHECK ((gone_chain IS NULL) = (gone_batch IS NULL))
);
COMMENT ON TABLE apikeyd.ledger_batch IS 'The batches of each chain: what each holds, and the head that it ends in. A head is a SHA-256 over all that the batch says, the head before it included.';
COMMENT ON COLUMN apikeyd.ledger_batch.chain IS 'The chain.';
COMMENT ON COLUMN apikeyd.ledger_batch.batch IS 'From 1, without gaps.';
COMMENT ON COLUMN apikeyd.ledger_batch.kind IS 'rows: verdicts, as they came. compaction: coarser rows in place of finer ones. pruning: rows were taken away, for they were old enough.';
COMMENT ON COLUMN apikeyd.ledger_batch.made_at IS 'When the daemon closed it, by its estimate of the database''s clock.';
COMMENT ON COLUMN apikeyd.ledger_batch.rows IS 'How many rows it holds.';
COMMENT ON COLUMN apikeyd.ledger_batch.lost IS 'Verdicts of which only the number is known: they found no room in the spool.';
COMMENT ON COLUMN apikeyd.ledger_batch.parts IS 'How many parts its rows make.';
COMMENT ON COLUMN apikeyd.ledger_batch.statement IS 'Of a compaction or pruning: what was taken away, in words that verification reads.';
COMMENT ON COLUMN apikeyd.ledger_batch.seals IS 'How many rows of administration it seals.';
COMMENT ON COLUMN apikeyd.ledger_batch.seals_digest IS 'SHA-256 over their digests, in their order.';
COMMENT ON COLUMN apikeyd.ledger_batch.gone_chain IS 'Where those rows were taken away: the chain whose statement says so.';
COMMENT ON COLUMN apikeyd.ledger_batch.gone_batch IS '... and the batch.';
COMMENT ON COLUMN apikeyd.ledger_batch.prev_head IS 'The head of the batch before it; 32 zero bytes in the first.';
COMMENT ON COLUMN apikeyd.ledger_batch.head IS 'SHA-256 over all this, its parts'' digests and its seals included.';
COMMENT ON COLUMN apikeyd.ledger_batch.pepper_version IS 'Under which pepper the daemon made the MAC.';
COMMENT ON COLUMN apikeyd.ledger_batch.mac IS 'HMAC-SHA-256 of the head under a key that is not in the database: who can change this table cannot make another one. `apikeyctl audit verify` checks it.';
COMMENT ON COLUMN apikeyd.ledger_batch.stored_at IS 'When it came here. Not in the head: the daemon does not know it.';

CREATE TABLE apikeyd.ledger_part (
  chain uuid NOT NULL,
  batch bigint NOT NULL,
  part int NOT NULL,
  tbl text COLLATE "C" NOT NULL,
  day date NOT NULL,
  rows int NOT NULL,
  counted bigint NOT NULL,
  digest bytea NOT NULL,
  gone_chain uuid,
  gone_batch bigint,
  PRIMARY KEY (chain, batch, part),
  CONSTRAINT ledger_part_batch_exists FOREIGN KEY (chain, batch) REFERENCES apikeyd.ledger_batch (chain, batch),
  CONSTRAINT ledger_part_once UNIQUE (tbl, day, chain, batch),
  CONSTRAINT ledger_part_counts CHECK (part > 0 AND rows > 0 AND counted >= rows),
  CONSTRAINT ledger_part_tbl_is_known CHECK (tbl IN ('event', 'rollup', 'hour', 'day')),
  CONSTRAINT ledger_part_digest_is_32_bytes CHECK (octet_length(digest) = 32),
  CONSTRAINT ledger_part_gone_names_a_batch CHECK ((gone_chain IS NULL) = (gone_batch IS NULL))
);
CREATE INDEX ledger_part_gone ON apikeyd.ledger_part (gone_chain, gone_batch) WHERE gone_chain IS NOT NULL;
COMMENT ON TABLE apikeyd.ledger_part IS 'The parts of each batch: its rows in one partition. Compaction and pruning take whole parts away; that a part was there stays written here.';
COMMENT ON COLUMN apikeyd.ledger_part.chain IS 'The chain.';
COMMENT ON COLUMN apikeyd.ledger_part.batch IS 'The batch.';
COMMENT ON COLUMN apikeyd.ledger_part.part IS 'From 1, in the order that the head is made in.';
COMMENT ON COLUMN apikeyd.ledger_part.tbl IS 'Where its rows are: event (ledger_event), rollup, hour or day.';
COMMENT ON COLUMN apikeyd.ledger_part.day IS 'Which partition: the day of its rows, in UTC; of hours the day that was compacted, of days the first of the month.';
COMMENT ON COLUMN apikeyd.ledger_part.rows IS 'How many rows.';
COMMENT ON COLUMN apikeyd.ledger_part.counted IS 'How many verdicts: the sum of the rows'' count. An event is one.';
COMMENT ON COLUMN apikeyd.ledger_part.digest IS 'SHA-256 over the SHA-256 of each row''s line, in the order of n.';
COMMENT ON COLUMN apikeyd.ledger_part.gone_chain IS 'Of a part that was taken away: the chain whose statement says so.';
COMMENT ON COLUMN apikeyd.ledger_part.gone_batch IS '... and the batch.';

-- (chain, batch, n) names a row; the time is in the primary key since a partitioned table wants it there.
CREATE TABLE apikeyd.ledger_event (
  chain uuid NOT NULL,
  batch bigint NOT NULL,
  n int NOT NULL,
  at timestamptz NOT NULL,
  verdict text COLLATE "C" NOT NULL,
  reason text COLLATE "C" NOT NULL,
  method text COLLATE "C" NOT NULL,
  stack text COLLATE "C" NOT NULL,
  caller_uid bigint NOT NULL,
  key_id text COLLATE "C",
  scope text COLLATE "C",
  page text COLLATE "C",
  org text COLLATE "C",
  addr inet,
  rev bigint NOT NULL,
  age_ms bigint NOT NULL,
  stale boolean NOT NULL,
  explain boolean NOT NULL,
  PRIMARY KEY (chain, batch, n, at),
  CONSTRAINT ledger_event_verdict_is_known CHECK (verdict IN ('allow', 'deny', 'unavailable'))
) PARTITION BY RANGE (at);
CREATE INDEX ledger_event_at ON apikeyd.ledger_event (at);
CREATE INDEX ledger_event_key ON apikeyd.ledger_event (key_id, at) WHERE key_id IS NOT NULL;
CREATE INDEX ledger_event_use ON apikeyd.ledger_event (key_id, scope, page, at) WHERE verdict = 'allow' AND NOT explain;
COMMENT ON TABLE apikeyd.ledger_event IS 'Verdicts one by one: denials of proven keys and faults up to a rate, and what a stack records in full. Read the view apikeyd.verdicts.';
COMMENT ON COLUMN apikeyd.ledger_event.chain IS 'The chain.';
COMMENT ON COLUMN apikeyd.ledger_event.batch IS 'The batch.';
COMMENT ON COLUMN apikeyd.ledger_event.n IS 'Its number in the batch, from 1, over the rows of all tables.';
COMMENT ON COLUMN apikeyd.ledger_event.at IS 'When the verdict was given, by the daemon''s estimate of the database''s clock.';
COMMENT ON COLUMN apikeyd.ledger_event.verdict IS 'allow, deny or unavailable.';
COMMENT ON COLUMN apikeyd.ledger_event.reason IS 'Why: ok, or one of the reasons of the protocol.';
COMMENT ON COLUMN apikeyd.ledger_event.method IS 'What was asked: check, check_many, pages, whoami, explain.';
COMMENT ON COLUMN apikeyd.ledger_event.stack IS 'The stack that judged.';
COMMENT ON COLUMN apikeyd.ledger_event.caller_uid IS 'The user id of the program that asked; -1: it could not be read.';
COMMENT ON COLUMN apikeyd.ledger_event.key_id IS 'The key, where it was proven; null: it was not.';
COMMENT ON COLUMN apikeyd.ledger_event.scope IS 'The scope; null: none was asked for, or one that the daemon does not know.';
COMMENT ON COLUMN apikeyd.ledger_event.page IS 'The page''s slug; null: none was named, or one that the daemon does not know.';
COMMENT ON COLUMN apikeyd.ledger_event.org IS 'The organization that was named, where the daemon knows it.';
COMMENT ON COLUMN apikeyd.ledger_event.addr IS 'The remote address that the caller passed on.';
COMMENT ON COLUMN apikeyd.ledger_event.rev IS 'The revision that it was judged by.';
COMMENT ON COLUMN apikeyd.ledger_event.age_ms IS 'How long ago the daemon''s copy had last been confirmed, in milliseconds.';
COMMENT ON COLUMN apikeyd.ledger_event.stale IS 'The copy was older than it should be, and the answer was given in its grace.';
COMMENT ON COLUMN apikeyd.ledger_event.explain IS 'It was asked as explain: nobody acted on it.';

CREATE TABLE apikeyd.ledger_rollup (
  chain uuid NOT NULL,
  batch bigint NOT NULL,
  n int NOT NULL,
  minute timestamptz NOT NULL,
  verdict text COLLATE "C" NOT NULL,
  reason text COLLATE "C" NOT NULL,
  stack text COLLATE "C" NOT NULL,
  caller_uid bigint NOT NULL,
  key_id text COLLATE "C",
  scope text COLLATE "C",
  page text COLLATE "C",
  addr inet,
  count bigint NOT NULL,
  first_at timestamptz NOT NULL,
  last_at timestamptz NOT NULL,
  PRIMARY KEY (chain, batch, n, minute),
  CONSTRAINT ledger_rollup_verdict_is_known CHECK (verdict IN ('allow', 'deny', 'unavailable')),
  CONSTRAINT ledger_rollup_count_is_positive CHECK (count > 0),
  CONSTRAINT ledger_rollup_times_are_times CHECK (isfinite(first_at) AND isfinite(last_at))
) PARTITION BY RANGE (minute);
CREATE INDEX ledger_rollup_use ON apikeyd.ledger_rollup (key_id, scope, page, last_at) WHERE verdict = 'allow';
CREATE INDEX ledger_rollup_last ON apikeyd.ledger_rollup (key_id, last_at) WHERE verdict = 'allow';
CREATE INDEX ledger_rollup_refused ON apikeyd.ledger_rollup (key_id, minute) WHERE verdict <> 'allow';
COMMENT ON TABLE apikeyd.ledger_rollup IS 'Verdicts counted by the minute. The same minute may stand here several times: sum them. Read the view apikeyd.verdicts.';

CREATE TABLE apikeyd.ledger_hour (
  LIKE apikeyd.ledger_rollup INCLUDING CONSTRAINTS
) PARTITION BY RANGE (minute);
ALTER TABLE apikeyd.ledger_hour RENAME COLUMN minute TO hour;
ALTER TABLE apikeyd.ledger_hour ADD PRIMARY KEY (chain, batch, n, hour);
CREATE INDEX ledger_hour_use ON apikeyd.ledger_hour (key_id, scope, page, last_at) WHERE verdict = 'allow';
CREATE INDEX ledger_hour_last ON apikeyd.ledger_hour (key_id, last_at) WHERE verdict = 'allow';
CREATE INDEX ledger_hour_refused ON apikeyd.ledger_hour (key_id, hour) WHERE verdict <> 'allow';
COMMENT ON TABLE apikeyd.ledger_hour IS 'Verdicts counted by the hour: what compaction makes of minutes.';

CREATE TABLE apikeyd.ledger_day (
  LIKE apikeyd.ledger_hour INCLUDING CONSTRAINTS
) PARTITION BY RANGE (hour);
ALTER TABLE apikeyd.ledger_day RENAME COLUMN hour TO day_of;
ALTER TABLE apikeyd.ledger_day ADD PRIMARY KEY (chain, batch, n, day_of);
CREATE INDEX ledger_day_use ON apikeyd.ledger_day (key_id, scope, page, last_at) WHERE verdict = 'allow';
CREATE INDEX ledger_day_last ON apikeyd.ledger_day (key_id, last_at) WHERE verdict = 'allow';
CREATE INDEX ledger_day_refused ON apikeyd.ledger_day (key_id, day_of) WHERE verdict <> 'allow';
COMMENT ON TABLE apikeyd.ledger_day IS 'Verdicts counted by the day: what compaction makes of hours.';

DO $$
DECLARE
  counted record;
  said record;
BEGIN
  FOR counted IN SELECT * FROM (VALUES ('ledger_rollup', 'minute', 'The minute that was counted, its beginning.'),
      ('ledger_hour', 'hour', 'The hour that was counted, its beginning.'),
      ('ledger_day', 'day_of', 'The day that was counted, in UTC, its beginning.')) AS t (tab, span, what)
  LOOP
    EXECUTE format('COMMENT ON COLUMN apikeyd.%I.%I IS %L', counted.tab, counted.span, counted.what);
    EXECUTE format('COMMENT ON COLUMN apikeyd.%I.count IS %L', counted.tab, 'How many verdicts.');
    EXECUTE format('COMMENT ON COLUMN apikeyd.%I.first_at IS %L', counted.tab, 'When the first of them was given.');
    EXECUTE format('COMMENT ON COLUMN apikeyd.%I.last_at IS %L', counted.tab, 'When the last of them was given.');
    EXECUTE format('COMMENT ON COLUMN apikeyd.%I.key_id IS %L', counted.tab, 'The key, where it was proven; null: it was not.');
    EXECUTE format('COMMENT ON COLUMN apikeyd.%I.scope IS %L', counted.tab, 'The scope; null: none was asked for, or one that the daemon does not know, or there were too many to tell apart.');
    EXECUTE format('COMMENT ON COLUMN apikeyd.%I.page IS %L', counted.tab, 'The page''s slug; null: as for the scope.');
    EXECUTE format('COMMENT ON COLUMN apikeyd.%I.addr IS %L', counted.tab, 'Of keys that were not proven: the remote address, of IPv6 its /64; null: there were too many to tell apart.');
    FOR said IN SELECT a.attname, col_description('apikeyd.ledger_event'::regclass, a.attnum) AS what FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = 'apikeyd.ledger_event'::regclass AND a.attname IN ('chain', 'batch', 'n', 'verdict', 'reason', 'stack', 'caller_uid')
    LOOP
      EXECUTE format('COMMENT ON COLUMN apikeyd.%I.%I IS %L', counted.tab, said.attname, said.what);
    END LOOP;
  END LOOP;
END
$$;

CREATE TABLE apikeyd.ledger_admin (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at timestamptz NOT NULL,
  txn xid8 NOT NULL,
  login text NOT NULL,
  role text NOT NULL,
  client_addr inet,
  application_name text NOT NULL,
  actor text,
  tbl text COLLATE "C" NOT NULL,
  action text COLLATE "C" NOT NULL,
  thing text NOT NULL,
  before jsonb,
  after jsonb,
  CONSTRAINT ledger_admin_action_is_known CHECK (action IN ('insert', 'update', 'delete'))
);
CREATE INDEX ledger_admin_at ON apikeyd.ledger_admin (at);
CREATE INDEX ledger_admin_thing ON apikeyd.ledger_admin (tbl, thing, at);
COMMENT ON TABLE apikeyd.ledger_admin IS 'Administration: each row that was made, changed or deleted, written by triggers in the same transaction. Plain SQL too. Read the view apikeyd.administration.';
COMMENT ON COLUMN apikeyd.ledger_admin.id IS 'Its number. Numbers of transactions that were rolled back are missing.';
COMMENT ON COLUMN apikeyd.ledger_admin.at IS 'When its statement ended.';
COMMENT ON COLUMN apikeyd.ledger_admin.txn IS 'The transaction.';
COMMENT ON COLUMN apikeyd.ledger_admin.login IS 'The role that was logged in (session_user).';
COMMENT ON COLUMN apikeyd.ledger_admin.role IS 'The role that it acted as (SET ROLE).';
COMMENT ON COLUMN apikeyd.ledger_admin.client_addr IS 'The address that it came from; null: a Unix socket.';
COMMENT ON COLUMN apikeyd.ledger_admin.application_name IS 'What the program called itself.';
COMMENT ON COLUMN apikeyd.ledger_admin.actor IS 'On whose behalf, as the application claims: the setting apikeyd.actor. Nobody has checked it.';
COMMENT ON COLUMN apikeyd.ledger_admin.tbl IS 'The table.';
COMMENT ON COLUMN apikeyd.ledger_admin.action IS 'insert, update or delete.';
COMMENT ON COLUMN apikeyd.ledger_admin.thing IS 'Which row: its id, slug, email or name; of a membership and the like both, with a / between them.';
COMMENT ON COLUMN apikeyd.ledger_admin.before IS 'The row as it was; never a hash.';
COMMENT ON COLUMN apikeyd.ledger_admin.after IS 'The row as it became; never a hash. hash_changed: its hash is another one.';

CREATE TABLE apikeyd.ledger_unsealed (
  first_id bigint PRIMARY KEY,
  last_id bigint NOT NULL,
  txn xid8 NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
COMMENT ON TABLE apikeyd.ledger_unsealed IS 'Administration that no batch has sealed yet: one row for each statement. A daemon''s next batch seals it and takes it from here.';
COMMENT ON COLUMN apikeyd.ledger_unsealed.first_id IS 'The first of its rows in ledger_admin that is not sealed.';
COMMENT ON COLUMN apikeyd.ledger_unsealed.last_id IS 'The last of them; those between them are of the same transaction or another''s.';
COMMENT ON COLUMN apikeyd.ledger_unsealed.txn IS 'The transaction.';

CREATE TABLE apikeyd.ledger_seal (
  chain uuid NOT NULL,
  batch bigint NOT NULL,
  n int NOT NULL,
  admin_id bigint PRIMARY KEY,
  digest bytea NOT NULL,
  CONSTRAINT ledger_seal_once UNIQUE (chain, batch, n),
  CONSTRAINT ledger_seal_n_is_positive CHECK (n > 0),
  CONSTRAINT ledger_seal_digest_is_32_bytes CHECK (octet_length(digest) = 32)
);
COMMENT ON TABLE apikeyd.ledger_seal IS 'Which batch sealed which row of administration: its digest is in that batch''s head.';
COMMENT ON COLUMN apikeyd.ledger_seal.chain IS 'The chain.';
COMMENT ON COLUMN apikeyd.ledger_seal.batch IS 'The batch.';
COMMENT ON COLUMN apikeyd.ledger_seal.n IS 'Its number in the batch, from 1, in the order of admin_id.';
COMMENT ON COLUMN apikeyd.ledger_seal.admin_id IS 'The row of ledger_admin.';
COMMENT ON COLUMN apikeyd.ledger_seal.digest IS 'SHA-256 of its line.';

CREATE TABLE apikeyd.ledger_setting (
  one boolean PRIMARY KEY DEFAULT true CONSTRAINT ledger_setting_is_one_row CHECK (one),
  keep_events interval NOT NULL DEFAULT '90 days',
  keep_minutes interval NOT NULL DEFAULT '7 days',
  keep_hours interval NOT NULL DEFAULT '90 days',
  keep_days interval NOT NULL DEFAULT '5 years',
  keep_admin interval NOT NULL DEFAULT '10 years',
  keep_batches interval NOT NULL DEFAULT '1 year',
  CONSTRAINT ledger_setting_times_are_long_enough CHECK (least(keep_events, keep_minutes, keep_hours, keep_days, keep_admin, keep_batches) >= interval '1 day')
);
INSERT INTO apikeyd.ledger_setting DEFAULT VALUES;
COMMENT ON TABLE apikeyd.ledger_setting IS 'How long the ledger keeps what. One row.';
COMMENT ON COLUMN apikeyd.ledger_setting.one IS 'Always true: there is one row.';
COMMENT ON COLUMN apikeyd.ledger_setting.keep_events IS 'How long events are kept.';
COMMENT ON COLUMN apikeyd.ledger_setting.keep_minutes IS 'How long verdicts stay counted by the minute, before they are compacted to hours.';
COMMENT ON COLUMN apikeyd.ledger_setting.keep_hours IS 'How long they stay counted by the hour, before they are compacted to days.';
COMMENT ON COLUMN apikeyd.ledger_setting.keep_days IS 'How long they are kept at all.';
COMMENT ON COLUMN apikeyd.ledger_setting.keep_admin IS 'How long administration is kept.';
COMMENT ON COLUMN apikeyd.ledger_setting.keep_batches IS 'How long the heads of batches are kept of which nothing else is left.';

-- ---- the canonical encoding ----
-- Without a search_path of their own, so that the planner can inline them (they run once a field and once a row); they
-- name everything in full.

CREATE FUNCTION apikeyd.ledger_field(field text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT coalesce(pg_catalog.octet_length(field) OPERATOR(pg_catalog.||) ':' OPERATOR(pg_catalog.||) field, '-') $$;
COMMENT ON FUNCTION apikeyd.ledger_field(text) IS 'One field of a line: its length in bytes, a colon, its text; - where it is null.';

CREATE FUNCTION apikeyd.ledger_line(VARIADIC fields text[]) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$ SELECT string_agg(apikeyd.ledger_field(f.field), '' ORDER BY f.i) FROM unnest(ledger_line.fields) WITH ORDINALITY AS f (field, i) $$;
COMMENT ON FUNCTION apikeyd.ledger_line(text[]) IS 'A line: its fields one after the other. No two lists of fields make the same line.';

CREATE FUNCTION apikeyd.ledger_us(at timestamptz) RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT (pg_catalog.date_part('epoch', at) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8 $$;
COMMENT ON FUNCTION apikeyd.ledger_us(timestamptz) IS 'A time as it stands in a line: whole microseconds since 1970 in UTC.';

CREATE FUNCTION apikeyd.ledger_line_of(r apikeyd.ledger_event) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT pg_catalog.concat('5:event', apikeyd.ledger_field(r.n::pg_catalog.text), apikeyd.ledger_field(apikeyd.ledger_us(r.at)::pg_catalog.text),
  apikeyd.ledger_field(r.verdict), apikeyd.ledger_field(r.reason), apikeyd.ledger_field(r.method), apikeyd.ledger_field(r.stack),
  apikeyd.ledger_field(r.caller_uid::pg_catalog.text), apikeyd.ledger_field(r.key_id), apikeyd.ledger_field(r.scope),
  apikeyd.ledger_field(r.page), apikeyd.ledger_field(r.org), apikeyd.ledger_field(pg_catalog.abbrev(r.addr)),
  apikeyd.ledger_field(r.rev::pg_catalog.text), apikeyd.ledger_field(r.age_ms::pg_catalog.text),
  CASE WHEN r.stale THEN '1:t' ELSE '1:f' END, CASE WHEN r.explain THEN '1:t' ELSE '1:f' END) $$;
COMMENT ON FUNCTION apikeyd.ledger_line_of(apikeyd.ledger_event) IS 'The line of an event: event, n, at, verdict, reason, method, stack, caller_uid, key_id, scope, page, org, addr, rev, age_ms, stale, explain.';

CREATE FUNCTION apikeyd.ledger_line_of(r apikeyd.ledger_rollup) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT pg_catalog.concat('6:rollup', apikeyd.ledger_field(r.n::pg_catalog.text), apikeyd.ledger_field(apikeyd.ledger_us(r.minute)::pg_catalog.text),
  apikeyd.ledger_field(r.verdict), apikeyd.ledger_field(r.reason), apikeyd.ledger_field(r.stack),
  apikeyd.ledger_field(r.caller_uid::pg_catalog.text), apikeyd.ledger_field(r.key_id), apikeyd.ledger_field(r.scope),
  apikeyd.ledger_field(r.page), apikeyd.ledger_field(pg_catalog.abbrev(r.addr)), apikeyd.ledger_field(r.count::pg_catalog.text),
  apikeyd.ledger_field(apikeyd.ledger_us(r.first_at)::pg_catalog.text), apikeyd.ledger_field(apikeyd.ledger_us(r.last_at)::pg_catalog.text)) $$;
COMMENT ON FUNCTION apikeyd.ledger_line_of(apikeyd.ledger_rollup) IS 'The line of a roll-up: rollup, n, minute, verdict, reason, stack, caller_uid, key_id, scope, page, addr, count, first_at, last_at.';

CREATE FUNCTION apikeyd.ledger_line_of(r apikeyd.ledger_hour) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT pg_catalog.concat('4:hour', apikeyd.ledger_field(r.n::pg_catalog.text), apikeyd.ledger_field(apikeyd.ledger_us(r.hour)::pg_catalog.text),
  apikeyd.ledger_field(r.verdict), apikeyd.ledger_field(r.reason), apikeyd.ledger_field(r.stack),
  apikeyd.ledger_field(r.caller_uid::pg_catalog.text), apikeyd.ledger_field(r.key_id), apikeyd.ledger_field(r.scope),
  apikeyd.ledger_field(r.page), apikeyd.ledger_field(pg_catalog.abbrev(r.addr)), apikeyd.ledger_field(r.count::pg_catalog.text),
  apikeyd.ledger_field(apikeyd.ledger_us(r.first_at)::pg_catalog.text), apikeyd.ledger_field(apikeyd.ledger_us(r.last_at)::pg_catalog.text)) $$;
COMMENT ON FUNCTION apikeyd.ledger_line_of(apikeyd.ledger_hour) IS 'The line of an hour: as of a roll-up, with hour in place of rollup.';

CREATE FUNCTION apikeyd.ledger_line_of(r apikeyd.ledger_day) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT pg_catalog.concat('3:day', apikeyd.ledger_field(r.n::pg_catalog.text), apikeyd.ledger_field(apikeyd.ledger_us(r.day_of)::pg_catalog.text),
  apikeyd.ledger_field(r.verdict), apikeyd.ledger_field(r.reason), apikeyd.ledger_field(r.stack),
  apikeyd.ledger_field(r.caller_uid::pg_catalog.text), apikeyd.ledger_field(r.key_id), apikeyd.ledger_field(r.scope),
  apikeyd.ledger_field(r.page), apikeyd.ledger_field(pg_catalog.abbrev(r.addr)), apikeyd.ledger_field(r.count::pg_catalog.text),
  apikeyd.ledger_field(apikeyd.ledger_us(r.first_at)::pg_catalog.text), apikeyd.ledger_field(apikeyd.ledger_us(r.last_at)::pg_catalog.text)) $$;
COMMENT ON FUNCTION apikeyd.ledger_line_of(apikeyd.ledger_day) IS 'The line of a day: as of a roll-up, with day in place of rollup.';

CREATE FUNCTION apikeyd.ledger_line_of(r apikeyd.ledger_admin) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT apikeyd.ledger_line('admin', r.id::pg_catalog.text, apikeyd.ledger_us(r.at)::pg_catalog.text, r.txn::pg_catalog.text,
  r.login, r.role, pg_catalog.abbrev(r.client_addr), r.application_name, r.actor, r.tbl, r.action, r.thing,
  r.before::pg_catalog.text, r.after::pg_catalog.text) $$;
COMMENT ON FUNCTION apikeyd.ledger_line_of(apikeyd.ledger_admin) IS 'The line of a row of administration: admin, id, at, txn, login, role, client_addr, application_name, actor, tbl, action, thing, before, after.';

CREATE FUNCTION apikeyd.ledger_head(chain uuid, batch bigint, kind text, made_at_us bigint, rows int, lost bigint, statement text,
  pepper_version smallint, prev_head bytea, seals int, seals_digest bytea, parts jsonb) RETURNS bytea
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT sha256(convert_to(
    apikeyd.ledger_line('batch', ledger_head.chain::text, ledger_head.batch::text, ledger_head.kind, ledger_head.made_at_us::text,
      ledger_head.rows::text, ledger_head.lost::text, ledger_head.statement, ledger_head.pepper_version::text,
      encode(ledger_head.prev_head, 'hex'), ledger_head.seals::text, encode(ledger_head.seals_digest, 'hex'),
      jsonb_array_length(ledger_head.parts)::text)
    || coalesce((SELECT string_agg(apikeyd.ledger_line(p.part ->> 'tbl', p.part ->> 'day', p.part ->> 'rows', p.part ->> 'counted',
                                                       p.part ->> 'digest'), '' ORDER BY p.i)
                 FROM jsonb_array_elements(ledger_head.parts) WITH ORDINALITY AS p (part, i)), ''), 'UTF8'))
$$;
COMMENT ON FUNCTION apikeyd.ledger_head(uuid, bigint, text, bigint, int, bigint, text, smallint, bytea, int, bytea, jsonb) IS 'The head of a batch: SHA-256 of the line batch, chain, batch, kind, made_at, rows, lost, statement, pepper_version, prev_head, seals, seals_digest, the number of parts, and for each part tbl, day, rows, counted, digest. Digests in hexadecimal.';

-- ---- partitions ----

CREATE FUNCTION apikeyd.ledger_span(tbl text, day date, OUT partition text, OUT since timestamptz, OUT until timestamptz)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  unit constant text := CASE ledger_span.tbl WHEN 'event' THEN 'day' WHEN 'rollup' THEN 'day' WHEN 'hour' THEN 'month' WHEN 'day' THEN 'year' END;
  begins timestamp;
BEGIN
  IF unit IS NULL OR ledger_span.day IS NULL OR NOT isfinite(ledger_span.day) THEN
    RAISE EXCEPTION 'there is no partition of a table % for the day %', coalesce(ledger_span.tbl, 'null'), coalesce(ledger_span.day::text, 'null')
      USING ERRCODE = 'invalid_parameter_value', HINT = 'The tables are event, rollup, hour and day.';
  END IF;
  begins := date_trunc(unit, ledger_span.day::timestamp);
  partition := 'ledger_' || ledger_span.tbl || '_' || to_char(begins, CASE unit WHEN 'day' THEN 'YYYYMMDD' WHEN 'month' THEN 'YYYYMM' ELSE 'YYYY' END);
  since := begins AT TIME ZONE 'UTC';
  until := (begins + ('1 ' || unit)::interval) AT TIME ZONE 'UTC';
END
$$;
COMMENT ON FUNCTION apikeyd.ledger_span(text, date) IS 'The partition of ledger_event, ledger_rollup, ledger_hour or ledger_day that has this day (in UTC), and the times that it takes: from since on, before until.';

CREATE FUNCTION apikeyd.ledger_partition(tbl text, day date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  parent constant text := 'ledger_' || ledger_partition.tbl;
  span record;
  said record;
BEGIN
  SELECT * INTO span FROM apikeyd.ledger_span(ledger_partition.tbl, ledger_partition.day);
  IF to_regclass(format('apikeyd.%I', span.partition)) IS NOT NULL THEN
    RETURN false;
  END IF;
  EXECUTE format('CREATE TABLE apikeyd.%I (LIKE apikeyd.%I INCLUDING ALL)', span.partition, parent);
  EXECUTE format('COMMENT ON TABLE apikeyd.%I IS %L', span.partition, format('A partition of apikeyd.%s: from %s to %s.', parent,
      to_char(span.since AT TIME ZONE 'UTC', 'YYYY-MM-DD'), to_char(span.until AT TIME ZONE 'UTC', 'YYYY-MM-DD')));
  EXECUTE format('CREATE TRIGGER ledger_no_truncate BEFORE TRUNCATE ON apikeyd.%I FOR EACH STATEMENT EXECUTE FUNCTION apikeyd.ledger_refuse()', span.partition);
  EXECUTE format('ALTER TABLE apikeyd.%I ENABLE ALWAYS TRIGGER ledger_no_truncate', span.partition);
  EXECUTE format('ALTER TABLE apikeyd.%I ATTACH PARTITION apikeyd.%I FOR VALUES FROM (%L) TO (%L)', parent, span.partition, span.since, span.until);
  RETURN true;
END
$$;
COMMENT ON FUNCTION apikeyd.ledger_partition(text, date) IS 'Makes the partition that takes this day, where there is none. False: there is one.';

CREATE FUNCTION apikeyd.ledger_ahead(first date DEFAULT NULL, last date DEFAULT NULL) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  ahead constant int := 7;
  most constant int := 400; -- days in one call
  before constant text := current_setting('lock_timeout');
  today constant date := (clock_timestamp() AT TIME ZONE 'UTC')::date;
  made int := 0;
  wanted record;
BEGIN
  IF coalesce(last - first, 0) NOT BETWEEN 0 AND most THEN
    RAISE EXCEPTION 'partitions from % to %: at most % days at once', first, last, most USING ERRCODE = 'invalid_parameter_value';
  END IF;
  -- Whoever is in the way has this long; and one at a time, so that two do not make the same.
  IF before::interval = interval '0' OR before::interval > interval '2 s' THEN
    PERFORM set_config('lock_timeout', '2s', true);
  END IF;
  PERFORM FROM apikeyd.ledger_setting s FOR NO KEY UPDATE;
  FOR wanted IN
    WITH days (day) AS (
      SELECT today + i FROM generate_series(0, ahead) AS i
      UNION SELECT first + i FROM generate_series(0, coalesce(last, first) - first) AS i
    )
    SELECT DISTINCT t.tbl, s.partition, (s.since AT TIME ZONE 'UTC')::date AS day
    FROM days d, unnest(ARRAY['event', 'rollup', 'hour', 'day']) AS t (tbl), apikeyd.ledger_span(t.tbl, d.day) AS s
    WHERE to_regclass('apikeyd.' || s.partition) IS NULL ORDER BY 2
  LOOP
    made := made + apikeyd.ledger_partition(wanted.tbl, wanted.day)::int;
  END LOOP;
  PERFORM set_config('lock_timeout', before, true);
  RETURN made;
END
$$;
COMMENT ON FUNCTION apikeyd.ledger_ahead(date, date) IS 'Makes the partitions for today and the next seven days, and for the days from first to last, where they are missing; how many it made. Daemons call it at intervals, and before a batch with other days. It waits at most 2 s for a lock, then fails with 55P03: try again.';

-- ---- guards: rows are added, never changed ----

CREATE FUNCTION apikeyd.ledger_refuse() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- The owner's own functions take away what is old enough, and a statement says what.
  IF current_user = 'apikeyd_owner' AND TG_OP <> 'TRUNCATE' THEN
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
  END IF;
  RAISE EXCEPTION '% of apikeyd.% is refused: the ledger only grows', TG_OP, TG_TABLE_NAME
    USING ERRCODE = 'restrict_violation', HINT = 'What is old goes by itself: see apikeyd.ledger_setting.';
END
$$;
COMMENT ON FUNCTION apikeyd.ledger_refuse() IS 'Trigger: refuses to change or delete a row of the ledger. It saves from mistakes; who may drop it is found out by apikeyd.ledger_verify().';

DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['ledger_batch', 'ledger_part', 'ledger_event', 'ledger_rollup', 'ledger_hour', 'ledger_day',
      'ledger_admin', 'ledger_seal', 'ledger_chain', 'ledger_unsealed', 'ledger_setting'] LOOP
    EXECUTE format('CREATE TRIGGER ledger_no_truncate BEFORE TRUNCATE ON apikeyd.%I FOR EACH STATEMENT EXECUTE FUNCTION apikeyd.ledger_refuse()', name);
    EXECUTE format('ALTER TABLE apikeyd.%I ENABLE ALWAYS TRIGGER ledger_no_truncate', name);
    IF name NOT IN ('ledger_unsealed', 'ledger_setting') THEN
      EXECUTE format('CREATE TRIGGER ledger_no_change BEFORE UPDATE OR DELETE ON apikeyd.%I FOR EACH ROW EXECUTE FUNCTION apikeyd.ledger_refuse()', name);
      EXECUTE format('ALTER TABLE apikeyd.%I ENABLE ALWAYS TRIGGER ledger_no_change', name);
    END IF;
  END LOOP;
END
$$;

-- ---- a batch ----

CREATE FUNCTION apikeyd.ledger_begin(chain uuid, host text, batch bigint)
RETURNS TABLE (state text, last_batch bigint, last_head bytea)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  known apikeyd.ledger_chain;
BEGIN
  IF ledger_begin.batch IS NULL OR ledger_begin.batch < 1 THEN
    RAISE EXCEPTION 'batches are numbered from 1' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  INSERT INTO apikeyd.ledger_chain (chain, host) VALUES (ledger_begin.chain, ledger_begin.host) ON CONFLICT ON CONSTRAINT ledger_chain_pkey DO NOTHING;
  SELECT c.* INTO STRICT known FROM apikeyd.ledger_chain c WHERE c.chain = ledger_begin.chain FOR UPDATE;
  IF known.host <> ledger_begin.host THEN
    UPDATE apikeyd.ledger_chain c SET host = ledger_begin.host WHERE c.chain = ledger_begin.chain;
  END IF;
  state := CASE WHEN ledger_begin.batch <= known.last_batch THEN 'done' WHEN ledger_begin.batch = known.last_batch + 1 THEN 'go' ELSE 'gap' END;
  last_batch := known.last_batch;
  last_head := known.last_head;
  RETURN NEXT;
END
$$;
COMMENT ON FUNCTION apikeyd.ledger_begin(uuid, text, bigint) IS 'First statement of a batch: takes the chain until the transaction ends. go: send it. done: it is here already, roll back. gap: batches between the last one here and this one are missing; send it all the same, verification shows the gap.';

CREATE FUNCTION apikeyd.ledger_digest(tbl text, day date, chain uuid, batch bigint,
  OUT rows bigint, OUT counted bigint, OUT n_sum bigint, OUT n_most bigint, OUT digest bytea)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  span record;
BEGIN
  SELECT * INTO span FROM apikeyd.ledger_span(ledger_digest.tbl, ledger_digest.day);
  IF ledger_digest.tbl = 'event' THEN
    SELECT count(*), count(*), sum(r.n), max(r.n), sha256(string_agg(sha256(convert_to(apikeyd.ledger_line_of(r), 'UTF8')), ''::bytea ORDER BY r.n))
      INTO rows, counted, n_sum, n_most, digest FROM apikeyd.ledger_event r
      WHERE r.chain = ledger_digest.chain AND r.batch = ledger_digest.batch AND r.at >= span.since AND r.at < span.until;
  ELSIF ledger_digest.tbl = 'rollup' THEN
    SELECT count(*), sum(r.count), sum(r.n), max(r.n), sha256(string_agg(sha256(convert_to(apikeyd.ledger_line_of(r), 'UTF8')), ''::bytea ORDER BY r.n))
      INTO rows, counted, n_sum, n_most, digest FROM apikeyd.ledger_rollup r
      WHERE r.chain = ledger_digest.chain AND r.batch = ledger_digest.batch AND r.minute >= span.since AND r.minute < span.until;
  ELSIF ledger_digest.tbl = 'hour' THEN
    SELECT count(*), sum(r.count), sum(r.n), max(r.n), sha256(string_agg(sha256(convert_to(apikeyd.ledger_line_of(r), 'UTF8')), ''::bytea ORDER BY r.n))
      INTO rows, counted, n_sum, n_most, digest FROM apikeyd.ledger_hour r
      WHERE r.chain = ledger_digest.chain AND r.batch = ledger_digest.batch AND r.hour >= span.since AND r.hour < span.until;
  ELSE
    SELECT count(*), sum(r.count), sum(r.n), max(r.n), sha256(string_agg(sha256(convert_to(apikeyd.ledger_line_of(r), 'UTF8')), ''::bytea ORDER BY r.n))
      INTO rows, counted, n_sum, n_most, digest FROM apikeyd.ledger_day r
      WHERE r.chain = ledger_digest.chain AND r.batch = ledger_digest.batch AND r.day_of >= span.since AND r.day_of < span.until;
  END IF;
END
$$;
COMMENT ON FUNCTION apikeyd.ledger_digest(text, date, uuid, bigint) IS 'What is stored of a batch in one partition: rows, verdicts, the sum and the greatest of n, and their digest.';

CREATE FUNCTION apikeyd.ledger_seal(chain uuid, batch bigint, most int DEFAULT 10000)
RETURNS TABLE (seals int, seals_digest bytea)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  open apikeyd.ledger_unsealed;
  left_over int := ledger_seal.most;
  ids bigint[];
  every bigint[] := '{}';
BEGIN
  -- What another daemon is sealing now is left to it.
  FOR open IN SELECT u.* FROM apikeyd.ledger_unsealed u ORDER BY u.first_id LIMIT ledger_seal.most FOR UPDATE SKIP LOCKED LOOP
    SELECT array_agg(s.id ORDER BY s.id) INTO ids
      FROM (SELECT a.id FROM apikeyd.ledger_admin a WHERE a.id BETWEEN open.first_id AND open.last_id AND a.txn = open.txn
            ORDER BY a.id LIMIT left_over) AS s;
    every := every || coalesce(ids, '{}');
    left_over := left_over - coalesce(array_length(ids, 1), 0);
    IF left_over > 0 OR ids[array_upper(ids, 1)] = open.last_id THEN
      DELETE FROM apikeyd.ledger_unsealed u WHERE u.first_id = open.first_id;
    ELSE
      UPDATE apikeyd.ledger_unsealed u SET first_id = ids[array_upper(ids, 1)] + 1 WHERE u.first_id = open.first_id;
    END IF;
    EXIT WHEN left_over <= 0;
  END LOOP;
  WITH sealed AS (
    INSERT INTO apikeyd.ledger_seal (chain, batch, n, admin_id, digest)
    SELECT ledger_seal.chain, ledger_seal.batch, row_number() OVER (ORDER BY a.id), a.id, sha256(convert_to(apikeyd.ledger_line_of(a), 'UTF8'))
    FROM apikeyd.ledger_admin a WHERE a.id = ANY (every)
    RETURNING ledger_seal.n, ledger_seal.digest
  )
  SELECT count(*), sha256(coalesce(string_agg(s.digest, ''::bytea ORDER BY s.n), '')) INTO seals, seals_digest FROM sealed s;
  RETURN NEXT;
END
$$;
COMMENT ON FUNCTION apikeyd.ledger_seal(uuid, bigint, int) IS 'Third step of a batch: takes up to `most` rows of administration, that are committed and that no batch has sealed, into this one. How many, and SHA-256 over their digests in the order of their ids.';

CREATE FUNCTION apikeyd.ledger_close(chain uuid, batch bigint, kind text, made_at_us bigint, rows int, lost bigint, statement text,
  pepper_version smallint, prev_head bytea, parts jsonb, seals int, head bytea, mac bytea) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  part record;
  stored record;
  sealed record;
  rows_sum bigint := 0;
  n_sum bigint := 0;
  n_most bigint := 0;
  right_head bytea;
BEGIN
  IF ledger_close.batch <= (SELECT c.last_batch FROM apikeyd.ledger_chain c WHERE c.chain = ledger_close.chain) IS NOT FALSE THEN
    RAISE EXCEPTION 'batch % of chain % is there already, or ledger_begin() was not called', ledger_close.batch, ledger_close.chain
      USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  SELECT count(*)::int AS seals, sha256(coalesce(string_agg(s.digest, ''::bytea ORDER BY s.n), '')) AS digest INTO sealed
    FROM apikeyd.ledger_seal s WHERE s.chain = ledger_close.chain AND s.batch = ledger_close.batch;
  INSERT INTO apikeyd.ledger_batch (chain, batch, kind, made_at, rows, lost, parts, statement, seals, seals_digest, prev_head, head, pepper_version, mac)
  VALUES (ledger_close.chain, ledger_close.batch, ledger_close.kind, timestamptz 'epoch' + ledger_close.made_at_us * interval '1 microsecond',
          ledger_close.rows, ledger_close.lost, jsonb_array_length(ledger_close.parts), ledger_close.statement, sealed.seals, sealed.digest,
          ledger_close.prev_head, ledger_close.head, ledger_close.pepper_version, ledger_close.mac);

  FOR part IN SELECT p.i::int AS i, p.part ->> 'tbl' AS tbl, (p.part ->> 'day')::date AS day, (p.part ->> 'rows')::int AS rows,
                (p.part ->> 'counted')::bigint AS counted, decode(p.part ->> 'digest', 'hex') AS digest
              FROM jsonb_array_elements(ledger_close.parts) WITH ORDINALITY AS p (part, i) LOOP
    SELECT * INTO stored FROM apikeyd.ledger_digest(part.tbl, part.day, ledger_close.chain, ledger_close.batch);
    IF (stored.rows, stored.counted, stored.digest) IS DISTINCT FROM (part.rows::bigint, part.counted, part.digest) THEN
      RAISE EXCEPTION 'part % of batch % of chain % (%, %) is said to have % rows, % verdicts, digest %; stored are %, %, %',
          part.i, ledger_close.batch, ledger_close.chain, part.tbl, part.day, part.rows, part.counted, encode(part.digest, 'hex'),
          stored.rows, coalesce(stored.counted, 0), coalesce(encode(stored.digest, 'hex'), 'none')
        USING ERRCODE = 'data_corrupted', HINT = 'The daemon and the database do not agree about the encoding of a row; nothing of this batch is stored.';
    END IF;
    INSERT INTO apikeyd.ledger_part (chain, batch, part, tbl, day, rows, counted, digest)
    VALUES (ledger_close.chain, ledger_close.batch, part.i, part.tbl, part.day, part.rows, part.counted, part.digest);
    rows_sum := rows_sum + stored.rows;
    n_sum := n_sum + stored.n_sum;
    n_most := greatest(n_most, stored.n_most);
  END LOOP;
  IF rows_sum <> ledger_close.rows OR n_most <> ledger_close.rows OR n_sum <> ledger_close.rows::bigint * (ledger_close.rows + 1) / 2 THEN
    RAISE EXCEPTION 'batch % of chain % is said to have % rows; its parts have %, numbered up to %', ledger_close.batch, ledger_close.chain,
        ledger_close.rows, rows_sum, n_most USING ERRCODE = 'data_corrupted';
  END IF;

  right_head := apikeyd.ledger_head(ledger_close.chain, ledger_close.batch, ledger_close.kind, ledger_close.made_at_us, ledger_close.rows,
      ledger_close.lost, ledger_close.statement, ledger_close.pepper_version, ledger_close.prev_head, sealed.seals, sealed.digest, ledger_close.parts);
  IF sealed.seals <> ledger_close.seals OR right_head IS DISTINCT FROM ledger_close.head THEN
    RAISE EXCEPTION 'batch % of chain % is said to have % seals and head %; it has % and %', ledger_close.batch, ledger_close.chain,
        ledger_close.seals, encode(ledger_close.head, 'hex'), sealed.seals, encode(right_head, 'hex') USING ERRCODE = 'data_corrupted';
  END IF;
  UPDATE apikeyd.ledger_chain c SET last_batch = ledger_close.batch, last_head = ledger_close.head WHERE c.chain = ledger_close.chain;
  IF ledger_close.kind <> 'rows' THEN
    PERFORM apikeyd.ledger_remove(ledger_close.chain, ledger_close.batch, ledger_close.statement); -- 0014
  END IF;
END
$$;
COMMENT ON FUNCTION apikeyd.ledger_close(uuid, bigint, text, bigint, int, bigint, text, smallint, bytea, jsonb, int, bytea, bytea) IS 'Last statement of a batch: makes its digests and its head from what is stored, and refuses it (XX001) where the daemon has others. parts: an array of {"tbl", "day", "rows", "counted", "digest" in hexadecimal}, in their order.';

-- ---- who may ----

GRANT INSERT ON apikeyd.ledger_event, apikeyd.ledger_rollup TO apikeyd_check;
GRANT EXECUTE ON FUNCTION apikeyd.ledger_begin(uuid, text, bigint), apikeyd.ledger_seal(uuid, bigint, int), apikeyd.ledger_ahead(date, date),
    apikeyd.ledger_close(uuid, bigint, text, bigint, int, bigint, text, smallint, bytea, jsonb, int, bytea, bytea)
  TO apikeyd_check;

DO $$ BEGIN PERFORM apikeyd.ledger_ahead(); PERFORM apikeyd.force_reload(); END $$;

COMMIT;
