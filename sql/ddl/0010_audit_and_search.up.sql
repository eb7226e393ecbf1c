-- The audit across entities (what was recorded, by who, by operation and by type of detail), and search by a part of a detail.

-- Few changes are deletions or partial.
create index ledger_by_op on ledger (op, batch_id, row_no) where op <> 'upsert';

-- The changes that state a detail of a type, which may be few.
create index ledger_by_detail_type on ledger using gin (jsonb_path_query_array(details, '$.keyvalue().key') jsonb_path_ops);

create index batch_by_actor on batch (actor, recorded_at);

-- The audit walks the changes of an entity once for a page, and looked each state up in all of them before.
drop function if exists recorded_state(uuid, timestamptz, bigint, integer);

-- Search as somebody types: any part of a detail, whatever the case; of long values the beginning.
create index entity_detail_by_part_of_value on entity_detail using gin (search_form(left(detail_value, 200)) gin_trgm_ops) where is_current;

-- How many details have a part, as with the names.
create statistics entity_detail_search_form on search_form(left(detail_value, 200)) from entity_detail;
