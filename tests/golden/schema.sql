CREATE TABLE ledger (
    entity_uid uuid NOT NULL,
    change_ts timestamp with time zone NOT NULL,
    batch_id bigint NOT NULL,
    row_no integer NOT NULL,
    op text NOT NULL,
    display_name text COLLATE pg_catalog."C",
    entity_type_id smallint,
    details jsonb,
    acts boolean DEFAULT true NOT NULL,
    promoted_by bigint,
    source_id smallint,
    CONSTRAINT ledger_delete_is_bare CHECK (((op <> 'delete'::text) OR ((display_name IS NULL) AND (entity_type_id IS NULL) AND (details IS NULL)))),
    CONSTRAINT ledger_details_are_an_object CHECK ((jsonb_typeof(details) = 'object'::text)),
    CONSTRAINT ledger_finite CHECK (isfinite(change_ts)),
    CONSTRAINT ledger_op_known CHECK ((op = ANY (ARRAY['upsert'::text, 'patch'::text, 'delete'::text]))),
    CONSTRAINT ledger_upsert_is_complete CHECK (((op <> 'upsert'::text) OR ((display_name IS NOT NULL) AND (entity_type_id IS NOT NULL))))
);

CREATE TABLE snapshot (
    batch_id bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    entity_type_ids smallint[],
    acts boolean DEFAULT true NOT NULL,
    source_id smallint,
    CONSTRAINT snapshot_finite CHECK (isfinite(at)),
    CONSTRAINT snapshot_has_a_scope CHECK (
CASE
    WHEN (source_id IS NULL) THEN (COALESCE(cardinality(entity_type_ids), 0) > 0)
    ELSE (entity_type_ids IS NULL)
END)
);

CREATE TABLE batch (
    batch_id bigint NOT NULL,
    recorded_at timestamp with time zone NOT NULL,
    actor text NOT NULL COLLATE pg_catalog."C",
    source text NOT NULL,
    drop_sha256 text COLLATE pg_catalog."C",
    request_id text,
    CONSTRAINT batch_from_a_drop CHECK (((source = 'drop'::text) = (drop_sha256 IS NOT NULL))),
    CONSTRAINT batch_source_known CHECK ((source = ANY (ARRAY['drop'::text, 'request'::text, 'fixture'::text, 'undo'::text, 'reinstate'::text])))
);

CREATE TABLE retraction (
    of_batch_id bigint NOT NULL,
    batch_id bigint NOT NULL,
    is_reinstated boolean NOT NULL,
    reason text NOT NULL,
    CONSTRAINT retraction_has_a_reason CHECK ((reason <> ''::text))
);

CREATE TABLE snapshot_effect (
    entity_uid uuid NOT NULL,
    batch_id bigint NOT NULL,
    of_batch_id bigint NOT NULL,
    at timestamp with time zone NOT NULL
);

CREATE VIEW batch_effect AS
 SELECT entity_uid,
    min(change_ts) AS change_ts,
    batch_id,
    op
   FROM ( SELECT l.entity_uid,
            l.change_ts,
            r.batch_id,
                CASE
                    WHEN r.is_reinstated THEN 'reinstate'::text
                    ELSE 'undo'::text
                END AS op
           FROM (retraction r
             JOIN ledger l ON ((l.batch_id = r.of_batch_id)))
        UNION ALL
         SELECT e.entity_uid,
            e.at,
            e.batch_id,
                CASE
                    WHEN (e.of_batch_id = e.batch_id) THEN 'snapshot'::text
                    ELSE ( SELECT b.source
                       FROM batch b
                      WHERE (b.batch_id = e.batch_id))
                END AS source
           FROM snapshot_effect e) touched
  GROUP BY entity_uid, batch_id, op;

CREATE TABLE key_link (
    key_uid uuid NOT NULL,
    batch_id bigint NOT NULL,
    row_no integer NOT NULL,
    entity_uid uuid,
    reason text DEFAULT ''::text NOT NULL
);

CREATE TABLE repeat (
    entity_uid uuid NOT NULL,
    change_ts timestamp with time zone NOT NULL,
    batch_id bigint NOT NULL,
    row_no integer NOT NULL,
    of_batch_id bigint NOT NULL,
    of_row_no integer NOT NULL,
    source_id smallint
);

CREATE TABLE snapshot_reject (
    entity_uid uuid NOT NULL,
    batch_id bigint NOT NULL
);

CREATE VIEW named_by_batch AS
 SELECT ledger.batch_id,
    ledger.entity_uid,
    ledger.source_id,
    ledger.change_ts
   FROM ledger
UNION ALL
 SELECT repeat.batch_id,
    repeat.entity_uid,
    repeat.source_id,
    repeat.change_ts
   FROM repeat
UNION ALL
 SELECT snapshot_reject.batch_id,
    snapshot_reject.entity_uid,
    NULL::smallint AS source_id,
    NULL::timestamp with time zone AS change_ts
   FROM snapshot_reject;

CREATE TABLE source_key (
    key_uid uuid NOT NULL,
    source_id smallint NOT NULL,
    source_key text NOT NULL COLLATE pg_catalog."C",
    entity_uid uuid NOT NULL,
    batch_id bigint NOT NULL,
    CONSTRAINT source_key_is_given CHECK ((source_key <> ''::text)),
    CONSTRAINT source_key_length CHECK ((char_length(source_key) <= 500))
);

CREATE VIEW said_by_source AS
 SELECT n.source_id,
    n.entity_uid,
    n.change_ts,
    n.batch_id
   FROM (( SELECT source_key.source_id,
            source_key.entity_uid
           FROM source_key
        UNION ALL
         SELECT source_key.source_id,
            source_key.key_uid
           FROM source_key
          WHERE (source_key.entity_uid <> source_key.key_uid)
        UNION ALL
         SELECT k.source_id,
            l.entity_uid
           FROM (key_link l
             JOIN source_key k ON ((k.key_uid = l.key_uid)))) keyed
     JOIN named_by_batch n ON (((n.entity_uid = keyed.entity_uid) AND (n.source_id = keyed.source_id))));

CREATE TABLE access_token (
    token_id text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    role text NOT NULL,
    secret_sha256 bytea NOT NULL,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone,
    revoked_at timestamp with time zone,
    last_used_at timestamp with time zone,
    CONSTRAINT access_token_has_a_name CHECK ((name <> ''::text)),
    CONSTRAINT access_token_id_is_plain CHECK ((token_id ~ '^[a-z0-9]{12,}$'::text)),
    CONSTRAINT access_token_role_known CHECK ((role = ANY (ARRAY['reader'::text, 'writer'::text, 'admin'::text]))),
    CONSTRAINT access_token_secret_is_hashed CHECK ((octet_length(secret_sha256) = 32))
);

CREATE TABLE account (
    username text NOT NULL COLLATE pg_catalog."C",
    password_hash text NOT NULL,
    role text NOT NULL,
    is_active boolean DEFAULT true NOT NULL,
    created_at timestamp with time zone NOT NULL,
    password_at timestamp with time zone NOT NULL,
    last_login_at timestamp with time zone,
    CONSTRAINT account_has_a_name CHECK ((username <> ''::text)),
    CONSTRAINT account_password_is_hashed CHECK ((password_hash ~~ '$argon2%'::text)),
    CONSTRAINT account_role_known CHECK ((role = ANY (ARRAY['reader'::text, 'writer'::text, 'admin'::text])))
);

CREATE TABLE approval (
    batch_id bigint NOT NULL,
    sent_by text NOT NULL COLLATE pg_catalog."C",
    reason text
);

ALTER TABLE batch ALTER COLUMN batch_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME batch_batch_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE detail_type (
    detail_type_id smallint NOT NULL,
    code text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL,
    description text DEFAULT ''::text NOT NULL,
    is_active boolean DEFAULT true NOT NULL,
    compares text DEFAULT 'text'::text NOT NULL,
    CONSTRAINT detail_type_code_is_plain CHECK ((code ~ '^[A-Za-z][A-Za-z0-9_]{0,62}$'::text)),
    CONSTRAINT detail_type_compares_known CHECK ((compares = ANY (ARRAY['exact'::text, 'text'::text, 'casefold'::text])))
);

ALTER TABLE detail_type ALTER COLUMN detail_type_id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME detail_type_detail_type_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE drop_file (
    sha256 text NOT NULL COLLATE pg_catalog."C",
    file_name text NOT NULL,
    bytes bigint NOT NULL,
    first_seen_at timestamp with time zone NOT NULL,
    status text NOT NULL,
    merged_at timestamp with time zone,
    batch_id bigint,
    rows_read bigint DEFAULT 0 NOT NULL,
    rows_accepted bigint DEFAULT 0 NOT NULL,
    rows_rejected bigint DEFAULT 0 NOT NULL,
    rows_changed bigint DEFAULT 0 NOT NULL,
    rows_unchanged bigint DEFAULT 0 NOT NULL,
    rows_late bigint DEFAULT 0 NOT NULL,
    rows_superseded bigint DEFAULT 0 NOT NULL,
    entity_versions_added bigint DEFAULT 0 NOT NULL,
    detail_versions_added bigint DEFAULT 0 NOT NULL,
    rows_ending_nobody bigint DEFAULT 0 NOT NULL,
    rows_fallen_together bigint DEFAULT 0 NOT NULL,
    seconds double precision DEFAULT 0 NOT NULL,
    error text,
    notes text[] DEFAULT '{}'::text[] NOT NULL,
    header text,
    profile text,
    profile_toml text,
    content_sha256 text COLLATE pg_catalog."C",
    mode text DEFAULT 'delta'::text NOT NULL,
    scope text,
    snapshot_at timestamp with time zone,
    entities_ended bigint DEFAULT 0 NOT NULL,
    traceparent text COLLATE pg_catalog."C",
    CONSTRAINT drop_file_accepted_balances CHECK (((rows_accepted = (rows_changed + rows_unchanged)) OR (status <> 'merged'::text))),
    CONSTRAINT drop_file_merged_has_a_batch CHECK (((status = ANY (ARRAY['merged'::text, 'undone'::text])) = ((merged_at IS NOT NULL) AND (batch_id IS NOT NULL)))),
    CONSTRAINT drop_file_mode_known CHECK (((mode = ANY (ARRAY['delta'::text, 'snapshot'::text])) AND ((mode = 'snapshot'::text) = (scope IS NOT NULL)))),
    CONSTRAINT drop_file_profile_is_whole CHECK (((profile IS NULL) = (profile_toml IS NULL))),
    CONSTRAINT drop_file_read_balances CHECK (((rows_read = (rows_accepted + rows_rejected)) OR (status <> 'merged'::text))),
    CONSTRAINT drop_file_sha256_is_hex CHECK ((sha256 ~ '^[0-9a-f]{64}$'::text)),
    CONSTRAINT drop_file_status_known CHECK ((status = ANY (ARRAY['seen'::text, 'merged'::text, 'refused'::text, 'undone'::text, 'held'::text, 'declined'::text])))
);

CREATE TABLE entity (
    entity_uid uuid NOT NULL,
    display_name text NOT NULL COLLATE pg_catalog."C",
    entity_type_id smallint NOT NULL,
    hashdiff bytea NOT NULL,
    valid_from timestamp with time zone NOT NULL,
    valid_to timestamp with time zone,
    is_current boolean NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT entity_current_is_open CHECK ((is_current = (valid_to IS NULL))),
    CONSTRAINT entity_finite CHECK ((isfinite(valid_from) AND isfinite(valid_to))),
    CONSTRAINT entity_hashed CHECK ((octet_length(hashdiff) = 32)),
    CONSTRAINT entity_name_length CHECK ((char_length(display_name) <= 500)),
    CONSTRAINT entity_named CHECK ((display_name <> ''::text)),
    CONSTRAINT entity_not_empty CHECK ((valid_to > valid_from))
);

CREATE TABLE entity_detail (
    entity_uid uuid NOT NULL,
    detail_type_id smallint NOT NULL,
    detail_value text NOT NULL COLLATE pg_catalog."C",
    hashdiff bytea NOT NULL,
    valid_from timestamp with time zone NOT NULL,
    valid_to timestamp with time zone,
    is_current boolean NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT entity_detail_current_is_open CHECK ((is_current = (valid_to IS NULL))),
    CONSTRAINT entity_detail_finite CHECK ((isfinite(valid_from) AND isfinite(valid_to))),
    CONSTRAINT entity_detail_hashed CHECK ((octet_length(hashdiff) = 32)),
    CONSTRAINT entity_detail_not_empty CHECK ((valid_to > valid_from)),
    CONSTRAINT entity_detail_value_length CHECK ((octet_length(detail_value) <= 100000)),
    CONSTRAINT entity_detail_valued CHECK ((detail_value <> ''::text))
);

CREATE TABLE entity_type (
    entity_type_id smallint NOT NULL,
    code text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL,
    description text DEFAULT ''::text NOT NULL,
    is_active boolean DEFAULT true NOT NULL,
    CONSTRAINT entity_type_code_is_plain CHECK ((code ~ '^[A-Za-z][A-Za-z0-9_]{0,62}$'::text))
);

ALTER TABLE entity_type ALTER COLUMN entity_type_id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME entity_type_entity_type_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE held_drop (
    drop_sha256 text NOT NULL COLLATE pg_catalog."C",
    held_at timestamp with time zone NOT NULL,
    sent_by text NOT NULL COLLATE pg_catalog."C",
    is_strict boolean NOT NULL,
    would_end bigint NOT NULL,
    in_scope bigint NOT NULL,
    first_uids uuid[] NOT NULL,
    first_names text[] NOT NULL COLLATE pg_catalog."C",
    decision text,
    decided_at timestamp with time zone,
    decided_by text COLLATE pg_catalog."C",
    reason text,
    CONSTRAINT held_drop_decision_known CHECK ((decision = ANY (ARRAY['approved'::text, 'declined'::text]))),
    CONSTRAINT held_drop_is_decided_whole CHECK (((num_nulls(decision, decided_at, decided_by) = ANY (ARRAY[0, 3])) AND ((decision <> 'declined'::text) OR (reason <> ''::text)))),
    CONSTRAINT held_drop_one_name_a_uid CHECK ((cardinality(first_uids) = cardinality(first_names)))
);

CREATE TABLE held_part (
    drop_sha256 text NOT NULL COLLATE pg_catalog."C",
    part_no integer NOT NULL,
    bytes bytea NOT NULL
);

CREATE TABLE idempotency_key (
    actor text NOT NULL COLLATE pg_catalog."C",
    key text NOT NULL COLLATE pg_catalog."C",
    fingerprint bytea NOT NULL,
    outcome text NOT NULL,
    document text,
    answered_at timestamp with time zone NOT NULL
);

CREATE TABLE source (
    source_id smallint NOT NULL,
    code text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL,
    description text DEFAULT ''::text NOT NULL,
    is_active boolean DEFAULT true NOT NULL,
    CONSTRAINT source_code_is_plain CHECK ((code ~ '^[A-Za-z][A-Za-z0-9_]{0,62}$'::text))
);

CREATE VIEW keys_of_entity AS
 SELECT k.entity_uid,
    s.code,
    ((to_json(s.code) || ':'::text) ||
        CASE count(*)
            WHEN 1 THEN (to_json(min(k.source_key)))::text
            ELSE (array_to_json((array_agg(k.source_key ORDER BY k.source_key))[:100]))::text
        END) AS member
   FROM (source_key k
     JOIN source s ON ((s.source_id = k.source_id)))
  GROUP BY k.entity_uid, s.code;

CREATE VIEW named_by_source AS
 SELECT source_id,
    entity_uid,
    change_ts,
    batch_id
   FROM said_by_source
  WHERE (NOT (batch_id IN ( SELECT u.of_batch_id
           FROM undone_batches('infinity'::timestamp with time zone) u(of_batch_id))));

CREATE VIEW stated_change AS
 SELECT entity_uid,
    change_ts,
    batch_id,
    row_no,
    op,
    display_name,
    entity_type_id,
    details
   FROM ledger
  WHERE acts;

CREATE TABLE reject (
    drop_sha256 text NOT NULL COLLATE pg_catalog."C",
    line bigint NOT NULL,
    reasons text[] NOT NULL,
    raw text NOT NULL,
    CONSTRAINT reject_has_a_reason CHECK ((cardinality(reasons) > 0))
);

CREATE TABLE schema_routine (
    name text NOT NULL COLLATE pg_catalog."C",
    sha256 text NOT NULL
);

CREATE TABLE session (
    session_id text NOT NULL COLLATE pg_catalog."C",
    secret_sha256 bytea NOT NULL,
    username text NOT NULL COLLATE pg_catalog."C",
    created_at timestamp with time zone NOT NULL,
    last_used_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    address text NOT NULL,
    user_agent text NOT NULL,
    CONSTRAINT session_secret_is_hashed CHECK ((octet_length(secret_sha256) = 32))
);

ALTER TABLE source ALTER COLUMN source_id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME source_source_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

ALTER TABLE ONLY access_token
    ADD CONSTRAINT access_token_pkey PRIMARY KEY (token_id);

ALTER TABLE ONLY account
    ADD CONSTRAINT account_pkey PRIMARY KEY (username);

ALTER TABLE ONLY approval
    ADD CONSTRAINT approval_pkey PRIMARY KEY (batch_id);

ALTER TABLE ONLY batch
    ADD CONSTRAINT batch_pkey PRIMARY KEY (batch_id);

ALTER TABLE ONLY detail_type
    ADD CONSTRAINT detail_type_pkey PRIMARY KEY (detail_type_id);

ALTER TABLE ONLY drop_file
    ADD CONSTRAINT drop_file_pkey PRIMARY KEY (sha256);

ALTER TABLE ONLY entity_detail
    ADD CONSTRAINT entity_detail_pkey PRIMARY KEY (entity_uid, detail_type_id, valid_from);

ALTER TABLE ONLY entity
    ADD CONSTRAINT entity_pkey PRIMARY KEY (entity_uid, valid_from);

ALTER TABLE ONLY entity_type
    ADD CONSTRAINT entity_type_pkey PRIMARY KEY (entity_type_id);

ALTER TABLE ONLY entity_detail
    ADD CONSTRAINT exclude_overlapping_details EXCLUDE USING gist (entity_uid WITH =, detail_type_id WITH =, tstzrange(valid_from, COALESCE(valid_to, 'infinity'::timestamp with time zone), '[)'::text) WITH &&) WHERE (isfinite(valid_from));

ALTER TABLE ONLY entity
    ADD CONSTRAINT exclude_overlapping_entities EXCLUDE USING gist (entity_uid WITH =, tstzrange(valid_from, COALESCE(valid_to, 'infinity'::timestamp with time zone), '[)'::text) WITH &&) WHERE (isfinite(valid_from));

ALTER TABLE ONLY held_drop
    ADD CONSTRAINT held_drop_pkey PRIMARY KEY (drop_sha256);

ALTER TABLE ONLY held_part
    ADD CONSTRAINT held_part_pkey PRIMARY KEY (drop_sha256, part_no);

ALTER TABLE ONLY idempotency_key
    ADD CONSTRAINT idempotency_key_pkey PRIMARY KEY (actor, key);

ALTER TABLE ONLY key_link
    ADD CONSTRAINT key_link_pkey PRIMARY KEY (key_uid, batch_id);

ALTER TABLE ONLY ledger
    ADD CONSTRAINT ledger_pkey PRIMARY KEY (entity_uid, change_ts, batch_id, row_no);

ALTER TABLE ONLY reject
    ADD CONSTRAINT reject_pkey PRIMARY KEY (drop_sha256, line);

ALTER TABLE ONLY repeat
    ADD CONSTRAINT repeat_pkey PRIMARY KEY (entity_uid, change_ts, batch_id, row_no);

ALTER TABLE ONLY retraction
    ADD CONSTRAINT retraction_pkey PRIMARY KEY (of_batch_id, batch_id);

ALTER TABLE ONLY schema_routine
    ADD CONSTRAINT schema_routine_pkey PRIMARY KEY (name);

ALTER TABLE ONLY session
    ADD CONSTRAINT session_pkey PRIMARY KEY (session_id);

ALTER TABLE ONLY snapshot_effect
    ADD CONSTRAINT snapshot_effect_pkey PRIMARY KEY (entity_uid, batch_id, of_batch_id);

ALTER TABLE ONLY snapshot
    ADD CONSTRAINT snapshot_pkey PRIMARY KEY (batch_id);

ALTER TABLE ONLY snapshot_reject
    ADD CONSTRAINT snapshot_reject_pkey PRIMARY KEY (entity_uid, batch_id);

ALTER TABLE ONLY source_key
    ADD CONSTRAINT source_key_pkey PRIMARY KEY (key_uid);

ALTER TABLE ONLY source
    ADD CONSTRAINT source_pkey PRIMARY KEY (source_id);

CREATE UNIQUE INDEX access_token_one_of_a_name ON access_token USING btree (name) WHERE (revoked_at IS NULL);

CREATE INDEX batch_by_actor ON batch USING btree (actor, recorded_at);

CREATE INDEX batch_by_drop ON batch USING btree (drop_sha256) WHERE (drop_sha256 IS NOT NULL);

CREATE INDEX batch_by_recorded_at ON batch USING btree (recorded_at, batch_id);

CREATE UNIQUE INDEX detail_type_code ON detail_type USING btree (lower(code));

CREATE INDEX drop_file_by_content ON drop_file USING btree (content_sha256) WHERE (content_sha256 IS NOT NULL);

CREATE INDEX drop_file_by_time ON drop_file USING btree (first_seen_at DESC, sha256);

CREATE INDEX entity_by_name ON entity USING btree (display_name, entity_uid) WHERE is_current;

CREATE INDEX entity_by_part_of_name ON entity USING gin (search_form(display_name) gin_trgm_ops) WHERE is_current;

CREATE INDEX entity_by_part_of_past_name ON entity USING gin (search_form(display_name) gin_trgm_ops) WHERE (NOT is_current);

CREATE INDEX entity_by_time ON entity USING brin (valid_from timestamptz_minmax_multi_ops, valid_to timestamptz_minmax_multi_ops) WITH (pages_per_range='32');

CREATE INDEX entity_by_type_and_name ON entity USING btree (entity_type_id, display_name, entity_uid) WHERE is_current;

CREATE INDEX entity_detail_by_part_of_value ON entity_detail USING gin (search_form("left"(detail_value, 200)) gin_trgm_ops) WHERE is_current;

CREATE INDEX entity_detail_by_time ON entity_detail USING brin (valid_from timestamptz_minmax_multi_ops, valid_to timestamptz_minmax_multi_ops) WITH (pages_per_range='32');

CREATE INDEX entity_detail_by_value ON entity_detail USING hash (hashdiff);

CREATE UNIQUE INDEX entity_type_code ON entity_type USING btree (lower(code));

CREATE INDEX idempotency_key_by_time ON idempotency_key USING btree (answered_at);

CREATE INDEX key_link_by_batch ON key_link USING btree (batch_id, row_no);

CREATE INDEX key_link_by_entity ON key_link USING btree (entity_uid);

CREATE INDEX key_link_of_batch ON key_link USING btree (batch_id, entity_uid);

CREATE INDEX ledger_by_batch ON ledger USING btree (batch_id, entity_uid);

CREATE INDEX ledger_by_detail_type ON ledger USING gin (jsonb_path_query_array(details, '$.keyvalue()."key"'::jsonpath) jsonb_path_ops);

CREATE INDEX ledger_by_op ON ledger USING btree (op COLLATE "C", batch_id, row_no) WHERE (((op COLLATE "C") <> 'upsert'::text) AND (batch_id > 0));

CREATE INDEX ledger_patches ON ledger USING btree (entity_uid, change_ts) WHERE (op = 'patch'::text);

CREATE INDEX repeat_by_batch ON repeat USING brin (batch_id) WITH (pages_per_range='16');

CREATE INDEX retraction_by_batch ON retraction USING btree (batch_id, of_batch_id);

CREATE INDEX session_by_username ON session USING btree (username);

CREATE INDEX snapshot_by_instant ON snapshot USING btree (at) WHERE acts;

CREATE INDEX snapshot_by_source ON snapshot USING btree (source_id, at) WHERE (source_id IS NOT NULL);

CREATE INDEX snapshot_effect_by_batch ON snapshot_effect USING btree (batch_id, of_batch_id, entity_uid);

CREATE UNIQUE INDEX source_code ON source USING btree (lower(code));

CREATE INDEX source_key_by_entity ON source_key USING btree (entity_uid, source_id);

CREATE INDEX source_key_linked ON source_key USING btree (key_uid) WHERE (entity_uid <> key_uid);

CREATE UNIQUE INDEX unique_current_entity ON entity USING btree (entity_uid) WHERE is_current;

CREATE UNIQUE INDEX unique_current_entity_detail ON entity_detail USING btree (entity_uid, detail_type_id) WHERE is_current;

CREATE CONSTRAINT TRIGGER batch_is_stamped AFTER INSERT ON batch DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN ((new.recorded_at >= now())) EXECUTE FUNCTION stamp_batch();

ALTER TABLE ONLY entity_detail
    ADD CONSTRAINT entity_detail_has_a_type FOREIGN KEY (detail_type_id) REFERENCES detail_type(detail_type_id);

ALTER TABLE ONLY entity
    ADD CONSTRAINT entity_has_a_type FOREIGN KEY (entity_type_id) REFERENCES entity_type(entity_type_id);

ALTER TABLE ONLY held_drop
    ADD CONSTRAINT held_drop_of_a_drop FOREIGN KEY (drop_sha256) REFERENCES drop_file(sha256);

ALTER TABLE ONLY held_part
    ADD CONSTRAINT held_part_of_a_held_drop FOREIGN KEY (drop_sha256) REFERENCES held_drop(drop_sha256);

ALTER TABLE ONLY reject
    ADD CONSTRAINT reject_of_a_drop FOREIGN KEY (drop_sha256) REFERENCES drop_file(sha256);

ALTER TABLE ONLY session
    ADD CONSTRAINT session_is_of_an_account FOREIGN KEY (username) REFERENCES account(username) ON DELETE CASCADE;
